"""The training loop: it learns, keeps to its budget, is seeded, and leaves everything but the weights as it was."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsity import training
from sparsity.errors import BadValue
from sparsity.losses import task_loss
from sparsity.models.architecture import prunable_layers
from sparsity.tasks.batching import Batch
from sparsity.training import LEAST_RATE, Settings, progress_of, rate, train
from sparsity.training_state import Reached
from tests import tiny
from tests.models.tiny import refusal

RATE = 3e-3
DROPOUT: dict[str, dict[str, Any]] = {
    "bert": {"hidden_dropout_prob": 0.2},
    "gpt2": {"resid_pdrop": 0.2},
    "bart": {"dropout": 0.2},
}
STILL: dict[str, dict[str, Any]] = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "bart": {"dropout": 0.0},
}
"""No dropout."""
families = pytest.mark.parametrize("family", tiny.FAMILIES)


def endless(model: Any) -> Iterator[Batch]:
    return itertools.cycle(tiny.batches(model))


def trained(family: str, settings: Settings, loss: training.Loss = task_loss, **changes: Any) -> Any:
    model = tiny.model(family, **changes)
    train(model, endless(model), loss, settings, "test")
    return model


def assert_same(one: Any, other: Any) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


class Spy:
    """A hold that does nothing but look."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.done: list[float] = []
        self.gradients = 0

    def before_step(self) -> None:
        self.gradients += 1

    def advance(self, done: float, optimizer: torch.optim.Optimizer) -> None:
        self.done.append(done)
        self.rates.append(optimizer.param_groups[0]["lr"])
        assert {group["lr"] for group in optimizer.param_groups} == {self.rates[-1]}

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        raise AssertionError(f"nothing was saved, and {len(tensors)} tensors come back")


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_training_lowers_the_loss(family: str) -> None:
    model = tiny.model(family)
    batches = tiny.batches(model)

    def loss() -> float:
        with torch.no_grad():
            return float(torch.stack([task_loss(model, batch) for batch in batches]).mean())

    before = loss()
    train(model, itertools.cycle(batches), task_loss, Settings(1e-2, 40), "test")
    assert loss() < before - 0.3


def test_every_parameter_is_trained() -> None:
    start, model = tiny.model("gpt2"), trained("gpt2", Settings(RATE, 3))
    assert not [name for name, tensor in model.named_parameters() if torch.equal(tensor, start.get_parameter(name))]


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_so_many_steps_are_made_of_so_many_batches(steps: int, accumulate: int) -> None:
    model, spy = tiny.model("bert"), Spy()
    drawn: list[int] = []

    def counted() -> Iterator[Batch]:
        for batch in endless(model):
            drawn.append(1)
            yield batch

    reached = train(model, counted(), task_loss, Settings(RATE, steps, accumulate=accumulate), "test", spy)
    assert (reached.steps, reached.documents) == (steps, 4 * steps * accumulate)
    assert reached.seconds > 0
    assert len(drawn) == steps * accumulate
    assert len(spy.done) == spy.gradients == steps
    assert spy.done == [i / steps for i in range(steps)]


