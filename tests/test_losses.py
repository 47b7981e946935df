"""What recovery makes small: nothing where nothing differs, padding counts nowhere, and the teacher learns nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from sparsity import blueprint, bypass
from sparsity.losses import HIDDEN, SOFT, TEMPERATURE, distillation, hidden_distance, seen_of, task_loss, watched
from sparsity.models.architecture import blocks_of
from sparsity.prune import Recipe, prune
from sparsity.tasks.batching import IGNORED, Batch
from tests import tiny

families = pytest.mark.parametrize("family", tiny.FAMILIES)
described = pytest.mark.parametrize("family", tiny.DESCRIBED)


def classifier(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A tiny model with two classes; padding is token 1."""
    config = tiny.config(family)
    config.num_labels, config.pad_token_id = 2, 1
    config.use_cache = False
    built = blueprint.new_model(family, "classification", config, seed)
    return built.to(dtype).eval().requires_grad_(False)  # type: ignore[arg-type]  # transformers types .to by a Self that mypy loses


def documents() -> Batch:
    """Two documents of unequal length, which end in token 2 as BART's classifier wants."""
    tokens = torch.tensor([[5, 9, 12, 7, 2], [8, 30, 2, 1, 1]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    return Batch({"input_ids": tokens, "attention_mask": mask}, torch.tensor([[1], [0]]), [0, 1])


def wider(batch: Batch, columns: int, filling: int) -> Batch:
    """The same documents with so many more columns of padding."""
    more = {
        name: torch.cat(
            [tensor, tensor.new_full((len(tensor), columns), 0 if name == "attention_mask" else filling)], 1
        )
        for name, tensor in batch.inputs.items()
    }
    labels = batch.labels
    if labels.shape[1] > 1:
        labels = torch.cat([labels, labels.new_full((len(labels), columns), IGNORED)], 1)
    return Batch(more, labels, batch.documents)


def other_padding(batch: Batch) -> Batch:
    """The same documents with other tokens where there is no text."""
    text = batch.inputs["attention_mask"].bool()
    inputs = {
        name: tensor if name == "attention_mask" else torch.where(text, tensor, 40)
        for name, tensor in batch.inputs.items()
    }
    return Batch(inputs, batch.labels, batch.documents)


def handed_on(model: Any, batch: Batch) -> list[torch.Tensor]:
    """The hidden states after each block."""
    with watched(seen_of(model)) as states:
        model(**batch.inputs)
    return [each for each, _ in states]


def by_hand(student: Any, teacher: Any, batch: Batch) -> float:
    """Hinton's loss and the hidden states' distance, term by term, in float64."""
    found, wanted = (model(**batch.inputs) for model in (student, teacher))
    chosen = batch.labels != IGNORED
    labels = batch.labels[chosen]
    a, b = (x.logits.double() if x.logits.dim() == 2 else x.logits[chosen].double() for x in (found, wanted))
    p, q = (torch.softmax(x / TEMPERATURE, -1) for x in (b, a))
    apart = (p * (p.log() - q.log())).sum(-1).mean() * TEMPERATURE**2
    own = -torch.log_softmax(a, -1)[torch.arange(len(labels)), labels].mean()
    text = batch.inputs["attention_mask"].bool()
    ratios = []
    for s, t in zip(handed_on(student, batch), handed_on(teacher, batch), strict=True):
        x, y = s[text].double(), t[text].double()
        ratios.append(((x - y) ** 2).mean() / ((y - y.mean(0)) ** 2).mean())
    assert ratios
    return float((1 - SOFT) * own + SOFT * apart + HIDDEN * torch.stack(ratios).mean())


@described
def test_a_student_that_is_its_teacher_has_the_task_alone_to_learn(family: str) -> None:
    model = tiny.model(family)
    for batch in tiny.batches(model):
        expected = (1 - SOFT) * float(task_loss(model, batch))
        assert float(distillation(model)(model, batch)) == pytest.approx(expected, rel=1e-5)


@families
def test_a_classifier_that_is_its_teacher_has_the_task_alone_to_learn(family: str) -> None:
    model = classifier(family)
    batch = documents()
    expected = (1 - SOFT) * float(task_loss(model, batch))
    assert float(distillation(model)(model, batch)) == pytest.approx(expected, rel=1e-5)


@described
def test_distillation_by_hand(family: str) -> None:
    student, teacher = tiny.model(family, torch.float64, seed=1), tiny.model(family, torch.float64)
    for batch in tiny.batches(student):
        assert float(distillation(teacher)(student, batch)) == pytest.approx(by_hand(student, teacher, batch), rel=1e-6)


@families
def test_distillation_of_a_classifier_by_hand(family: str) -> None:
    student, teacher = classifier(family, 1), classifier(family)
    batch = documents()
    assert float(distillation(teacher)(student, batch)) == pytest.approx(by_hand(student, teacher, batch), rel=1e-4)


@described
def test_the_task_loss_is_the_mean_over_what_counts(family: str) -> None:
    model = tiny.model(family, torch.float64)
    batch = tiny.batches(model)[0]
    logits = model(**batch.inputs).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)
    found = task_loss(model, batch)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


@described
def test_padding_does_not_count(family: str) -> None:
    student, teacher = tiny.model(family, torch.float64, seed=1), tiny.model(family, torch.float64)
    batch = tiny.batches(student)[0]
    assert bool((batch.inputs["attention_mask"] == 0).any())
    for loss in (task_loss, distillation(teacher)):
        expected = float(loss(student, batch))
        assert float(loss(student, other_padding(batch))) == pytest.approx(expected, rel=1e-9)
        assert float(loss(student, wider(batch, 3, 40))) == pytest.approx(expected, rel=1e-9)


@families
def test_padding_does_not_count_for_classifiers(family: str) -> None:
    """transformers finds the end of a document of GPT-2 by its padding tokens, so those stay what they are."""
    student, teacher = classifier(family, 1, torch.float64), classifier(family, 0, torch.float64)
    batch = documents()
    for loss in (task_loss, distillation(teacher)):
        expected = float(loss(student, batch))
        assert float(loss(student, wider(batch, 3, 1))) == pytest.approx(expected, rel=1e-9)
        if family != "gpt2":
            assert float(loss(student, other_padding(batch))) == pytest.approx(expected, rel=1e-9)


@families
def test_what_counts_does_count(family: str) -> None:
    student, teacher = tiny.model(family, seed=1), tiny.model(family)
    batch = tiny.batches(student)[0]
    tokens = batch.inputs["input_ids"].clone()
    tokens[1, 2] = 3 if int(tokens[1, 2]) != 3 else 4
    changed = Batch({**batch.inputs, "input_ids": tokens}, batch.labels, batch.documents)
    for loss in (task_loss, distillation(teacher)):
        assert float(loss(student, batch)) != float(loss(student, changed))


@families
def test_gradients_reach_the_student_alone(family: str) -> None:
    student, teacher = tiny.model(family, seed=1).requires_grad_(True), tiny.model(family).requires_grad_(True)
    distillation(teacher)(student, tiny.batches(student)[0]).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())


