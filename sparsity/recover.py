"""Recovery: a pruned model wins quality back, and stays exactly as sparse as it was.

`recover` prunes a copy of the dense model and trains it, or mends its weights layer by layer. Masks are held by
taking the gradients of removed weights away before every optimizer step: their moments stay zero, so AdamW
leaves them where they are, at zero. With a gradual recovery the copy starts dense and is pruned again and again,
from its own weights, on the cubic schedule of Zhu & Gupta: To prune, or not to prune, 2018 (arXiv 1710.01878),
equation 1; what is gone stays gone.

Refuses: gradual recovery with a method that draws by lot (what it removes anew is not what it removed before),
or where the pattern leaves no room for a schedule.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity import bypass, losses, pattern, training
from sparsity.errors import BadValue, Refused
from sparsity.methods import METHODS
from sparsity.models.architecture import blocks_of, prunable_layers
from sparsity.prune import PrunedModel, Recipe, prune, workspace
from sparsity.reconstruct import reconstruct
from sparsity.training_state import START, Reached

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.recovery import Recovery
    from sparsity.tasks.batching import Batch

TIMES = 10
"""A gradual recovery prunes so often."""
PRUNED_BY = 0.5
"""Of the budget: by then a gradual recovery has pruned all, and the rest of it trains what stays."""


@dataclass(frozen=True)
class Recovered:
    """A model after its recovery."""

    pruned: PrunedModel
    reached: Reached
    """Steps, seconds and documents of training; nothing for what does not train."""


class MaskHold:
    """Keeps removed weights at zero while the others are trained."""

    def __init__(self, pruned: PrunedModel) -> None:
        self.adopt(pruned)

    def adopt(self, pruned: PrunedModel) -> None:
        """From now on these masks are held."""
        self.pruned = pruned
        weights: list[Any] = [layer.module.weight for layer in pruned.layers]
        self._held = list(zip(weights, _stored(pruned), strict=True))

    def before_step(self) -> None:
        """No gradient for what was removed; a removed block has none anyway."""
        for weight, mask in self._held:
            if weight.grad is not None:
                weight.grad.mul_(mask)

    def advance(self, done: float, optimizer: torch.optim.Optimizer) -> None:
        """Masks that stay as they are."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """The masks follow from the recipe."""
        return {}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Nothing was saved."""


