"""What a run keeps between its tests: loaded once, pruned from an untouched dense copy, scored once."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsity import auto, execution, gather, prune, record, workload
from sparsity import bench as benches
from sparsity.bench import CONTROL, Bench, Subject, is_control
from sparsity.errors import BadValue, Refused
from sparsity.measure import latency, machine, memory, ratio
from sparsity.models import embedded, hub
from sparsity.options import Options
from sparsity.prune import Recipe
from sparsity.tasks import metrics, quality
from tests.fake_benchmark import FakeBenchmark
from tests.models import tiny

pytestmark = pytest.mark.usefixtures("threads_restored")

L1, RANDOM = Recipe("l1", 0.5), Recipe("random", 0.5, seed=1)
IMPOSSIBLE = Recipe("l1", 0.9999999)
"""Leaves whole layers without a weight."""
CALIBRATED = (
    Recipe("wanda", 0.5, scope="row"),
    Recipe("sparsegpt", 0.5, "2:4"),
    Recipe("taylor", 0.5),
    Recipe("ziplm", 0.5, "neurons+heads"),
    Recipe("shortgpt", 0.5, "layers"),
    Recipe("l1", 0.5, scope="owl"),
)
"""What looks at inputs, gradients or blocks; the last for its scope alone."""
BY_RECIPE = pytest.mark.parametrize("recipe", CALIBRATED, ids=lambda r: f"{r.method} {r.pattern} {r.scope}")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(reference, task) of each model that is really loaded."""
    made: list[tuple[str, str]] = []
    load = hub.load

    def counted(reference: str, task: str, *rest: Any, **named: Any) -> hub.Loaded:
        made.append((reference, task))
        return load(reference, task, *rest, **named)

    monkeypatch.setattr(hub, "load", counted)
    return made


@dataclass
class FakeTask:
    """Scores a model by its first prunable weights, and counts how often it is asked."""

    name: str
    evaluated: list[float] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def evaluate(self, model: Any) -> quality.Scores:
        weight = model.transformer.h[0].mlp.c_fc.weight
        self.evaluated.append(float((weight == 0).double().mean()))
        values = np.asarray([1.0, 2.0]) + self.evaluated[-1]
        return quality.Scores("mean_nll", metrics.Estimate(float(values.mean()), 0.1), values, np.ones(2))

    def floor(self, scores: quality.Scores) -> None:
        return None


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[FakeTask]:
    """The tasks that were built."""
    built: list[FakeTask] = []

    def build(
        name: str, model: Any, tokenizer: Any, objective: str, documents: int, seed: int, window: None
    ) -> FakeTask:
        assert (objective, documents, seed, window) == ("causal", 20, embedded.EVALUATION_SEED, None)
        built.append(FakeTask(name))
        return built[-1]

    monkeypatch.setattr(quality, "build", build)
    return built


def new(**settings: Any) -> Bench:
    return Bench(Options(**{"threads": 1, "documents": 20, "calibration": 20} | settings))


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_is_loaded_once_however_many_cells_ask(loads: list[tuple[str, str]], tasks: list[FakeTask]) -> None:
    bench = new()
    subject = bench.subject("gpt2", "lm")
    for recipe in (L1, RANDOM, L1):
        bench.pruned(bench.subject("gpt2", "lm"), recipe)
        bench.quality("gpt2", "lm", recipe)
    bench.dense_bytes("gpt2", "1x4")
    assert bench.subject("gpt2", "lm") is subject
    assert loads == [("gpt2", "lm")]
    assert len(tasks) == 1


def test_each_task_has_its_own_head_and_another_model_takes_the_place(loads: list[tuple[str, str]]) -> None:
    bench = new()
    bench.subject("gpt2", "lm")
    bench.subject("gpt2", "classification")
    assert set(bench.subjects) == {("gpt2", "lm"), ("gpt2", "classification")}
    bench.subject("bert", "lm")
    assert set(bench.subjects) == {("bert", "lm")}
    assert loads == [("gpt2", "lm"), ("gpt2", "classification"), ("bert", "lm")]
    assert set(bench.models) == {"gpt2", "bert"}
    assert (bench.models["gpt2"].class_name, bench.models["gpt2"].source) == ("GPT2LMHeadModel", "embedded")
    assert bench.models["gpt2"].classifier == "GPT2ForSequenceClassification"
    assert bench.models["gpt2"].demonstration


