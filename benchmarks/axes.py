"""Every axis of every question, as tuples of scalars: the whole grid at a glance.

A profile gives each question (a file of this folder, without its `test_`) its grid; an axis set on
the command line replaces that axis in all of them. What a grid spans is in `cells`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from sparsity.errors import UnknownName
from sparsity.methods import METHODS
from sparsity.options import Options

Scalar = str | float | int | None
NAMES = ("model", "method", "pattern", "scope", "sparsity", "seed", "format", "workload", "task")
"""The axes that a test may ask for by name."""
CONTROL = "none"
"""The method of the dense control. Every grid has it, whatever methods are asked for."""


@dataclass(frozen=True)
class Grid:
    """The values of each axis for one question."""

    models: tuple[str, ...]
    methods: tuple[str, ...] = ("l1",)
    patterns: tuple[str, ...] = ("unstructured",)
    scopes: tuple[str, ...] = ("layer",)
    sparsities: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    formats: tuple[str, ...] = ("dense", "masked")
    workloads: tuple[str, ...] = ("8x64",)
    tasks: tuple[str, ...] | None = None
    """The quality tasks of the question; None where it does not span tasks, empty where none of its own are left."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """For stochastic methods; one mask seed says little, so three."""


EMBEDDED = ("bert", "gpt2", "bart")
ORIGINALS = ("google-bert/bert-base-uncased", "openai-community/gpt2", "facebook/bart-base")
STUDY_SPARSITIES = (0.1, 0.5, 0.9, 0.95, 0.99)

_default = Grid(EMBEDDED)
_default_performance = replace(_default, sparsities=STUDY_SPARSITIES)
_smoke = Grid(EMBEDDED, sparsities=(0.3, 0.5, 0.95), workloads=("2x16",))
_smoke_performance = replace(_smoke, sparsities=(0.9,))
_study = Grid(ORIGINALS, sparsities=STUDY_SPARSITIES, workloads=("128x64",))
_full = Grid(
    EMBEDDED,
    methods=("l1", "random"),
    scopes=("layer", "global"),
    workloads=("1x64", "8x64"),
)


def _questions(all_: Grid, pruning: Grid, performance: Grid, quality: Grid) -> dict[str, Grid]:
    return {
        "weights": all_,
        "pruning": pruning,
        "latency": performance,
        "memory": performance,
        "perplexity": replace(quality, tasks=("lm",)),
        "classification": replace(quality, tasks=("classification",)),
    }


_both_scopes = {"methods": ("l1", "random"), "scopes": ("layer", "global")}

PROFILES: dict[str, dict[str, Grid]] = {
    # CI: every benchmark on a tiny grid.
    "smoke": _questions(
        _smoke,
        replace(_smoke, sparsities=(0.9,), seeds=(0,), **_both_scopes),
        _smoke_performance,
        replace(_smoke, methods=("l1", "random")),
    ),
    # The embedded models, the whole story.
    "default": _questions(
        _default,
        replace(_default, sparsities=STUDY_SPARSITIES, seeds=(0,), **_both_scopes),
        _default_performance,
        replace(_default, methods=("l1", "random"), scopes=("layer", "global")),
    ),
    # The original study at full size, its own workload.
    "study": _questions(_study, replace(_study, scopes=("layer", "global")), _study, _study),
    # Every axis.
    "full": _questions(_full, _full, _full, _full),
}


TIME_PER_CELL = {"smoke": 0.6, "default": 2.0, "study": 20.0, "full": 5.0}
"""Seconds for each latency, by profile."""


def time_per_cell(options: Options) -> float:
    """The profile's seconds for each latency, unless the command line sets them."""
    return options.time_per_cell or TIME_PER_CELL[options.profile]


def grid(options: Options, question: str) -> Grid:
    """The profile's grid for a question, with the axes that the command line sets."""
    if options.profile not in PROFILES:
        raise UnknownName("profile", options.profile, PROFILES)
    chosen = PROFILES[options.profile][question]
    given = {f.name: options.axes[f.name] for f in fields(Grid) if f.name in options.axes}
    asked = given.pop("tasks", None)
    if asked is not None and chosen.tasks is not None:  # a question keeps to its own
        given["tasks"] = tuple(task for task in chosen.tasks if task in asked)
    return replace(chosen, **given)  # type: ignore[arg-type]  # options.axes holds parsed tuples of each field's type


def cells(grid: Grid, axes: Iterable[str]) -> list[dict[str, Scalar]]:
    """The cells of a grid, each a value for every axis named (`model`, `sparsity` …), control first.

    Values that make no sense together are left out: the control has no sparsity but 0, no scope, and
    its weights are dense; sparsity 0 is the control's alone; a seed belongs to stochastic methods.
    """
    wanted = tuple(axes)
    found: list[tuple[Scalar, ...]] = []
    for model in grid.models:
        rows = [_control(model, grid), *_pruned(model, grid)]
        if "sparsity" not in wanted and "scope" in wanted:  # a question across sparsities: the control has no part
            rows = [row for row in rows if row["method"] != CONTROL]
        tasks: tuple[Scalar, ...] = (None,) if grid.tasks is None else grid.tasks
        for row, workload, task in itertools.product(rows, grid.workloads, tasks):
            whole: dict[str, Scalar] = {**row, "workload": workload, "task": task}
            found.append(tuple(whole[axis] for axis in wanted))
    return [dict(zip(wanted, cell, strict=True)) for cell in dict.fromkeys(found)]


def _control(model: str, grid: Grid) -> dict[str, Scalar]:
    axes: dict[str, Scalar] = dict.fromkeys(("pattern", "scope", "seed"))
    return {**axes, "model": model, "method": CONTROL, "sparsity": 0.0, "format": "dense"}


def _pruned(model: str, grid: Grid) -> list[dict[str, Scalar]]:
    rows = []
    names = ("method", "pattern", "scope", "seed", "sparsity", "format")
    methods = [m for m in grid.methods if m != CONTROL]
    sparsities = [s for s in grid.sparsities if s]
    for values in itertools.product(methods, grid.patterns, grid.scopes, grid.seeds, sparsities, grid.formats):
        row: dict[str, Scalar] = dict(zip(names, values, strict=True))
        if not METHODS[str(row["method"])].stochastic:
            row["seed"] = None
        elif row["scope"] == "global" and "layer" in grid.scopes:
            continue  # chance treats all layers alike: the same question asked twice
        rows.append({"model": model, **row})
    return rows


def identifier(cell: dict[str, Scalar]) -> str:
    """`bert-l1-unstructured-layer-0.9-dense-8x64`: the axes that apply, in order."""
    return "-".join(str(value) for value in cell.values() if value is not None)
