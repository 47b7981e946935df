"""The waist: layers → statistics → scores → masks → a masked dense model.

`prune` writes into the model it is given, always from the weights of a dense one, so one dense copy
serves any number of cells and nothing has to be undone between them. What comes out is the *masked
dense model*, pruned weights with their zeros in place: the reference that every execution format
must reproduce.

Refuses, with a reason: what a method, a pattern and a scope cannot do together (`refusal`), and a
choice that leaves a layer without any weight, unless whole layers were asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sparsity import bypass, calibration, elements, gather, grouped, record
from sparsity import pattern as patterns
from sparsity.calibration import LayerStatistics
from sparsity.errors import BadValue, Refused, UnknownName
from sparsity.groups import GroupSet, groups_of
from sparsity.methods import METHODS
from sparsity.methods.gone_first import GoneFirst
from sparsity.models.architecture import PrunableLayer, blocks_of, prunable_layers
from sparsity.tasks.batching import Batch, as_batch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.methods.protocol import PruningMethod

SCOPES = ("row", "layer", "global", "erk", "owl")
"""Where scores compete: within each row, within each layer, across all layers; or within each layer after an
allocation gave each its own share (`sparsity.allocation`)."""


NEAR = 0.005
"""A share of groups farther from what was asked is noted: groups go one by one."""


@dataclass(frozen=True)
class Recipe:
    """What to prune, and how far."""

    method: str
    """A key of `METHODS`."""
    sparsity: float
    """Fraction removed, in [0, 1): of the prunable weights, or of the groups that the pattern names."""
    pattern: str = "unstructured"
    scope: str = ""
    """One of `SCOPES`; when not given, the first that the pattern has."""
    seed: int = 0
    """Of stochastic methods."""
    multiple: int = 1
    """The neurons that stay in a block are rounded up to a multiple of it."""

    def __post_init__(self) -> None:
        if not self.scope:  # said or not, equal recipes are equal
            object.__setattr__(self, "scope", patterns.parse(self.pattern).scopes[0])


@dataclass(frozen=True)
class PrunedModel:
    """A masked dense model and the masks it obeys."""

    model: PreTrainedModel
    recipe: Recipe
    layers: list[PrunableLayer]
    masks: list[torch.Tensor]
    """One per layer, `(out_features, in_features)`, True = kept."""
    removed: int
    """Weights removed, over all layers."""
    prunable_parameters: int
    total_parameters: int
    """All parameters of the model, tied storage counted once."""
    groups: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By kind of group: how many went, of how many."""
    notes: tuple[str, ...] = ()
    """What a reader of the result should know, such as singular Hessians."""

    @property
    def counts(self) -> record.Pruned:
        """What was removed, of the prunable weights and of all parameters."""
        return record.Pruned(
            prunable_sparsity=self.removed / self.prunable_parameters,
            total_sparsity=self.removed / self.total_parameters,
            prunable_parameters=self.prunable_parameters,
            total_parameters=self.total_parameters,
            notes=list(self.notes) or None,
        )


def workspace(dense: PreTrainedModel) -> PreTrainedModel:
    """A model to prune again and again: its own copy of the prunable weights, all else shared with `dense`."""
    own = {id(layer.module.weight) for layer in prunable_layers(dense)}
    tensors = [*dense.parameters(), *dense.buffers()]
    shared = {id(tensor): tensor for tensor in tensors if id(tensor) not in own}
    return copy.deepcopy(dense, shared)


def refusal(method: str, pattern: str, scope: str) -> str | None:
    """Why these cannot go together on any model, or None.

    Raises `UnknownName` for a method, pattern or scope that does not exist.
    """
    shape = patterns.parse(pattern)
    if scope not in SCOPES:
        raise UnknownName("scope", scope, SCOPES)
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    if scope not in shape.scopes:
        return f"pattern {pattern} has no scope {scope}, but {', '.join(shape.scopes)}"
    return METHODS[method].refuses(shape, scope)


def needs(recipe: Recipe) -> frozenset[str]:
    """The statistics that a recipe needs; empty when it looks at weights alone."""
    own = METHODS[recipe.method].needs
    return own | {calibration.INPUT_NORMS} if recipe.scope == "owl" else own


