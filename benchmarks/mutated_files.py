"""Regressions planted in a result file, each with the answer that `python -m reports compare` must give.

A mutation changes the parsed file of the head; what is no JSON any more is changed as text. The first two plant no
regression: without them a gate that always says no would pass.

Refuses a file that has no cell with what a mutation changes.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sparsity.errors import BadValue

Data = dict[str, Any]
KEY = "sparsity"
SPREAD = 0.002
"""Of the block ratios of a steady cell, a fraction."""
MORE = 0.01
"""A hundredth more of what repeats exactly."""


@dataclass(frozen=True)
class FileMutation:
    """One change of a result file, and the answer it must get."""

    name: str
    expected: int
    """Exit status of the comparison."""
    word: str
    """What the output must hold."""
    change: Callable[[Data], object] | None = None
    """Of the head, in place."""
    text: Callable[[str], str] | None = None
    """Of the head's text, after that."""
    both: Callable[[Data], object] | None = None
    """Of base and head alike, before all else."""
    timed: bool = False
    """Whether times are compared as well."""

    def files(self, base: Data) -> tuple[str, str]:
        """Texts of the base and of the mutated head."""
        data = copy.deepcopy(base)
        if self.both:
            self.both(data)
        before = json.dumps(data)
        if self.change:
            self.change(data)
        after = json.dumps(data)
        return before, self.text(after) if self.text else after


def record_of(entry: Data) -> Data:
    """The record of a benchmark; empty where it has none."""
    found: Data = entry["extra_info"].get(KEY, {})
    return found


def entry_with(data: Data, section: str, name: str, **values: object) -> Data:
    """The first benchmark of a pruned model whose record has such a section, with this in it."""
    entries: list[Data] = data["benchmarks"]
    for entry in entries:
        found = record_of(entry).get(section, {})
        pruned = record_of(entry).get("cell", {}).get("method", "none") != "none"
        if pruned and found.get(name) and all(found.get(key) == value for key, value in values.items()):
            return entry
    raise BadValue(f"the result file has no pruned cell with {section}.{name}, which a mutation is to change")


def scaled(section: str, name: str, factor: float) -> Callable[[Data], None]:
    """Multiplies a number of the first pruned cell that has it; whole numbers stay whole."""

    def change(data: Data) -> None:
        found = record_of(entry_with(data, section, name))[section]
        value = found[name] * factor
        found[name] = math.ceil(value) if isinstance(found[name], int) else value

    return change


def worse(metric: str, by: float) -> Callable[[Data], None]:
    """The quality of the first pruned cell of a metric, worse by so much; its paired difference follows."""

    def change(data: Data) -> None:
        found = record_of(entry_with(data, "quality", "value", metric=metric))["quality"]
        step = -by if metric == "accuracy" else by
        found["value"] += step
        if "delta" in found:
            found["delta"] += step
        if "perplexity" in found:
            found["perplexity"] = math.exp(found["value"])

    return change


def top(part: str, name: str, value: object) -> Callable[[Data], None]:
    """Another value in the run's part."""

    def change(data: Data) -> None:
        where = data[KEY][part]
        assert name in where, f"a fingerprint without {name}"
        where[name] = value

    return change


def first_pruned(data: Data) -> Data:
    """The first benchmark of a pruned model."""
    return entry_with(data, "cell", "sparsity")


def renamed(data: Data) -> None:
    """The same cell under another test id."""
    entry = first_pruned(data)
    for name in ("name", "fullname"):
        entry[name] = entry[name].replace("[", "[renamed-")


def added(data: Data) -> None:
    """A cell that the base does not have."""
    entry = copy.deepcopy(first_pruned(data))
    record_of(entry)["cell"]["sparsity"] = 0.123
    for name in ("name", "fullname"):
        entry[name] = entry[name].replace("[", "[0.123-")
    data["benchmarks"].append(entry)


def failed(data: Data) -> None:
    """A claim about the cell does not hold any more."""
    record_of(first_pruned(data)).update(outcome="failed", reason="got 3 zeros, should be 4")


def skipped(data: Data) -> None:
    """The cell is not measured any more, and the file says why."""
    entry = first_pruned(data)
    data["benchmarks"].remove(entry)
    told = {"test": entry["fullname"], "outcome": "skipped", "reason": "packed needs llvmlite"}
    data[KEY]["not_measured"].append({"cell": record_of(entry)["cell"], **told})


def shortened(data: Data) -> None:
    """Quality of half the documents."""
    entry_with(data, "quality", "documents")["extra_info"][KEY]["quality"]["documents"] //= 2


