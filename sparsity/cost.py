"""What a sweep will cost: seconds of devices, hours on the clock, bytes moved. A model of a sweep, not a measurement.

A sweep is groups of cells. A group loads its model, calibrates and prunes it once for each sparsity, and measures each
cell. With G groups, C cells of which T are timed, and D devices on N nodes:

    device seconds = workers x start + G x (load + dense) + C x prune + (C - T) x evaluate + T x timed
    clock          = (T's share) / N  +  (the others') / D,  start beside it
    bytes          = G x checkpoint read on the node, C x record sent to the process that merges

Unit costs are measured (`benchmarks/scale.py`) or told; the model refuses none, and knows nothing of failures.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """What one of each costs: seconds on one device, and bytes."""

    start: float
    """A worker's: imports, and what it collects."""
    load: float
    """A group's: the checkpoint into memory, and the dense model's own scores."""
    prune: float
    """A cell's: calibration, scores, masks."""
    evaluate: float
    """A quality cell's."""
    timed: float = 0.0
    """A timed cell's."""
    checkpoint: float = 0.0
    """Bytes that a group reads."""
    record: float = 0.0
    """Bytes that a cell sends."""


@dataclass(frozen=True)
class Sweep:
    """How much of each there is."""

    groups: int
    cells: int
    timed: int = 0
    """Of the cells, those that have a node to themselves."""
    nodes: int = 1
    devices: int = 1
    """Over all nodes; as many workers."""


@dataclass(frozen=True)
class Estimate:
    """What follows."""

    device_seconds: float
    seconds: float
    """On the clock."""
    read: float
    """Bytes, from the storage that checkpoints are on."""
    sent: float
    """Bytes, to the process that merges."""


def estimate(costs: Costs, sweep: Sweep) -> Estimate:
    """The cost of a sweep; cells and groups are shared out evenly, timed ones first."""
    share = sweep.timed / sweep.cells if sweep.cells else 0.0
    loading = sweep.groups * costs.load
    timed = share * loading + sweep.timed * (costs.prune + costs.timed)
    others = (1 - share) * loading + (sweep.cells - sweep.timed) * (costs.prune + costs.evaluate)
    start = sweep.devices * costs.start
    return Estimate(
        device_seconds=start + timed + others,
        seconds=costs.start + timed / sweep.nodes + others / sweep.devices,
        read=sweep.groups * costs.checkpoint,
        sent=sweep.cells * costs.record,
    )