def prune(
    model: PreTrainedModel,
    recipe: Recipe,
    dense: PreTrainedModel | None = None,
    batches: Sequence[Batch | Mapping[str, torch.Tensor]] = (),
    gone: Sequence[torch.Tensor] | None = None,
) -> PrunedModel:
    """Prune the model in place and return it with its masks.

    Args:
        model: receives the pruned weights; everything but its prunable weights is left alone.
        recipe: what to remove.
        dense: where the weights come from; the model itself when None.
        batches: calibration, for methods that look at inputs or gradients: what a tokenizer gives
            (`input_ids`, `attention_mask`); for gradients `Batch`es, whose labels are the loss.
        gone: masks of this very model as it was pruned before: what they removed goes first. Methods without a
            score see its zeros alone.

    Raises:
        UnknownName: a method, pattern or scope that does not exist.
        ModelNotUnderstood: the model's blocks are not wholly known.
        Refused: the recipe cannot be carried out, or not on this model. Of a method that goes block by block,
            the model's prunable weights may have been overwritten by then.
        BadValue: `dense` is another model, or a batch is none.
    """
    check(recipe, batches)
    seen = [as_batch(batch) for batch in batches]
    method, shape = METHODS[recipe.method], patterns.parse(recipe.pattern)
    if gone is not None:
        method = GoneFirst(method, gone)
    layers = prunable_layers(model)
    sources = layers if dense is None else prunable_layers(dense)
    blocks = blocks_of(model)
    _check_dense(layers, sources)
    _refuse_far_apart(layers, recipe)
    for block in blocks:
        if dense is None and bypass.is_bypassed(block.module) and shape != patterns.Layers():
            raise Refused(f"{block.name} was removed from this model already; prune from the dense one (dense=…)")
        bypass.restore(block.module)
    wanted = needs(recipe)
    if gone is not None and calibration.GRADIENTS not in wanted:  # no gradient reaches what is bypassed
        bypass.bypass_gone(blocks, layers, gone)
    if wanted:
        gather.check(model)
        for layer, source in zip(layers, sources, strict=True):
            write(layer, source.weight)
    with evaluating(model):
        known = _statistics(model, layers, recipe, method, seen)
        if isinstance(shape, patterns.GroupPattern):
            sets = groups_of(model, layers, shape.kinds)
            job = grouped.Job(method, shape, recipe.scope, recipe.sparsity, recipe.multiple)
            masks, groups, notes = _prune_groups(job, model, layers, sources, sets, known, seen)
            notes += [
                f"of {total} {kind} {gone} go, which is {gone / total:.3g} and not {recipe.sparsity:g}"
                for kind, (gone, total) in groups.items()
                if abs(gone / total - recipe.sparsity) > NEAR
            ]
            if shape == patterns.Layers():
                bypass.bypass_gone(blocks, layers, masks)
        else:
            groups = {}
            masks, notes = _prune_elements(recipe, method, shape, model, layers, sources, known, seen)
    kept = [int(mask.count_nonzero()) for mask in masks]
    prunable = sum(mask.numel() for mask in masks)
    return PrunedModel(
        model,
        recipe,
        layers,
        masks,
        removed=prunable - sum(kept),
        prunable_parameters=prunable,
        total_parameters=sum(p.numel() for p in model.parameters()),  # named once, so ties count once
        groups=groups,
        notes=summed_up(notes),
    )


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model in eval mode meanwhile, whatever happens: what calibration sees is no matter of chance."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def check(recipe: Recipe, batches: Sequence[Batch | Mapping[str, torch.Tensor]]) -> None:
    """Raises `Refused` for a recipe that cannot be, on any model, or not with these batches."""
    if reason := refusal(recipe.method, recipe.pattern, recipe.scope):
        raise Refused(reason)
    fixed = patterns.parse(recipe.pattern).fixed
    if fixed is not None and recipe.sparsity != fixed:
        raise Refused(f"pattern {recipe.pattern} removes {fixed:g} of the weights, not {recipe.sparsity:g}")
    if type(recipe.multiple) is not int or recipe.multiple < 1:
        raise BadValue(f"multiple {recipe.multiple} is not a whole number from 1")
    if needs(recipe) and not batches:
        who = f"method {recipe.method}" if METHODS[recipe.method].needs else f"scope {recipe.scope}"
        raise Refused(
            f"{who} needs calibration batches ({', '.join(sorted(needs(recipe)))}), and none were given: "
            "batches=[tokenizer(texts, return_tensors='pt', padding=True), ...]"
        )
    if calibration.GRADIENTS in needs(recipe) and not all(isinstance(batch, Batch) for batch in batches):
        raise Refused(f"method {recipe.method} needs labels: give sparsity.tasks.batching.Batch, which has them")


def _statistics(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    recipe: Recipe,
    method: PruningMethod,
    batches: Sequence[Batch],
) -> list[LayerStatistics]:
    """What is gathered from the dense model; the seeds alone for a method that gathers as it goes."""
    seeds = [(recipe.seed, position) for position in range(len(layers))]
    wanted = needs(recipe)
    if calibration.GRADIENTS in wanted:
        found = gather.gradients(model, layers, batches, seeds)
        if recipe.scope != "owl":
            return found
        norms = gather.at_once(model, layers, batches, wanted, seeds)
        return [replace(a, squares=b.squares) for a, b in zip(found, norms, strict=True)]
    in_groups = isinstance(patterns.parse(recipe.pattern), patterns.GroupPattern)
    as_it_goes = method.sequential and recipe.scope not in ("global", "owl") and not (in_groups and method.score)
    if wanted and not as_it_goes:
        return gather.at_once(model, layers, batches, wanted, seeds)
    return [LayerStatistics(seed) for seed in seeds]


