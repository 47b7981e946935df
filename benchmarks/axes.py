"""Every axis of every question, as tuples of scalars: the whole grid at a glance.

A profile gives each question (a file of this folder, without its `test_`) its grids, whose union is
measured; an axis set on the command line replaces that axis in all of them. What a grid spans is in
`cells`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from sparsity import pattern, recover, recovery
from sparsity.composition import Step
from sparsity.errors import UnknownName
from sparsity.formats import AUTO, FORMATS
from sparsity.formats.protocol import ExecutionFormat
from sparsity.methods import METHODS
from sparsity.options import Options
from sparsity.prune import SCOPES, Recipe, refusal

Scalar = str | float | int | None
NAMES = ("model", "method", "pattern", "scope", "sparsity", "seed", "recovery", "format", "workload", "task")
"""The axes that a test may ask for by name."""
CONTROL = "none"
"""The method of the dense control. Every grid has it, whatever methods are asked for."""
UNPRUNED = ("bf16", "fused")
"""Formats that the unpruned model alone is measured in: they cost the same whatever was pruned."""


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
    """For stochastic methods, and for the training of recoveries; one seed says little, so three."""
    recoveries: tuple[str, ...] | None = None
    """What follows pruning; None where the question does not span it."""
    asked: frozenset[Scalar] = frozenset()
    """The methods, patterns and formats that the command line names: these are not left out without a word."""
    where: tuple[tuple[str, str], ...] = (("float32", "cpu"),)
    """(dtype, device) of the run, and of the usual one: a format that runs in none of them is left out."""


EMBEDDED = ("bert", "gpt2", "bart")
ORIGINALS = ("google-bert/bert-base-uncased", "openai-community/gpt2", "facebook/bart-base")
MAPPED = ("1x16", "1x64", "8x16", "8x64", "32x16", "32x64")
"""Workloads of the map of break-even sparsities."""
STUDY_SPARSITIES = (0.1, 0.5, 0.9, 0.95, 0.99)
LOOKING = ("wanda", "sparsegpt", "taylor")
"""Methods that look at inputs or gradients, for single weights."""
LADDER = ("dense", "masked", "bf16", "csr", "bsr", "packed", "auto")
"""Formats for single weights, and what stands beside them."""
GROUPS = ("neurons", "heads", "neurons+heads", "layers")
COMPOSED = (
    ("compact", "ziplm", "neurons", 0.8),
    ("packed", "l1", "unstructured", 0.9),
    ("bf16", None, None, None),
)
"""The steps of a composition, one after the other: format, method, pattern, sparsity of all prunable weights."""
EVERY_METHOD = tuple(name for name in METHODS if name != CONTROL)
Grids = tuple[Grid, ...]


def _questions(
    all_: Grid, pruning: Grids, performance: Grids, quality: Grids, recovered: Grids, steps: Grids
) -> dict[str, Grids]:
    return {
        "weights": (all_,),
        "pruning": pruning,
        "latency": performance,
        "memory": performance,
        "perplexity": tuple(replace(grid, tasks=("lm",)) for grid in quality),
        "classification": tuple(replace(grid, tasks=("classification",)) for grid in quality),
        "recovery": recovered,
        "composition": steps,
    }


def _smoke() -> dict[str, Grids]:
    """CI: every benchmark, every method and every kind of pattern and scope, on a tiny grid."""
    base = Grid(EMBEDDED, sparsities=(0.9,), seeds=(0,), workloads=("2x16",))
    half = replace(base, sparsities=(0.5,))
    performance = (
        base,
        replace(base, models=EMBEDDED[:1], formats=LADDER),
        replace(half, patterns=("neurons+heads",), formats=("compact",)),
    )
    quality = (
        replace(base, sparsities=(0.3, 0.5, 0.95)),
        replace(base, methods=("random",), sparsities=(0.5,), seeds=(0, 1, 2)),
    )
    pruning = (
        replace(base, methods=("l1", "random"), scopes=("layer", "global")),
        replace(half, methods=("sparsegpt",), patterns=("2:4",)),
        replace(half, methods=("l2",), patterns=("4x1",)),
        replace(half, methods=("ziplm",), patterns=("neurons+heads",)),
        replace(half, methods=("shortgpt",), patterns=("layers",)),
        replace(half, methods=("wanda", "taylor"), scopes=("row",)),
        replace(base, scopes=("erk", "owl")),
    )
    briefly = replace(half, models=EMBEDDED[:1], recoveries=("reconstruct", "distill:3"), tasks=("classification",))
    steps = replace(briefly, recoveries=("distill:3",))
    return _questions(base, pruning, performance, quality, (briefly,), (steps,))


def _default() -> dict[str, Grids]:
    """The embedded models, the whole story."""
    base = Grid(EMBEDDED)
    smaller = replace(base, sparsities=(0.5,), formats=("compact",))
    briefly = replace(base, models=EMBEDDED[:2], sparsities=(0.8,), tasks=("classification",), seeds=(0,))
    performance = (
        replace(base, sparsities=(0.8,), formats=LADDER),
        replace(base, sparsities=(0.5, 0.9), formats=("packed",)),
        replace(smaller, methods=("ziplm",), patterns=("neurons+heads",)),
        replace(smaller, methods=("shortgpt",), patterns=("layers",)),
    )
    return _questions(
        base,
        (
            replace(base, sparsities=STUDY_SPARSITIES),
            replace(base, scopes=("global",), sparsities=(0.5, 0.9)),
            replace(base, methods=("random",), sparsities=(0.5,), seeds=(0,)),
            replace(base, methods=EVERY_METHOD, patterns=("2:4", "neurons+heads"), sparsities=(0.5,), seeds=(0,)),
            replace(base, methods=("wanda",), scopes=("row",), sparsities=(0.5,)),
            replace(base, methods=("sparsegpt",), sparsities=(0.5,)),
            replace(base, methods=("l2",), patterns=("4x1",), sparsities=(0.5,)),
            replace(base, methods=("shortgpt",), patterns=("layers",), sparsities=(0.5,)),
            replace(base, scopes=("erk", "owl"), sparsities=(0.9,)),
        ),
        performance,
        (
            base,
            replace(base, scopes=("global",), sparsities=(0.9,)),
            replace(base, methods=("random",), sparsities=(0.5,)),
            replace(base, methods=("sparsegpt",), sparsities=(0.8,)),
            replace(base, methods=("l1", "sparsegpt"), patterns=("2:4",)),
            replace(base, methods=("ziplm",), patterns=("neurons+heads",), sparsities=(0.25, 0.5)),
            replace(base, methods=("shortgpt",), patterns=("layers",), sparsities=(0.5,)),
        ),
        (replace(briefly, recoveries=("reconstruct", "distill:50")),),
        (),
    )


def _study() -> dict[str, Grids]:
    """The original study at full size, its own workload."""
    base = Grid(ORIGINALS, sparsities=STUDY_SPARSITIES, formats=LADDER, workloads=("128x64",))
    halves = replace(base, patterns=("2:4",), formats=("dense", "semi_structured", "packed", "auto"))
    own = replace(base, recoveries=("transfer:1000",), tasks=("classification",), seeds=(0,))
    return _questions(base, (replace(base, scopes=("layer", "global")),), (base, halves), (base,), (own,), ())


def _full() -> dict[str, Grids]:
    """Every axis."""
    base = Grid(EMBEDDED, workloads=("1x64", "8x64"))
    elements = replace(base, methods=("l1", "random", *LOOKING), patterns=("unstructured", "4x1"))
    groups = replace(base, methods=EVERY_METHOD, patterns=GROUPS, sparsities=(0.25, 0.5, 0.75))
    fixed = replace(base, methods=("l1", "random", *LOOKING), patterns=("2:4", "1:4", "4:8"))
    quality = (replace(elements, scopes=SCOPES), fixed, replace(groups, scopes=("layer", "global")))
    every = replace(base, formats=("fused", *LADDER))
    performance = (
        replace(every, workloads=MAPPED),
        replace(every, scopes=("global",)),
        replace(every, patterns=("2:4", "4x1"), formats=("fused", *LADDER, "semi_structured")),
        replace(groups, methods=("l1",), formats=("dense", "compact")),
    )
    found = _frontier()
    single = replace(base, sparsities=(0.5, 0.8, 0.9), tasks=("classification", "lm"))
    recovered = (
        *found["recovery"],
        replace(single, recoveries=("reconstruct", "finetune:300", "distill:300", "gradual-distill:300")),
        replace(single, methods=("sparsegpt",), recoveries=("distill:300",)),
    )
    return _questions(base, quality, performance, quality, recovered, found["composition"])


def _frontier() -> dict[str, Grids]:
    """What training wins back, three times over, and what the same choices cost: the models that nothing else beats."""
    base = Grid(EMBEDDED, tasks=("classification",))
    single = replace(base, sparsities=(0.8, 0.9), formats=("packed",))
    smaller = replace(base, methods=("ziplm",), sparsities=(0.5, 0.8), formats=("compact",))
    neurons, both = replace(smaller, patterns=("neurons",)), replace(smaller, patterns=("neurons+heads",))
    performance = tuple(replace(grid, tasks=None) for grid in (single, neurons, replace(both, sparsities=(0.5,))))
    gradual = "gradual-distill:300"
    recovered = (
        replace(single, sparsities=(0.8,), recoveries=("reconstruct", "finetune:300", "distill:300", "transfer:300")),
        replace(single, recoveries=(gradual,)),
        replace(neurons, sparsities=(0.8,), recoveries=(gradual,)),
        replace(both, sparsities=(0.5,), recoveries=(gradual,)),
    )
    asked = {"latency": performance, "memory": performance, "recovery": recovered}
    steps = replace(base, recoveries=("distill:300",))
    return {question: asked.get(question, ()) for question in _smoke()} | {"composition": (steps,)}


def _break_even() -> dict[str, Grids]:
    """From which sparsity on each format pays, by batch and length; what tells most first, should the time run out."""
    base = Grid(EMBEDDED[:1], formats=("packed", "csr", "bsr"), workloads=MAPPED)
    telling = tuple(replace(base, sparsities=(sparsity,)) for sparsity in (0.7, 0.5, 0.9, 0.3, 0.8, 0.95))
    return {question: telling if question == "latency" else () for question in _smoke()}


PROFILES: dict[str, dict[str, Grids]] = {
    "smoke": _smoke(),
    "default": _default(),
    "study": _study(),
    "full": _full(),
    "frontier": _frontier(),
    "break-even": _break_even(),
}
"""For each question of a profile its grids; their union is what is measured."""


TIME_PER_CELL = {"smoke": 0.4, "default": 0.9, "study": 20.0, "full": 5.0, "frontier": 4.0, "break-even": 0.5}
"""Seconds for each latency, by profile."""


def time_per_cell(options: Options) -> float:
    """The profile's seconds for each latency, unless the command line sets them."""
    return options.time_per_cell or TIME_PER_CELL[options.profile]


