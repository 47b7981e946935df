"""Language modelling: texts → examples of one of three objectives → loss per document.

- `causal` (GPT-2): predict each token and the end from what stands before.
- `masked` (BERT): predict tokens hidden behind the mask token, the share and the rest of the recipe
  from Devlin et al. 2019, section 3.1, except that for evaluation every chosen token is hidden.
- `infilling` (BART): spans are replaced by one mask token each, and the decoder writes the whole
  text (Lewis et al. 2020, section 2.2).

Their losses are different quantities and must never be compared across objectives. What is hidden
is drawn from a seed and the document's index alone, so every point of a curve sees the same.

A text that is longer than the model reads is cut into windows, one after the other, so that every token counts; each
window begins anew, and all belong to the one document.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sparsity.errors import BadValue, Refused
from sparsity.tasks.batching import IGNORED, Batch, Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HIDDEN_SHARE = 0.15
"""Share of tokens that the masked objective predicts in evaluation."""
SPAN_START = 0.15
LONGEST_SPAN = 5


class SpecialTokens(NamedTuple):
    """Ids that frame and hide text; None where the tokenizer or model has none."""

    start: int | None
    end: int | None
    mask: int | None
    pad: int
    decoder_start: int | None
    vocabulary: int
    """Number of token ids."""


def special_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> SpecialTokens:
    """The framing tokens of this tokenizer; the end token pads where there is no pad token."""

    def first(*names: str) -> int | None:
        ids = (getattr(tokenizer, f"{name}_token_id", None) for name in names)
        return next((i for i in ids if i is not None), None)

    pad = first("pad", "eos", "sep")
    return SpecialTokens(
        start=first("cls", "bos"),
        end=first("sep", "eos"),
        mask=first("mask"),
        pad=0 if pad is None else pad,
        decoder_start=getattr(model.config, "decoder_start_token_id", None),
        vocabulary=len(tokenizer),
    )


def causal_example(ids: list[int], special: SpecialTokens, source: random.Random, last: bool = True) -> Example:
    """Predict every token of the text, then the end, unless the text goes on in another window.

    Where the tokenizer has no start token, what ends a text stands before it, as it does where texts are strung
    together; without either, the first token is not predicted.
    """
    del source
    before = special.end if special.start is None else special.start
    after = special.end if last else None
    whole = [*([] if before is None else [before]), *ids, *([] if after is None else [after])]
    return Example(whole[:-1], whole[1:])


def masked_example(
    ids: list[int],
    special: SpecialTokens,
    source: random.Random,
    last: bool = True,
    share: float = HIDDEN_SHARE,
    always_hide: bool = True,
) -> Example:
    """Hide a share of the tokens, at least one; each window of a text is framed alike.

    With `always_hide` False, of the chosen tokens 80 % are hidden, 10 % are replaced by a random
    token and 10 % stay, which is what training wants.
    """
    del last
    chosen = [source.random() < share for _ in ids]
    if not any(chosen):
        chosen[int(source.random() * len(ids))] = True
    shown = []
    for token, hide in zip(ids, chosen, strict=True):
        fate = source.random() if hide and not always_hide else 0.0
        if not hide or fate >= 0.9:
            shown.append(token)
        else:
            shown.append(_required(special.mask, "mask") if fate < 0.8 else int(source.random() * special.vocabulary))
    labels = [token if hide else IGNORED for token, hide in zip(ids, chosen, strict=True)]
    frame_start = [special.start] if special.start is not None else []
    frame_end = [special.end] if special.end is not None else []
    return Example(
        [*frame_start, *shown, *frame_end],
        [*[IGNORED] * len(frame_start), *labels, *[IGNORED] * len(frame_end)],
    )


def infilling_example(ids: list[int], special: SpecialTokens, source: random.Random, last: bool = True) -> Example:
    """Replace random spans of 1 to `LONGEST_SPAN` tokens by one mask each; the decoder restores the text.

    The end is part of it unless the text goes on in another window.
    """
    mask, end = _required(special.mask, "mask"), _required(special.end, "end-of-text")
    decoder_start = _required(special.decoder_start, "decoder start")
    shown, position = [], 0
    while position < len(ids):
        if source.random() < SPAN_START:
            shown.append(mask)
            position += 1 + int(source.random() * LONGEST_SPAN)
        else:
            shown.append(ids[position])
            position += 1
    labels = [*ids, end] if last else list(ids)
    return Example(_framed(shown, special), labels, [decoder_start, *labels[:-1]])


OBJECTIVES: dict[str, Callable[[list[int], SpecialTokens, random.Random, bool], Example]] = {
    "causal": causal_example,
    "masked": masked_example,
    "infilling": infilling_example,
}


class Encoded(NamedTuple):
    """Texts as examples, in order; a long text gives several, one without a token to predict none."""

    examples: list[Example]
    documents: list[int]
    """The index of each example's text."""


