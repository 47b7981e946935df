"""The recoveries of a run: trained once, held against an equally trained control, pooled over documents."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import os
import subprocess
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import axes, test_recovery
from sparsity import losses, options, record, recover, recovery, training, training_state
from sparsity.bench import CONTROL, Bench
from sparsity.cells import Recorder
from sparsity.errors import BadValue, Refused
from sparsity.measure import latency
from sparsity.models import embedded
from sparsity.prune import Recipe
from sparsity.recoveries import Key, Outcome, Recoveries
from sparsity.tasks import metrics, quality
from sparsity.tasks.batching import Batch
from sparsity.training_state import START, Reached
from tests.fake_benchmark import FakeBenchmark
from tests.models import tiny
from tests.models.tiny import refusal

pytestmark = pytest.mark.usefixtures("threads_restored")

ROOT = Path(__file__).parents[1]
L1, RANDOM = Recipe("l1", 0.5), Recipe("random", 0.5)
PATTERNS = (
    L1,
    Recipe("l1", 0.5, "2:4"),
    Recipe("l2", 0.75, "4x1"),
    Recipe("l2", 0.5, "neurons+heads"),
    Recipe("shortgpt", 0.5, "layers"),
)
BY_PATTERN = pytest.mark.parametrize("recipe", PATTERNS, ids=lambda recipe: recipe.pattern)
BY_MODEL = pytest.mark.parametrize("name", embedded.NAMES)
parsed = recovery.parse


def new(**texts: str) -> Recoveries:
    few = {"documents": "40", "calibration": "20", "threads": "1", "training-batch": "4"}
    return Recoveries(Bench(options.parse(few | {name.replace("_", "-"): text for name, text in texts.items()})))


def key(text: str, recipe: Recipe = L1, seed: int = 0, reference: str = "gpt2", task: str = "classification") -> Key:
    return Key(reference, task, recipe, parsed(text), seed)


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@dataclass
class Training:
    """What one recovery was asked for."""

    dense: Any
    recipe: Recipe
    recovery: str
    settings: training.Settings
    first: Batch
    """Of its documents."""
    calibration: int
    teacher: Any
    title: str
    state: Path | None


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """The recoveries that were really carried out."""
    made: list[Training] = []
    carried_out = recover.recover

    def counted(
        dense: Any, recipe: Recipe, kind: Any, settings: Any, batches: Any, calibration: Any, **rest: Any
    ) -> Any:
        first = next(batches)
        made.append(Training(dense, recipe, str(kind), settings, first, len(calibration), **rest))
        return carried_out(dense, recipe, kind, settings, itertools.chain([first], batches), calibration, **rest)

    monkeypatch.setattr(recover, "recover", counted)
    return made


# -- what is trained, and how often ---------------------------------------------------------------------------


def test_a_key_is_trained_once_however_often_it_is_asked(trained: list[Training]) -> None:
    recoveries = new()
    once = recoveries.found("gpt2", "classification", L1, parsed("finetune:2"), [0, 1])
    assert [(each.recipe, each.recovery, each.settings.seed) for each in trained] == [
        (L1, "finetune:2", 0),
        (L1, "finetune:2", 1),
        (CONTROL, "finetune:2", 0),
        (CONTROL, "finetune:2", 1),
    ]
    again = recoveries.found("gpt2", "classification", L1, parsed("finetune:2"), [0, 1])
    recoveries.scores(key("finetune:2", seed=1))
    assert again == once
    assert len(trained) == 4


def test_recoveries_of_one_budget_share_their_control(trained: list[Training]) -> None:
    recoveries = new()
    for text in ("finetune:1", "distill:1", "gradual-distill:1"):
        recoveries.found("gpt2", "classification", L1, parsed(text), [0])
    recoveries.found("gpt2", "classification", Recipe("l1", 0.8), parsed("finetune:1"), [0])
    controls = [each for each in trained if each.recipe == CONTROL]
    assert [each.recovery for each in controls] == ["finetune:1"]
    assert len(trained) == 4 + 1
    recoveries.found("gpt2", "classification", L1, parsed("distill:2"), [0])
    recoveries.found("gpt2", "lm", L1, parsed("distill:2"), [0])
    assert [each.recovery for each in trained if each.recipe == CONTROL] == ["finetune:1", "finetune:2", "finetune:2"]


def test_the_control_is_the_unpruned_model_after_the_same_training(trained: list[Training]) -> None:
    recoveries = new(learning_rate="0.0005", accumulate="2")
    recoveries.found("gpt2", "classification", L1, parsed("distill:2"), [0, 1])
    own, controls = trained[:2], trained[2:]
    for pruned, control in zip(own, controls, strict=True):
        assert control.settings == pruned.settings
        assert torch.equal(control.first.inputs["input_ids"], pruned.first.inputs["input_ids"])
        assert control.dense is pruned.dense is recoveries.bench.subject("gpt2", "classification").loaded.model
    one, two = (list(texts(each.first)) for each in own)
    assert one != two
    assert [each.settings.seed for each in own] == [0, 1]
    assert {(each.settings.learning_rate, each.settings.accumulate, each.settings.steps) for each in trained} == {
        (0.0005, 2, 2)
    }
    control_scores = recoveries.scores(key("finetune:2", CONTROL, task="lm")).numerators
    assert not np.array_equal(control_scores, recoveries.bench.score("gpt2", "lm", CONTROL).numerators)


def test_the_teacher_is_the_unpruned_model_and_calibration_is_had_where_it_is_needed(trained: list[Training]) -> None:
    recoveries = new()
    for text, recipe in (("distill:1", L1), ("finetune:1", Recipe("wanda", 0.5)), ("reconstruct", L1)):
        recoveries.scores(key(text, recipe))
    assert [each.calibration > 0 for each in trained] == [False, True, True]
    assert all(each.teacher is recoveries.bench.subject("gpt2", "classification").loaded.model for each in trained)


def test_reconstruction_has_one_seed_and_dense_itself_as_control(trained: list[Training]) -> None:
    found = new().found("gpt2", "lm", L1, parsed("reconstruct"), [3, 4, 5])
    won = found.recovered
    assert won is not None
    assert (won.seeds, len(trained)) == ([3], 1)
    assert won.control == found.quality.dense_value
    assert won.deltas == [won.delta] == [found.quality.delta]
    assert won.delta_stderr == found.quality.delta_stderr
    assert (won.steps, won.seconds, won.documents) == (None, None, None)
    assert won.gained < 0  # nats, so it is better than one-shot


def test_of_masks_that_are_drawn_the_seed_is_that_of_the_training(trained: list[Training]) -> None:
    recoveries = new()
    found = recoveries.found("gpt2", "lm", RANDOM, parsed("finetune:1"), [2, 7])
    assert [(each.recipe.seed, each.settings.seed) for each in trained[:2]] == [(2, 2), (7, 7)]
    assert found.recovered is not None
    one_shot = [recoveries.bench.score("gpt2", "lm", replace(RANDOM, seed=seed)).estimate.value for seed in (2, 7)]
    assert one_shot[0] != one_shot[1]
    assert found.recovered.one_shot == pytest.approx(sum(one_shot) / 2)
    drawn = recoveries.found("gpt2", "lm", RANDOM, parsed("reconstruct"), [2, 7]).recovered
    assert drawn is not None
    assert drawn.seeds == [2, 7]  # without a training, but the masks are others


def test_one_shot_has_no_recovered_section_and_is_what_the_bench_scores(trained: list[Training]) -> None:
    recoveries = new()
    found = recoveries.found("gpt2", "lm", L1, parsed("none"), [0, 1])
    assert found.recovered is None
    assert found.quality == recoveries.bench.quality("gpt2", "lm", L1)
    assert len(trained) == 1


def test_the_trained_control_is_judged_but_recovered_nothing() -> None:
    recoveries = new()
    found = recoveries.found("gpt2", "lm", CONTROL, parsed("finetune:2"), [0, 1])
    assert found.recovered is None
    assert (found.pruned.prunable_sparsity, found.pruned.total_sparsity) == (0.0, 0.0)
    dense = recoveries.bench.score("gpt2", "lm", CONTROL).estimate.value
    assert found.quality.dense_value == dense != found.quality.value
    assert found.quality.verdict is not None


@pytest.mark.parametrize(
    ("reference", "texts", "text", "expected"),
    [
        ("gpt2", {}, "finetune:7", (1e-3, 7, None, 1)),
        ("./gpt2", {}, "distill:9s", (5e-5, None, 9, 1)),
        ("owner/gpt2", {"learning_rate": "0.02", "accumulate": "3"}, "gradual-distill:1", (0.02, 1, None, 3)),
        ("gpt2", {}, "reconstruct", (1e-3, 1, None, 1)),
    ],
)
def test_settings_come_from_the_options_and_the_budget_from_the_recovery(
    reference: str, texts: dict[str, str], text: str, expected: tuple[object, ...]
) -> None:
    found = new(**texts).settings(key(text, seed=5, reference=reference))
    assert (found.learning_rate, found.steps, found.seconds, found.accumulate) == expected
    assert found.seed == 5


@pytest.mark.parametrize("task", quality.TASKS)
def test_no_document_of_training_is_evaluated_or_calibrates(task: str) -> None:
    recoveries = new(documents="1000", training_batch="64")
    subject = recoveries.bench.subject("gpt2", task)
    shown = {row for seed in (0, 1) for batch in itertools.islice(recoveries.training_batches(subject, seed), 16)
             for row in texts(batch)}  # fmt: skip
    known = {row for batch in recoveries.bench.quality_task(subject).batches for row in texts(batch)}
    known |= {row for batch in recoveries.bench.calibration(subject) for row in texts(batch)}
    assert len(shown) > 2000
    assert all(len(row) < 10 for row in shown & known)  # some reviews are so short that chance repeats them


def texts(batch: Batch) -> Iterator[tuple[int, ...]]:
    """The tokens of each document, without padding."""
    for tokens, mask in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True):
        yield tuple(tokens[mask.bool()].tolist())


# -- what is found ------------------------------------------------------------------------------------------------


def scores(values: list[float], weights: list[float]) -> quality.Scores:
    numerators, denominators = np.asarray(values), np.asarray(weights)
    return quality.Scores("mean_nll", metrics.ratio(numerators, denominators), numerators, denominators)


WEIGHTS = [10.0, 20.0, 10.0, 40.0]
"""Tokens of four documents."""
DENSE, ONE_SHOT = [20.0, 44.0, 18.0, 78.0], [40.0, 80.0, 30.0, 170.0]
SEEDS = {0: [22.0, 48.0, 20.0, 86.0], 1: [26.0, 48.0, 24.0, 82.0], 2: [24.0, 42.0, 22.0, 92.0]}
CONTROLS = {0: [20.0, 40.0, 20.0, 80.0], 1: [20.0, 46.0, 18.0, 80.0], 2: [20.0, 40.0, 16.0, 80.0]}


def known(recoveries: Recoveries, recipe: Recipe = L1) -> None:
    """Scores as if they had been trained for."""
    counts = record.Pruned(0.5, 0.25, 100, 200)
    recoveries.bench.scores["gpt2", "lm", CONTROL] = scores(DENSE, WEIGHTS)
    recoveries.bench.scores["gpt2", "lm", recipe] = scores(ONE_SHOT, WEIGHTS)
    recoveries.bench.counts["gpt2", "lm", recipe] = counts
    for seed in SEEDS:
        reached = Reached(10 + seed, 1.5 * (seed + 1), 100 * seed)
        own, control = (key("distill:9", which, seed, task="lm") for which in (recipe, CONTROL))
        recoveries.outcomes[own] = Outcome(scores(SEEDS[seed], WEIGHTS), counts, reached)
        control = control._replace(recovery=parsed("finetune:9"))
        recoveries.outcomes[control] = Outcome(scores(CONTROLS[seed], WEIGHTS), counts, START)


def paired(own: Any, reference: Any) -> tuple[float, float]:
    """Difference and its standard error by the book: residuals of documents, over their mean weight."""
    weights = np.asarray(WEIGHTS)
    apart = np.mean(own, axis=0) - np.mean(reference, axis=0)
    value = apart.sum() / weights.sum()
    residuals = apart - value * weights
    spread = math.sqrt((residuals**2).sum() / (len(weights) - 1))
    return value, spread / (math.sqrt(len(weights)) * weights.mean())


def test_what_is_found_is_the_mean_over_seeds_paired_over_documents() -> None:
    recoveries = new()
    known(recoveries)
    found = recoveries.found("gpt2", "lm", L1, parsed("distill:9"), [0, 1, 2])
    won = found.recovered
    assert won is not None
    assert found.quality.value == pytest.approx(178.666666666667 / 80)  # the mean of 176, 180 and 180 nats
    assert won.values == pytest.approx([176 / 80, 180 / 80, 180 / 80])
    assert (won.one_shot, found.quality.dense_value) == pytest.approx((320 / 80, 160 / 80))
    assert won.control == pytest.approx(160 / 80)
    assert won.deltas == pytest.approx([16 / 80, 16 / 80, 24 / 80])
    assert won.delta == pytest.approx(sum(won.deltas) / 3)
    assert (won.delta, won.delta_stderr) == pytest.approx(paired([*SEEDS.values()], [*CONTROLS.values()]))
    assert (won.gained, won.gained_stderr) == pytest.approx(paired([*SEEDS.values()], [ONE_SHOT]))
    delta, stderr = paired([*SEEDS.values()], [DENSE])
    assert (found.quality.delta, found.quality.delta_stderr) == pytest.approx((delta, stderr))
    assert won.gained == pytest.approx(found.quality.value - won.one_shot)
    assert found.quality.documents == 4
    assert (won.seeds, won.steps, won.seconds, won.documents) == ([0, 1, 2], 11, 3.0, 100)
    assert found.pruned == record.Pruned(0.5, 0.25, 100, 200)


@pytest.mark.parametrize(
    ("more", "verdict"), [(0.0, "lost"), (-0.35, "kept"), (-0.2, "inconclusive")], ids=["lost", "kept", "inconclusive"]
)
def test_the_verdict_is_of_the_difference_from_the_control(more: float, verdict: str) -> None:
    recoveries = new()
    known(recoveries)
    for seed, values in SEEDS.items():
        own = key("distill:9", L1, seed, task="lm")
        moved = [value + more * weight for value, weight in zip(values, WEIGHTS, strict=True)]
        recoveries.outcomes[own] = recoveries.outcomes[own]._replace(scores=scores(moved, WEIGHTS))
    won = recoveries.found("gpt2", "lm", L1, parsed("distill:9"), [0, 1, 2]).recovered
    assert won is not None
    reach = 1.96 * won.delta_stderr
    worst, best = won.delta + reach, won.delta - reach
    assert verdict == ("kept" if worst <= 0.02 else "lost" if best > 0.02 else "inconclusive")
    assert won.verdict == verdict


# -- what is zero ----------------------------------------------------------------------------------------------------


@BY_PATTERN
@pytest.mark.parametrize("text", ["reconstruct", "finetune:2"])
def test_a_recovered_model_is_exactly_as_sparse_as_its_one_shot(recipe: Recipe, text: str) -> None:
    recoveries = new(learning_rate="0.01")
    one_shot = recoveries.bench.pruned(recoveries.bench.subject("gpt2", "classification"), recipe)
    found = recoveries.found("gpt2", "classification", recipe, parsed(text), [0])
    expected = one_shot.counts
    assert 0.2 < expected.prunable_sparsity < 0.9
    assert found.pruned.prunable_sparsity == expected.prunable_sparsity
    assert found.pruned.total_sparsity == expected.total_sparsity
    model = recoveries.model(key(text, recipe))
    moved = [not torch.equal(a.weight, b.weight) for a, b in zip(model.layers, one_shot.layers, strict=True)]
    assert any(moved) or recipe.pattern == "layers"  # of which least squares find nothing to mend: what stays is whole


@BY_MODEL
@pytest.mark.parametrize("text", ["reconstruct", "gradual-distill:3", "transfer:2"])
def test_every_model_keeps_its_zeros(name: str, text: str) -> None:
    recoveries = new(learning_rate="0.01")
    found = recoveries.found(name, "classification", Recipe("l1", 0.8), parsed(text), [0])
    expected = recoveries.bench.pruned(recoveries.bench.subject(name, "classification"), Recipe("l1", 0.8)).counts
    assert found.pruned.prunable_sparsity == expected.prunable_sparsity
    assert found.quality.metric == "accuracy"


def counted_after(monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor, torch.Tensor], None]) -> float:
    """What is told to be removed beyond what was asked for, in weights, after one layer's weight was changed."""
    carried_out = recover.recover

    def changed(*args: Any, **rest: Any) -> Any:
        found = carried_out(*args, **rest)
        change(found.pruned.layers[2].weight, found.pruned.masks[2])
        return found

    monkeypatch.setattr(recover, "recover", changed)
    recoveries = new()
    counts = recoveries.found("gpt2", "classification", L1, parsed("none"), [0]).pruned
    asked = recoveries.bench.counts["gpt2", "classification", CONTROL]
    return (counts.prunable_sparsity - 0.5) * asked.prunable_parameters


