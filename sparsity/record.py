"""What a cell leaves in the result file: the JSON schema and its history. Standard library only.

A run's only result file is the one that pytest-benchmark writes. Each entry of its `benchmarks`
carries the record of its cell under `extra_info["sparsity"]`; the top level carries, under
`"sparsity"`, what is true of the whole run. Writer (the pytest plugin) and reader (`reports/`) both
go through this file, so a name cannot drift between them; the sections about time stand in `timing`,
those about quality in `judging`, and `schema` makes the published JSON schema out of all of them.

Strict JSON: a number is finite, and what was not measured is absent, never 0 and never null.

Schema history:
    1   first version

Refuses: a NaN or infinity on the way out; on the way in another schema, a section of the wrong
shape, a field of the wrong type, a number that is not finite.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, TypeVar

from sparsity.errors import ResultNotReadable
from sparsity.judging import METRICS as METRICS
from sparsity.judging import QUALITY_VERDICTS as QUALITY_VERDICTS
from sparsity.judging import Harness as Harness
from sparsity.judging import Quality as Quality
from sparsity.judging import Recovered as Recovered
from sparsity.rules import Amount, Count, Hexadecimal, OneOf, Range, Ruled, Some
from sparsity.strict_json import Scalar as Scalar  # part of the schema, for whoever reads it
from sparsity.strict_json import plain, section
from sparsity.timing import LATENCY_VERDICTS as LATENCY_VERDICTS
from sparsity.timing import WITHHELD as WITHHELD
from sparsity.timing import Latency as Latency
from sparsity.timing import Products as Products
from sparsity.timing import Read as Read
from sparsity.timing import Roofline as Roofline
from sparsity.timing import Training as Training

SCHEMA = 1
KEY = "sparsity"
"""Where the record stands in `extra_info`, and the run's own part at the top of the file."""

OUTCOMES = ("passed", "failed", "error")
MEMORY_VERDICTS = ("smaller", "same", "larger")

Section = TypeVar("Section")
Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class Cell(Ruled):
    """One choice on every axis. An axis that does not apply is None here and absent in the file."""

    model: str
    method: str | None = None
    pattern: str | None = None
    scope: str | None = None
    sparsity: Annotated[float, Range(0, 1, open_=True)] | None = None
    format: str | None = None
    recovery: str | None = None
    """As on the command line, such as "distill:200"; absent where nothing followed pruning."""
    after: str | None = None
    """What had been done to the model before, where this is a later step of a composition."""
    workload: str | None = None
    """Batch size x sequence length, as in "8x64"."""
    dtype: str | None = None
    task: str | None = None
    seed: int | None = None

    @property
    def plain(self) -> Cell:
        """The same cell, with "no recovery" said in one way."""
        return dataclasses.replace(self, recovery=None) if self.recovery == "none" else self

    def __str__(self) -> str:
        """`bert · l1 · unstructured · layer · 0.9 · dense · 8x64`: the axes that apply, in order."""
        return " · ".join(str(value) for value in dataclasses.astuple(self) if value is not None)


@dataclass(frozen=True)
class Pruned(Ruled):
    """What was removed, with its denominators."""

    prunable_sparsity: Share
    """Removed / prunable weights."""
    total_sparsity: Share
    """Removed / all parameters, tied storage counted once."""
    prunable_parameters: Count
    total_parameters: Count
    seconds: Amount | None = None
    """What pruning cost; statistics, scores, masks and their application."""
    extra_bytes: Count | None = None
    """Peak of memory beyond the model while pruning, masks included."""
    torch_seconds: Amount | None = None
    """The same choice through `torch.nn.utils.prune`."""
    torch_extra_bytes: Count | None = None
    forward_seconds: Amount | None = None
    """The forward passes over the calibration batches alone, as often as the method makes them."""
    copy_seconds: Amount | None = None
    """Reading and writing every prunable weight once: what no method can do without."""
    convert_seconds: Amount | None = None
    """Bringing the pruned model into its format; of `auto` with all that it measures to choose."""
    choices: dict[str, Count] | None = None
    """By format, how many layers `auto` brought into it."""
    notes: list[str] | None = None
    """What to know of it, such as singular Hessians."""


@dataclass(frozen=True)
class Memory(Ruled):
    """Bytes. Exact, so equal runs give equal numbers."""

    weights_bytes: Count
    """Resident: parameters, buffers and what a format computes from them and keeps."""
    peak_bytes: Count
    """Peak of a warm forward pass beyond what was resident before it."""
    source: str
    """What counted: "cuda allocator" or "cpu profiler"."""
    disk_bytes: Count | None = None
    """Size of the model's safetensors file."""
    dense_weights_bytes: Count | None = None
    dense_peak_bytes: Count | None = None
    verdict: Annotated[str, OneOf(MEMORY_VERDICTS)] | None = None
    """One of `MEMORY_VERDICTS`, of weights_bytes + peak_bytes against dense."""