@families
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_teacher_in_half_precision_teaches_nearly_the_same(family: str, dtype: torch.dtype) -> None:
    student, teacher, half = tiny.model(family, seed=1), tiny.model(family), tiny.model(family, dtype)
    batch = tiny.batches(student)[0]
    found = distillation(half)(student, batch)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(distillation(teacher)(student, batch)), rel=2e-2)


@families
def test_a_removed_block_is_seen_as_what_it_hands_on(family: str) -> None:
    """Also of a model whose hidden states were asked for before the block was removed: transformers hooks stay."""
    dense, early, late = (tiny.model(family) for _ in range(3))
    batch = tiny.batches(dense)[0]
    for model in (early, late):  # a removed block's biases still act inside it
        for name, parameter in model.named_parameters():
            parameter.add_(0.1 if name.endswith("bias") else 0.0)
    late(**batch.inputs, output_hidden_states=True)
    recipe = Recipe("l1", 0.5, "layers")
    found = [float(distillation(dense)(prune(model, recipe).model, batch)) for model in (early, late)]
    assert any(bypass.is_bypassed(block.module) for block in blocks_of(late))
    assert found[0] == found[1]


def test_the_distance_is_relative_to_the_teachers_own_spread() -> None:
    batch = tiny.batches(tiny.model("bert"))[0]
    one, other = ([(each, "own") for each in handed_on(tiny.model("bert", seed=seed), batch)] for seed in (1, 0))
    distance = float(hidden_distance(one, other, batch))
    larger, wider = ([(1000 * states, tokens) for states, tokens in each] for each in (one, other))
    assert float(hidden_distance(larger, wider, batch)) == pytest.approx(distance, rel=1e-5)
    assert float(hidden_distance(other, other, batch)) == 0.0


@described
def test_every_block_is_looked_at_once(family: str) -> None:
    model = tiny.model(family)
    states = handed_on(model, tiny.batches(model)[0])
    assert len(states) == len(blocks_of(model))
    assert {each.shape for each in states} == {(4, 9, 16)}
    assert not any(block.module._forward_hooks for block in blocks_of(model))