def test_a_score_is_computed_once_and_outlives_its_model(loads: list[tuple[str, str]], tasks: list[FakeTask]) -> None:
    bench = new()
    first = bench.score("gpt2", "lm", L1)
    assert bench.score("gpt2", "lm", L1) is first
    assert bench.score("gpt2", "lm", RANDOM) is not first
    bench.subject("bert", "lm")
    assert bench.score("gpt2", "lm", L1) is first
    assert [len(task.evaluated) for task in tasks] == [2]
    assert loads == [("gpt2", "lm"), ("bert", "lm")]


def test_quality_compares_the_pruned_model_with_dense(tasks: list[FakeTask]) -> None:
    found = new().quality("gpt2", "lm", L1)
    assert tasks[0].evaluated == [0.5, 0.0]  # the layer is half pruned, then whole
    assert (found.value, found.dense_value, found.delta) == (2.0, 1.5, 0.5)


def test_quality_of_the_control_is_dense_itself(tasks: list[FakeTask]) -> None:
    found = new().quality("gpt2", "lm", CONTROL)
    assert tasks[0].evaluated == [0.0]
    assert (found.value, found.dense_value, found.delta, found.delta_stderr) == (1.5, 1.5, 0.0, 0.0)


def test_a_curve_begins_with_dense_ascends_and_has_no_point_for_what_is_refused(tasks: list[FakeTask]) -> None:
    recipes = [IMPOSSIBLE, Recipe("l1", 0.75), Recipe("l1", 0.25)]
    curve = new().curve("gpt2", "lm", recipes)
    assert [point.sparsity for point in curve] == [0.0, 0.25, 0.75]
    assert tasks[0].evaluated == [0.0, 0.25, 0.75]


def test_dense_is_bit_for_bit_what_was_loaded_after_any_pruning() -> None:
    bench = new()
    subject = bench.subject("gpt2", "lm")
    before = state(subject.loaded.model)
    for recipe in (L1, RANDOM, Recipe("l1", 0.9, scope="global"), *CALIBRATED):
        pruned = bench.pruned(subject, recipe)
        assert not same(before, state(pruned.model))
    with pytest.raises(Refused):
        bench.pruned(subject, IMPOSSIBLE)
    assert same(before, state(subject.loaded.model))
    restored = bench.pruned(subject, CONTROL)
    assert same(before, state(restored.model))
    assert restored.removed == 0


def test_a_recipe_is_carried_out_once_in_a_row_and_always_from_dense() -> None:
    bench = new()
    subject = bench.subject("gpt2", "lm")
    first = bench.pruned(subject, L1)
    alone = state(first.model)
    assert bench.pruned(subject, L1) is first
    bench.pruned(subject, Recipe("l1", 0.9))
    again = bench.pruned(subject, L1)
    assert again is not first
    assert same(alone, state(again.model))
    assert again.removed == first.removed


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(IMPOSSIBLE, id="empty layers"),
        pytest.param(Recipe("none", 0.5), id="sparsity of the control"),
        pytest.param(Recipe("none", 0.0, scope="global"), id="scope of the control"),
    ],
)
def test_a_refused_recipe_leaves_the_bench_usable(refused: Recipe) -> None:
    bench = new()
    subject = bench.subject("gpt2", "lm")
    expected = state(bench.pruned(subject, L1).model)
    with pytest.raises(Refused):
        bench.pruned(subject, refused)
    assert subject.current is None  # the workspace may hold half of it
    assert same(expected, state(bench.pruned(subject, L1).model))


# -- calibration ----------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int, int]]:
    """(task, documents, seed, batch size) of each set of documents that is really encoded."""
    made: list[tuple[str, int, int, int]] = []
    build = quality.build

    def counted(name: str, model: Any, tokenizer: Any, objective: str, *rest: Any) -> quality.Task:
        count, seed, batch_size = rest
        made.append((name, count, seed, batch_size))
        return build(name, model, tokenizer, objective, *rest)

    monkeypatch.setattr(quality, "build", counted)
    return made


def documents(subject: Subject) -> list[list[int]]:
    """The tokens of each calibration document, without padding."""
    assert subject.calibration is not None
    rows: list[list[int]] = []
    for batch in subject.calibration:
        for tokens, mask in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True):
            rows.append(tokens[mask.bool()].tolist())
    return rows