def test_a_zero_that_was_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(weight: torch.Tensor, mask: torch.Tensor) -> None:
        row, column = (~mask).nonzero()[0].tolist()
        weight[row, column] = 1e-30

    assert counted_after(monkeypatch, lose) == pytest.approx(-1)


def test_a_kept_weight_that_becomes_zero_is_not_taken_for_a_removed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(weight: torch.Tensor, mask: torch.Tensor) -> None:
        row, column = mask.nonzero()[0].tolist()
        weight[row, column] = 0.0

    assert counted_after(monkeypatch, vanish) == pytest.approx(0)


def test_half_precision_rounds_kept_weights_to_zero_and_is_as_sparse_as_it_was() -> None:
    recoveries = new(dtype="float16")
    recipe = Recipe("random", 0.1)
    found = recoveries.found("bert", "classification", recipe, parsed("finetune:2"), [0])
    one_shot = recoveries.bench.pruned(recoveries.bench.subject("bert", "classification"), recipe)
    assert found.pruned.prunable_sparsity == one_shot.counts.prunable_sparsity


# -- what is left alone, and what is held ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["reconstruct", "finetune:2", "distill:1", "gradual-finetune:3", "transfer:1"])
@pytest.mark.parametrize("recipe", [L1, Recipe("ziplm", 0.5, "neurons"), PATTERNS[-1]], ids=lambda r: r.pattern)
def test_the_dense_model_and_the_workspace_are_bit_for_bit_what_they_were(text: str, recipe: Recipe) -> None:
    recoveries = new()
    bench = recoveries.bench
    subject, pretrained = bench.subject("gpt2", "classification"), bench.subject("gpt2", "lm")
    current = bench.pruned(subject, Recipe("l1", 0.7))
    models = [subject.loaded.model, subject.workspace, pretrained.loaded.model, pretrained.workspace]
    before = [state(model) for model in models]
    recoveries.scores(key(text, recipe))
    assert [same(was, state(model)) for was, model in zip(before, models, strict=True)] == [True] * 4
    assert not any(p.requires_grad or p.grad is not None for model in models for p in model.parameters())
    assert not any(module.training for model in models for module in model.modules())
    assert not any(hooks(model) for model in models)
    assert subject.current is current
    own = {tensor.data_ptr() for tensor in recoveries.model(key(text, recipe)).model.state_dict().values()}
    assert not own & {tensor.data_ptr() for model in models for tensor in model.state_dict().values()}


