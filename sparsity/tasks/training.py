"""Documents to learn from: endless batches for one model and task, the same for the same seed.

The default documents are fresh reviews, of which none is ever seen twice; a finite set of labelled texts is
gone through again and again, in another order each time.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sparsity.data.documents import Text, whole
from sparsity.errors import BadValue
from sparsity.tasks import encoding, language_modeling, text_classification
from sparsity.tasks.batching import Batch, Example, collate
from sparsity.tasks.reviews import ReviewGrammar

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sparsity.tasks.language_modeling import SpecialTokens

HIDDEN_SHARE = 0.25
"""Share of tokens that the masked objective predicts: more than the 15 % of evaluation, for more signal in each."""
POOL = 16
"""Batches whose documents are sorted by length together, so that a batch holds documents of like length."""
MOST_TOKENS = 256
"""Of a window that a language model is trained on; a longer text gives several."""
Document = tuple[Text, int]
"""A text, or a pair, and its class."""


def fresh_reviews(seed: int) -> Iterator[Document]:
    """Reviews without end."""
    grammar, source = ReviewGrammar(), random.Random(seed)
    while True:
        review = grammar.review(source)
        yield review.text, review.label


def again_and_again(documents: Sequence[Document], seed: int) -> Iterator[Document]:
    """A finite set without end, in an order of its own each time; raises `BadValue` where there is none."""
    if not documents:
        raise BadValue("there is no document to train on")
    chance = random.Random(seed)
    while True:
        yield from chance.sample(documents, len(documents))


def of_model(
    task: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    documents: Iterator[Document],
    batch_size: int,
    seed: int,
) -> Iterator[Batch]:
    """Endless batches for a model with the head of a task, "lm" or "classification".

    Raises `Refused` where the model or its tokenizer lacks what the task needs.
    """
    special = language_modeling.special_tokens(tokenizer, model)
    limit = encoding.token_limit(model, tokenizer)
    pad = encoding.padding(task, model, special)
    if task == "lm":
        encode = predicted(tokenizer, objective, special, min(limit - encoding.FRAMING, MOST_TOKENS))
    else:
        encode = classified(tokenizer, limit)
    return batches(documents, encode, pad, batch_size, seed)


def batches(
    documents: Iterator[Document],
    encode: Callable[[Sequence[Document], random.Random], list[Example]],
    pad: int,
    batch_size: int,
    seed: int,
) -> Iterator[Batch]:
    """Endless batches of so many documents, or windows; what is hidden, and the order, hang on the seed alone.

    Raises `BadValue` where the documents come to an end, and where none of many holds a token.
    """
    chance = random.Random(seed)
    while True:
        pool = list(itertools.islice(documents, batch_size * POOL))
        if not pool:  # they were to be without end
            raise BadValue("the documents to train on came to an end")
        examples = [example for example in encode(pool, chance) if example.input_ids]
        if not examples:  # else it would look for one for ever
            raise BadValue(f"none of {len(pool)} documents to train on holds a token that the tokenizer knows")
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].input_ids))
        groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        chance.shuffle(groups)
        yield from (collate(examples, group, pad) for group in groups)


def classified(
    tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Callable[[Sequence[Document], random.Random], list[Example]]:
    """Encodes documents with their classes."""

    def encode(documents: Sequence[Document], chance: random.Random) -> list[Example]:
        del chance
        rows, labels = zip(*documents, strict=True)
        return text_classification.encode(rows, labels, tokenizer, max_tokens)

    return encode


def predicted(
    tokenizer: PreTrainedTokenizerBase, objective: str, special: SpecialTokens, max_tokens: int
) -> Callable[[Sequence[Document], random.Random], list[Example]]:
    """Encodes documents for a language-modelling objective; `max_tokens` bounds a window's own tokens."""

    def example(ids: list[int], chance: random.Random, last: bool) -> Example:
        if objective == "masked":
            return language_modeling.masked_example(ids, special, chance, last, HIDDEN_SHARE, always_hide=False)
        return language_modeling.OBJECTIVES[objective](ids, special, chance, last)

    def encode(documents: Sequence[Document], chance: random.Random) -> list[Example]:
        rows = language_modeling.tokens([whole(row) for row, _ in documents], tokenizer)
        cut = [window for row in rows for window in language_modeling.windows(row, max_tokens)]
        return [example(window, chance, last) for _, window, last in cut]

    return encode
