"""What the terminal says about the times of a run: the nodes that measured them, what bounds them, what is in doubt.

Each part is empty where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tabulate import tabulate

from sparsity.nodes import HEADERS, differing, table
from sparsity.record import Node, Record, Roofline

MANY = 100
"""Times the budget, beyond which it does not matter how many."""


def machines(records: Sequence[Record], nodes: Mapping[str, Node] | None) -> str:
    """The nodes, how many cells each measured, and in what they differ; empty where the run had one machine."""
    if not nodes:
        return ""
    apart = differing(nodes)
    said = [f"{apart}: compare no times in seconds between them."] if apart else []
    return "\n".join([tabulate(table(records, nodes), HEADERS, tablefmt="simple", disable_numparse=True), *said])


def limits(records: Iterable[Record], roofline: Roofline | None, nodes: Mapping[str, Node] | None = None) -> str:
    """What the machine does at best, and how much faster each model can become at most; empty without either."""
    if nodes:
        own = [f"of limit on {name}, at best: {node.roofline}" for name, node in nodes.items() if node.roofline]
        return "\n".join([*own, *filter(None, [limits(records, None)])])
    found = {
        " ".join(filter(None, [r.cell.model, str(r.cell.workload), r.node and f"on {r.node}"])): r.latency.ceiling
        for r in records
        if r.latency and r.latency.ceiling
    }
    ceilings = ", ".join(f"{name} {ceiling:.2f}x" for name, ceiling in found.items())
    return "\n".join(
        [f"of limit: of the speed that this machine allows at best, {roofline}"] * (roofline is not None)
        + [f"faster at most, with every prunable layer free: {ceilings}"] * bool(ceilings)
    )


def doubts(records: Iterable[Record]) -> str:
    """What the latencies could not tell, and what would help; empty where all was told."""
    timed = [(record.node, record.latency) for record in records if record.latency is not None]
    found = [latency for _, latency in timed]
    open_ = [latency for latency in found if latency.verdict == "inconclusive"]
    if not open_:
        return ""
    lines = [f"{len(open_)} of {len(found)} latency verdicts are inconclusive."]
    floors: dict[str | None, float] = {}
    for node, latency in timed:
        if latency.verdict == "inconclusive" and latency.withheld and latency.noise_floor is not None:
            floors[node] = max(latency.noise_floor, floors.get(node, 0.0))
    lines += [
        f"noisy{f', on {node}' if node else ''}: a model seems to differ from its own copy by up to {floor:.0%}; a "
        "quieter machine helps"
        for node, floor in floors.items()
    ]
    more = [(latency.more_blocks, latency.blocks) for latency in open_ if latency.more_blocks and latency.blocks]
    if more:
        longest = max((wanted + had) / had for wanted, had in more)
        much = f"about {longest:.1f}" if longest < MANY else f"more than {MANY}"
        lines.append(f"{much} times --time-per-cell would settle the {len(more)} that straddle the margin")
    return "\n".join(lines)