@dataclass(frozen=True)
class LayerWeights(Ruled):
    """The values of one parameter tensor."""

    name: str
    prunable: bool
    parameters: Count
    mean: float
    std: float
    minimum: float
    maximum: float
    counts: list[Annotated[int, Range(0, math.inf)]]
    """Values in each bin of `Weights.edges`."""


@dataclass(frozen=True)
class Weights(Ruled):
    """How the values of a model are distributed; tied tensors once."""

    edges: Annotated[list[float], Some(2)]
    """Bin edges, ascending, one more than there are counts."""
    layers: list[LayerWeights]

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(a >= b for a, b in pairwise(self.edges)):
            raise ValueError("the bin edges do not ascend")
        bins = len(self.edges) - 1
        for layer in self.layers:
            if len(layer.counts) != bins:
                raise ValueError(f"{layer.name} has {len(layer.counts)} counts for {bins} bins")


@dataclass(frozen=True)
class Record(Ruled):
    """All that one cell left. Sections that it did not measure are None."""

    cell: Cell
    pruned: Pruned | None = None
    latency: Latency | None = None
    memory: Memory | None = None
    quality: Quality | None = None
    recovered: Recovered | None = None
    training: Training | None = None
    weights: Weights | None = None
    outcome: Annotated[str, OneOf(OUTCOMES)] | None = None
    reason: str | None = None
    """Why the outcome is not "passed"."""
    node: str | None = None
    """A key of `RunPart.nodes`: the machine that all of it was measured on; absent where a run had one machine."""
    harness: Harness | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recovered and self.quality and self.quality.metric == "accuracy":
            values = [self.recovered.one_shot, self.recovered.control, *self.recovered.values]
            if max(values) > 1:
                raise ValueError(f"recovered: accuracy {max(values)} is not in [0, 1]")


@dataclass(frozen=True)
class Model(Ruled):
    """What a model's reference turned out to be."""

    class_name: str
    """transformers' class of the head that latency, memory and perplexity are measured with."""
    source: str
    """"embedded", "random" or "checkpoint"."""
    demonstration: bool
    """Whether its quality says nothing about full-size models."""
    classifier: str | None = None
    """transformers' class of the head that accuracy is measured with."""
    digest: Annotated[str, Hexadecimal(64)] | None = None
    """SHA-256 over its weights."""


@dataclass(frozen=True)
class NotMeasured:
    """A test of a cell that left no number, and why."""

    cell: Cell
    test: str
    """pytest's node id."""
    outcome: str
    """"skipped", "failed" or "error"."""
    reason: str


@dataclass(frozen=True)
class Node(Ruled):
    """One machine of a run that had several; times are compared on one node, or on nodes of one fingerprint."""

    fingerprint: dict[str, Scalar]
    """Machine and software, as that of a run."""
    noise_floor: Amount | None = None
    """The largest of the controls that were measured on it."""
    roofline: Roofline | None = None
    """What it does at best."""


@dataclass(frozen=True)
class RunPart(Ruled):
    """What is true of a whole run; stands at the top of the file."""

    profile: str
    fingerprint: dict[str, Scalar]
    """Machine and software; nothing that differs between two identical runs."""
    models: dict[str, Model]
    """By reference."""
    not_measured: list[NotMeasured]
    noise_floor: Amount | None = None
    """The largest of the run's controls: how far a model seems to differ from its own copy, a fraction."""
    noisy: bool | None = None
    """Whether that withheld latency verdicts."""
    not_run: Count | None = None
    """Tests that the run was stopped before."""
    roofline: Roofline | None = None
    """Measured with the first latency."""
    notes: list[str] | None = None
    """What to know of the data, such as rows that were left out."""
    resumed: Count | None = None
    """How often the run was gone on with after it had ended early."""
    nodes: dict[str, Node] | None = None
    """By name, every machine that measured a cell; absent where a run had the one that `fingerprint` tells of."""


def to_json(record: Record | RunPart) -> dict[str, Any]:
    """A record, or the run's part, as plain JSON values; absent what is None.

    Raises `ValueError` on a number that is not finite: such a number was not measured.
    """
    return {"schema": SCHEMA, **plain(record, "record")}


def from_json(data: Any, where: str = "record") -> Record:
    """The record out of `extra_info["sparsity"]`; `where` begins the message of an error."""
    return _top(Record, data, where)


def run_from_json(data: Any, where: str = "run") -> RunPart:
    """The run's part out of the file's `"sparsity"`; `where` begins the message of an error."""
    return _top(RunPart, data, where)


def _top(kind: type[Section], data: Any, where: str) -> Section:
    if not isinstance(data, Mapping):
        raise ResultNotReadable(f"{where}: expected an object, got {type(data).__name__}")
    if data.get("schema") != SCHEMA:
        raise ResultNotReadable(f"{where}: schema {data.get('schema')!r}, but this version reads schema {SCHEMA}")
    return section(kind, {k: v for k, v in data.items() if k != "schema"}, where)
