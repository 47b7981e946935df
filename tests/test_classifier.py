"""Classifiers made from pretrained bodies: they learn the data's classes, the same each time, from any checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sparsity import classifier
from sparsity.data.documents import Documents
from sparsity.errors import ModelNotLoaded, Refused
from sparsity.models import hub
from sparsity.training import Settings
from tests.models import tiny
from tests.models.tiny import refusal

CLASSES = ("warm", "cold", "neither")
WORDS = ("film", "soup", "wine")
"""One for each class: the embedded tokenizers know them."""
SHORT = Settings(1e-3, steps=2)


def documents(count: int = 60, name: str = "mine.csv", **changes: Any) -> Documents:
    """Each text says its class by one word."""
    labels = tuple(i % 3 for i in range(count))
    texts = tuple(f"the {WORDS[label]} was {'not ' * (i % 5)}good" for i, label in enumerate(labels))
    return Documents(name, **{"texts": texts, "labels": labels, "classes": CLASSES} | changes)


def saved(folder: Path, family: str = "bert", task: str = "lm", **changes: Any) -> str:
    tiny.add_tokenizer(tiny.save(folder, family, task, **changes), family)
    return str(folder)


def weights(loaded: hub.Loaded) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


def test_it_learns_the_classes_of_the_documents(tmp_path: Path) -> None:
    reference, known = saved(tmp_path, "gpt2"), documents()
    start = classifier.started(reference, CLASSES, seed=0)
    assert classifier.task(start, known).evaluate(start.model).estimate.value < 0.7
    made = classifier.fine_tuned(reference, known, Settings(2e-3, steps=40), CLASSES)
    assert classifier.task(made, documents(30, "unseen")).evaluate(made.model).estimate.value == 1
    assert made.model.config.id2label == dict(enumerate(CLASSES))
    assert (made.reference, made.source) == (reference, "checkpoint")
    assert not made.model.training
    assert not any(parameter.requires_grad for parameter in made.model.parameters())


def test_the_whole_body_is_trained_and_not_the_head_alone(tmp_path: Path) -> None:
    reference = saved(tmp_path)
    before = weights(classifier.started(reference, CLASSES, seed=0))
    after = weights(classifier.fine_tuned(reference, documents(), SHORT, CLASSES))
    assert before.keys() == after.keys()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in still if not name.endswith("position_ids")} == set()


def test_the_same_seed_gives_the_same_classifier_and_leaves_the_global_state(tmp_path: Path) -> None:
    reference = saved(tmp_path)
    torch.default_generator.manual_seed(5)
    expected = torch.rand(2)
    torch.default_generator.manual_seed(5)
    first = weights(classifier.fine_tuned(reference, documents(), SHORT, CLASSES))
    assert torch.equal(torch.rand(2), expected)
    again = weights(classifier.fine_tuned(reference, documents(), SHORT, CLASSES))
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = weights(classifier.fine_tuned(reference, documents(), Settings(1e-3, steps=2, seed=1), CLASSES))
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_the_seed_is_that_of_the_head_as_well(tmp_path: Path) -> None:
    reference, still = saved(tmp_path), Settings(1e-12, steps=1, seed=4)
    made = weights(classifier.fine_tuned(reference, documents(), still, CLASSES))
    drawn = weights(classifier.started(reference, CLASSES, seed=4))
    torch.testing.assert_close(made["classifier.weight"], drawn["classifier.weight"])


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("task", ["lm", "classification", "body"])
def test_every_checkpoint_gives_its_body(tmp_path: Path, family: str, task: str) -> None:
    reference = saved(tmp_path, family, task)
    start = classifier.started(reference, CLASSES, seed=0)
    theirs = tiny.model(family, task).base_model.state_dict()
    own = start.model.base_model.state_dict()
    learnt = [name for name in own if name in theirs]
    assert len(learnt) >= len(theirs) - 2  # BART's biases of logits are no weights of its body
    assert all(torch.equal(own[name], theirs[name]) for name in learnt)
    made = classifier.fine_tuned(reference, documents(), SHORT, CLASSES)
    assert classifier.task(made, documents()).evaluate(made.model).chance == pytest.approx(1 / 3)


def test_a_pooler_that_the_checkpoint_has_not_hangs_on_the_seed_alone(tmp_path: Path) -> None:
    reference = saved(tmp_path, task="lm")
    torch.default_generator.manual_seed(1)
    first = weights(classifier.started(reference, CLASSES, seed=0))
    torch.default_generator.manual_seed(2)
    again = weights(classifier.started(reference, CLASSES, seed=0))
    other = weights(classifier.started(reference, CLASSES, seed=1))
    pooler = "bert.pooler.dense.weight"
    assert torch.equal(first[pooler], again[pooler])
    assert not torch.equal(first[pooler], other[pooler])


def test_an_embedded_model_is_a_start_and_random_weights_are_none() -> None:
    assert classifier.started("bert", CLASSES, seed=0).source == "embedded"
    message = refusal(Refused, lambda: classifier.started("random:bert-base", CLASSES, seed=0))
    assert message.startswith("random:bert-base has random weights")


def test_a_model_that_is_not_there_is_refused() -> None:
    assert "no such folder" in refusal(ModelNotLoaded, lambda: classifier.started("./nowhere", CLASSES, seed=0))


def test_pairs_are_told_apart(tmp_path: Path) -> None:
    """Which of the two texts a word stands in is all that tells the classes apart."""
    labels = tuple(i % 2 for i in range(40))
    texts, pairs = (tuple("the film" if (label == side) else "a soup" for label in labels) for side in (0, 1))
    known = Documents("pairs", texts, pairs, labels, ("first", "second"))
    made = classifier.fine_tuned(saved(tmp_path), known, Settings(5e-3, steps=60), ("first", "second"))
    assert classifier.task(made, known).evaluate(made.model).estimate.value == 1


def test_the_weights_may_end_in_half_precision(tmp_path: Path) -> None:
    made = classifier.fine_tuned(saved(tmp_path), documents(), SHORT, CLASSES, dtype=torch.bfloat16)
    whole = classifier.fine_tuned(saved(tmp_path), documents(), SHORT, CLASSES)
    assert {parameter.dtype for parameter in made.model.parameters()} == {torch.bfloat16}
    pairs = zip(made.model.parameters(), whole.model.parameters(), strict=True)
    assert all(torch.equal(half, full.bfloat16()) for half, full in pairs)


def test_a_tokenizer_of_another_model_is_refused_before_a_step(tmp_path: Path) -> None:
    reference = saved(tmp_path, vocab_size=12)
    message = refusal(ModelNotLoaded, lambda: classifier.fine_tuned(reference, documents(), SHORT, CLASSES))
    assert "its tokenizer has 488 tokens, its config.json says 12; they are not of one model" in message


# Which classes there are


def test_classes_are_named_or_counted_over_all_documents() -> None:
    assert classifier.classes_in(documents(), documents()) == CLASSES
    numbers = documents(classes=None)
    more = Documents("more", ("a", "b", "c", "d"), labels=(0, 3, 0, 3))
    assert classifier.classes_in(numbers) == 3
    assert classifier.classes_in(numbers, more) == 4


@pytest.mark.parametrize("numbers", [(1, 2), (0, 2), (0, 2**62)])
def test_numbers_with_gaps_are_refused_and_not_made_classes_of(numbers: tuple[int, int]) -> None:
    found = Documents("mine.csv", ("a", "b", "c", "d"), labels=numbers * 2)
    message = refusal(Refused, lambda: classifier.classes_in(found))
    assert message.startswith(f"mine.csv has classes {numbers[0]}, {numbers[1]}; number them 0, 1, 2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": None}, "mine.csv has no classes to learn: it has no label column; name one by --label-column"),
        ({"labels": (1,) * 60}, "mine.csv has one class alone, so there is nothing to tell apart"),
        ({"labels": tuple(range(60))}, "mine.csv has 60 labels for 60 documents, so they are no classes"),
        ({"labels": (), "texts": ()}, "mine.csv has no document left to learn from; name others by --training-data"),
    ],
)
def test_documents_that_teach_nothing_are_refused(changes: dict[str, Any], said: str) -> None:
    message = refusal(Refused, lambda: classifier.classes_in(documents(), documents(**changes)))
    assert message.startswith(said)