def grids(options: Options, question: str) -> Grids:
    """The profile's grids for a question, with the axes that the command line sets."""
    if options.profile not in PROFILES:
        raise UnknownName("profile", options.profile, PROFILES)
    if question == "harness":  # asked of the tasks that the run names, over the grid of perplexity
        tasks = tuple(f"harness:{name}" for name in options.harness)
        found = (replace(_set(grid, options), tasks=tasks) for grid in PROFILES[options.profile]["perplexity"] if tasks)
        return tuple(dict.fromkeys(found))
    return tuple(dict.fromkeys(_set(grid, options) for grid in PROFILES[options.profile][question]))


def _set(grid: Grid, options: Options) -> Grid:
    given = {f.name: options.axes[f.name] for f in fields(Grid) if f.name in options.axes}
    asked = given.pop("tasks", None)
    if asked is not None and grid.tasks is not None:  # a question keeps to its own
        given["tasks"] = tuple(task for task in grid.tasks if task in asked)
    if grid.recoveries is None:
        given.pop("recoveries", None)
    named = frozenset(
        value for axis in ("methods", "patterns", "formats", "recoveries") for value in given.get(axis, ())
    )
    where = (*grid.where, (options.dtype, options.device.partition(":")[0]))
    return replace(grid, **given, asked=named, where=where)  # type: ignore[arg-type]  # options.axes holds parsed tuples of each field's type