class GradualHold(MaskHold):
    """Prunes the model itself, more each time, while it trains."""

    def __init__(self, model: PreTrainedModel, recipe: Recipe, calibration: Sequence[Batch]) -> None:
        self._calibration, self._final, self._times = calibration, recipe, 0
        prune(workspace(model), recipe, batches=calibration)  # what cannot be is refused now, not half-way
        super().__init__(prune(model, Recipe("none", 0.0)))

    def advance(self, done: float, optimizer: torch.optim.Optimizer) -> None:
        """Prunes when it is time to, and forgets the moments of what was removed."""
        due = min(TIMES, 1 + int(done / PRUNED_BY * TIMES))
        if due <= self._times:
            return
        self._prune(due)
        for weight, mask in self._held:
            for moment in ("exp_avg", "exp_avg_sq"):
                if weight in optimizer.state:
                    optimizer.state[weight][moment].mul_(mask)

    def finish(self) -> None:
        """Prunes what is still to go, where so few steps were made that none of them saw the end of the schedule."""
        if self._times < TIMES:
            self._prune(TIMES)

    def _prune(self, due: int) -> None:
        self._times = due
        model, before = self.pruned.model, self.pruned.masks
        recipe = replace(self._final, sparsity=cubic(self._final.sparsity, due / TIMES))
        try:
            found = prune(model, recipe, batches=self._calibration, gone=before)
        except Refused:
            if due < TIMES and isinstance(pattern.parse(recipe.pattern), pattern.GroupPattern):
                return  # so little of so few groups is none; all of it has been tried
            raise
        if any(bool((new & ~old).any()) for new, old in zip(found.masks, before, strict=True)):
            raise Refused(f"{recipe.method} brought back what it had removed, so it cannot prune little by little")
        self.adopt(found)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The masks, how often it has pruned, and what is told of it."""
        import torch

        masks = {str(i): mask for i, mask in enumerate(self.pruned.masks)}
        told = json.dumps([self.pruned.recipe.sparsity, self.pruned.groups, self.pruned.notes])
        return {**masks, "times": torch.tensor(self._times), "told": torch.tensor(list(told.encode()))}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """The same, back."""
        self._times = int(tensors["times"])
        sparsity, groups, notes = json.loads(bytes(tensors["told"].tolist()))
        device = self.pruned.model.device
        masks = [tensors[str(i)].to(device) for i in range(len(self.pruned.masks))]
        bypass.bypass_gone(blocks_of(self.pruned.model), self.pruned.layers, masks)
        removed = sum(int((~mask).sum()) for mask in masks)
        recipe = replace(self._final, sparsity=sparsity) if removed else self.pruned.recipe
        counts = {kind: (gone, total) for kind, (gone, total) in groups.items()}
        self.adopt(replace(self.pruned, masks=masks, recipe=recipe, removed=removed, groups=counts, notes=tuple(notes)))


def cubic(final: float, done: float) -> float:
    """The sparsity when so much of the schedule is over: most goes at first, while there is much to spare."""
    return final * (1 - (1 - done) ** 3)


def refusal(recipe: Recipe, recovery: Recovery) -> str | None:
    """Why these cannot go together on any model, or None."""
    if not recovery.gradual:
        return None
    if METHODS[recipe.method].stochastic:
        return f"{recipe.method} draws anew each time, so it cannot prune little by little; use {recovery.kind} alone"
    shape = pattern.parse(recipe.pattern)
    if METHODS[recipe.method].score is None and not isinstance(shape, pattern.GroupPattern):
        return f"{recipe.method} mends weights that went before, so it cannot prune little by little; l1 can"
    if recipe.scope == "owl":
        return "scope owl gives layers other shares each time, so it cannot prune little by little; use row"
    if shape.fixed is not None:
        return f"pattern {recipe.pattern} has one sparsity, so nothing can rise to it; use {recovery.kind} alone"
    return None


def recover(
    dense: PreTrainedModel,
    recipe: Recipe,
    recovery: Recovery,
    settings: training.Settings,
    batches: Iterator[Batch],
    calibration: Sequence[Batch] = (),
    teacher: PreTrainedModel | None = None,
    title: str = "recovery",
    state: Path | None = None,
) -> Recovered:
    """A copy of the dense model, pruned and recovered; the dense model is not changed.

    Args:
        dense: where the weights come from, in eval mode.
        recipe: what to remove; with method `none` the copy is trained as it is, which is the control.
        recovery: how to win quality back.
        settings: of training; its budget is the recovery's.
        batches: to train on, without end; see `sparsity.tasks.training`.
        calibration: for methods that look at inputs or gradients, and for `reconstruct`.
        teacher: of `distill`, and what `reconstruct` comes near to; `dense` when None.
        title: of the progress bar.
        state: a folder from which an interrupted training goes on.

    Raises:
        Refused: this recipe cannot be recovered so, or not pruned at all.
        BadValue: the loss is not finite, or the teacher is another kind of model.
    """
    if reason := refusal(recipe, recovery):
        raise Refused(reason)
    guide = teacher or dense
    if recovery.kind in ("distill", "reconstruct"):
        _check_teacher(dense, guide)
    model = _own(dense, recovery)
    if not recovery.trains:
        pruned = prune(model, recipe, batches=calibration)
        if recovery:
            if not calibration:
                raise Refused("reconstruct needs calibration batches, and none were given")
            reconstruct(model, pruned.layers, pruned.masks, prunable_layers(guide), calibration)
        return Recovered(pruned, START)
    if recovery.gradual:
        hold: MaskHold = GradualHold(model, recipe, calibration)
    else:
        hold = MaskHold(prune(model, recipe, batches=calibration))
    loss = losses.distillation(guide) if recovery.kind == "distill" else losses.task_loss
    budget = replace(settings, steps=recovery.steps, seconds=recovery.seconds)
    identity = {} if state is None else _identity(dense, recipe, recovery)
    reached = training.train(model, batches, loss, budget, title, hold, state, identity)
    if isinstance(hold, GradualHold):
        hold.finish()
    for own, theirs in zip(model.parameters(), dense.parameters(), strict=True):
        own.data = own.data.to(theirs.dtype)  # buffers, such as tables of rotations, stay as they are
    return Recovered(hold.pruned, reached)


def _check_teacher(dense: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """It must be the same model but for its values, and must not draw dropout."""
    if teacher.training:
        raise BadValue("the teacher is in train mode, so what it teaches is drawn by lot; call its eval() first")
    own, theirs = ([(name, p.shape) for name, p in each.named_parameters()] for each in (dense, teacher))
    if own != theirs:
        raise BadValue("the teacher is another kind of model, or of other sizes, than the one to recover")


def _identity(dense: PreTrainedModel, recipe: Recipe, recovery: Recovery) -> dict[str, object]:
    """What tells a training from others: another model's weights would not be zero where this one's masks are."""
    size = sum(float(parameter.detach().double().abs().sum()) for parameter in dense.parameters())
    told = {"model": type(dense).__name__, "size": f"{size:.6g}", "recovery": str(recovery)}
    return {**told, "recipe": asdict(recipe)}


def _own(dense: PreTrainedModel, recovery: Recovery) -> PreTrainedModel:
    """A copy of every tensor; in float32 at least where it is to be trained, as half precision swallows small steps."""
    import torch

    model = copy.deepcopy(dense)
    model.eval()
    if recovery.trains and torch.finfo(dense.dtype).bits < 32:
        model = model.float()
    return model


def _stored(pruned: PrunedModel) -> list[torch.Tensor]:
    """The masks as the modules store their weights."""
    return [mask.t() if layer.transposed else mask for mask, layer in zip(pruned.masks, pruned.layers, strict=True)]
