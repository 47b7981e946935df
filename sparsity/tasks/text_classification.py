"""Text classification: texts and labels → examples → right or wrong per document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsity.errors import BadValue
from sparsity.tasks.batching import Batch, Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def encode(
    texts: Sequence[str], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> list[Example]:
    """One example per text, framed as the tokenizer frames a single sequence, cut to `max_tokens`."""
    rows = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    return [Example(row, [label]) for row, label in zip(rows, labels, strict=True)]


def predict(model: PreTrainedModel, batches: Sequence[Batch]) -> torch.Tensor:
    """(N,) int64, the predicted class of each document. The model must be in eval mode.

    Raises `BadValue` for a logit that is no number: the largest of those would be a class like any other.
    """
    import torch

    predicted = torch.zeros(sum(len(batch.documents) for batch in batches), dtype=torch.int64)
    with torch.inference_mode():
        for batch in batches:
            logits = model(**batch.inputs).logits  # (B, classes)
            if not torch.isfinite(logits).all():
                raise BadValue("the classifier's logits are not finite; look for NaN or overflow in its weights")
            predicted[batch.documents] = logits.argmax(-1).cpu()
    return predicted