def test_calibration_is_made_once_a_subject_and_only_for_what_needs_it(built: list[tuple[str, int, int, int]]) -> None:
    bench = new(calibration=24)
    subject = bench.subject("gpt2", "lm")
    for recipe in (CONTROL, L1, RANDOM, Recipe("l2", 0.5, "neurons")):
        bench.pruned(subject, recipe)
    assert built == []
    for recipe in CALIBRATED:
        bench.pruned(subject, recipe)
    batches = bench.calibration(subject)
    assert bench.calibration(subject) is batches
    assert built == [("lm", 24, embedded.CALIBRATION_SEED, benches.CALIBRATION_BATCH)]
    assert [len(batch.documents) for batch in batches] == [8, 8, 8]
    assert sorted(d for batch in batches for d in batch.documents) == list(range(24))


def test_each_subject_is_calibrated_on_its_own_task(built: list[tuple[str, int, int, int]]) -> None:
    bench = new()
    language, classes = (bench.calibration(bench.subject("gpt2", task)) for task in ("lm", "classification"))
    assert [name for name, *_ in built] == ["lm", "classification"]
    assert language[0].labels.shape == language[0].inputs["input_ids"].shape
    assert classes[0].labels.shape == (8, 1)
    assert set(torch.cat([batch.labels for batch in classes]).flatten().tolist()) == {0, 1}


def test_no_document_of_calibration_is_evaluated() -> None:
    bench = Bench(Options(threads=1))  # as many as there are when nothing is said
    subject = bench.subject("gpt2", "lm")
    bench.calibration(subject)
    shown = {tuple(row) for row in documents(subject)}
    evaluated = {
        tuple(tokens[mask.bool()].tolist())
        for batch in bench.quality_task(subject).batches
        for tokens, mask in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)
    }
    assert (len(shown), len(evaluated)) == (128, 1000)
    assert not shown & evaluated


def test_random_weights_are_calibrated_on_random_tokens_without_a_tokenizer(
    tmp_path: Path, built: list[tuple[str, int, int, int]]
) -> None:
    bench = new(calibration=20)
    subject = bench.subject(f"random:{tiny.save(tmp_path, 'gpt2', 'lm')}", "lm")
    assert subject.loaded.source == "random"
    batches = bench.calibration(subject)
    assert bench.calibration(subject) is batches
    assert built == []
    assert [len(batch.documents) for batch in batches] == [8, 8, 4]
    assert {len(row) for row in documents(subject)} == {16}  # all that the model has; else CALIBRATION_LENGTH
    expected = workload.random_batches(subject.loaded.model, 20, benches.CALIBRATION_LENGTH, benches.CALIBRATION_BATCH)
    for found, wanted in zip(batches, expected, strict=True):
        assert torch.equal(found.inputs["input_ids"], wanted.inputs["input_ids"])
    assert bench.pruned(subject, Recipe("sparsegpt", 0.5)).counts.prunable_sparsity == 0.5


@BY_RECIPE
def test_what_needs_batches_is_pruned_with_those_of_the_subject(recipe: Recipe) -> None:
    bench = new()
    subject = bench.subject("gpt2", "lm")
    found = state(bench.prune(subject, recipe).model)
    dense = subject.loaded.model
    alone = prune.prune(prune.workspace(dense), recipe, dense, bench.calibration(subject)).model
    assert same(found, state(alone))
    assert not same(found, state(dense))


def test_calibration_of_a_large_model_shows_its_progress() -> None:
    shown: list[str] = []

    @contextlib.contextmanager
    def showing() -> Iterator[None]:
        shown.append("shown")
        yield

    bench = Bench(Options(threads=1, documents=20, calibration=20), showing=showing)
    for reference, expected in (("gpt2", []), (str(embedded.FOLDER / "gpt2" / "lm"), ["shown"])):
        subject = bench.subject(reference, "lm")
        shown.clear()
        bench.prune(subject, L1)
        assert shown == []
        bench.prune(subject, CALIBRATED[0])
        assert shown == expected


def test_a_pass_over_the_calibration_documents_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[int] = []
    passes = gather.passes

    def counted(model: Any, batches: Any) -> None:
        passed.append(len(batches))
        passes(model, batches)

    monkeypatch.setattr(gather, "passes", counted)
    bench = new()
    subject = bench.subject("gpt2", "lm")
    before = state(subject.loaded.model)
    seconds = bench.calibration_seconds(subject)
    assert seconds > 0
    assert bench.calibration_seconds(subject) == seconds
    assert passed == [1, 3]  # warm, then all
    assert same(before, state(subject.loaded.model))


