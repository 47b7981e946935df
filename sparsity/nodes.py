"""The machines of a run that had several: which count as one, in what they differ, and ratios over several of them.

A time in seconds says as much of the machine as of the model, so times are set side by side on one machine only: nodes
of equal fingerprints are one. A ratio to the unpruned model was measured within one node, both models by turns. Ratios
of the same thing from several nodes are pooled with the node as a random effect, whatever the fingerprints, and what is
pooled says so: how many nodes, and how far they lie apart.

Refuses nothing, and pools nothing of a single node.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sparsity import pooling
from sparsity.record import Latency, Node, Record, Scalar

UNNAMED = "no node named"
"""Of a record without a node, in a run that has nodes."""
NAMED = 3
"""So many nodes of a machine, and keys in which nodes differ, are named before the rest is counted."""
TELLING = ("gpu", "cpu", "device", "threads", "torch", "transformers", "python", "system")
"""Keys of a fingerprint in the order in which they are named."""
LONGEST = 60
"""Characters of a value."""
MARGIN = 0.03
"""Speedups within it count as the same, a fraction: that of a single ratio."""
HEADERS = ("node", "machine", "cells measured", "noise floor")
"""Of the table of nodes."""


@dataclass(frozen=True)
class Speedup:
    """Times faster than the unpruned model, over several nodes."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval."""
    verdict: str
    """Of that interval against the margin; `inconclusive` where noise withheld a verdict of any node."""
    tau: float
    """Standard deviation between nodes, of logarithms: 0.05 is about 5 %."""
    nodes: int

    @property
    def said(self) -> str:
        """`over 3 nodes, τ 0.041`."""
        return f"over {self.nodes} nodes, τ {self.tau:.3f}"


def over_nodes(records: Iterable[Record]) -> Speedup | None:
    """The speedup of records that differ in nothing but node and seed; None of fewer than two nodes with a ratio."""
    by_node: dict[str | None, list[Latency]] = {}
    for record in records:
        latency = record.latency
        if latency is not None and latency.speedup and latency.low and latency.high:
            by_node.setdefault(record.node, []).append(latency)
    if len(by_node) < 2:
        return None
    own = [_of_one(latencies) for latencies in by_node.values()]
    found = pooling.random_effects([value for value, _ in own], [stderr for _, stderr in own])
    low, high = found.value - found.half_width, found.value + found.half_width
    said = _verdict(low, high, [each for latencies in by_node.values() for each in latencies])
    return Speedup(_exp(found.value), _exp(low), _exp(high), said, found.tau, found.nodes)


def _exp(value: float) -> float:
    return math.exp(max(-230.0, min(230.0, value)))  # to what a record may hold


def _of_one(latencies: Sequence[Latency]) -> tuple[float, float]:
    """A node's mean over seeds and its standard error, of logarithms: that of the intervals, or of seeds if larger."""
    own = [pooling.logarithm(each.speedup or 1.0, each.low or 1.0, each.high or 1.0) for each in latencies]
    value, stderr, _ = pooling.mean([value for value, _ in own], [stderr for _, stderr in own])
    return value, stderr


def _verdict(low: float, high: float, latencies: Iterable[Latency]) -> str:
    """Of the ends of an interval of logarithms."""
    seen = list(latencies)
    margin = math.log1p(max(MARGIN, *(bound or 0.0 for x in seen for bound in (x.margin, x.noise_floor))))
    if any(each.withheld for each in seen):
        return "inconclusive"
    if low > margin:
        return "faster"
    if high < -margin:
        return "slower"
    return "same" if low >= -margin and high <= margin else "inconclusive"


# -- machines --------------------------------------------------------------------------------------------


def machines(
    records: Iterable[Record], nodes: Mapping[str, Node], own: Mapping[str, Scalar] | None = None
) -> dict[str, list[Record]]:
    """The records by machine, named by its nodes; one without a name where there are no nodes.

    `own` is the fingerprint of the run, for records that name no node.
    """
    if not nodes:
        return {"": list(records)}
    labels = groups(nodes)
    found: dict[str, list[Record]] = {}
    like = next((name for name, node in nodes.items() if node.fingerprint == own), None)
    for record in records:
        name = like if record.node is None else record.node
        found.setdefault(UNNAMED if name is None else labels[name], []).append(record)
    return found


def groups(nodes: Mapping[str, Node]) -> dict[str, str]:
    """By node, the name of its machine: those of all nodes with the same fingerprint."""
    alike: list[tuple[Mapping[str, Scalar], list[str]]] = []
    for name, node in nodes.items():
        known = next((names for fingerprint, names in alike if fingerprint == node.fingerprint), None)
        if known is None:
            alike.append((node.fingerprint, [name]))
        else:
            known.append(name)
    return {name: listed(names) for _, names in alike for name in names}


def listed(names: Sequence[str]) -> str:
    """`a, b, c and 2 more`."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def shared(nodes: Mapping[str, Node]) -> dict[str, Scalar]:
    """What of the fingerprints is the same on all nodes."""
    return common([node.fingerprint for node in nodes.values()])


def common(prints: Sequence[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    """What all fingerprints say."""
    first = prints[0] if prints else {}
    return {key: value for key, value in first.items() if all(key in p and p[key] == value for p in prints)}


def differing(nodes: Mapping[str, Node]) -> str:
    """One line that says which nodes differ in what; empty where all are one machine."""
    labels = groups(nodes)
    first = {label: name for name, label in reversed(labels.items())}
    same = shared(nodes)
    keys = dict.fromkeys(key for node in nodes.values() for key in node.fingerprint if key not in same)
    ordered = sorted(keys, key=lambda key: TELLING.index(key) if key in TELLING else len(TELLING))
    told = []
    for key in ordered[:NAMED]:
        values: dict[str, list[str]] = {}
        for label, name in sorted(first.items(), key=lambda each: list(labels.values()).index(each[0])):
            values.setdefault(_value(nodes[name].fingerprint.get(key)), []).append(label)
        told.append(f"{key} ({'; '.join(f'{listed(found)}: {value}' for value, found in values.items())})")
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return f"The nodes differ in {', '.join(told)}{more}" if told else ""


def _value(value: Scalar | None) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def table(records: Sequence[Record], nodes: Mapping[str, Node]) -> list[list[str]]:
    """A row for each node, under `HEADERS`: what it is, how many cells it measured, its noise floor."""
    rows = []
    for name, node in nodes.items():
        known = node.fingerprint
        what = [_value(known[key]) for key in ("gpu", "cpu") if known.get(key)]
        threads = [f"{known['threads']} threads"] if "threads" in known else []
        cells = len({record.cell for record in records if record.node == name})
        floor = "–" if node.noise_floor is None else f"{node.noise_floor:.1%}"
        rows.append([name, ", ".join([*what, *threads]) or "–", str(cells), floor])
    return rows
