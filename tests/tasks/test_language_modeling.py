"""Language modelling: golden examples of each objective, and losses that a direct computation agrees with."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.nn import functional

from sparsity.errors import Refused
from sparsity.tasks import batching
from sparsity.tasks import language_modeling as lm
from tests import tiny

SPECIAL = lm.SpecialTokens(start=1, end=2, mask=4, pad=0, decoder_start=2, vocabulary=60)
IGNORED = batching.IGNORED
TEXT = [10, 11, 12, 13, 14, 15]


class Scripted(random.Random):
    """Gives the draws it is told, then 0.99."""

    def __init__(self, *draws: float) -> None:
        super().__init__()
        self.draws = list(draws)

    def random(self) -> float:
        """The next draw."""
        return self.draws.pop(0) if self.draws else 0.99


def test_causal_predicts_every_token_and_the_end() -> None:
    example = lm.causal_example(TEXT, SPECIAL, Scripted())
    assert example.input_ids == [1, *TEXT]
    assert example.labels == [*TEXT, 2]


def test_masked_hides_what_is_chosen_and_predicts_only_that() -> None:
    draws = [0.9, 0.1, 0.9, 0.9, 0.0, 0.9]
    example = lm.masked_example(TEXT, SPECIAL, Scripted(*draws))
    assert example.input_ids == [1, 10, 4, 12, 13, 4, 15, 2]
    assert example.labels == [IGNORED, IGNORED, 11, IGNORED, IGNORED, 14, IGNORED, IGNORED]


def test_masked_hides_one_token_at_least() -> None:
    example = lm.masked_example(TEXT, SPECIAL, Scripted(*[0.9] * 6, 0.5))
    assert example.input_ids == [1, 10, 11, 12, 4, 14, 15, 2]


def test_masked_for_training_hides_replaces_or_keeps() -> None:
    choose, fates = [0.0] * 3 + [0.9] * 3, [0.5, 0.85, 0.5, 0.95]
    example = lm.masked_example(TEXT, SPECIAL, Scripted(*choose, *fates), always_hide=False)
    assert example.input_ids == [1, 4, int(0.5 * 60), 12, 13, 14, 15, 2]
    assert example.labels[1:4] == [10, 11, 12]


def test_infilling_puts_one_mask_for_a_span_and_restores_the_text() -> None:
    example = lm.infilling_example(TEXT, SPECIAL, Scripted(0.9, 0.1, 0.5, 0.9, 0.9))
    assert example.input_ids == [1, 10, 4, 14, 15, 2]  # a span of 1 + int(0.5 * 5) = 3
    assert example.labels == [*TEXT, 2]
    assert example.decoder_input_ids == [2, *TEXT]


@pytest.mark.parametrize(
    ("objective", "missing"), [("masked", "mask"), ("infilling", "decoder_start"), ("causal", "start")]
)
def test_a_tokenizer_without_the_needed_token_is_refused(objective: str, missing: str) -> None:
    special = lm.SpecialTokens(**{**SPECIAL._asdict(), missing: None})
    with pytest.raises(Refused, match="the tokenizer has no"):
        lm.OBJECTIVES[objective](TEXT, special, Scripted(0.0))


class Words:
    """A tokenizer of whitespace words, numbered."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(word) for word in text.split()] for text in texts]}


def test_what_is_hidden_depends_on_seed_and_document_alone() -> None:
    texts = [" ".join(str(10 + i) for i in range(20))] * 3
    tokenizer: Any = Words()
    one = lm.encode(texts, tokenizer, "masked", SPECIAL, 100, seed=1)
    assert one == lm.encode(texts, tokenizer, "masked", SPECIAL, 100, seed=1)
    assert one[:2] == lm.encode(texts[:2], tokenizer, "masked", SPECIAL, 100, seed=1)
    assert one[0] != one[1]
    assert one[0] != lm.encode(texts, tokenizer, "masked", SPECIAL, 100, seed=2)[0]


def test_long_texts_are_cut_before_they_are_framed() -> None:
    tokenizer: Any = Words()
    (example,) = lm.encode(["10 11 12 13"], tokenizer, "causal", SPECIAL, 2)
    assert example == batching.Example([1, 10, 11], [10, 11, 2])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_losses_are_those_of_each_document_alone(family: str) -> None:
    model = tiny.model(family)
    objective = {"bert": "masked", "gpt2": "causal", "bart": "infilling"}[family]
    source = random.Random(0)
    texts = [" ".join(str(5 + int(source.random() * 50)) for _ in range(3 + 2 * n)) for n in range(7)]
    tokenizer: Any = Words()
    examples = lm.encode(texts, tokenizer, objective, SPECIAL, 28)
    losses = lm.evaluate(model, batching.batches(examples, SPECIAL.pad, batch_size=3))
    for index, example in enumerate(examples):
        inputs = {"input_ids": torch.tensor([example.input_ids])}
        if example.decoder_input_ids is not None:
            inputs["decoder_input_ids"] = torch.tensor([example.decoder_input_ids])
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        alone = functional.cross_entropy(logits, torch.tensor(example.labels), reduction="sum", ignore_index=IGNORED)
        assert losses.total[index].item() == pytest.approx(alone.item(), rel=1e-4)
        assert losses.tokens[index].item() == sum(label != IGNORED for label in example.labels)