def encode(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    special: SpecialTokens,
    max_tokens: int,
    seed: int = 0,
) -> Encoded:
    """The windows of each text; `max_tokens` bounds a window's own tokens, framing apart."""
    make, found = OBJECTIVES[objective], Encoded([], [])
    for index, row in enumerate(tokens(texts, tokenizer)):
        for start, window, last in windows(row, max_tokens):
            source = random.Random(f"{seed}/{index}/{start}" if start else f"{seed}/{index}")
            example = make(window, special, source, last)
            if example.input_ids and any(label != IGNORED for label in example.labels):
                found.examples.append(example)
                found.documents.append(index)
    return found


def tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Each text's own tokens, uncut, without framing."""
    found = tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    return list(found)


def windows(row: list[int], max_tokens: int) -> Iterator[tuple[int, list[int], bool]]:
    """Where each window begins, its tokens, and whether it is the last; nothing of a text without tokens."""
    for start in range(0, len(row), max_tokens):
        yield start, row[start : start + max_tokens], start + max_tokens >= len(row)


class DocumentLosses(NamedTuple):
    """What a model loses on each document, float64, `N` documents."""

    total: torch.Tensor
    """(N,) summed negative log-likelihood, nats."""
    tokens: torch.Tensor
    """(N,) predicted tokens."""


def evaluate(model: PreTrainedModel, batches: Sequence[Batch]) -> DocumentLosses:
    """Loss per document, summed over its windows. The model must be in eval mode on the batches' device.

    Raises `BadValue` for a loss that is no number: what follows from it would be none either.
    """
    import torch
    from torch.nn import functional

    count = 1 + max(document for batch in batches for document in batch.documents)
    total = torch.zeros(count, dtype=torch.float64)
    counts = torch.zeros(count, dtype=torch.float64)
    with torch.inference_mode():
        for batch in batches:
            predicted = batch.labels != IGNORED  # (B, L)
            logits = model(**batch.inputs).logits[predicted]  # (N, V)
            losses = functional.cross_entropy(logits.float(), batch.labels[predicted], reduction="none")
            del logits  # as large as all else together
            spread = torch.zeros(predicted.shape, dtype=torch.float64, device=losses.device)
            spread[predicted] = losses.double()
            owners = torch.tensor(batch.documents)
            total.index_add_(0, owners, spread.sum(1).cpu())
            counts.index_add_(0, owners, predicted.sum(1).double().cpu())
    if not torch.isfinite(total).all():
        raise BadValue("the language model's loss is not finite; look for NaN or overflow in its weights")
    return DocumentLosses(total, counts)


def _framed(ids: list[int], special: SpecialTokens) -> list[int]:
    start, end = _required(special.start, "start-of-text"), _required(special.end, "end-of-text")
    return [start, *ids, end]


def _required(token: int | None, what: str) -> int:
    if token is None:
        raise Refused(f"the tokenizer has no {what} token, which this objective needs")
    return token
