"""Result files of a run on several nodes; numbers are invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sparsity.record import Node, Record, Roofline
from sparsity.timing import Read
from tests.reports import builders

OTHER = {**builders.FINGERPRINT, "cpu": "Intel Xeon 6140", "threads": 4}
NODES = {"a": builders.FINGERPRINT, "b": builders.FINGERPRINT, "c": OTHER}
"""Two of one machine, and a third."""
ROOFLINE = Roofline({"float32": 1e11}, [Read(1024, 2e11)])


def node(fingerprint: dict[str, Any], floor: float = 0.01) -> Node:
    return Node(dict(fingerprint), floor, ROOFLINE)


def described(**fingerprints: dict[str, Any]) -> dict[str, Any]:
    """As it stands in a file."""
    return {name: {"fingerprint": each, "noise_floor": 0.02} for name, each in (fingerprints or NODES).items()}


def timed(name: str | None, speedup: float, sparsity: float = 0.9, dense: float = 0.004, **more: Any) -> Record:
    """A packed forward pass on a node, its interval 1 % to both sides."""
    values = {"speedup": speedup, "low": speedup * 0.99, "high": speedup * 1.01, "verdict": "faster", "reason": None}
    values |= {"dense_seconds": dense, "pruned_seconds": dense / speedup, **more}
    values |= {"pruned_q1": values["pruned_seconds"], "pruned_q3": values["pruned_seconds"]}
    return replace(builders.latency("bert", sparsity, "packed", **values), node=name)


def json(records: Sequence[Record], **ours: Any) -> dict[str, Any]:
    """A run of these on `NODES`, or those of `ours`."""
    named = [(f"t.py::test[{i}]", record) for i, record in enumerate(records)]
    return builders.run_json(named, **{"nodes": described(), **ours})
