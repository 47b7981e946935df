"""Result files as pytest-benchmark writes them, with records of ours in them; numbers are invented.

`run_json` is a whole run: three models, formats dense and masked, methods none, l1 and random (three
seeds), scopes layer and global. The other builders make single records.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from sparsity.record import (
    KEY,
    SCHEMA,
    Cell,
    Latency,
    LayerWeights,
    Memory,
    Pruned,
    Quality,
    Record,
    Recovered,
    Weights,
    to_json,
)

MODELS = ("bert", "gpt2", "bart")
SPARSITIES = (0.1, 0.5, 0.9, 0.95, 0.99)
CLASSES = {"bert": "BertForMaskedLM", "gpt2": "GPT2LMHeadModel", "bart": "BartForConditionalGeneration"}
REASON = "the blocks disagree by more than the margin: 3 % against 2 %"
FINGERPRINT: dict[str, Any] = {
    "cpu": "AMD EPYC 7763",
    "threads": 2,
    "system": "Linux 6.1",
    "python": "3.11.7",
    "torch": "2.9.0+cpu",
    "transformers": "5.0.0",
    "avx512": True,
}


def latency(model: str = "bert", sparsity: float = 0.9, fmt: str = "masked", **changes: object) -> Record:
    """A forward pass of 4 to 6 ms; masked a little slower than dense."""
    dense = 0.004 + 0.001 * MODELS.index(model) if model in MODELS else 0.005
    time = dense * (1.0 + (0.04 + 0.1 * sparsity if fmt == "masked" else -0.01 if sparsity else 0.0))
    values: dict[str, Any] = {
        "pruned_seconds": time,
        "pruned_q1": time * 0.98,
        "pruned_q3": time * 1.03,
        "calls": 40,
        "verdict": "slower" if fmt == "masked" else "inconclusive",
        "reason": None if fmt == "masked" else REASON,
        "dense_seconds": dense,
        "speedup": dense / time,
        "low": dense / time * 0.98,
        "high": dense / time * 1.02,
        "noise_floor": 0.01,
    }
    values.update(changes)
    return Record(cost_cell(model, sparsity, fmt), latency=Latency(**values), outcome="passed")


def cost_cell(model: str, sparsity: float, fmt: str) -> Cell:
    """The cell of a latency or memory record; sparsity 0 is the dense control."""
    method, scope = ("l1", "layer") if sparsity else ("none", None)
    pattern = "unstructured" if sparsity else None
    return Cell(model, method, pattern, scope, sparsity, fmt, workload="8x64", dtype="float32")


def memory(model: str = "bert", sparsity: float = 0.9, fmt: str = "masked") -> Record:
    """Weights of 3 MiB and more, a peak of 6; masks double what is held."""
    weights, peak = 3_000_000 + 500_000 * MODELS.index(model), 6_000_000
    times = 2 if fmt == "masked" and sparsity else 1
    return Record(
        cost_cell(model, sparsity, fmt),
        memory=Memory(weights * times, peak * times, "cpu profiler", 1_600_000, weights, peak, "larger"),
        outcome="passed",
    )


def nll(model: str, method: str, scope: str | None, sparsity: float, seed: int | None = None, **more: object) -> Record:
    """Mean NLL: a knee near 0.7 for l1, earlier for random."""
    knee = {"none": 0.0, "l1": 3.0 * sparsity**6, "random": 4.0 * sparsity**2}.get(method, 0.0)
    dense = 2.1 + 0.2 * (MODELS.index(model) if model in MODELS else 0)
    value = dense + knee * (0.8 if scope == "global" else 1.0) + 0.05 * (seed or 0)
    quality: dict[str, Any] = {
        "metric": "mean_nll",
        "value": value,
        "stderr": 0.03,
        "documents": 1000,
        "perplexity": math.exp(value),
        "floor": 1.9,
        "dense_value": dense,
        "delta": value - dense,
        "delta_stderr": 0.007,
        "verdict": "kept" if value - dense < 0.1 else "lost",
    }
    quality.update(more)
    cell = Cell(model, method, "unstructured", scope, sparsity, task="lm", seed=seed)
    return Record(cell, quality=Quality(**quality), outcome="passed")


def accuracy(model: str, method: str, scope: str | None, sparsity: float, seed: int | None = None) -> Record:
    """Accuracy from 0.92 down to chance."""
    fall = {"none": 0.0, "l1": 0.42 * sparsity**5, "random": 0.42 * min(1.0, 1.4 * sparsity)}[method]
    value = 0.92 - fall + 0.01 * (seed or 0)
    quality = Quality(
        "accuracy",
        value,
        math.sqrt(value * (1 - value) / 1000),
        1000,
        floor=0.956,
        dense_value=0.92,
        delta=value - 0.92,
        delta_stderr=0.004,
        verdict="kept" if value > 0.9 else "lost",
    )
    cell = Cell(model, method, "unstructured", scope, sparsity, task="classification", seed=seed)
    return Record(cell, quality=quality, outcome="passed")


def pruned(model: str, method: str, scope: str, sparsity: float, seed: int | None = None) -> Record:
    """What pruning removed and cost; torch's own beside l1 only."""
    torch_side: dict[str, Any] = {"torch_seconds": 0.05, "torch_extra_bytes": 9_000_000} if method == "l1" else {}
    return Record(
        Cell(model, method, "unstructured", scope, sparsity, seed=seed),
        pruned=Pruned(sparsity, sparsity * 0.6, 600_000, 1_000_000, 0.021, 2_500_000, **torch_side),
        outcome="passed",
    )


