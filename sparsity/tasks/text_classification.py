"""Text classification: texts and labels → examples → right or wrong per document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparsity.data.documents import Text
from sparsity.errors import BadValue
from sparsity.tasks.batching import Batch, Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def encode(
    rows: Sequence[Text], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> list[Example]:
    """One example per text or pair, framed as the tokenizer frames it, cut to `max_tokens`."""
    return cut(rows, labels, tokenizer, max_tokens)[0]


def cut(
    rows: Sequence[Text], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[Example], int]:
    """The same, and how many had to be cut."""
    examples = _encoded(rows, labels, tokenizer, None)
    long = [index for index, example in enumerate(examples) if len(example.input_ids) > max_tokens]
    if long:
        again = _encoded([rows[i] for i in long], [labels[i] for i in long], tokenizer, max_tokens)
        for index, example in zip(long, again, strict=True):
            examples[index] = example
    return examples, len(long)


def _encoded(
    rows: Sequence[Text], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase, max_tokens: int | None
) -> list[Example]:
    """Of pairs also which of the two a token is of, where the tokenizer's models tell them apart by it.

    BART's classifier reads what stands at the last end token, and wants as many in each document; so a text in which
    the token's name occurs is read letter by letter there.
    """
    end = str(tokenizer.eos_token) if tokenizer.eos_token_id in tokenizer("", verbose=False)["input_ids"] else None
    texts = [(row,) if isinstance(row, str) else row for row in rows]
    found: list[Example] = [Example([], [])] * len(rows)
    for literally in (False, True):
        places = [i for i, each in enumerate(texts) if (end is not None and any(end in t for t in each)) is literally]
        made = _framed([texts[i] for i in places], tokenizer, max_tokens, literally) if places else ()
        for place, (ids, types) in zip(places, made, strict=True):
            found[place] = Example(ids, [labels[place]], token_types=types)
    return found


def _framed(
    texts: Sequence[tuple[str, ...]], tokenizer: PreTrainedTokenizerBase, max_tokens: int | None, literally: bool
) -> list[tuple[list[int], list[int] | None]]:
    columns: Any = [list(column) for column in zip(*texts, strict=True)]
    settings: dict[str, Any] = {} if max_tokens is None else {"truncation": True, "max_length": max_tokens}
    if literally:
        settings["split_special_tokens"] = True
    found: Any = tokenizer(*columns, verbose=False, **settings)
    types = found.get("token_type_ids") if len(columns) > 1 else None
    return list(zip(found["input_ids"], types or [None] * len(texts), strict=True))


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
