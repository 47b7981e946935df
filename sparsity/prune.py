"""The waist: layers → scores → masks → a masked dense model.

`prune` writes into the model it is given, always from the weights of a dense one, so one dense copy
serves any number of cells and nothing has to be undone between them. What comes out is the *masked
dense model*, pruned weights with their zeros in place: the reference that every execution format
must reproduce.

Refuses: a scope the method has no score for, and a choice that leaves a layer without any weight.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity import pattern as patterns
from sparsity import record
from sparsity.calibration import LayerStatistics
from sparsity.errors import Refused, UnknownName
from sparsity.mask import keep_highest, pruned_count
from sparsity.methods import METHODS
from sparsity.models.architecture import PrunableLayer, prunable_layers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.methods.scored import PruningMethod

SCOPES = ("layer", "global")
"""Where scores compete: within each layer, or across all of them."""


@dataclass(frozen=True)
class Recipe:
    """What to prune, and how far."""

    method: str
    """A key of `METHODS`."""
    sparsity: float
    """Fraction of prunable weights removed, in [0, 1)."""
    pattern: str = "unstructured"
    scope: str = "layer"
    seed: int = 0
    """Of stochastic methods."""


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

    @property
    def counts(self) -> record.Pruned:
        """What was removed, of the prunable weights and of all parameters."""
        return record.Pruned(
            prunable_sparsity=self.removed / self.prunable_parameters,
            total_sparsity=self.removed / self.total_parameters,
            prunable_parameters=self.prunable_parameters,
            total_parameters=self.total_parameters,
        )


def workspace(dense: PreTrainedModel) -> PreTrainedModel:
    """A model to prune again and again: its own copy of the prunable weights, all else shared with `dense`."""
    own = {id(layer.module.weight) for layer in prunable_layers(dense)}
    tensors = [*dense.parameters(), *dense.buffers()]
    shared = {id(tensor): tensor for tensor in tensors if id(tensor) not in own}
    return copy.deepcopy(dense, shared)


def prune(model: PreTrainedModel, recipe: Recipe, dense: PreTrainedModel | None = None) -> PrunedModel:
    """Prune the model in place and return it with its masks.

    Args:
        model: receives the pruned weights; everything but its prunable weights is left alone.
        recipe: what to remove.
        dense: where the weights come from; the model itself when None.

    Raises:
        UnknownName: a method, pattern or scope that does not exist.
        ModelNotUnderstood: the model's blocks are not wholly known.
        Refused: the recipe cannot be carried out on this model.
    """
    method = _method(recipe)
    layers = prunable_layers(model)
    sources = layers if dense is None else prunable_layers(dense)
    statistics = [LayerStatistics(seed=(recipe.seed, position)) for position in range(len(layers))]
    if recipe.scope == "global":
        masks = _global_masks(sources, statistics, method, recipe)
        for layer, source, mask in zip(layers, sources, masks, strict=True):
            _write(layer, source.weight, mask)
    else:
        masks = []
        for layer, source, known in zip(layers, sources, statistics, strict=True):
            weight, mask = method.prune_layer(source.weight, known, recipe.sparsity)
            _write(layer, weight, mask)
            masks.append(mask)
            del weight  # before the next is made: two at a time would double what this needs
    kept = [int(mask.count_nonzero()) for mask in masks]
    _refuse_empty_layers(layers, kept, recipe)
    prunable = sum(mask.numel() for mask in masks)
    return PrunedModel(
        model,
        recipe,
        layers,
        masks,
        removed=prunable - sum(kept),
        prunable_parameters=prunable,
        total_parameters=sum(p.numel() for p in model.parameters()),  # named once, so ties count once
    )


def _method(recipe: Recipe) -> PruningMethod:
    patterns.parse(recipe.pattern)
    if recipe.scope not in SCOPES:
        raise UnknownName("scope", recipe.scope, SCOPES)
    if recipe.method not in METHODS:
        raise UnknownName("method", recipe.method, METHODS)
    method = METHODS[recipe.method]
    if recipe.scope == "global" and method.score is None:
        raise Refused(f"method {recipe.method} has no score by which layers could compete, so no global scope")
    return method


def _global_masks(
    layers: list[PrunableLayer], statistics: list[LayerStatistics], method: PruningMethod, recipe: Recipe
) -> list[torch.Tensor]:
    score = method.score
    assert score is not None  # _method has refused the others
    total = sum(layer.weight.numel() for layer in layers)
    sources = [
        lambda layer=layer, known=known: score(layer.weight, known)
        for layer, known in zip(layers, statistics, strict=True)
    ]
    return keep_highest(sources, total - pruned_count(recipe.sparsity, total))


def _write(layer: PrunableLayer, weight: torch.Tensor, mask: torch.Tensor) -> None:
    """The weight into the layer, exact +0 where the mask is False (a product would leave -0)."""
    target = layer.weight
    if target.data_ptr() != weight.data_ptr():
        target.copy_(weight)
    target.masked_fill_(~mask, 0)


def _refuse_empty_layers(layers: list[PrunableLayer], kept: list[int], recipe: Recipe) -> None:
    empty = [layer.name for layer, count in zip(layers, kept, strict=True) if not count]
    if empty:
        more = f" and {len(empty) - 1} more layers" if len(empty) > 1 else ""
        way_out = "a lower sparsity keeps" if recipe.scope == "layer" else "a lower sparsity or scope 'layer' keeps"
        raise Refused(
            f"{recipe.method} {recipe.scope} at sparsity {recipe.sparsity} leaves no weight at all in "
            f"{empty[0]}{more}; {way_out} them alive"
        )
