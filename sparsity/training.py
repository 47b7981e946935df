"""The one training loop: AdamW, warm-up and cosine, a budget of steps or seconds, resumable.

It knows models, batches and a loss, and nothing of pruning: what holds masks gives a `Hold`. Seeded, and it
leaves the global random state as it was. On a GPU the forward pass runs in bfloat16 under autocast while the
weights stay float32; on a CPU nothing is cast.

Refuses a loss that is not finite: what has been learnt until then is lost with it, and it says the step.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sparsity import training_state
from sparsity.errors import BadValue, Refused
from sparsity.tasks.batching import IGNORED, Batch
from sparsity.training_state import START, Reached

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Loss = Callable[["PreTrainedModel", "Batch"], "torch.Tensor"]
"""A scalar that can be differentiated."""
WARM_UP = 0.1
"""Of the budget; the learning rate rises from nothing to its whole."""
LEAST_RATE = 0.02
"""Of the learning rate, where the cosine ends."""
BETAS = (0.9, 0.98)
CLIP = 1.0
"""Largest norm of all gradients together."""
LOOK_EVERY = 50
"""Steps between two looks at the loss: each waits for a GPU."""
SAVE_EVERY = 60.0
"""Seconds between two saves of the state."""


@dataclass(frozen=True)
class Settings:
    """How to train. A budget is of steps or of seconds."""

    learning_rate: float
    steps: int | None = None
    seconds: float | None = None
    accumulate: int = 1
    """Batches of one step; their gradients are averaged."""
    weight_decay: float = 0.01
    """Of matrices; never of biases and norms."""
    seed: int = 0
    """Of dropout."""

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise BadValue("training has a budget of steps or of seconds, one of them")
        budget = self.steps if self.seconds is None else self.seconds
        if budget is None or not 0 < budget < math.inf:
            raise BadValue(f"a budget of {budget} {'steps' if self.seconds is None else 'seconds'} is no training")
        if not 0 < self.learning_rate < math.inf:
            raise BadValue(f"learning rate {self.learning_rate} is not a number above 0")
        if type(self.accumulate) is not int or self.accumulate < 1:
            raise BadValue(f"accumulate {self.accumulate} is not a whole number from 1")


class Hold(Protocol):
    """What keeps weights where they must be while others are trained."""

    def before_step(self) -> None:
        """The gradients are there, the optimizer has not stepped."""

    def advance(self, done: float, optimizer: torch.optim.Optimizer) -> None:
        """So much of the budget is spent, in [0, 1); called before each step's forward pass."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """What to save with the state of a training."""

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """The same, back."""


def train(
    model: PreTrainedModel,
    batches: Iterator[Batch],
    loss: Loss,
    settings: Settings,
    title: str,
    hold: Hold | None = None,
    state: Path | None = None,
    identity: Mapping[str, object] | None = None,
) -> Reached:
    """Train every parameter of the model in place; it ends in eval mode, without gradients.

    Args:
        model: float32 or float64.
        batches: without end, and the same from the start at every call: to resume is to skip.
        loss: of the model on a batch.
        settings: how.
        title: of the progress bar.
        hold: keeps the zeros of a pruned model.
        state: a folder in which the state is saved now and then, and from which an interrupted training goes on;
            it is emptied at the end.
        identity: what tells this training from others beside its title and settings, plain values.

    Raises `BadValue` when the loss is not finite, the batches come to an end, or the folder holds the state of
    another training; `Refused` where the model is on several devices.
    """
    import torch

    if (count := len({parameter.device for parameter in model.parameters()})) > 1:
        raise Refused(f"{title}: the model is spread over {count} devices, and only one on a single device is trained")
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(settings.seed)  # torch.manual_seed would seed every GPU there is
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(settings.seed)
        model.train().requires_grad_(True)
        told = {"title": title, **asdict(settings), **(identity or {})}
        try:
            reached = _run(model, batches, loss, settings, told, hold, state)
            if all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
                return reached
            raise BadValue(f"{title}: training left weights that are not finite; a lower --learning-rate may help")
        finally:
            model.zero_grad(set_to_none=True)
            model.eval().requires_grad_(False)