def hooks(model: Any) -> list[str]:
    """Where something else happens at each forward pass."""
    return [name for name, module in model.named_modules() if module._forward_hooks]


def test_after_distillation_a_forward_pass_of_the_dense_model_costs_what_it_did() -> None:
    recoveries = new()
    recovered = recoveries.model(key("distill:1"))
    assert hooks(recovered.model) == []
    assert hooks(recoveries.bench.subject("gpt2", "classification").loaded.model) == []


def test_one_recovered_model_is_held_at_a_time_also_while_another_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []
    carried_out = recover.recover

    def watched(*args: Any, **rest: Any) -> Any:
        gc.collect()
        alive.append(sum(each() is not None for each in held))
        found = carried_out(*args, **rest)
        held.append(weakref.ref(found.pruned.model))
        return found

    monkeypatch.setattr(recover, "recover", watched)
    recoveries = new()
    recoveries.found("gpt2", "classification", L1, parsed("finetune:1"), [0, 1])
    recoveries.model(key("distill:1"))
    gc.collect()
    assert alive == [0] * 5
    assert [each() is not None for each in held] == [False] * 4 + [True]


def test_the_model_of_a_key_is_the_last_one_made_or_made_again_to_the_last_bit(trained: list[Training]) -> None:
    recoveries = new()
    first = recoveries.model(key("finetune:2"))
    assert recoveries.model(key("finetune:2")) is first
    expected = state(first.model)
    recoveries.scores(key("finetune:2", seed=1))
    again = recoveries.model(key("finetune:2"))
    assert again is not first
    assert same(state(again.model), expected)
    assert len(trained) == 3
    seen = recoveries.bench.quality_task(recoveries.bench.subject("gpt2", "classification")).evaluate(again.model)
    assert np.array_equal(seen.numerators, recoveries.scores(key("finetune:2")).numerators)