def test_a_recipe_has_the_runs_own_settings_and_the_patterns_own_scope() -> None:
    assert new().recipe("l1", 0.25, "unstructured", "global", 0) == Recipe("l1", 0.25, "unstructured", "global", 0, 1)
    found = new(multiple=8).recipe("random", 0.5, "neurons", "", 3)
    assert found == Recipe("random", 0.5, "neurons", "layer", 3, 8)


def test_neurons_that_stay_are_a_multiple_of_what_was_asked_for() -> None:
    bench = new(multiple=32)
    subject = bench.subject("gpt2", "lm")
    pruned = bench.pruned(subject, bench.recipe("l1", 0.3, "neurons", "", 0))
    stay = [int(mask.any(0).sum()) for layer, mask in zip(pruned.layers, pruned.masks, strict=True) if is_reader(layer)]
    neurons = subject.loaded.model.config.n_inner or 4 * subject.loaded.model.config.n_embd
    assert stay
    assert [n % 32 for n in stay] == [0] * len(stay)
    assert all(0.7 * neurons <= n < 0.7 * neurons + 32 for n in stay)


def is_reader(layer: Any) -> bool:
    """Whether the layer of GPT-2 reads the neurons."""
    return str(layer.name).endswith("mlp.c_proj")


# -- cost -----------------------------------------------------------------------------------------------


def test_bytes_of_dense_are_measured_once_for_each_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    peak_memory = memory.peak_memory

    def counted(function: Any, device: str) -> Any:
        measured.append(device)
        return peak_memory(function, device)

    monkeypatch.setattr(memory, "peak_memory", counted)
    bench = new()
    small, large = bench.dense_bytes("gpt2", "1x4"), bench.dense_bytes("gpt2", "2x8")
    assert bench.dense_bytes("gpt2", "1x4") == small
    assert measured == ["cpu", "cpu"]
    parameters = sum(p.numel() for p in bench.subject("gpt2", "lm").loaded.model.parameters())
    assert small[0] == large[0] >= 4 * parameters
    assert large[1] > small[1] > 0


def test_the_numbers_of_another_head_are_kept_apart_from_those_of_the_main_one() -> None:
    bench = new()
    language, classes = (bench.subject("gpt2", task) for task in ("lm", "classification"))
    assert bench.on(language, "1x4") == ("gpt2", "1x4")
    assert bench.on(classes, "1x4") == ("gpt2", "1x4 classification")
    folder = str(embedded.FOLDER / "bert" / "classification")
    assert bench.on(bench.subject(folder, "classification"), "1x4") == (folder, "1x4")  # there it is the main one


def test_bytes_of_dense_are_those_of_the_head_that_is_asked_for() -> None:
    bench = new()
    classes, language = bench.dense_bytes("gpt2", "4x16", "classification"), bench.dense_bytes("gpt2", "4x16")
    assert bench.dense_bytes("gpt2", "4x16", "lm") == language
    assert list(bench.dense_memory) == [("gpt2", "4x16 classification"), ("gpt2", "4x16")]
    for found, task in ((classes, "classification"), (language, "lm")):
        model = bench.subject("gpt2", task).loaded.model
        assert found == (memory.resident_bytes(model), memory.peak_memory(bench.forward(model, "4x16"), "cpu").bytes)
    assert classes[0] > language[0]  # a head of its own, where the other shares the embedding


def test_the_control_of_another_head_is_another_control() -> None:
    bench = new()
    bench.noise["gpt2", "1x8"] = [0.04]
    benchmark: Any = FakeBenchmark()
    subject = bench.subject("gpt2", "classification")
    unpruned = bench.pruned(subject, CONTROL)
    found = bench.latency(benchmark, subject, unpruned, unpruned.model, "1x8", 0.2)
    assert found is not None
    assert bench.noise == {("gpt2", "1x8"): [0.04], ("gpt2", "1x8 classification"): [found.noise_floor]}
    assert list(bench.limits.unpruned) == [("gpt2", "1x8 classification")]


def test_a_forward_pass_has_the_shape_of_its_workload_and_no_gradient() -> None:
    bench = new()
    model = bench.subject("gpt2", "lm").loaded.model
    logits = bench.call(model, "3x5")()
    assert logits.shape == (3, 5, model.config.vocab_size)
    assert not logits.requires_grad
    assert torch.equal(logits, bench.call(model, "3x5")())


