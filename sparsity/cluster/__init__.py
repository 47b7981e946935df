"""Cells on several machines, by Ray: what is sent, what comes back, and what is done about what does not."""
