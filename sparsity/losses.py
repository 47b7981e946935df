"""What a recovery makes small: the task's own loss, or that and the distance to a teacher.

Distillation after Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv 1503.02531),
section 2: softened logits, the gradient scaled by the temperature squared. Hidden states after Jiao et al.:
TinyBERT, 2020 (arXiv 1909.10351), equation 8, here relative to the teacher's own size, so that no layer drowns
the others. Padding counts nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sparsity.tasks.batching import Batch, counted
from sparsity.watch import token_masks

if TYPE_CHECKING:
    import torch
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

    def loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        import torch
        from torch.nn import functional

        with torch.no_grad():
            wanted = teacher(**batch.inputs, output_hidden_states=True)
        found = model(**batch.inputs, output_hidden_states=True)
        logits, labels = counted(_wide(found.logits), batch.labels)
        soft, _ = counted(_wide(wanted.logits), batch.labels)
        likelihoods = functional.log_softmax(logits / TEMPERATURE, -1)
        targets = functional.log_softmax(soft / TEMPERATURE, -1)
        apart = functional.kl_div(likelihoods, targets, reduction="batchmean", log_target=True) * TEMPERATURE**2
        own = functional.cross_entropy(logits, labels)
        return (1 - SOFT) * own + SOFT * apart + HIDDEN * hidden_distance(found, wanted, batch)

    return loss


def hidden_distance(found: Any, wanted: Any, batch: Batch) -> torch.Tensor:
    """Squared distance of the hidden states of all blocks over the teacher's squares; 0 where they are the same."""
    import torch

    parts = []
    for student, teacher, mask in _pairs(found, wanted, batch):
        a, b = _wide(student[mask]), _wide(teacher[mask])  # (tokens, width)
        parts.append((a - b).square().mean() / (b - b.mean(0)).square().mean().clamp_min(1e-12))
    return torch.stack(parts).mean()


def _wide(x: torch.Tensor) -> torch.Tensor:
    """In float32 at least: squares and exponentials of half precision overflow."""
    return x if x.dtype.itemsize >= 4 else x.float()


def _pairs(found: Any, wanted: Any, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(student's, teacher's, which positions hold text) after every block, of every stack."""
    masks = token_masks(batch)
    for name, whose in (
        ("hidden_states", "own"),
        ("encoder_hidden_states", "own"),
        ("decoder_hidden_states", "decoder"),
    ):
        of = [getattr(output, name, None) for output in (found, wanted)]
        if of[0] is None or of[1] is None:
            continue
        for student, teacher in list(zip(*of, strict=True))[1:]:  # the first are embeddings, which nothing pruned
            mask = masks[whose]
            if mask.shape != student.shape[:2]:  # a classifier's decoder reads the document itself
                mask = masks["own"]
            yield student, teacher, mask