def test_a_forward_pass_ends_before_the_head_where_that_is_asked_for() -> None:
    bench = Bench(Options(head="none"))
    model = bench.subject("gpt2", "lm").loaded.model
    assert bench.call(model, "3x5")().shape == (3, 5, model.config.n_embd)
    timed: Any = bench.forward(model, "3x5")()
    assert timed.shape == (3, 5, model.config.n_embd)


def test_options_reach_the_model_and_torch() -> None:
    torch.set_num_threads(2)
    bench = Bench(Options(threads=1, dtype="bfloat16"))
    assert bench.subject("gpt2", "lm").loaded.model.dtype is torch.bfloat16
    assert torch.get_num_threads() == bench.threads() == 1


def test_scores_of_two_tasks_are_two(tasks: list[FakeTask]) -> None:
    bench = new()
    language, classes = (bench.score("gpt2", task, L1) for task in ("lm", "classification"))
    assert language is not classes
    assert [task.name for task in tasks] == ["lm", "classification"]


def test_bytes_of_dense_are_those_of_dense_whatever_the_workspace_was_brought_into() -> None:
    bench, other = new(), new()
    execution.in_format(bench.pruned(bench.subject("gpt2", "lm"), L1), "masked")
    found = bench.dense_bytes("gpt2", "1x4")
    assert found == other.dense_bytes("gpt2", "1x4")


def test_what_was_removed_is_known_of_whatever_was_scored(tasks: list[FakeTask]) -> None:
    bench = new()
    bench.quality("gpt2", "lm", L1)
    assert bench.counts["gpt2", "lm", L1].prunable_sparsity == 0.5
    assert bench.counts["gpt2", "lm", CONTROL].prunable_sparsity == 0.0


def timed(bench: Bench, recipe: Recipe, *, enabled: bool = True) -> record.Latency | None:
    subject = bench.subject("gpt2", "lm")
    benchmark: Any = FakeBenchmark(enabled=enabled)
    pruned = bench.pruned(subject, recipe)
    return bench.latency(benchmark, subject, pruned, pruned.model, "1x8", 0.2)


def test_what_is_timed_is_the_executed_model_and_what_is_judged_against_is_dense() -> None:
    bench = new()
    subject = bench.subject("gpt2", "lm")
    pruned = bench.pruned(subject, Recipe("l1", 0.5, "neurons+heads"))
    found = {}
    for name in ("dense", "compact"):
        benchmark: Any = FakeBenchmark()
        executed = execution.in_format(pruned, name)
        latency_of = bench.latency(benchmark, subject, pruned, executed, "1x8", 0.2)
        assert latency_of is not None
        found[name] = latency_of
    assert found["dense"].flops == found["dense"].dense_flops == found["compact"].dense_flops
    assert found["dense"].operations == 1.0
    assert found["compact"].flops is not None
    assert found["dense"].flops is not None
    assert 0 < found["compact"].flops < found["dense"].flops
    assert found["dense"].kept_flops is not None
    assert found["compact"].kept_flops == found["compact"].flops <= found["dense"].kept_flops < found["dense"].flops
    assert found["dense"].ceiling == found["compact"].ceiling
    assert all(each.products is not None and each.ideal_seconds for each in found.values())
    assert list(bench.limits.unpruned) == [("gpt2", "1x8")]
    assert bench.limits.roofline is not None


def test_the_control_gives_the_noise_floor_of_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratio, "NOISY", 1000.0)  # whatever this machine does just now
    bench = new()
    control = timed(bench, CONTROL)
    assert control is not None
    assert bench.noise == {("gpt2", "1x8"): [control.noise_floor]}
    pruned = timed(bench, L1)
    assert pruned is not None
    assert pruned.noise_floor == control.noise_floor
    assert pruned.margin == max(0.03, control.noise_floor or 0.0)


def test_the_unpruned_model_in_another_format_is_no_control() -> None:
    bench = new()
    subject = bench.subject("gpt2", "lm")
    bench.noise["gpt2", "1x8"] = [0.04]
    benchmark: Any = FakeBenchmark()
    unpruned = bench.pruned(subject, CONTROL)
    executed = execution.in_format(unpruned, "bf16")
    found = bench.latency(benchmark, subject, unpruned, executed, "1x8", 0.2)
    assert found is not None
    assert found.noise_floor == 0.04
    assert bench.noise == {("gpt2", "1x8"): [0.04]}
    assert is_control(unpruned, execution.in_format(unpruned, "dense"))
    assert not is_control(bench.pruned(subject, L1), subject.workspace)


