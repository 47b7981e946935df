"""Files of the hub: brought by the hub's own client, within limits, and checked against their names."""
