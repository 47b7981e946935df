"""Does each method reach its sparsity and its pattern, and what does pruning itself cost?"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sparsity import calibration, prune
from sparsity import pattern as patterns
from sparsity.groups import groups_of
from sparsity.mask import pruned_count
from sparsity.measure.memory import peak_memory
from sparsity.methods import METHODS
from sparsity.models.architecture import PrunableLayer, prunable_layers

if TYPE_CHECKING:
    import torch
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.bench import Bench, Subject
    from sparsity.cells import Recorder

BESIDE_TORCH_AT = 0.9
"""Where l1 is compared with torch: at one sparsity alone, since torch takes half a minute for BERT-base."""


@pytest.mark.timed
def test_reaches_its_sparsity(
    benchmark: BenchmarkFixture, record: Recorder, bench: Bench, subject: Subject, recipe: prune.Recipe
) -> None:
    """Exactly the asked number of units is removed in the asked scope; for l1 the same ones as torch removes."""
    subject.current = None
    took: list[float] = []

    def run() -> prune.PrunedModel:
        started = time.perf_counter()
        result = bench.prune(subject, recipe)
        took.append(time.perf_counter() - started)
        return result

    if prune.needs(recipe):
        bench.calibration(subject)  # its documents are made once, and are not what is timed
    pruned: prune.PrunedModel = benchmark.pedantic(run, rounds=1)  # timed, untracked
    peak = peak_memory(run, bench.options.device, warmups=0, replaces=False)  # tracked, untimed
    subject.current = pruned
    record.pruned = replace(
        pruned.counts,
        seconds=took[0],
        extra_bytes=peak.bytes,
        copy_seconds=_copy_seconds(subject),
        forward_seconds=_forward_seconds(bench, subject, recipe),
    )
    for axis in ("method", "pattern", "scope", "sparsity", "seed"):
        asked, got = getattr(record.cell, axis), getattr(pruned.recipe, axis)
        assert asked in (None, got), f"got {axis} {got!r}, should be {asked!r} [{record.cell}]"
    removed = sum(int((~mask).sum()) for mask in pruned.masks)
    zeros = sum(int((layer.weight == 0).sum()) for layer in pruned.layers)
    assert pruned.removed == removed, f"got {pruned.removed} weights removed, the masks say {removed} [{record.cell}]"
    assert zeros >= removed, f"got {zeros} zeros, should be at least {removed} [{record.cell}]"
    _assert_exact(record, pruned)
    whole = (recipe.pattern, recipe.scope) in (("unstructured", "layer"), ("unstructured", "global"))
    if recipe.method == "l1" and whole and recipe.sparsity == BESIDE_TORCH_AT:
        _assert_as_torch(record, bench, subject, pruned)


def _copy_seconds(subject: Subject) -> float:
    """Reading and writing every prunable weight once, the quickest of three."""
    import torch

    weights = [layer.weight for layer in prunable_layers(subject.workspace)]
    places = [torch.empty_like(weight) for weight in weights]
    took = []
    for _ in range(3):
        started = time.perf_counter()
        for place, weight in zip(places, weights, strict=True):
            place.copy_(weight)
        took.append(time.perf_counter() - started)
    return min(took)


def _forward_seconds(bench: Bench, subject: Subject, recipe: prune.Recipe) -> float | None:
    """The forward passes that the method's calibration makes, alone: block by block each is run dense, then pruned."""
    needed = prune.needs(recipe)
    if not needed or calibration.GRADIENTS in needed:
        return None
    in_sequence = METHODS[recipe.method].sequential and recipe.scope != "global"
    return bench.calibration_seconds(subject) * (2 if in_sequence else 1)


def _assert_exact(record: Recorder, pruned: prune.PrunedModel) -> None:
    """As many units are gone as were asked for: of each row, each matrix, each set of groups, or of all."""
    recipe, shape = pruned.recipe, patterns.parse(pruned.recipe.pattern)
    if isinstance(shape, patterns.GroupPattern):
        if recipe.scope == "layer" and recipe.multiple == 1:
            sets = groups_of(pruned.model, pruned.layers, shape.kinds)
            for kind, (gone, _) in pruned.groups.items():
                expected = sum(pruned_count(recipe.sparsity, each.count) for each in sets if each.kind == kind)
                assert gone == expected, f"got {gone} {kind} removed, should be {expected} [{record.cell}]"
        return
    units = [shape.pool(mask.double()) for mask in pruned.masks]  # a unit is gone when nothing of it is kept
    of_rows = [(unit == 0).sum(1) for unit in units]
    if recipe.scope == "row":
        asked = [pruned_count(recipe.sparsity, unit.shape[1]) for unit in units]
        wrong = [n for n, expected in zip(of_rows, asked, strict=True) if (n != expected).any()]
        assert not wrong, f"got {len(wrong)} layers with rows that lost another count [{record.cell}]"
        return
    counted = [int(n.sum()) for n in of_rows]
    sizes = [unit.numel() for unit in units]
    groups = list(zip(counted, sizes, strict=True)) if recipe.scope == "layer" else [(sum(counted), sum(sizes))]
    for got, size in groups:
        expected = pruned_count(recipe.sparsity, size)
        assert got == expected, f"got {got} of {size} units removed, should be {expected} [{record.cell}]"


def _assert_as_torch(record: Recorder, bench: Bench, subject: Subject, ours: prune.PrunedModel) -> None:
    """The masks are those of torch.nn.utils.prune, but for equal weights at the threshold; its cost is recorded."""
    layers = prunable_layers(copy.deepcopy(subject.loaded.model))
    started = time.perf_counter()
    theirs = _prune_with_torch(layers, ours.recipe)
    seconds = time.perf_counter() - started
    peak = peak_memory(lambda: _prune_with_torch(layers, ours.recipe), bench.options.device, warmups=0)
    assert record.pruned is not None
    record.pruned = replace(record.pruned, torch_seconds=seconds, torch_extra_bytes=peak.bytes)

    removed = sum(int((~mask).sum()) for mask in theirs)
    assert ours.removed == removed, f"got {ours.removed} removed, torch removes {removed} [{record.cell}]"
    differing: dict[int, set[float]] = {}
    for index, (layer, mask, torch_mask) in enumerate(
        zip(prunable_layers(subject.loaded.model), ours.masks, theirs, strict=True)
    ):
        group = 0 if ours.recipe.scope == "global" else index
        differing.setdefault(group, set()).update(layer.weight[mask != torch_mask].abs().unique().tolist())
    worst = max(differing.values(), key=len)
    assert len(worst) <= 1, f"got masks that differ from torch's beyond one tied value: {sorted(worst)} [{record.cell}]"


def _prune_with_torch(layers: list[PrunableLayer], recipe: prune.Recipe) -> list[torch.Tensor]:
    """The way of torch itself, masks folded in; returns them as `(out_features, in_features)`."""
    from torch.nn.utils import prune as torch_prune

    if recipe.scope == "global":
        parameters = [(layer.module, "weight") for layer in layers]
        torch_prune.global_unstructured(parameters, torch_prune.L1Unstructured, amount=recipe.sparsity)
    else:
        for layer in layers:
            torch_prune.l1_unstructured(layer.module, "weight", amount=recipe.sparsity)
    masks = []
    for layer in layers:
        mask = layer.module.get_buffer("weight_mask").bool()
        masks.append(mask.t() if layer.transposed else mask)
        torch_prune.remove(layer.module, "weight")
    return masks
