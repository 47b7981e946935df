"""What a recovery makes small: the task's own loss, or that and the distance to a teacher.

Distillation after Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv 1503.02531),
section 2: softened logits, the gradient scaled by the temperature squared. Hidden states after Jiao et al.:
TinyBERT, 2020 (arXiv 1909.10351), equation 8, here relative to the teacher's own size, so that no layer drowns
the others. Padding counts nowhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from sparsity.models.architecture import blocks_of, prunable_layers
from sparsity.tasks.batching import Batch, counted
from sparsity.watch import token_masks

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from sparsity.training import Loss

TEMPERATURE = 2.0
SOFT = 0.5
"""Share of the teacher's logits beside the labels."""
HIDDEN = 1.0
"""Weight of the hidden states' distance."""


def task_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Cross-entropy of the batch's labels, mean over what counts."""
    from torch.nn import functional

    logits, labels = counted(model(**batch.inputs).logits, batch.labels)
    return functional.cross_entropy(_wide(logits), labels)


def distillation(teacher: PreTrainedModel) -> Loss:
    """The loss against a teacher of the same blocks; it must be in eval mode, and is not trained."""
    known: WeakKeyDictionary[PreTrainedModel, list[Seen]] = WeakKeyDictionary()

    def run(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, States]:
        if model not in known:
            known[model] = seen_of(model)
        with watched(known[model]) as states:
            return *counted(model(**batch.inputs).logits, batch.labels), states

    def loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        import torch
        from torch.nn import functional

        with torch.no_grad():
            soft, _, wanted = run(teacher, batch)
        logits, labels, found = run(model, batch)
        likelihoods = functional.log_softmax(_wide(logits) / TEMPERATURE, -1)
        targets = functional.log_softmax(_wide(soft) / TEMPERATURE, -1)
        apart = functional.kl_div(likelihoods, targets, reduction="batchmean", log_target=True) * TEMPERATURE**2
        own = functional.cross_entropy(_wide(logits), labels)
        return (1 - SOFT) * own + SOFT * apart + HIDDEN * hidden_distance(found, wanted, batch)

    return loss


class Seen(NamedTuple):
    """A block whose hidden states are looked at."""

    module: nn.Module
    tokens: str
    """Whose positions its hidden states are of, as `PrunableLayer.tokens` has them."""


States = list[tuple["torch.Tensor", str]]
"""(hidden states (B, T, width), whose positions) after each block."""


def seen_of(model: PreTrainedModel) -> list[Seen]:
    """The model's blocks."""
    decoders = {layer.block for layer in prunable_layers(model) if layer.tokens == "decoder"}
    return [Seen(each.module, "decoder" if i in decoders else "own") for i, each in enumerate(blocks_of(model))]


@contextlib.contextmanager
def watched(blocks: Sequence[Seen]) -> Iterator[States]:
    """What the blocks hand on meanwhile.

    By hooks that come last, so that a removed block is seen to hand on what it got. transformers' own
    `output_hidden_states` sees in some versions what it computed instead.
    """
    states: States = []

    def look(tokens: str, output: Any) -> None:
        states.append((output[0] if isinstance(output, tuple) else output, tokens))

    hooks = [
        each.module.register_forward_hook(lambda module, args, output, tokens=each.tokens: look(tokens, output))
        for each in blocks
    ]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def hidden_distance(found: States, wanted: States, batch: Batch) -> torch.Tensor:
    """Squared distance of the hidden states of all blocks over the teacher's squares; 0 where they are the same."""
    import torch

    masks, parts = token_masks(batch), []
    for (student, tokens), (teacher, _) in zip(found, wanted, strict=True):
        mask = masks[tokens]
        if mask.shape != student.shape[:2]:  # a classifier's decoder reads the document itself
            mask = masks["own"]
        a, b = _wide(student[mask]), _wide(teacher[mask])  # (tokens, width)
        parts.append((a - b).square().mean() / (b - b.mean(0)).square().mean().clamp_min(1e-12))
    return torch.stack(parts).mean()


def _wide(x: torch.Tensor) -> torch.Tensor:
    """In float32 at least: squares and exponentials of half precision overflow."""
    return x if x.dtype.itemsize >= 4 else x.float()
