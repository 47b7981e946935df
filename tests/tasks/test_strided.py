"""Strided windows: every token once, with context enough, and the losses of a loop that does it by hand."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sparsity.data.documents import Documents
from sparsity.errors import BadValue, Refused
from sparsity.tasks import encoding, language_modeling, quality, strided
from sparsity.tasks.batching import IGNORED
from sparsity.tasks.strided import Window
from tests import tiny
from tests.models.tiny import refusal
from tests.tasks.test_encoding import tokenizer_of

SOURCE = random.Random(0)
BOOK = " ".join(f"w{SOURCE.randrange(50)}" for _ in range(150))
LONG = Documents("book.txt", (BOOK,))


def built(text: str, own: Documents = LONG, model: Any = None) -> quality.Task:
    llama = tiny.model("llama") if model is None else model
    return quality.build("lm", llama, tokenizer_of("llama"), "causal", own, 0, window=strided.parse(text))


# -- which tokens -------------------------------------------------------------------------------------------------


def test_what_is_printed_parses_back() -> None:
    assert strided.parse("1024/512") == Window(1024, 512)
    assert str(strided.parse("1024/512")) == "1024/512"


@pytest.mark.parametrize("text", ["1024", "/512", "1024/", "0/1", "8/0", "8/-1", "8/4/2", "8 / 4", "a/b", "٨/4"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="is not LENGTH/STRIDE, such as 1024/512"):
        strided.parse(text)


def test_a_stride_above_the_length_is_refused() -> None:
    with pytest.raises(BadValue, match=r"window 8/9: a stride above the length leaves tokens out; .* at most 8"):
        strided.parse("8/9")


@given(st.integers(0, 60), st.integers(1, 20), st.data())
def test_every_position_is_scored_once_with_context_enough(count: int, length: int, data: st.DataObject) -> None:
    window = Window(length, data.draw(st.integers(1, length)))
    found = list(strided.places(count, window))
    assert [p for _, scored, end in found for p in range(scored, end)] == list(range(count))
    for number, (begin, scored, end) in enumerate(found):
        assert begin == number * window.stride
        assert begin <= scored < end <= begin + length
        assert scored - begin == (length - window.stride if number else 0)


def contexts(count: int, length: int, stride: int) -> list[int]:
    """How many positions of its window stand before each that is scored."""
    return [
        p - begin for begin, scored, end in strided.places(count, Window(length, stride)) for p in range(scored, end)
    ]


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_smaller_strides_never_have_less_context(count: int, stride: int, times: int, more: int) -> None:
    """Position by position where one is a multiple of the other; of others the least context grows."""
    length = stride * times + more
    finer, coarser = contexts(count, length, stride), contexts(count, length, stride * times)
    assert all(a >= b for a, b in zip(finer, coarser, strict=True))
    for one, other in itertools.pairwise(range(1, length + 1)):
        assert min(contexts(count, length, one)[length:], default=0) >= min(
            contexts(count, length, other)[length:], default=0
        )


def test_windows_are_those_of_the_text_framed_as_a_whole() -> None:
    special = language_modeling.special_tokens(tokenizer_of("llama"), tiny.model("llama"))
    ids = list(range(5, 15))
    found = list(strided.examples(ids, special, Window(6, 4)))
    assert [e.input_ids for e in found] == [[0, 5, 6, 7, 8, 9], [8, 9, 10, 11, 12, 13], [12, 13, 14]]
    assert [e.labels for e in found] == [
        [5, 6, 7, 8, 9, 10],
        [IGNORED, IGNORED, 11, 12, 13, 14],
        [IGNORED, IGNORED, 2],
    ]
    assert list(strided.examples([], special, Window(6, 4))) == []


# -- golden -------------------------------------------------------------------------------------------------------


def by_hand(model: Any, text: str, length: int, stride: int) -> list[tuple[float, int]]:
    """(loss, tokens) of each window, as the documentation of transformers does it, one at a time."""
    tokens = [0, *tokenizer_of("llama")(text, add_special_tokens=False)["input_ids"], 2]
    inputs, labels = torch.tensor(tokens[:-1]), torch.tensor(tokens[1:])
    found, begin, before = [], 0, 0
    while before < len(inputs):
        end = min(begin + length, len(inputs))
        with torch.no_grad():
            logits = model(inputs[None, begin:end]).logits[0].double()
        losses = functional.cross_entropy(logits, labels[begin:end], reduction="none")[before - begin :]
        found.append((float(losses.sum()), end - before))
        begin, before = begin + stride, end
    return found


@pytest.mark.parametrize("text", ["32/32", "32/16", "20/7", "9/1", "32/5"])
def test_losses_are_those_of_a_loop_by_hand(text: str) -> None:
    window, model = strided.parse(text), tiny.model("llama")
    scores = built(text).evaluate(model)
    expected = by_hand(model, BOOK, *window)
    np.testing.assert_allclose(scores.numerators, [loss for loss, _ in expected], rtol=1e-6)
    np.testing.assert_array_equal(scores.denominators, [count for _, count in expected])
    assert scores.denominators.sum() == 151  # each word, and the end
    total = sum(loss for loss, _ in expected)
    assert scores.estimate.value == pytest.approx(total / 151, rel=1e-6)


def test_a_stride_of_the_length_cuts_into_pieces() -> None:
    model = tiny.model("llama")
    tokens = [0, *tokenizer_of("llama")(BOOK, add_special_tokens=False)["input_ids"], 2]
    losses = []
    for begin in range(0, 151, 32):
        piece = torch.tensor(tokens[begin : begin + 33])
        logits = model(piece[None, :-1]).logits[0]
        losses.append(float(functional.cross_entropy(logits, piece[1:], reduction="sum")))
    np.testing.assert_allclose(built("32/32").evaluate(model).numerators, losses, rtol=1e-5)


def test_a_model_that_needs_its_context_loses_less_with_more_of_it() -> None:
    """Of a text that says again what stood 12 words before, in a model that copies what it saw after the same word."""
    words = [f"w{i}" for i in range(12)] * 10
    own = Documents("again.txt", (" ".join(words),))

    class Copies(torch.nn.Module):
        config = tiny.config("llama")
        device = torch.device("cpu")

        def forward(self, input_ids: torch.Tensor, **rest: object) -> Any:
            logits = torch.zeros(*input_ids.shape, tiny.VOCABULARY)
            for row, ids in enumerate(input_ids.tolist()):
                for place, token in enumerate(ids):
                    for earlier in range(place):
                        if ids[earlier] == token:
                            logits[row, place, ids[earlier + 1]] = 9.0
            return type("Output", (), {"logits": logits})

    values = [built(f"24/{stride}", own).evaluate(Copies()).estimate.value for stride in (24, 12, 6)]  # type: ignore[arg-type]  # as much of a model as is used
    assert values[0] > 1.5 * values[1]
    assert values[1] >= values[2]


# -- units --------------------------------------------------------------------------------------------------------


def test_each_window_is_a_unit_and_short_documents_are_one_each() -> None:
    own = Documents("mine.csv", (BOOK, "w1 w2", "", "w3"))
    task = built("32/16", own)
    scores = task.evaluate(tiny.model("llama"))
    assert scores.denominators.tolist() == [32, *[16] * 7, 7, 3, 2]
    assert np.isfinite(scores.estimate.stderr)
    assert task.notes == (
        "1 of 4 documents of mine.csv hold no token, and were left out",
        "only 11 windows of 32/16 are scored, so their standard errors are guesses",
    )


def test_a_difference_is_paired_window_by_window() -> None:
    task = built("32/4")
    one, other = (task.evaluate(tiny.model("llama", seed=seed)) for seed in (0, 1))
    assert quality.difference(one, one) == (0.0, 0.0)
    assert quality.difference(one, other).value == pytest.approx(one.estimate.value - other.estimate.value)
    assert quality.compare(task, one, other).documents == len(one.numerators) == 31


def test_short_texts_read_whole_lose_what_they_lost_without_windows() -> None:
    own = Documents("mine.csv", ("w1 w2 w3", "w4", "w5 w6 w7 w8"))
    model = tiny.model("llama")
    plain = quality.build("lm", model, tokenizer_of("llama"), "causal", own, 0).evaluate(model)
    found = built("32/16", own).evaluate(model)
    np.testing.assert_allclose(found.numerators, plain.numerators, rtol=1e-6)
    assert found.estimate.value == pytest.approx(plain.estimate.value)


# -- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "objective"), [("bert", "masked"), ("bart", "infilling")])
def test_objectives_without_a_next_token_are_refused(family: str, objective: str) -> None:
    model, tokenizer = tiny.model(family), tokenizer_of(family)
    asked = ("lm", model, tokenizer, objective, LONG, 0)
    message = refusal(Refused, lambda: quality.build(*asked, window=Window(16, 8)))
    assert message.startswith(f"window 16/8: {family} models predict by the {objective} objective")


def test_windows_longer_than_the_positions_are_refused() -> None:
    message = refusal(Refused, lambda: built("33/16"))
    assert message == "window 33/16 is longer than the model's 32 positions; choose a shorter one"


def test_one_window_alone_is_refused() -> None:
    message = refusal(Refused, lambda: built("32/16", Documents("brief.txt", ("w1 w2",))))
    assert message.startswith("brief.txt gives 1 windows of 32/16, and of fewer than 2 there is no standard error")


def test_classification_reads_as_it_always_does() -> None:
    from tests.tasks.test_encoding import classifier, documents

    model, own = classifier("bert"), documents()
    asked = ("classification", model, tokenizer_of("bert"), "masked", own, 0)
    assert encoding.encode(*asked, window=Window(16, 8)) == encoding.encode(*asked)