# -- the pretrained model, pruned and given a classifier -------------------------------------------------------------


@BY_MODEL
def test_a_transfer_starts_from_the_body_of_the_language_model(name: str, trained: list[Training]) -> None:
    recoveries = new()
    found = recoveries.found(name, "classification", L1, parsed("transfer:2"), [0, 1])
    body = recoveries.bench.subject(name, "lm").loaded.model.base_model.state_dict()
    assert [(each.recipe, each.recovery) for each in trained] == [(L1, "transfer:2")] * 2 + [
        (CONTROL, "transfer:2")
    ] * 2
    for each in trained:
        own = each.dense.base_model.state_dict()
        assert all(torch.equal(own[part], tensor) for part, tensor in body.items())
        assert each.teacher is None
        assert torch.equal(each.first.inputs["input_ids"], trained[each.settings.seed].first.inputs["input_ids"])
    heads = [head(each.dense) for each in trained]
    assert torch.equal(heads[0], heads[2])
    assert torch.equal(heads[1], heads[3])
    assert not torch.equal(heads[0], heads[1])
    assert found.recovered is not None
    assert 0 < found.recovered.control < found.recovered.one_shot  # that of the fine-tuned classifier, which has learnt


def head(model: Any) -> torch.Tensor:
    """The matrix that ends in the two classes."""
    found: torch.Tensor = next(p for p in reversed(list(model.parameters())) if p.dim() == 2 and p.shape[0] == 2)
    return found


