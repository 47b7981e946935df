"""Several kinds of pruning, one after the other, on one model: each step goes on from where the last one arrived.

A step prunes what the steps before left, recovers it, and gives the model in a format. Everything stays in the
coordinates of the unpruned model: the sparsity of a step is of all prunable weights, what is gone stays gone, and
only the format drops what is not needed. So every step is a record like any other, and its numbers can be set
beside those of the unpruned model.

Refuses a step whose method brings back what an earlier one removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity import execution, pattern
from sparsity.errors import BadValue, Refused
from sparsity.formats import FORMATS
from sparsity.models.architecture import prunable_layers
from sparsity.recovery import NONE, Recovery

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sparsity.prune import PrunedModel, Recipe

WITHOUT_GROUPS = "compact"
"""The format that drops what a structured step removed; later steps store what it leaves."""


@dataclass(frozen=True)
class Step:
    """One step: what to prune, how to recover it, and how to store it."""

    format: str
    recipe: Recipe | None = None
    """None: nothing more is pruned, the weights are only stored in another way."""
    recovery: Recovery = NONE

    def __str__(self) -> str:
        """`ziplm neurons+heads 0.5 distill:100`, or the format where nothing is pruned."""
        if self.recipe is None:
            return self.format
        shape = None if self.recipe.pattern == "unstructured" else self.recipe.pattern
        parts = (self.recipe.method, shape, f"{self.recipe.sparsity:g}", str(self.recovery) if self.recovery else None)
        return " ".join(part for part in parts if part)


def said(steps: Sequence[Step]) -> str:
    """The steps in order, as the axis `after` of the next one has them."""
    return ", ".join(map(str, steps))


def check_still_gone(before: PrunedModel, after: PrunedModel) -> None:
    """Raises `Refused` where a step brought back what the one before had removed."""
    for layer, old, new in zip(after.layers, before.masks, after.masks, strict=True):
        if bool((new & ~old).any()):
            raise Refused(f"{after.recipe.method} brings back weights of {layer.name} that an earlier step removed")


def stored(pruned: PrunedModel, steps: Sequence[Step]) -> PreTrainedModel:
    """The model after the steps, in the format of the last of them, smaller where a step removed whole groups.

    Raises `Refused` with the format's reason where it cannot store the model here.
    """
    if not steps:
        raise BadValue("a composition has at least one step")
    model, layers, masks = pruned.model, pruned.layers, pruned.masks
    grouped = [each for each in steps if each.recipe and isinstance(_shape(each.recipe), pattern.GroupPattern)]
    last = steps[-1].format
    if grouped and grouped[-1].recipe is not None:
        model = execution.converted(model, layers, masks, grouped[-1].recipe.pattern, WITHOUT_GROUPS)
        layers = prunable_layers(model)
        masks = [layer.weight != 0 for layer in layers]
    if last == WITHOUT_GROUPS:
        return model
    if last not in FORMATS:
        raise BadValue(f"format {last!r} is none that a step can be stored in: {', '.join(FORMATS)}")
    shape = next((each.recipe.pattern for each in reversed(steps) if each.recipe), "unstructured")
    kept = "unstructured" if isinstance(pattern.parse(shape), pattern.GroupPattern) else shape
    return execution.converted(model, layers, masks, kept, last)


def _shape(recipe: Recipe) -> pattern.ElementPattern | pattern.GroupPattern:
    return pattern.parse(recipe.pattern)