def cells(grids: Iterable[Grid], axes: Iterable[str]) -> list[dict[str, Scalar]]:
    """The cells of all grids, each once: a value for every axis named (`model`, `sparsity` …), control first.

    Values that make no sense together are left out: the control has no sparsity but 0, no scope, and
    its weights are dense; sparsity 0 is the control's alone, and so are formats that cost the same whatever
    was pruned (`UNPRUNED`); a seed belongs to stochastic methods; a pattern has its own scopes, and n:m its
    own sparsity. So is what a method or a format refuses, unless it was asked for together with the pattern,
    or nothing else would be left of it: then its cells stay, to be skipped with the reason.
    """
    wanted, grids = tuple(axes), tuple(grids)
    anywhere = {row[axis] for grid in grids for row in _pruned("", grid) for axis in ("method", "format")}
    found: dict[tuple[Scalar, ...], None] = {}
    for grid in grids:
        for model in grid.models:
            rows = [*_unpruned(model, grid), *_pruned(model, grid, anywhere)]
            if "sparsity" not in wanted and "scope" in wanted:  # a question across sparsities
                rows = [row for row in rows if row["method"] != CONTROL and not _single(row)]
            if "recovery" in wanted and "method" not in wanted:  # a question of pruned models alone
                rows = [row for row in rows if row["method"] != CONTROL]
            tasks: tuple[Scalar, ...] = (None,) if grid.tasks is None else grid.tasks
            for row, workload, task in itertools.product(rows, grid.workloads, tasks):
                for after in [None] if grid.recoveries is None else _recoveries(row, task, grid.recoveries, grid.asked):
                    whole: dict[str, Scalar] = {**row, "workload": workload, "task": task, "recovery": after}
                    if after and "recovery" in wanted:  # a cell is over all seeds, each with masks of its own
                        whole["seed"] = None
                    found[tuple(whole[axis] for axis in wanted)] = None
    return [dict(zip(wanted, cell, strict=True)) for cell in found]