def test_a_transfer_is_refused_in_one_line_where_it_makes_no_sense() -> None:
    recoveries = new()
    message = refusal(Refused, lambda: recoveries.scores(key("transfer:3", task="lm")))
    assert message == "recovery transfer:3 ends in a classifier; of task lm there is finetune"
    folder = str(embedded.FOLDER / "bert" / "classification")
    message = refusal(Refused, lambda: recoveries.scores(key("transfer:3", reference=folder)))
    assert message.startswith(f"{folder} has no language-modelling head (")


@pytest.mark.parametrize("name", ["bert", "gpt2", "bart"])
def test_a_transfer_needs_no_classifier_in_the_checkpoint(name: str) -> None:
    recoveries, folder = new(), str(embedded.FOLDER / name / "lm")
    found = recoveries.found(folder, "classification", L1, parsed("transfer:2"), [0, 1])
    assert found.recovered is not None
    assert found.recovered.seeds == [0, 1]
    assert found.pruned.prunable_sparsity == found.asked == 0.5
    assert found.quality.verdict == "inconclusive", "a head that has learnt nothing only guesses"
    assert "no classification head" in refusal(
        Refused, lambda: recoveries.found(folder, "classification", L1, parsed("finetune:2"), [0])
    )


# -- what holding the masks costs ---------------------------------------------------------------------------------


def test_untimed_holding_costs_nothing_that_could_be_told() -> None:
    benchmark: Any = FakeBenchmark(enabled=False)
    assert new().cost_of_holding(benchmark, "gpt2", 0.2) is None


