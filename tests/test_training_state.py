"""An interrupted training goes on bit for bit, and a folder that holds anything else is refused and left alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import save_file

from sparsity import losses, recover, training, training_state
from sparsity.bypass import is_bypassed
from sparsity.errors import BadValue
from sparsity.losses import task_loss
from sparsity.models.architecture import blocks_of
from sparsity.prune import Recipe
from sparsity.recover import Recovered
from sparsity.recovery import parse
from sparsity.tasks.batching import Batch
from sparsity.training import Settings, train
from sparsity.training_state import FILE, START, Reached, forget, resume, save
from tests import tiny
from tests.models.tiny import refusal

RATE = 3e-3
STEPS = 12
DROPOUT: dict[str, dict[str, Any]] = {
    "bert": {"hidden_dropout_prob": 0.2},
    "gpt2": {"resid_pdrop": 0.2},
    "bart": {"dropout": 0.2},
}


@pytest.fixture(autouse=True)
def _saved_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)


class Interrupted(Exception):
    """The machine is gone."""


def endless(model: Any, stop_after: int | None = None) -> Iterator[Batch]:
    for index, batch in enumerate(itertools.cycle(tiny.batches(model))):
        if index == stop_after:
            raise Interrupted
        yield batch


def assert_same(one: Any, other: Any) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("stop", [1, 5, 11])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_goes_on_where_it_was_interrupted(family: str, stop: int, accumulate: int, tmp_path: Path) -> None:
    settings = Settings(RATE, STEPS, accumulate=accumulate, seed=4)
    whole, parts = (tiny.model(family, **DROPOUT[family]) for _ in range(2))
    at_once = train(whole, endless(whole), task_loss, settings, "test")
    for stop_after in (stop * accumulate, None):
        if stop_after is None:
            parts = tiny.model(family, seed=9, **DROPOUT[family])  # what it holds is of no matter
            reached = train(parts, endless(parts), task_loss, settings, "test", state=tmp_path)
        else:
            with pytest.raises(Interrupted):
                train(parts, endless(parts, stop_after), task_loss, settings, "test", state=tmp_path)
            assert (tmp_path / FILE).is_file()
    assert_same(whole, parts)
    assert (reached.steps, reached.documents) == (at_once.steps, at_once.documents)
    assert reached.seconds > 0
    assert list(tmp_path.iterdir()) == []


RECIPES = [
    Recipe("l1", 0.6),
    Recipe("l1", 0.5, "neurons+heads"),
    Recipe("l1", 0.5, "layers"),
    Recipe("wanda", 0.5, "unstructured", "row"),
]


def recovered(family: str, recipe: Recipe, word: str, state: Path | None, stop: int | None = None) -> Recovered:
    dense = tiny.model(family, **DROPOUT[family])
    settings = Settings(RATE, 1, seed=4)
    return recover.recover(
        dense, recipe, parse(word), settings, endless(dense, stop), tiny.batches(dense), title="test", state=state
    )


INTERRUPTED = [("distill", 5), ("gradual-distill", 3), ("gradual-finetune", 9)]
PAIRS = [
    pytest.param(family, recipe, *INTERRUPTED[(one + two) % len(INTERRUPTED)], id=f"{family}-{recipe}")
    for one, family in enumerate(tiny.FAMILIES)
    for two, recipe in enumerate(RECIPES)
]
"""Every family, recipe and interruption with each of the others."""


@pytest.mark.parametrize(("family", "recipe", "word", "stop"), PAIRS)
def test_a_recovery_goes_on_where_it_was_interrupted(
    family: str, recipe: Recipe, word: str, stop: int, tmp_path: Path
) -> None:
    """During the schedule of a gradual one (step 3 of 12), and after it (9 of 12)."""
    word = f"{word}:{STEPS}"
    whole = recovered(family, recipe, word, None)
    with pytest.raises(Interrupted):
        recovered(family, recipe, word, tmp_path, stop)
    parts = recovered(family, recipe, word, tmp_path)
    assert_same(whole.pruned.model, parts.pruned.model)
    assert all(torch.equal(a, b) for a, b in zip(whole.pruned.masks, parts.pruned.masks, strict=True))
    bypassed = [[is_bypassed(b.module) for b in blocks_of(each.pruned.model)] for each in (whole, parts)]
    assert bypassed[0] == bypassed[1]
    assert any(bypassed[0]) == (recipe.pattern == "layers")
    assert parts.pruned.recipe == recipe
    for name in ("counts", "groups", "notes", "removed"):
        assert getattr(whole.pruned, name) == getattr(parts.pruned, name), name
    assert list(tmp_path.iterdir()) == []


def test_a_state_is_saved_now_and_then_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 1e9)
    model = tiny.model("bert")
    with pytest.raises(Interrupted):
        train(model, endless(model, 3), task_loss, Settings(RATE, STEPS), "test", state=tmp_path)
    assert list(tmp_path.iterdir()) == []


def interrupted(folder: Path, title: str = "test", settings: Settings | None = None) -> bytes:
    model = tiny.model("bert")
    with pytest.raises(Interrupted):
        train(model, endless(model, 2), task_loss, settings or Settings(RATE, STEPS), title, state=folder)
    return (folder / FILE).read_bytes()


def refused_and_left_alone(folder: Path, go_on: Callable[[], object]) -> str:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    message = refusal(BadValue, go_on)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert str(folder / FILE) in message
    assert "remove it" in message
    return message


@pytest.mark.parametrize(
    "other",
    [{"learning_rate": 1e-3}, {"steps": 20}, {"seed": 1}, {"accumulate": 2}, {"weight_decay": 0.0}, {"title": "other"}],
)
def test_the_state_of_another_training_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    interrupted(tmp_path)
    title, settings = other.pop("title", "test"), replace(Settings(RATE, STEPS), **other)
    model = tiny.model("bert")
    before = tiny.state(model)
    go_on = lambda: train(model, endless(model), task_loss, settings, title, state=tmp_path)  # noqa: E731  # named for its use
    assert "another training" in refused_and_left_alone(tmp_path, go_on)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_the_state_of_another_model_is_refused(tmp_path: Path, family: str) -> None:
    interrupted(tmp_path)
    changes: dict[str, Any] = {"intermediate_size": 40} if family == "bert" else {}
    model = tiny.model(family, **changes)
    before = tiny.state(model)
    settings = Settings(RATE, STEPS)
    go_on = lambda: train(model, endless(model), task_loss, settings, "test", state=tmp_path)  # noqa: E731  # the same
    assert "another training" in refused_and_left_alone(tmp_path, go_on)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("recipe", "word", "seed"),
    [
        (Recipe("l1", 0.5), "finetune:12", 0),
        (Recipe("l1", 0.6), "distill:12", 0),
        (Recipe("l1", 0.6), "finetune:12", 1),
    ],
)
def test_the_state_of_another_recovery_is_refused_whatever_its_title(
    tmp_path: Path, recipe: Recipe, word: str, seed: int
) -> None:
    """Its weights are not zero where these masks are."""
    with pytest.raises(Interrupted):
        recovered("bert", Recipe("l1", 0.6), "finetune:12", tmp_path, 2)
    dense = tiny.model("bert", seed=seed, **DROPOUT["bert"])
    again = lambda: recover.recover(  # noqa: E731  # named for its use
        dense, recipe, parse(word), Settings(RATE, 1, seed=4), endless(dense), title="test", state=tmp_path
    )
    assert "another training" in refused_and_left_alone(tmp_path, again)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    whole = interrupted(tmp_path)
    (tmp_path / FILE).write_bytes(whole[: int(kept * len(whole))])
    model = tiny.model("bert")
    settings = Settings(RATE, STEPS)
    refused_and_left_alone(
        tmp_path, lambda: train(model, endless(model), task_loss, settings, "test", state=tmp_path)
    )  # fmt: skip


@pytest.mark.parametrize("told", [{}, {"reached": "[]"}, {"reached": "{"}, {"reached": '{"stepps": 2}'}])
def test_a_file_of_something_else_is_refused(tmp_path: Path, told: dict[str, str]) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / FILE, told)
    model = tiny.model("bert")
    settings = Settings(RATE, STEPS)
    refused_and_left_alone(
        tmp_path, lambda: train(model, endless(model), task_loss, settings, "test", state=tmp_path)
    )  # fmt: skip


def test_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("a letter\n" * 100)
    model = tiny.model("bert")
    settings = Settings(RATE, STEPS)
    refused_and_left_alone(
        tmp_path, lambda: train(model, endless(model), task_loss, settings, "test", state=tmp_path)
    )  # fmt: skip


def test_a_save_that_is_cut_off_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = interrupted(tmp_path)
    real = safetensors.torch.save_file

    def cut_off(tensors: Any, path: Path, metadata: Any) -> None:
        real(tensors, path, metadata)
        path.write_bytes(path.read_bytes()[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", cut_off)
    model, settings = tiny.model("bert"), Settings(RATE, STEPS)
    with pytest.raises(KeyboardInterrupt):
        train(model, endless(model), task_loss, settings, "test", state=tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    monkeypatch.setattr(safetensors.torch, "save_file", real)
    monkeypatch.setattr(training, "SAVE_EVERY", 1e9)
    train(model, endless(model), task_loss, settings, "test", state=tmp_path)
    assert list(tmp_path.iterdir()) == [], "what was cut off is removed too"


def test_where_nothing_can_be_saved_it_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    model = tiny.model("bert")
    folder = tmp_path / "taken" / "state"
    call = lambda: train(model, endless(model), task_loss, Settings(RATE, 3), "test", state=folder)  # noqa: E731  # the same
    assert str(folder) in refusal(BadValue, call)


def test_weights_that_are_lost_are_never_saved(tmp_path: Path) -> None:
    model = tiny.model("bert")
    calls = itertools.count()

    def loss(model: Any, batch: Batch) -> torch.Tensor:
        return task_loss(model, batch) * (float("nan") if next(calls) == 3 else 1.0)

    refusal(BadValue, lambda: train(model, endless(model), loss, Settings(RATE, STEPS), "test", state=tmp_path))
    saved = safetensors.torch.load_file(tmp_path / FILE)
    assert all(bool(torch.isfinite(tensor.double()).all()) for tensor in saved.values())


def states() -> tuple[Any, torch.optim.Optimizer]:
    model = tiny.model("gpt2").requires_grad_(True)
    optimizer = training.adamw(model, Settings(RATE, 1))
    losses.task_loss(model, tiny.batches(model)[0]).backward()
    optimizer.step()
    return model, optimizer


def test_everything_that_was_saved_comes_back(tmp_path: Path) -> None:
    model, optimizer = states()
    held = {"one": torch.arange(4).reshape(2, 2).t(), "none": torch.zeros(0), "mask": torch.tensor([True, False])}
    reached = Reached(7, 1.5, 28)
    torch.manual_seed(3)
    save(tmp_path / "new" / "folder", {"a": 1, "b": [1.5, None]}, model, optimizer, held, reached)
    expected = torch.rand(3)
    other = tiny.model("gpt2", seed=5).requires_grad_(True)
    again = training.adamw(other, Settings(RATE, 1))
    found, kept = resume(tmp_path / "new" / "folder", {"b": [1.5, None], "a": 1}, other, again)
    assert found == reached
    assert torch.equal(torch.rand(3), expected)
    assert kept.keys() == held.keys()
    assert all(torch.equal(kept[name], held[name]) for name in held)
    assert_same(model, other)
    for own, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert optimizer.state[own].keys() == again.state[theirs].keys()
        for key, value in optimizer.state[own].items():
            assert torch.equal(value, again.state[theirs][key]), key


def test_an_empty_folder_is_the_start(tmp_path: Path) -> None:
    model, optimizer = states()
    before = tiny.state(model)
    assert resume(tmp_path / "missing", {}, model, optimizer) == (START, {})
    assert resume(tmp_path, {}, model, optimizer) == (START, {})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_state_is_no_pickle_and_says_what_it_is(tmp_path: Path) -> None:
    model, optimizer = states()
    save(tmp_path, {"title": "a name"}, model, optimizer, {}, Reached(2, 3.0, 4))
    with safetensors.safe_open(tmp_path / FILE, "pt") as opened:
        told = opened.metadata()
    assert json.loads(told["identity"]) == {"title": "a name"}
    assert json.loads(told["reached"]) == {"steps": 2, "seconds": 3.0, "documents": 4}


def test_what_was_forgotten_is_forgotten_again(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("stays")
    (tmp_path / training_state.PART).write_text("goes")
    forget(tmp_path)
    forget(tmp_path)
    forget(tmp_path / "missing")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