def _recoveries(row: dict[str, Scalar], task: Scalar, texts: Iterable[str], named: frozenset[Scalar]) -> list[Scalar]:
    """What follows the pruning of a row, in a question about that; of the unpruned model, its share of the training.

    One-shot is none of them: the questions of quality ask for it. A recovery that is refused is left out, unless it
    was asked for: then it stays, to be skipped with the reason.
    """
    each = [recovery.parse(text) for text in texts]
    each = [one for one in each if one and (str(one) in named or not (one.kind == "transfer" and task == "lm"))]
    if row["method"] == CONTROL:
        return [str(one) for one in dict.fromkeys(one.control for one in each) if one]
    recipe = Recipe(str(row["method"]), float(row["sparsity"] or 0), str(row["pattern"]), str(row["scope"]))
    return [str(one) for one in each if str(one) in named or recover.refusal(recipe, one) is None]


def sparsities(grids: Iterable[Grid], method: str, shape: str, scope: str) -> tuple[float, ...]:
    """Every sparsity at which the grids have this method, pattern and scope, ascending."""
    rows = [row for grid in grids for row in _pruned("", grid)]
    found = {row["sparsity"] for row in rows if (row["method"], row["pattern"], row["scope"]) == (method, shape, scope)}
    return tuple(sorted(float(sparsity or 0) for sparsity in found))