def test_a_step_that_holds_masks_is_timed_beside_one_that_does_not() -> None:
    benchmark: Any = FakeBenchmark()
    found = new().cost_of_holding(benchmark, "gpt2", 0.5)
    assert found is not None
    assert 0 < found.low <= found.ratio <= found.high
    assert found.held_seconds > 0
    assert found.free_seconds > 0
    assert 0.05 < found.ratio < 20  # no multiple of the other by construction


def test_the_cost_is_of_the_step_that_holds_over_the_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[Any, Any]] = []
    stepper = training.stepper

    def watched(model: Any, batch: Any, loss: Any, settings: Any, hold: Any) -> Any:
        steps.append((model, hold))
        return stepper(model, batch, loss, settings, hold)

    def played(benchmark: Any, own: Any, reference: Any, budget: float) -> Any:
        before = [state(model) for model, _ in steps]
        own()
        reference()
        for was, (model, _) in zip(before, steps, strict=True):
            assert all(torch.allclose(was[name], now, rtol=0, atol=1e-11) for name, now in state(model).items())
        ratio = types.SimpleNamespace(value=2.0, low=1.5, high=3.0)
        return types.SimpleNamespace(own=[2.0, 3.0, 4.0], reference=[1.0, 1.0, 2.0], ratio=ratio)

    monkeypatch.setattr(training, "stepper", watched)
    monkeypatch.setattr(latency, "paired", played)
    recoveries = new()
    dense = recoveries.bench.subject("gpt2", "lm").loaded.model
    before, fake = state(dense), FakeBenchmark()
    benchmark: Any = fake
    assert recoveries.cost_of_holding(benchmark, "gpt2", 0.5) == record.Training(3.0, 1.0, 2.0, 1.5, 3.0)
    (held, hold), (free, no_hold) = steps
    assert (hold is not None, no_hold) == (True, None)
    assert dense not in (held, free)
    assert same(state(dense), before)
    zeros = [(layer.weight == 0).double().mean().item() for layer in hold.pruned.layers]
    assert zeros == pytest.approx([0.8] * len(zeros), abs=1e-3)
    assert all(torch.allclose(before[name], tensor, rtol=0, atol=1e-11) for name, tensor in state(free).items())


def test_random_weights_have_no_documents_to_train_on(tmp_path: Path) -> None:
    benchmark: Any = FakeBenchmark(enabled=False)
    with pytest.raises(Refused, match="has random weights, so there is no quality to measure"):
        new().cost_of_holding(benchmark, f"random:{tiny.save(tmp_path, 'gpt2', 'lm')}", 0.2)