def test_without_a_control_one_is_measured_first_and_the_workspace_left_alone() -> None:
    bench = new()
    assert timed(bench, L1) is not None
    assert bench.noise["gpt2", "1x8"][0] > 0
    current = bench.subject("gpt2", "lm").current
    assert current is not None
    assert current.recipe == L1


def test_a_noisy_control_is_measured_again_a_few_times_and_then_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    floors = iter([0.30, 0.06, 0.01])
    made: list[float] = []

    def control(*ignored: Any) -> Any:
        made.append(next(floors, 0.40))
        return types.SimpleNamespace(ratio=types.SimpleNamespace(floor=made[-1]))

    monkeypatch.setattr(latency, "timed_in_turns", control)
    bench = new()
    subject = bench.subject("gpt2", "lm")
    assert [bench.noise_floor(subject, "1x8", 1.0) for _ in range(5)] == [0.30, 0.06, 0.01, 0.01, 0.01]
    assert [bench.noise_floor(subject, "2x8", 1.0) for _ in range(7)] == [0.40] * 7
    assert len(made) == 3 + 4


def test_told_not_to_time_nothing_is_timed() -> None:
    bench = new()
    assert timed(bench, L1, enabled=False) is None
    assert bench.noise == {}
    assert bench.limits.roofline is None


def test_without_an_option_threads_are_the_physical_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "physical_cores", lambda: 7)
    assert Bench(Options()).threads() == 7


@pytest.mark.parametrize(("device", "there"), [("cuda", 0), ("cuda:2", 2)])
def test_a_device_that_is_not_there_is_refused_with_what_is(
    monkeypatch: pytest.MonkeyPatch, device: str, there: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(BadValue, match=f"device {device}: torch finds {there} CUDA devices here"):
        new(device=device).check_device()


@pytest.mark.parametrize(("device", "there"), [("cpu", 0), ("cuda", 1), ("cuda:1", 2)])
def test_a_device_that_is_there_is_accepted(monkeypatch: pytest.MonkeyPatch, device: str, there: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    new(device=device).check_device()


def test_loading_shows_its_progress(loads: list[tuple[str, str]]) -> None:
    shown: list[int] = []

    @contextlib.contextmanager
    def showing() -> Iterator[None]:
        before = len(loads)
        yield
        shown.append(len(loads) - before)

    bench = Bench(Options(threads=1), showing=showing)
    bench.subject("gpt2", "lm")  # embedded: there in no time
    assert shown == []
    folder = str(embedded.FOLDER / "gpt2" / "lm")
    bench.subject(folder, "lm")
    bench.subject(folder, "lm")
    assert shown == [1]


def test_a_mere_classifier_is_measured_with_its_own_head(loads: list[tuple[str, str]]) -> None:
    folder = str(embedded.FOLDER / "bert" / "classification")
    bench = Bench(Options())
    assert bench.main_task("bert") == "lm"
    assert bench.main_task(folder) == "classification"
    assert bench.models[folder].class_name == "BertForSequenceClassification"
    with pytest.raises(Refused, match="no language-modelling head"):
        bench.subject(folder, "lm")
    assert bench.main_task(folder) == "classification"
    assert loads == [("bert", "lm"), (folder, "lm"), (folder, "classification")]


def test_format_auto_chooses_once_for_a_pruned_model_and_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Recipe, str]] = []
    in_format = execution.in_format

    def counted(pruned: prune.PrunedModel, name: str, *run: Any) -> Any:
        asked.append((pruned.recipe, name))
        return in_format(pruned, name, *run)

    monkeypatch.setattr(execution, "in_format", counted)
    bench = new()
    subject = bench.subject("gpt2", "lm")
    pruned = bench.pruned(subject, L1)
    first = bench.executed(pruned, "auto", "1x8")
    assert bench.executed(pruned, "auto", "1x8") is first
    assert bench.executed(pruned, "auto", "2x8") is not first
    assert bench.executed(pruned, "dense", "1x8") is pruned.model
    other = bench.executed(bench.pruned(subject, RANDOM), "auto", "1x8")
    assert other is not first
    assert asked == [(L1, "auto"), (L1, "auto"), (L1, "dense"), (RANDOM, "auto")]
    assert auto.chosen(other) is not None