def weights(model: str = "bert", layers: int = 24, bins: int = 201, parameters: int = 10_000) -> Record:
    """Normal layers of growing width, and one norm around 1, over equal bins from -1.5 to 1.5."""
    edges = [-1.5 + 3.0 * i / bins for i in range(bins + 1)]
    rows = [_layer(f"{model}.encoder.layer.{i}.attention.weight", 0.0, 0.03 + 0.0015 * i, edges) for i in range(layers)]
    rows = [_times(row, parameters) for row in rows]
    norm = _times(_layer(f"{model}.encoder.norm.weight", 1.0, 0.05, edges), max(100, parameters // 50))
    tensors = [LayerWeights(name, "attention" in name, *rest) for name, *rest in [*rows, norm]]
    return Record(Cell(model), weights=Weights(edges, tensors), outcome="passed")


def _layer(name: str, mean: float, std: float, edges: list[float]) -> tuple[Any, ...]:
    shares = [
        0.5 * (math.erf((b - mean) / std / 2**0.5) - math.erf((a - mean) / std / 2**0.5)) for a, b in _pairs(edges)
    ]
    return name, mean, std, shares, edges


def _times(row: tuple[Any, ...], parameters: int) -> tuple[Any, ...]:
    """The layer with shares made counts: (name, parameters, mean, std, minimum, maximum, counts)."""
    name, mean, std, shares, edges = row
    counts = [round(share * parameters) for share in shares]
    filled = [edge for edge, count in zip(_pairs(edges), counts, strict=True) if count]
    return name, sum(counts), mean, std, filled[0][0], filled[-1][1], counts


def _pairs(edges: list[float]) -> list[tuple[float, float]]:
    return list(pairwise(edges))


def all_records() -> list[tuple[str, Record]]:
    """Every record of a whole run, under the name of its test."""
    found: list[tuple[str, Record]] = []
    for model in MODELS:
        found.append(("test_weights.py::test_values", weights(model)))
        for fmt, sparsities in (("dense", (0.0, *SPARSITIES)), ("masked", SPARSITIES)):
            found += [("test_latency.py::test_forward", latency(model, s, fmt)) for s in sparsities]
            found += [("test_memory.py::test_forward", memory(model, s, fmt)) for s in sparsities]
        found += [("test_perplexity.py::test_lm", nll(model, "none", None, 0.0))]
        found += [("test_classification.py::test_reviews", accuracy(model, "none", None, 0.0))]
        for method, scope, seed in _choices():
            for s in SPARSITIES:
                found.append(("test_perplexity.py::test_lm", nll(model, method, scope, s, seed)))
                found.append(("test_classification.py::test_reviews", accuracy(model, method, scope, s, seed)))
                found.append(("test_pruning.py::test_cost", pruned(model, method, scope, s, seed)))
    return [(f"benchmarks/{test}[{record.cell}]", record) for test, record in found]


def _choices() -> list[tuple[str, str, int | None]]:
    return [("l1", "layer", None), ("l1", "global", None), *(("random", "layer", seed) for seed in range(3))]


def run_json(records: Iterable[tuple[str, Record]] | None = None, **ours: object) -> dict[str, Any]:
    """A whole result file; `ours` replaces keys of the run part, None removes one."""
    chosen = all_records() if records is None else list(records)
    part: dict[str, Any] = {
        "schema": SCHEMA,
        "profile": "default",
        "fingerprint": dict(FINGERPRINT),
        "models": {m: {"class_name": CLASSES[m], "source": "embedded", "demonstration": True} for m in MODELS},
        "not_measured": [
            {
                "cell": {"model": "bert", "format": "semi_structured", "sparsity": 0.5},
                "test": "benchmarks/test_latency.py::test_forward[bert-semi]",
                "outcome": "skipped",
                "reason": "semi_structured needs a CUDA device",
            }
        ],
    }
    part.update(ours)
    part = {key: value for key, value in part.items() if value is not None}
    return {
        "machine_info": {"machine": "x86_64", "system": "Linux", "cpu": {"brand_raw": "AMD EPYC"}},
        "commit_info": {"id": "0123abc", "dirty": False, "branch": "main"},
        "benchmarks": [entry(name, record) for name, record in chosen],
        "datetime": "2025-01-02T03:04:05+00:00",
        "version": "5.3.1",
        KEY: part,
    }


def entry(fullname: str, record: Record) -> dict[str, Any]:
    """One of `benchmarks`."""
    name = fullname.rsplit("::", 1)[-1]
    stats = {"median": 0.005, "rounds": 40, "data": [0.005, 0.006]}
    extra = {KEY: to_json(record)}
    return {"group": None, "name": name, "fullname": fullname, "params": None, "extra_info": extra, "stats": stats}


def write(path: Path, data: object) -> Path:
    """The data as a JSON file."""
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def recovered(
    model: str = "bert",
    sparsity: float = 0.8,
    recovery: str = "distill:200",
    metric: str = "accuracy",
    delta: float = -0.003,
    **more: object,
) -> Record:
    """A recovered cell: near its control, which training alone made a little better than the unpruned model."""
    dense, gain = (0.92, 0.01) if metric == "accuracy" else (2.1, -0.05)
    control = dense + gain if recovery != "reconstruct" else dense
    worst = -0.3 if metric == "accuracy" else 1.5
    value = control + delta
    lost = -delta if metric == "accuracy" else delta
    margin, error = (0.01, 0.0025) if metric == "accuracy" else (0.02, 0.004)
    verdict = "kept" if lost + 1.96 * error <= margin else "lost" if lost - 1.96 * error > margin else "inconclusive"
    values: dict[str, Any] = {
        "seeds": [0, 1, 2],
        "values": [value - 0.001, value, value + 0.001],
        "one_shot": dense + worst * sparsity,
        "gained": value - dense - worst * sparsity,
        "gained_stderr": 0.01,
        "control": control,
        "deltas": [delta - 0.001, delta, delta + 0.001],
        "delta": delta,
        "delta_stderr": error,
        "verdict": verdict,
    }
    if recovery != "reconstruct":
        values |= {"steps": 200, "seconds": 41.6, "documents": 6400}
    values.update(more)
    quality = Quality(
        metric, value, 0.008, 1000, dense_value=dense, delta=value - dense, delta_stderr=error, verdict="kept"
    )
    task = "classification" if metric == "accuracy" else "lm"
    cell = Cell(model, "l1", "unstructured", "layer", sparsity, recovery=recovery, task=task)
    return Record(cell, quality=quality, recovered=Recovered(**values), outcome="passed")


def trained_control(model: str = "bert", recovery: str = "finetune:200", metric: str = "accuracy") -> Record:
    """The unpruned model after as much training."""
    found = recovered(model, recovery=recovery, metric=metric, delta=0.0)
    cell = dataclasses.replace(found.cell, method="none", pattern=None, scope=None, sparsity=0.0)
    return dataclasses.replace(found, cell=cell, recovered=None)


EVIL = '<script>alert(1)</script>`x`|y\n\n# t [l](http://e) "><img src=x onerror=alert(2)> {{ 7 * 7 }} $x_1$ &amp;'
"""What no string from outside may become."""


def hostile_json(evil: str = EVIL) -> dict[str, Any]:
    """A run whose every string from outside is `evil`."""
    cost = dataclasses.replace(cost_cell("bert", 0.9, "packed"), model=evil, method=evil, format=evil, workload=evil)
    found = [
        dataclasses.replace(latency(verdict="inconclusive", reason=evil), cell=cost),
        dataclasses.replace(memory(), cell=cost),
    ]
    for delta in (-0.003, -0.1):
        record = recovered(sparsity=0.8 + abs(delta), delta=delta)
        cell = dataclasses.replace(record.cell, model=evil, method=evil, recovery=evil, after=evil)
        found.append(dataclasses.replace(record, cell=cell))
    measured = weights()
    found.append(dataclasses.replace(measured, cell=Cell(evil)))
    missing = {"cell": {"model": evil}, "test": evil, "outcome": "skipped", "reason": evil}
    models = {evil: {"class_name": evil, "source": evil, "demonstration": True, "classifier": evil}}
    named = [(evil, record) for record in found]
    run = {"fingerprint": {evil: evil}, "profile": evil, "models": models, "not_measured": [missing], "notes": [evil]}
    return run_json(named, **run)


def many_json() -> dict[str, Any]:
    """A run of 540 ways to run a model, each with its time and memory, a third of them with their quality."""
    found: list[Record] = []
    for model in MODELS:
        for method in ("l1", "random"):
            found += [nll(model, method, "layer", s) for s in SPARSITIES]
            for fmt in ("dense", "masked", "packed", "csr", "bsr", "compact"):
                for workload in ("1x64", "8x64", "32x128"):
                    for s in SPARSITIES:
                        cell = dataclasses.replace(cost_cell(model, s, fmt), method=method, workload=workload)
                        found.append(dataclasses.replace(latency(model, s, fmt), cell=cell))
                        found.append(dataclasses.replace(memory(model, s, fmt), cell=cell))
    return run_json([(f"benchmarks/test_many.py::test_it[{i}]", record) for i, record in enumerate(found)])