class Clock:
    """A second goes by at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_a_budget_of_seconds_ends_with_the_first_step_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock())
    model, spy = tiny.model("bert"), Spy()
    reached = train(model, endless(model), task_loss, Settings(RATE, seconds=10), "test", spy)
    assert reached.seconds >= 10 > spy.done[-1] * 10
    assert reached.steps == len(spy.done) > 1
    assert spy.done == sorted(set(spy.done))


def test_however_short_the_budget_one_step_is_made() -> None:
    model, start = tiny.model("bert"), tiny.model("bert")
    assert train(model, endless(model), task_loss, Settings(RATE, seconds=1e-9), "test").steps == 1
    assert not torch.equal(prunable_layers(model)[0].weight, prunable_layers(start)[0].weight)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_learning_rate_rises_then_falls_and_is_never_nothing(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert LEAST_RATE - 1e-12 <= rate(low) <= 1.0
    if high <= training.WARM_UP:
        assert rate(low) <= rate(high)
    if low >= training.WARM_UP:
        assert rate(low) >= rate(high)


def test_the_learning_rate_by_hand() -> None:
    found = [rate(done) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert found == pytest.approx([0.02, 0.5, 1.0, 0.51, 0.02])


def test_the_optimizer_is_given_the_rate() -> None:
    model, spy = tiny.model("bert"), Spy()
    train(model, endless(model), task_loss, Settings(RATE, 20), "test", spy)
    assert spy.rates == pytest.approx([RATE * rate(i / 20) for i in range(20)])


def test_decay_is_of_matrices_alone() -> None:
    model = tiny.model("bert")
    matrices, vectors = training.adamw(model, Settings(RATE, 1, weight_decay=0.5)).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.5, 0.0)
    assert {p.dim() for p in vectors["params"]} == {1}
    assert len(matrices["params"]) + len(vectors["params"]) == len(list(model.parameters()))


@families
def test_halves_that_are_accumulated_are_the_whole(family: str) -> None:
    def whole(model: Any) -> Iterator[Batch]:
        for batch in endless(model):
            yield Batch({k: v[1:3] for k, v in batch.inputs.items()}, batch.labels[1:3], [0, 1])  # equally long

    def halves(model: Any) -> Iterator[Batch]:
        for batch in whole(model):
            for i in (0, 1):
                rows = slice(i, i + 1)
                yield Batch({k: v[rows] for k, v in batch.inputs.items()}, batch.labels[rows], [i])

    one, other = (tiny.model(family, torch.float64, **STILL[family]) for _ in range(2))
    reached = train(one, whole(one), task_loss, Settings(RATE, 5), "test")
    again = train(other, halves(other), task_loss, Settings(RATE, 5, accumulate=2), "test")
    assert reached.documents == again.documents == 10
    start = tiny.model(family, torch.float64)
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(parameter, other.get_parameter(name), rtol=1e-8, atol=1e-9)
    assert not torch.equal(one.get_input_embeddings().weight, start.get_input_embeddings().weight)


@families
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(family: str) -> None:
    one, same, other = (trained(family, Settings(RATE, 4, seed=seed), **DROPOUT[family]) for seed in (5, 5, 6))
    assert_same(one, same)
    weights = [prunable_layers(model)[0].weight for model in (one, other)]
    assert not torch.equal(*weights)


def test_without_dropout_the_seed_says_nothing() -> None:
    assert_same(*(trained("bert", Settings(RATE, 3, seed=seed), **STILL["bert"]) for seed in (1, 2)))


def test_the_global_random_state_is_left_as_it_was() -> None:
    model = tiny.model("bert", **DROPOUT["bert"])
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(model, endless(model), task_loss, Settings(RATE, 3), "test")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError):
        train(model, endless(model), broken_after(1), Settings(RATE, 3), "test")
    assert torch.equal(torch.get_rng_state(), before)


def broken_after(steps: int, value: float | None = None) -> training.Loss:
    """A loss that is this value after so many steps, or an error."""
    calls = itertools.count()

    def loss(model: Any, batch: Batch) -> torch.Tensor:
        found = task_loss(model, batch)
        if next(calls) < steps:
            return found
        if value is None:
            raise RuntimeError("out of luck")
        return found * value

    return loss


def assert_at_rest(model: Any) -> None:
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_model_ends_at_rest_even_after_an_error() -> None:
    assert_at_rest(trained("bert", Settings(RATE, 2)))
    model = tiny.model("bert")
    with pytest.raises(RuntimeError, match="out of luck"):
        train(model, endless(model), broken_after(1), Settings(RATE, 3, accumulate=2), "test")
    assert_at_rest(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("settings", [Settings(RATE, 3), Settings(RATE, 60), Settings(RATE, 1)])
def test_a_loss_that_is_not_finite_is_refused(value: float, settings: Settings) -> None:
    model = tiny.model("bert")
    message = refusal(BadValue, lambda: train(model, endless(model), broken_after(0, value), settings, "a title"))
    assert message.startswith(f"a title: the loss is {value}")
    assert_at_rest(model)


def test_a_loss_that_is_not_finite_is_refused_at_the_end_of_a_budget_of_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock())
    model = tiny.model("bert")
    loss = broken_after(2, float("nan"))
    message = refusal(BadValue, lambda: train(model, endless(model), loss, Settings(RATE, seconds=12), "test"))
    assert "the loss is nan" in message


def test_batches_that_come_to_an_end_are_refused() -> None:
    model = tiny.model("bert")
    given_batches = iter(tiny.batches(model))
    message = refusal(BadValue, lambda: train(model, given_batches, task_loss, Settings(RATE, 9), "test"))
    assert "end" in message
    assert_at_rest(model)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0}, {"steps": -1}, {"seconds": 0}, {"seconds": -1.0}, {"seconds": float("inf")},
        {"seconds": float("nan")}, {"steps": 2, "seconds": 2.0}, {}, {"steps": 2, "learning_rate": 0.0},
        {"steps": 2, "learning_rate": -1.0}, {"steps": 2, "learning_rate": float("nan")},
        {"steps": 2, "learning_rate": float("inf")}, {"steps": 2, "accumulate": 0}, {"steps": 2, "accumulate": 1.5},
    ],
)  # fmt: skip
def test_settings_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    refusal(BadValue, lambda: Settings(**{"learning_rate": RATE, **wrong}))


def test_progress_is_the_share_of_the_budget() -> None:
    steps, seconds = Settings(RATE, 8), Settings(RATE, seconds=8.0)
    assert [progress_of(steps, Reached(n, 99.0)) for n in (0, 2, 8)] == [0.0, 0.25, 1.0]
    assert [progress_of(seconds, Reached(n, t)) for n, t in ((0, 99.0), (1, 2.0), (2, 12.0))] == [0.0, 0.25, 1.5]


def test_a_stepper_makes_a_step_at_each_call() -> None:
    model = tiny.model("bert")
    batch = tiny.batches(model)[0]
    step = training.stepper(model, batch, task_loss, Settings(RATE, 1))
    before = prunable_layers(model)[0].weight.clone()
    step()
    once = prunable_layers(model)[0].weight.clone()
    step()
    assert not torch.equal(before, once)
    assert not torch.equal(once, prunable_layers(model)[0].weight)


class Gradients(Spy):
    """Writes down the norm of all gradients as they come, and as the optimizer gets them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.came: list[float] = []
        self.used: list[float] = []

    def norm(self) -> float:
        gradients = [parameter.grad for parameter in self.model.parameters()]
        return float(torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm())

    def before_step(self) -> None:
        self.came.append(self.norm())

    def advance(self, done: float, optimizer: torch.optim.Optimizer) -> None:
        if not done:
            optimizer.register_step_pre_hook(lambda *_: self.used.append(self.norm()))


def test_long_gradients_are_cut() -> None:
    model = tiny.model("bert")
    spy = Gradients(model)
    train(model, endless(model), broken_after(0, 100.0), Settings(RATE, 3), "test", spy)
    assert min(spy.came) > 10 * training.CLIP
    assert spy.used == pytest.approx([training.CLIP] * 3, rel=1e-4)


def test_the_gradients_of_a_step_are_the_mean_of_its_batches() -> None:
    norms = []
    for accumulate in (1, 4):
        model = tiny.model("bert", **STILL["bert"])
        spy = Gradients(model)
        same = itertools.repeat(tiny.batches(model)[0])
        train(model, same, task_loss, Settings(RATE, 1, accumulate=accumulate), "test", spy)
        norms += spy.came
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
