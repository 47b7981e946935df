"""Documents to learn from: endless, the same for a seed, each with its own class, and a finite set in turns."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsity import blueprint
from sparsity.errors import BadValue
from sparsity.models.architecture import architecture_of
from sparsity.tasks import language_modeling, training
from sparsity.tasks.batching import IGNORED, Batch, Example
from sparsity.tasks.language_modeling import SpecialTokens
from sparsity.tasks.quality import TASKS
from sparsity.tasks.training import POOL, again_and_again, batches, classified, fresh_reviews, of_model, predicted
from tests.models.tiny import refusal

FAMILIES = ("bert", "gpt2", "bart")
SIZE = 4
families = pytest.mark.parametrize("family", FAMILIES)


def of_family(family: str, task: str, documents: Any, seed: int) -> Any:
    tokenizer = blueprint.tokenizer_of(family)
    model = blueprint.new_model(family, task, blueprint.config_of(family, tokenizer), 0)
    return of_model(task, model, tokenizer, architecture_of(family).objective, documents, SIZE, seed)


def same(one: Batch, other: Batch) -> bool:
    if one.inputs.keys() != other.inputs.keys() or one.documents != other.documents:
        return False
    pairs = [(one.labels, other.labels), *((one.inputs[name], other.inputs[name]) for name in one.inputs)]
    return all(torch.equal(a, b) for a, b in pairs)


@families
@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_batches_and_another_seed_others(family: str, task: str) -> None:
    one, again, other, others = (
        list(itertools.islice(of_family(family, task, fresh_reviews(documents), seed), POOL + 2))
        for documents, seed in ((3, 5), (3, 5), (3, 6), (4, 5))
    )
    assert all(same(a, b) for a, b in zip(one, again, strict=True))
    assert not all(same(a, b) for a, b in zip(one, other, strict=True)), "their order"
    assert not any(same(a, b) for a, b in zip(one, others, strict=True)), "their documents"


@families
@pytest.mark.parametrize("task", TASKS)
def test_a_model_of_the_family_reads_them(family: str, task: str) -> None:
    tokenizer = blueprint.tokenizer_of(family)
    model = blueprint.new_model(family, task, blueprint.config_of(family, tokenizer), 0)
    for batch in itertools.islice(of_family(family, task, fresh_reviews(0), 0), 3):
        assert len(batch.documents) == len(batch.labels) == SIZE
        logits = model(**batch.inputs).logits
        assert torch.isfinite(logits).all()
        assert logits.shape[:-1] == (batch.labels.shape if task == "lm" else (SIZE,))
        assert bool((batch.labels != IGNORED).any(1).all())


def test_reviews_are_the_same_for_a_seed_and_none_is_seen_twice() -> None:
    one, again, other = (list(itertools.islice(fresh_reviews(seed), 300)) for seed in (1, 1, 2))
    assert one == again
    assert len(set(one) & set(other)) < 30, "short ones alone"
    assert {label for _, label in one} == {0, 1}
    assert len(set(one)) > 0.9 * len(one)


def numbered(count: int) -> list[training.Document]:
    return [(f"text {i}", i % 2) for i in range(count)]


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))
def test_a_finite_set_is_gone_through_again_and_again(count: int, epochs: int, seed: int) -> None:
    documents = numbered(count)
    drawn = list(itertools.islice(again_and_again(documents, seed), count * epochs))
    for epoch in range(epochs):
        assert Counter(drawn[epoch * count : (epoch + 1) * count]) == Counter(documents)
    assert drawn == list(itertools.islice(again_and_again(documents, seed), count * epochs))


def test_each_time_in_another_order() -> None:
    drawn = list(itertools.islice(again_and_again(numbered(30), 0), 90))
    orders = {tuple(drawn[start : start + 30]) for start in (0, 30, 60)}
    assert len(orders) == 3
    assert drawn != list(itertools.islice(again_and_again(numbered(30), 1), 90))


def test_no_document_is_refused() -> None:
    refusal(BadValue, lambda: next(again_and_again([], 0)))


def lengths(documents: Sequence[training.Document], chance: random.Random) -> list[Example]:
    """As many tokens as the text says, all of them its number; its label is its class."""
    del chance
    return [Example([int(str(text))] * int(str(text)), [label]) for text, label in documents]


def test_batches_hold_documents_of_like_length_with_their_own_labels() -> None:
    source = random.Random(0)
    documents = [(str(n), n % 3) for n in (source.randint(1, 50) for _ in range(SIZE * POOL))]
    found = list(itertools.islice(batches(iter(documents), lengths, 0, SIZE, seed=1), POOL))
    seen = []
    for batch in found:
        tokens, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        for row, text, label, document in zip(tokens, mask, batch.labels, batch.documents, strict=True):
            length = int(text.sum())
            assert row[:length].tolist() == [length] * length
            assert not bool(row[length:].any())
            assert int(label) == length % 3
            assert documents[document][0] == str(length)
            seen.append(document)
    assert sorted(seen) == list(range(SIZE * POOL)), "each once"
    spreads = [sorted(int(mask.sum()) for mask in batch.inputs["attention_mask"]) for batch in found]
    in_order = sorted(spreads)
    assert all(a[-1] <= b[0] for a, b in itertools.pairwise(in_order)), "a pool is cut by length"
    assert spreads != in_order, "but batches do not come by length"


def test_the_next_pool_is_of_the_next_documents() -> None:
    documents = ((str(1 + i), 0) for i in itertools.count())
    found = list(itertools.islice(batches(documents, lengths, 0, 2, seed=0), 3 * POOL))
    drawn = [
        sorted(int(n) for batch in found[start : start + POOL] for n in batch.inputs["attention_mask"].sum(1))
        for start in (0, POOL, 2 * POOL)
    ]
    assert drawn == [list(range(1 + i * 2 * POOL, 1 + (i + 1) * 2 * POOL)) for i in range(3)]


@pytest.mark.parametrize("count", [0, 3, 2 * POOL + 1])
def test_documents_that_come_to_an_end_are_refused(count: int) -> None:
    documents = iter([(str(1 + i), 0) for i in range(count)])
    drawn: list[Batch] = []

    def all_of_them() -> None:
        drawn.extend(batches(documents, lengths, 0, 2, seed=0))

    assert "end" in refusal(BadValue, all_of_them)
    assert sum(len(batch.documents) for batch in drawn) == count


@families
def test_classes_stay_with_their_texts(family: str) -> None:
    tokenizer = blueprint.tokenizer_of(family)
    documents = [("the soup was good .", 1), ("the wine was bad and i did not like it .", 0)]
    found = classified(tokenizer, 8)(documents, random.Random(0))
    assert [example.labels for example in found] == [[1], [0]]
    whole = [tokenizer(text)["input_ids"] for text, _ in documents]
    assert found[0].input_ids == whole[0]
    assert len(found[1].input_ids) == 8 < len(whole[1])


@families
def test_texts_are_cut_and_framed_as_their_objective_asks(family: str) -> None:
    tokenizer = blueprint.tokenizer_of(family)
    model = blueprint.new_model(family, "lm", blueprint.config_of(family, tokenizer), 0)
    special, objective = language_modeling.special_tokens(tokenizer, model), architecture_of(family).objective
    text = "although the soups were lazy , i did not regret the wine ."
    encode = predicted(tokenizer, objective, special, 6)
    found, *more = encode([(text, 0)], random.Random(0))
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert 1 + len(more) == -(-len(whole) // 6), "nothing is thrown away"
    own, last = whole[:6], not more
    end = [special.end] if last else []
    if objective == "causal":
        framed = [special.start, *own, *end]
        assert (found.input_ids, found.labels) == (framed[:-1], framed[1:])
    elif objective == "infilling":
        framed = [special.decoder_start, *own, *end]
        assert (found.decoder_input_ids, found.labels) == (framed[:-1], framed[1:])
    else:
        assert (found.input_ids[0], found.input_ids[-1], len(found.input_ids)) == (special.start, special.end, 8)
        shown = zip(found.input_ids[1:-1], found.labels[1:-1], own, strict=True)
        assert all(label in (IGNORED, token) and (label != IGNORED or shows == token) for shows, label, token in shown)


def test_texts_without_a_token_are_refused_not_searched_for_ever() -> None:
    documents = again_and_again([("", 0)], 0)
    assert "holds a token" in refusal(BadValue, lambda: next(batches(documents, nothing, 0, 2, seed=0)))


def nothing(documents: Sequence[training.Document], chance: random.Random) -> list[Example]:
    del chance
    return [Example([], [0]) for _ in documents]


@families
def test_pairs_are_trained_on_as_the_tokenizer_frames_them(family: str) -> None:
    tokenizer = blueprint.tokenizer_of(family)
    pair = ("the soup was good .", "the wine was bad .")
    (found,) = classified(tokenizer, 96)([(pair, 1)], random.Random(0))
    assert found.input_ids == tokenizer(*pair)["input_ids"]
    special = SpecialTokens(2, 3, 4, 0, 2, len(tokenizer))
    (joined,) = predicted(tokenizer, "causal", special, 90)([(pair, 1)], random.Random(0))
    assert joined.labels[:-1] == tokenizer(" ".join(pair), add_special_tokens=False)["input_ids"]


def test_training_hides_more_than_evaluation_and_not_always_behind_the_mask() -> None:
    tokenizer = blueprint.tokenizer_of("bert")
    special = SpecialTokens(2, 3, 4, 0, None, len(tokenizer))
    documents = list(itertools.islice(fresh_reviews(0), 400))
    examples = predicted(tokenizer, "masked", special, 90)(documents, random.Random(0))
    tokens = sum(len(example.labels) - 2 for example in examples)
    chosen = [
        (shown, label)
        for example in examples
        for shown, label in zip(example.input_ids, example.labels, strict=True)
        if label != IGNORED
    ]
    assert len(chosen) / tokens == pytest.approx(training.HIDDEN_SHARE, abs=0.02)
    assert sum(shown == special.mask for shown, _ in chosen) / len(chosen) == pytest.approx(0.8, abs=0.03)
    assert sum(shown == label for shown, label in chosen) / len(chosen) == pytest.approx(0.1, abs=0.03)