# -- an interrupted recovery goes on -----------------------------------------------------------------------------------


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folder of each save; a state is saved after every step."""
    folders: list[Path] = []
    save = training_state.save

    def watched(folder: Path, *rest: Any) -> None:
        folders.append(folder)
        save(folder, *rest)

    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(training_state, "save", watched)
    return folders


def interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """From now on the loss is asked for so often before the run is stopped; the steps made are counted."""
    asked: list[int] = []
    loss = losses.task_loss

    def stopped(model: Any, batch: Any) -> torch.Tensor:
        if len(asked) == after:
            raise KeyboardInterrupt
        asked.append(len(batch.documents))
        return loss(model, batch)

    monkeypatch.setattr(losses, "task_loss", stopped)
    return asked


@pytest.mark.parametrize("text", ["finetune:5", "gradual-finetune:5", "transfer:5"])
def test_an_interrupted_recovery_goes_on_and_arrives_at_the_same(
    tmp_path: Path, saved: list[Path], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    expected = state(new().model(key(text)).model)
    assert saved == []
    with monkeypatch.context() as patch:
        assert interrupted(patch, after=3) == []
        with pytest.raises(KeyboardInterrupt):
            new(training_state=str(tmp_path)).scores(key(text))
    (folder,) = set(saved)
    assert (folder.parent, [file.name for file in folder.iterdir()]) == (tmp_path, [training_state.FILE])
    asked = interrupted(monkeypatch, after=99)
    recoveries = new(training_state=str(tmp_path))
    found = recoveries.model(key(text))
    assert len(asked) == 2
    assert same(state(found.model), expected)
    assert recoveries.outcomes[key(text)].reached.steps == 5
    assert list(folder.iterdir()) == []


def test_what_would_train_otherwise_has_another_folder(tmp_path: Path, trained: list[Training]) -> None:
    def folders(*asked: Key, **texts: str) -> list[Path | None]:
        recoveries, before = new(training_state=str(tmp_path), **texts), len(trained)
        for each in asked:
            recoveries.scores(each)
        return [each.state for each in trained[before:]]

    usual = key("finetune:1")
    others = (key("finetune:2"), key("finetune:1", seed=1), key("finetune:1", CONTROL), key("distill:1"),
              key("finetune:1", Recipe("l1", 0.6)), key("finetune:1", replace(L1, multiple=8)),
              key("finetune:1", task="lm"))  # fmt: skip
    found = [*folders(usual, *others), *folders(usual, training_batch="5"), *folders(usual, calibration="22")]
    found += folders(usual, dtype="float64")
    assert len(set(found)) == len(found) == len(others) + 4
    assert all(folder is not None and folder.parent == tmp_path for folder in found)
    assert folders(usual) == found[:1]
    new().scores(usual)
    assert trained[-1].state is None


def test_a_reference_that_is_a_path_leads_out_of_no_folder(tmp_path: Path, saved: list[Path]) -> None:
    reference = str(embedded.FOLDER / "gpt2" / ".." / "gpt2" / "classification")
    own = tmp_path / "own"
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, after=1)
        with pytest.raises(KeyboardInterrupt):
            new(training_state=str(own)).scores(key("finetune:2", reference=reference))
    (folder,) = saved
    assert folder.resolve().parent == own.resolve()
    assert [file.relative_to(tmp_path).parts[0] for file in tmp_path.rglob("*")] == ["own"] * 3


def test_a_state_of_another_learning_rate_is_refused(
    tmp_path: Path, saved: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupted(patch, after=1)
        with pytest.raises(KeyboardInterrupt):
            new(training_state=str(tmp_path)).scores(key("finetune:2"))
    other = new(training_state=str(tmp_path), learning_rate="0.5")
    assert "the state of another training" in refusal(BadValue, lambda: other.scores(key("finetune:2")))
    assert len(saved) == 1


# -- the benchmark -------------------------------------------------------------------------------------------------

GRID = axes.Grid(("gpt2",), sparsities=(0.8,), seeds=(0, 1, 2), tasks=("classification",), recoveries=("finetune:1",))


class Untimed:
    """A benchmark fixture that merely calls."""

    def pedantic(self, function: Callable[..., object], args: tuple[object, ...] = (), rounds: int = 1) -> object:
        assert rounds == 1
        return function(*args)


def recovered(
    recoveries: Recoveries, text: str, recipe: Recipe = L1, task: str = "classification", grids: axes.Grids = (GRID,)
) -> Recorder:
    """What a cell of the benchmark leaves; raises what fails it."""
    benchmark: Any = Untimed()
    recorder = Recorder(record.Cell("gpt2", task=task, recovery=text), benchmark)
    try:
        test_recovery.test_recovered(benchmark, recorder, recoveries, grids, "gpt2", task, recipe, text)
    finally:
        assert recorder.quality is not None, "a cell that failed keeps what it measured"
    return recorder


def test_the_benchmark_records_what_was_found_over_the_seeds_of_its_grids() -> None:
    recoveries = new()
    grids = (replace(GRID, seeds=(4,)), replace(GRID, seeds=(0, 4)))
    left = recovered(recoveries, "finetune:1", grids=grids)
    assert left.recovered is not None
    assert left.recovered.seeds == [0, 4]
    found = recoveries.found("gpt2", "classification", L1, parsed("finetune:1"), [0, 4])
    assert (left.quality, left.recovered, left.pruned) == found[:3]
    control = recovered(recoveries, "finetune:1", CONTROL, grids=grids)
    assert (control.recovered, control.pruned.prunable_sparsity if control.pruned else None) == (None, 0.0)


def spoiled(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], None]) -> None:
    """From now on every recovery of a pruned model ends in this."""
    carried_out = recover.recover

    def changed(dense: Any, recipe: Recipe, *args: Any, **rest: Any) -> Any:
        found = carried_out(dense, recipe, *args, **rest)
        if recipe != CONTROL:
            spoil(found.pruned)
        return found

    monkeypatch.setattr(recover, "recover", changed)


@pytest.mark.parametrize("task", quality.TASKS)
def test_a_recovery_that_makes_a_model_worse_fails_the_benchmark(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    spoiled(monkeypatch, lambda pruned: pruned.model.base_model.ln_f.weight.zero_())
    with pytest.raises(AssertionError, match=r"got worse than one-shot by \d\.\d+, at most 0\.\d+ \[gpt2 · finetune:1"):
        recovered(new(), "finetune:1", task=task)


def test_a_recovery_that_loses_a_single_zero_fails_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(pruned: Any) -> None:
        row, column = (~pruned.masks[-1]).nonzero()[-1].tolist()
        pruned.layers[-1].weight[row, column] = 1e-9

    spoiled(monkeypatch, lose)
    with pytest.raises(AssertionError, match=r"got sparsity 0\.49999\d* after recovery, should be 0\.5 \[gpt2"):
        recovered(new(), "reconstruct")


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (replace(GRID, seeds=(0, 1)), "3 training seeds"),
        (replace(GRID, sparsities=(0.7, 0.9)), "needs a recovery of l1 at 0.8"),
        (replace(GRID, methods=("random",)), "needs a recovery of l1 at 0.8"),
        (replace(GRID, tasks=("lm",)), "needs a recovery of l1 at 0.8"),
        (replace(GRID, models=("bert",)), "needs a recovery of l1 at 0.8"),
        (replace(GRID, recoveries=("none",)), "needs a recovery of l1 at 0.8"),
    ],
)
def test_the_claim_is_skipped_with_its_reason_where_too_little_was_asked_for(grid: axes.Grid, reason: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=reason):
        test_recovery.test_within_a_point(new(), (grid,), "gpt2")


def of_classes(wrong: int) -> quality.Scores:
    """Of a classifier that is wrong on the first of 1000 documents."""
    right = np.ones(1000)
    right[:wrong] = 0
    return quality.Scores("accuracy", metrics.ratio(right, np.ones(1000)), right, np.ones(1000))


@pytest.mark.parametrize(("wrong", "lost"), [((0, 900), None), ((20, 900), "0.0287 by finetune:1"), ((20, 3), None)])
def test_the_claim_is_of_the_best_recovery_against_its_control(wrong: tuple[int, int], lost: str | None) -> None:
    recoveries = new()
    bench, recipe, texts_ = recoveries.bench, Recipe("l1", 0.8), ("finetune:1", "distill:1")
    bench.scores["gpt2", "classification", CONTROL] = of_classes(0)
    bench.scores["gpt2", "classification", recipe] = of_classes(500)
    counts = record.Pruned(0.8, 0.4, 100, 200)
    bench.counts["gpt2", "classification", recipe] = counts
    for seed in GRID.seeds:
        recoveries.outcomes[key("finetune:1", CONTROL, seed)] = Outcome(of_classes(0), counts, Reached(1, 1.0, 4))
        for text, count in zip(texts_, wrong, strict=True):
            recoveries.outcomes[key(text, recipe, seed)] = Outcome(of_classes(count), counts, Reached(1, 1.0, 4))
    grids = (replace(GRID, recoveries=texts_[:1]), replace(GRID, recoveries=texts_[1:], sparsities=(0.5, 0.8)))
    if lost is None:
        test_recovery.test_within_a_point(recoveries, grids, "gpt2")
        return
    with pytest.raises(AssertionError, match=rf"got a loss of up to {lost}, should be at most 0\.01 \[gpt2\]"):
        test_recovery.test_within_a_point(recoveries, grids, "gpt2")


@pytest.mark.parametrize(
    ("found", "fails"),
    [
        (None, False),
        (record.Training(1.1, 1.0, 1.1, 1.04, 1.2), False),
        (record.Training(1.1, 1.0, 1.1, 1.06, 1.2), True),
    ],
)
def test_holding_masks_must_be_certain_to_cost_more_than_was_claimed(
    found: record.Training | None, fails: bool
) -> None:
    benchmark: Any = Untimed()
    recoveries: Any = types.SimpleNamespace(cost_of_holding=lambda *args: found)
    recorder = Recorder(record.Cell("gpt2"), benchmark)
    with pytest.raises(AssertionError, match=r"got steps that are 6\.0% slower") if fails else contextlib.nullcontext():
        test_recovery.test_masks_cost_little(benchmark, recorder, recoveries, "gpt2", 0.1)
    assert recorder.training is found


DUMP = """
import json
from pathlib import Path
from sparsity.cells import STATE
from sparsity.record import to_json