def densely(data: Data) -> None:
    """The same number of products, but by dense operators."""
    products = record_of(entry_with(data, "latency", "products"))["latency"]["products"]
    if not products["sparse"]:
        raise BadValue("the result file has no pruned cell with sparse products first, which a mutation is to change")
    count = sum(products["sparse"].values())
    products["dense"]["aten::addmm float32"] = products["dense"].get("aten::addmm float32", 0) + count
    products["sparse"] = {}


def another_class(data: Data) -> None:
    """Behind the first name of a model stands another model."""
    next(iter(data[KEY]["models"].values()))["class_name"] = "AnotherModel"


def steady(data: Data) -> None:
    """Every time told to within a few tenths of a percent, on a quiet machine."""
    data[KEY].update(noise_floor=SPREAD, noisy=False)
    for entry in data["benchmarks"]:
        if (found := record_of(entry).get("latency", {})).get("speedup"):
            _timed(found, found["speedup"], SPREAD)


def slower(by: float) -> Callable[[Data], None]:
    """The first pruned cell takes so much longer, and nothing is noisier."""

    def change(data: Data) -> None:
        found = record_of(entry_with(data, "latency", "speedup"))["latency"]
        found["pruned_seconds"] *= 1 + by
        _timed(found, found["speedup"] / (1 + by), SPREAD)

    return change


def blurred(data: Data) -> None:
    """The first pruned cell took anything between half and twice the time."""
    found = record_of(entry_with(data, "latency", "speedup"))["latency"]
    _timed(found, found["speedup"], 1.0)


def _timed(found: Data, speedup: float, spread: float) -> None:
    """A time ratio with its interval; the blocks lie on both sides alike."""
    blocks = 2 * max(8, found.get("blocks", 16) // 2)
    scatter = [math.log1p(spread) * (-1) ** block for block in range(blocks)]
    found.update(speedup=speedup, low=speedup / (1 + spread), high=speedup * (1 + spread), blocks=blocks)
    found.update(noise_floor=SPREAD, margin=0.03, block_ratios=[each - math.log(speedup) for each in scatter])
    found["verdict"] = "same" if spread < 1 else "inconclusive"
    for name in ("more_blocks", "reason"):
        found.pop(name, None)


def exact(name: str, section: str, field: str, factor: float = 1 + MORE) -> FileMutation:
    """A regression of what repeats exactly."""
    return FileMutation(name, 1, field, scaled(section, field, factor))


MUTATIONS = (
    FileMutation("nothing changed", 0, ""),
    FileMutation("weights 1 % smaller", 0, "", scaled("memory", "weights_bytes", 1 - MORE)),
    FileMutation("a test renamed", 2, "renamed", renamed),
    FileMutation("a cell dropped", 2, "missing", lambda data: data["benchmarks"].remove(first_pruned(data))),
    FileMutation("a new cell", 2, "new", added),
    FileMutation("a cell that failed", 1, "got 3 zeros", failed),
    FileMutation("a cell that is skipped", 2, "missing", skipped),
    FileMutation("accuracy 2 points lower", 1, "accuracy", worse("accuracy", 0.02)),
    FileMutation("mean NLL 0.05 higher", 1, "nll", worse("mean_nll", 0.05)),
    exact("weights 1 % larger", "memory", "weights_bytes"),
    exact("peak 1 % higher", "memory", "peak_bytes"),
    exact("file 1 % larger", "memory", "disk_bytes"),
    exact("flops doubled", "latency", "flops", 2),
    exact("a layer is not prunable any more", "pruned", "prunable_parameters", 0.9),
    exact("embeddings pruned too", "pruned", "total_sparsity", 1.05),
    FileMutation("a sparse operator replaced by a dense one", 1, "no longer runs", densely),
    FileMutation("quality of half the documents", 2, "documents", shortened),
    FileMutation("a NaN", 2, "NaN", scaled("latency", "pruned_seconds", math.nan)),
    FileMutation("a file cut in two", 2, "JSON", text=lambda text: text[: len(text) // 2]),
    FileMutation("not JSON", 2, "JSON", text=lambda text: "all benchmarks passed\n"),
    FileMutation("another machine", 2, "cpu", top("fingerprint", "cpu", "another processor"), timed=True),
    FileMutation("another torch", 2, "torch", top("fingerprint", "torch", "0.0.1"), timed=True),
    FileMutation("another setting", 2, "head", top("fingerprint", "head", "none")),
    FileMutation("another schema", 2, "schema", lambda data: data[KEY].update(schema=99)),
    FileMutation("another class of model", 2, "class", another_class),
    FileMutation("10 % slower", 1, "time", slower(0.10), both=steady, timed=True),
    FileMutation("a time that tells nothing", 3, "noisy", blurred, both=steady, timed=True),
)
"""All of them; the first two must be let through."""