def _prune_elements(
    recipe: Recipe,
    method: PruningMethod,
    shape: patterns.ElementPattern,
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    sources: Sequence[PrunableLayer],
    known: Sequence[LayerStatistics],
    batches: Sequence[Batch],
) -> tuple[list[torch.Tensor], list[str]]:
    job = elements.Job(method, shape, recipe.scope, recipe.sparsity)
    decided = elements.decide(job, model, layers, sources, known, batches)
    at_once = not job.method.sequential or recipe.scope == "global"
    if at_once:  # all is decided before anything is written
        every = list(decided)
        refuse_empty_layers(layers, [mask for _, _, mask, _ in every], recipe)
        decided = iter(every)
    masks, notes = [], []
    for i, weight, mask, note in decided:
        write(layers[i], weight, mask)
        masks.append(mask)
        notes += [note] if note else []
        del weight  # before the next is made: two at a time would double what this needs
    if not at_once:
        refuse_empty_layers(layers, masks, recipe)
    return masks, notes


def _prune_groups(
    job: grouped.Job,
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    sources: Sequence[PrunableLayer],
    sets: Sequence[GroupSet],
    known: Sequence[LayerStatistics],
    batches: Sequence[Batch],
) -> tuple[list[torch.Tensor], dict[str, tuple[int, int]], list[str]]:
    import torch

    masks = [torch.ones_like(layer.weight, dtype=torch.bool) for layer in layers]
    notes, groups = [], {}
    for kind in job.pattern.kinds:
        groups[kind] = (0, sum(each.count for each in sets if each.kind == kind))

    def settle(each: GroupSet, stays: torch.Tensor) -> None:
        each.write(masks, stays)
        gone, total = groups[each.kind]
        groups[each.kind] = gone + int((~stays).sum()), total

    if job.method.prune_groups is not None:
        seeds = [statistics.seed for statistics in known]
        for mended, stays, weight, note in grouped.decide_in_sequence(job, model, layers, sets, seeds, batches):
            settle(mended, stays)
            reader = mended.reader.layer
            write(layers[reader], weight, masks[reader])
            notes += [note] if note else []
        sources = layers  # they hold the mended weights
    else:
        for each, stays in zip(sets, grouped.decide(job, sets, sources, known), strict=True):
            settle(each, stays)
    for layer, source, mask in zip(layers, sources, masks, strict=True):
        write(layer, source.weight, mask)
    return masks, groups, notes


def write(layer: PrunableLayer, weight: torch.Tensor, mask: torch.Tensor | None = None) -> None:
    """The weight into the layer, exact +0 where the mask is False (a product would leave -0)."""
    import torch

    target = layer.weight
    if mask is not None:
        torch.where(mask, weight, weight.new_zeros(()), out=target)
    elif target.data_ptr() != weight.data_ptr():
        target.copy_(weight)


def _check_dense(layers: Sequence[PrunableLayer], sources: Sequence[PrunableLayer]) -> None:
    """The weights must come from a model of the same layers."""
    own, theirs = ([(x.name, x.weight.shape, x.weight.dtype) for x in each] for each in (layers, sources))
    if own != theirs:
        where = next((a[0] for a, b in zip(own, theirs, strict=False) if a != b), "the number of layers")
        raise BadValue(f"dense is another model than the one to prune: they differ in {where}")


def _refuse_far_apart(layers: Sequence[PrunableLayer], recipe: Recipe) -> None:
    """Scores that compete must be on one device."""
    devices = {layer.weight.device for layer in layers}
    blocks = patterns.parse(recipe.pattern) == patterns.Layers()
    if len(devices) > 1 and (blocks or recipe.scope == "global"):
        what = f"pattern {recipe.pattern}" if blocks else "scope global"
        raise Refused(f"{what} compares layers with each other, and those of this model are on {len(devices)} devices")


def refuse_empty_layers(layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor], recipe: Recipe) -> None:
    """Raises `Refused` where nothing stays of a layer."""
    empty = [layer.name for layer, mask in zip(layers, masks, strict=True) if not bool(mask.any())]
    if empty:
        more = f" and {len(empty) - 1} more layers" if len(empty) > 1 else ""
        way_out = "a lower sparsity or scope 'layer' keeps" if recipe.scope == "global" else "a lower sparsity keeps"
        raise Refused(
            f"{recipe.method} {recipe.scope} at sparsity {recipe.sparsity} leaves no weight at all in "
            f"{empty[0]}{more}; {way_out} them alive"
        )


def summed_up(notes: Sequence[str]) -> tuple[str, ...]:
    """Each note once, with how many layers it is of."""
    counted = {note: notes.count(note) for note in notes}
    return tuple(note if count == 1 else f"{note} ({count} layers)" for note, count in counted.items())
