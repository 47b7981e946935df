"""Several kinds of pruning, one after the other, on one model: each step goes on from where the last one arrived.

A step prunes what the steps before left, recovers it, and gives the model in a format. Everything stays in the
coordinates of the unpruned model: the sparsity of a step is of all prunable weights, what is gone stays gone, and
only the format drops what is not needed. So every step is a record like any other, and its numbers can be set
beside those of the unpruned model.

Refuses a step whose method brings back what an earlier one removed, and whatever could only do so; steps of which
the first prunes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity import answers, execution, pattern
from sparsity.errors import BadValue, Refused, UnknownName
from sparsity.formats import FORMATS
from sparsity.models.architecture import prunable_layers
from sparsity.record import Cell
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
        """`ziplm 0.5 neurons+heads distill:100`, as reports say it, or the format where nothing is pruned."""
        if self.recipe is None:
            return self.format
        what, after = self.recipe, str(self.recovery) if self.recovery else None
        return answers.step(Cell("", what.method, what.pattern, what.scope, what.sparsity, recovery=after))


def said(steps: Sequence[Step]) -> str:
    """The steps in order, as the axis `after` of the next one has them: by it reports know what it goes on from."""
    return answers.THEN.join(map(str, steps))


def check(steps: Sequence[Step]) -> None:
    """Raises, before anything is trained, what is no composition.

    `BadValue` without a first step that prunes, `UnknownName` for a format, `Refused` for a recovery that does not go
    on from where the step before arrived.
    """
    if not steps or steps[0].recipe is None:
        raise BadValue(f"a composition begins with a step that prunes{f', not with {steps[0]}' if steps else ''}")
    for position, step in enumerate(steps):
        if step.format not in FORMATS:
            raise UnknownName("format", step.format, FORMATS)
        recovery = step.recovery
        if recovery.kind == "transfer":
            raise Refused(
                f"recovery {recovery} begins with a new head, so it is no step of a composition; use finetune"
            )
        if recovery.gradual and position:
            before = f"so it cannot follow {steps[position - 1]}; use {recovery.kind}"
            raise Refused(f"recovery {recovery} begins with all weights, {before}")


def check_still_gone(before: PrunedModel, after: PrunedModel) -> None:
    """Raises `Refused` where a step brought back what the one before had removed."""
    for layer, old, new in zip(after.layers, before.masks, after.masks, strict=True):
        if bool((new & ~old).any()):
            raise Refused(f"{after.recipe.method} brings back weights of {layer.name} that an earlier step removed")


def stored(pruned: PrunedModel, steps: Sequence[Step]) -> PreTrainedModel:
    """The model after the steps, in the format of the last of them, smaller where a step removed whole groups.

    Raises what `check` does, and `Refused` with the format's reason where it cannot store the model here.
    """
    check(steps)
    model, layers, masks = pruned.model, pruned.layers, pruned.masks
    grouped = [each for each in steps if each.recipe and isinstance(_shape(each.recipe), pattern.GroupPattern)]
    last = steps[-1].format
    if grouped and grouped[-1].recipe is not None:
        model = execution.converted(model, layers, masks, grouped[-1].recipe.pattern, WITHOUT_GROUPS)
        layers = prunable_layers(model)
        masks = [layer.weight != 0 for layer in layers]
    if last == WITHOUT_GROUPS:
        return model
    shape = next((each.recipe.pattern for each in reversed(steps) if each.recipe), "unstructured")
    kept = "unstructured" if isinstance(pattern.parse(shape), pattern.GroupPattern) else shape
    return execution.converted(model, layers, masks, kept, last)


def _shape(recipe: Recipe) -> pattern.ElementPattern | pattern.GroupPattern:
    return pattern.parse(recipe.pattern)
