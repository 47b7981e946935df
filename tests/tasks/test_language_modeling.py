"""Language modelling: golden examples of each objective, and losses that a direct computation agrees with."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.nn import functional

from sparsity.errors import BadValue, Refused
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


def test_masked_frames_only_with_what_the_tokenizer_has() -> None:
    bare = SPECIAL._replace(start=None, end=None)
    assert lm.masked_example(TEXT, bare, Scripted(0.1)).input_ids == [4, *TEXT[1:]]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (1, 2, ([1, *TEXT], [*TEXT, 2])),
        (1, None, ([1, *TEXT[:-1]], TEXT)),
        (None, 2, ([2, *TEXT], [*TEXT, 2])),  # what parts documents stands before one
        (None, None, (TEXT[:-1], TEXT[1:])),
    ],
)
def test_causal_makes_do_with_the_tokens_that_there_are(start: int | None, end: int | None, expected: Any) -> None:
    example = lm.causal_example(TEXT, SPECIAL._replace(start=start, end=end), Scripted())
    assert (example.input_ids, example.labels) == expected


def test_a_text_that_goes_on_has_no_end() -> None:
    example = lm.causal_example(TEXT, SPECIAL, Scripted(), last=False)
    assert (example.input_ids, example.labels) == ([1, *TEXT[:-1]], TEXT)
    spans = lm.infilling_example(TEXT, SPECIAL, Scripted(), last=False)
    assert (spans.decoder_input_ids, spans.labels) == ([2, *TEXT[:-1]], TEXT)


@pytest.mark.parametrize(
    ("objective", "missing"), [("masked", "mask"), ("infilling", "decoder_start"), ("infilling", "end")]
)
def test_a_tokenizer_without_the_needed_token_is_refused(objective: str, missing: str) -> None:
    special = lm.SpecialTokens(**{**SPECIAL._asdict(), missing: None})
    with pytest.raises(Refused, match="the tokenizer has no"):
        lm.OBJECTIVES[objective](TEXT, special, Scripted(0.0), True)


class Words:
    """A tokenizer of whitespace words, numbered."""

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(word) for word in text.split()] for text in texts]}


def test_what_is_hidden_depends_on_seed_and_document_alone() -> None:
    texts = [" ".join(str(10 + i) for i in range(20))] * 3
    tokenizer: Any = Words()
    one = lm.encode(texts, tokenizer, "masked", SPECIAL, 100, seed=1).examples
    assert one == lm.encode(texts, tokenizer, "masked", SPECIAL, 100, seed=1).examples
    assert one[:2] == lm.encode(texts[:2], tokenizer, "masked", SPECIAL, 100, seed=1).examples
    assert one[0] != one[1]
    assert one[0] != lm.encode(texts, tokenizer, "masked", SPECIAL, 100, seed=2).examples[0]


def test_a_long_text_is_cut_into_windows_and_every_token_is_predicted_once() -> None:
    tokenizer: Any = Words()
    found = lm.encode(["10 11 12 13 14", "20"], tokenizer, "causal", SPECIAL, 2)
    assert found.examples == [
        batching.Example([1, 10], [10, 11]),
        batching.Example([1, 12], [12, 13]),
        batching.Example([1, 14], [14, 2]),
        batching.Example([1, 20], [20, 2]),
    ]
    assert found.documents == [0, 0, 0, 1]


@pytest.mark.parametrize("objective", lm.OBJECTIVES)
@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 40])
def test_windows_hold_the_text_and_fit_the_model(objective: str, length: int) -> None:
    tokenizer: Any = Words()
    text = " ".join(str(10 + i) for i in range(length))
    found = lm.encode([text], tokenizer, objective, SPECIAL, 8)
    assert len(found.examples) == -(-length // 8)
    assert max(len(e.input_ids) for e in found.examples) <= 10
    labels = [label for example in found.examples for label in example.labels if label not in (IGNORED, 2)]
    whole = list(range(10, 10 + length))
    assert labels == whole if objective != "masked" else set(labels) <= set(whole)
    assert all(any(label != IGNORED for label in example.labels) for example in found.examples)


def test_each_window_hides_other_places() -> None:
    tokenizer: Any = Words()
    text = " ".join(["10"] * 80)
    found = lm.encode([text], tokenizer, "masked", SPECIAL, 20)
    assert len({tuple(example.labels) for example in found.examples}) == 4


@pytest.mark.parametrize("objective", lm.OBJECTIVES)
def test_a_text_without_a_token_gives_no_example(objective: str) -> None:
    tokenizer: Any = Words()
    found = lm.encode(["", "10 11", ""], tokenizer, objective, SPECIAL, 8)
    assert found.documents == [1]


def test_a_single_token_cannot_be_predicted_from_nothing() -> None:
    tokenizer: Any = Words()
    bare = SPECIAL._replace(start=None, end=None)
    assert lm.encode(["10", "10 11"], tokenizer, "causal", bare, 8).documents == [1]


def test_the_losses_of_a_documents_windows_add_up() -> None:
    model = tiny.model("gpt2")
    tokenizer: Any = Words()
    texts = [" ".join(str(5 + (7 * i + n) % 50) for i in range(n)) for n in (3, 25, 11)]
    found = lm.encode(texts, tokenizer, "causal", SPECIAL, 10)
    assert found.documents == [0, 1, 1, 1, 2, 2]
    losses = lm.evaluate(model, batching.batches(found.examples, SPECIAL.pad, 2, found.documents))
    assert losses.tokens.tolist() == [4, 26, 12]
    for document in range(3):
        own = [e for e, owner in zip(found.examples, found.documents, strict=True) if owner == document]
        alone = sum(lm.evaluate(model, batching.batches([each], 0, 1)).total.item() for each in own)
        assert losses.total[document].item() == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_losses_are_those_of_each_document_alone(family: str) -> None:
    model = tiny.model(family)
    objective = {"bert": "masked", "gpt2": "causal", "bart": "infilling"}[family]
    source = random.Random(0)
    texts = [" ".join(str(5 + int(source.random() * 50)) for _ in range(3 + 2 * n)) for n in range(7)]
    tokenizer: Any = Words()
    examples = lm.encode(texts, tokenizer, objective, SPECIAL, 28).examples
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


def test_a_loss_that_is_no_number_is_refused_and_not_averaged() -> None:
    model = tiny.model("gpt2")
    torch.nn.init.constant_(model.get_submodule("transformer.ln_f").bias, float("nan"))
    with pytest.raises(BadValue, match="the language model's loss is not finite"):
        lm.evaluate(model, batching.batches([batching.Example([1, 5, 6], [5, 6, 2])], SPECIAL.pad, 1))