def pytest_sessionfinish(session):
    state = session.config.stash[STATE]
    records = [to_json(each) for each in state.records]
    told = [[each.outcome, each.reason] for each in state.not_measured]
    Path({file!r}).write_text(json.dumps([records, told]))
"""
"""A plugin that keeps the records also of a run that times nothing, of which there is no result file."""


@pytest.mark.slow
def test_the_benchmark_runs_and_leaves_records_of_every_cell(tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    (tmp_path / "dump.py").write_text(DUMP.format(file=str(file)))
    command = [sys.executable, "-m", "pytest", "-p", "dump", "-p", "no:cacheprovider", "benchmarks/test_recovery.py"]
    command += ["--models=gpt2", "--methods=l1,random", "--sparsities=0.5", "--recoveries=reconstruct,finetune:2"]
    command += ["--documents=20", "--calibration=20", "--seeds=0,1", "--threads=1", "--benchmark-disable", "-q"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    entries, told = json.loads(file.read_text())
    assert told == [["skipped", "needs a recovery of l1 at 0.8, with 3 training seeds"]]
    records = [record.from_json(entry) for entry in entries]
    pruned = {(each.cell.method, each.cell.recovery): each for each in records if each.recovered}
    assert set(pruned) == set(itertools.product(("l1", "random"), ("reconstruct", "finetune:2")))
    for (method, text), each in pruned.items():
        assert each.recovered is not None
        assert each.pruned is not None
        assert each.quality is not None
        trains = text == "finetune:2"
        assert each.recovered.seeds == ([0, 1] if trains or method == "random" else [0])
        assert (each.recovered.steps, each.recovered.documents) == ((2, 64) if trains else (None, None))
        assert each.pruned.prunable_sparsity == 0.5
        assert (each.quality.metric, each.quality.documents, each.outcome) == ("accuracy", 20, "passed")
        assert (each.latency, each.memory, each.training) == (None, None, None)
    (control,) = (each for each in records if each.cell.method == "none")
    assert (control.cell.recovery, control.recovered) == ("finetune:2", None)
    assert control.quality is not None