def _run(
    model: PreTrainedModel,
    batches: Iterator[Batch],
    loss: Loss,
    settings: Settings,
    identity: Mapping[str, Any],
    hold: Hold | None,
    folder: Path | None,
) -> Reached:
    from tqdm import tqdm

    optimizer, title = adamw(model, settings), identity["title"]
    reached = START if folder is None else _resumed(folder, identity, model, optimizer, hold)
    batches = itertools.islice(batches, reached.steps * settings.accumulate, None)
    saved = time.perf_counter()
    started = saved - reached.seconds
    total, begun = settings.steps, reached.steps
    with tqdm(total=total, initial=begun, desc=title, delay=2.0, mininterval=1.0, leave=False) as progress:
        while (done := progress_of(settings, reached)) < 1:
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate(done)
            if hold is not None:
                hold.advance(done, optimizer)
            value, seen = _step(model, batches, loss, settings, optimizer, hold)
            now = time.perf_counter()
            reached = Reached(reached.steps + 1, now - started, reached.documents + seen)
            progress.update()
            to_save = folder is not None and now - saved > SAVE_EVERY
            if to_save or reached.steps % LOOK_EVERY == 1 or progress_of(settings, reached) >= 1:
                _look(value, reached.steps, title, progress)
            if folder is not None and to_save:  # after the look: nothing goes on from weights that are lost
                training_state.save(folder, identity, model, optimizer, hold.tensors() if hold else {}, reached)
                saved = time.perf_counter()
    if folder is not None:
        training_state.forget(folder)
    return reached


def _resumed(
    folder: Path,
    identity: Mapping[str, Any],
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    hold: Hold | None,
) -> Reached:
    """How far it had come, with everything brought there; a folder that cannot be written to is told now."""
    training_state.check(folder)
    try:
        reached, held = training_state.resume(folder, identity, model, optimizer)
        if reached.steps and hold is not None:
            hold.restore(held)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        what = f"no whole state of a training ({type(error).__name__}: {error})"
        raise BadValue(f"{folder}: {what}; remove it to start anew") from None
    return reached


def stepper(
    model: PreTrainedModel, batch: Batch, loss: Loss, settings: Settings, hold: Hold | None = None
) -> Callable[[], object]:
    """What makes one step on always the same batch at each call, to measure what a step costs."""
    model.train().requires_grad_(True)
    optimizer = adamw(model, settings)
    return lambda: _step(model, itertools.repeat(batch), loss, settings, optimizer, hold)


def _step(
    model: PreTrainedModel,
    batches: Iterator[Batch],
    loss: Loss,
    settings: Settings,
    optimizer: torch.optim.Optimizer,
    hold: Hold | None,
) -> tuple[torch.Tensor, int]:
    """One step; its loss, and how many documents it saw."""
    import torch

    total, documents = torch.zeros((), device=model.device), 0
    for _ in range(settings.accumulate):
        batch = next(batches, None)
        if batch is None:
            raise BadValue("the batches to train on came to an end")
        if not isinstance(batch, Batch):
            raise BadValue(f"a batch to train on is a sparsity.tasks.batching.Batch, not a {type(batch).__name__}")
        if not bool((batch.labels != IGNORED).any()):
            raise BadValue("a batch to train on has no label that counts, so there is nothing to learn from")
        batch = batch.to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
            part = loss(model, batch) / settings.accumulate
        part.backward()
        total, documents = total + part.detach(), documents + len(batch.documents)
    if hold is not None:
        hold.before_step()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, documents


def _look(value: torch.Tensor, step: int, title: str, progress: object) -> None:
    found = float(value)
    if not math.isfinite(found):
        raise BadValue(f"{title}: the loss is {found} at step {step}; a lower --learning-rate may help")
    progress.set_postfix(loss=f"{found:.3f}", refresh=False)  # type: ignore[attr-defined]  # a tqdm bar


def adamw(model: PreTrainedModel, settings: Settings) -> torch.optim.Optimizer:
    """Loshchilov, Hutter: Decoupled Weight Decay Regularization, 2019; decay for matrices alone."""
    import torch

    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)


def progress_of(settings: Settings, reached: Reached) -> float:
    """How much of the budget is spent, from 0; 1 or more when there is none left. One step at least is made."""
    if settings.steps is not None:
        return reached.steps / settings.steps
    assert settings.seconds is not None  # one of them is set
    return reached.seconds / settings.seconds if reached.steps else 0.0


def rate(done: float) -> float:
    """Share of the learning rate when so much of the budget is spent: a rise, then a cosine."""
    if done < WARM_UP:
        return max(done, LEAST_RATE * WARM_UP) / WARM_UP
    cosine = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
    return LEAST_RATE + (1 - LEAST_RATE) * cosine