def composed(after: str, count: int) -> tuple[Step, ...]:
    """The first steps of the composition, each followed by the same recovery."""
    return tuple(
        Step(kind)
        if method is None
        else Step(kind, Recipe(method, sparsity or 0.0, shape or "unstructured"), recovery.parse(after))
        for kind, method, shape, sparsity in COMPOSED[:count]
    )


def _single(row: dict[str, Scalar]) -> bool:
    """Whether there is but one sparsity, so that a question across sparsities has no answer."""
    return pattern.parse(str(row["pattern"])).fixed is not None


def _unpruned(model: str, grid: Grid) -> list[dict[str, Scalar]]:
    """The control, and the unpruned model in the other formats that are its alone."""
    axes: dict[str, Scalar] = dict.fromkeys(("pattern", "scope", "seed"))
    control = {**axes, "model": model, "method": CONTROL, "sparsity": 0.0}
    return [{**control, "format": kind} for kind in ("dense", *(kind for kind in grid.formats if kind in UNPRUNED))]


def _pruned(model: str, grid: Grid, anywhere: set[Scalar] | None = None) -> list[dict[str, Scalar]]:
    """The grid's pruned cells of a model; given what is left anywhere, also the refused ones of what was asked for."""
    rows = []
    for method, text in itertools.product((m for m in grid.methods if m != CONTROL), grid.patterns):
        shape = pattern.parse(text)
        scopes = [scope for scope in grid.scopes if scope in shape.scopes] or shape.scopes[:1]
        if METHODS[method].stochastic and "layer" in scopes:  # chance treats all layers alike
            scopes = [scope for scope in scopes if scope != "global"]
        seeds: tuple[int | None, ...] = grid.seeds if METHODS[method].stochastic else (None,)
        asked = [s for s in grid.sparsities if s] if shape.fixed is None else [shape.fixed]
        formats = [kind for kind in grid.formats if kind not in UNPRUNED] or ["dense"]
        for scope, seed, sparsity, kind in itertools.product(scopes, seeds, asked, formats):
            refused: set[Scalar] = {method} if refusal(method, text, scope) else set()
            refused |= {kind} if kind != AUTO and _runs_nowhere(FORMATS[kind], shape, grid) else set()
            if refused and (anywhere is None or not refused & _told(grid, method, text, anywhere)):
                continue
            row: dict[str, Scalar] = {"model": model, "method": method, "pattern": text, "scope": scope}
            rows.append({**row, "seed": seed, "sparsity": sparsity, "format": kind})
    return rows


def _runs_nowhere(kind: ExecutionFormat, shape: pattern.ElementPattern | pattern.GroupPattern, grid: Grid) -> bool:
    """Whether a format refuses a pattern wherever a run might be."""
    return all(kind.unsupported(shape, dtype, device) for dtype, device in grid.where)


def _told(grid: Grid, method: str, text: str, anywhere: set[Scalar]) -> set[Scalar]:
    """The asked-for values whose refusal must be told: nothing is left of them, or the pattern was asked for too."""
    told: set[Scalar] = set(grid.asked - anywhere)
    if text in grid.asked:
        told |= grid.asked & set(grid.formats)
        if all(refusal(method, text, scope) for scope in pattern.parse(text).scopes):
            told |= grid.asked & {method}
    return told


def identifier(cell: dict[str, Scalar]) -> str:
    """`bert-l1-unstructured-layer-0.9-dense-8x64`: the axes that apply, in order."""
    return "-".join(str(value) for value in cell.values() if value is not None)
