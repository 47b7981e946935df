"""The compositions of a run: step after step on one model, each held against as much training of the unpruned one."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import axes, test_composition
from reports import recovery as recovery_report
from sparsity import answers, composition, compositions, options, record, recover, recovery, workload
from sparsity.bench import CONTROL, Bench
from sparsity.cells import Recorder
from sparsity.composition import Step
from sparsity.compositions import Arrived, Compositions
from sparsity.errors import BadValue, Refused, UnknownName
from sparsity.execution import CLOSE, relative_error
from sparsity.kernel.layers import PackedLinear
from sparsity.measure import memory
from sparsity.models import embedded
from sparsity.prune import PrunedModel, Recipe
from sparsity.recoveries import Key, Outcome, Recoveries
from sparsity.tasks import metrics, quality
from sparsity.training_state import START, Reached
from tests.fake_benchmark import FakeBenchmark
from tests.models.tiny import refusal

pytestmark = pytest.mark.usefixtures("threads_restored")

ROOT = Path(__file__).parents[1]
BRIEFLY = recovery.parse("finetune:2")
GROUPS, SINGLE = Recipe("l2", 0.5, "neurons+heads"), Recipe("l1", 0.8)
STEPS = (Step("compact", GROUPS, BRIEFLY), Step("packed", SINGLE, BRIEFLY), Step("bf16"))
OF = ("gpt2", "classification")
BY_MODEL = pytest.mark.parametrize("name", embedded.NAMES)


def new(**texts: str) -> Compositions:
    few = {"documents": "40", "calibration": "20", "threads": "1", "training-batch": "4"}
    few |= {name.replace("_", "-"): text for name, text in texts.items()}
    return Compositions(Recoveries(Bench(options.parse(few))))


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, str, list[list[int]]]]:
    """Recipe, recovery and documents of each recovery that was really carried out."""
    made: list[tuple[Recipe, str, list[list[int]]]] = []
    carried_out = recover.recover

    def counted(dense: Any, recipe: Recipe, kind: Any, settings: Any, batches: Any, *rest: Any, **more: Any) -> Any:
        steps = list(itertools.islice(batches, (settings.steps or 0) * settings.accumulate)) if kind.trains else []
        documents = [row for batch in steps for row in batch.inputs["input_ids"].tolist()]
        made.append((recipe, str(kind), documents))
        return carried_out(dense, recipe, kind, settings, itertools.chain(steps, batches), *rest, **more)

    monkeypatch.setattr(recover, "recover", counted)
    return made


# -- step after step -------------------------------------------------------------------------------


@BY_MODEL
def test_each_step_goes_on_from_where_the_one_before_arrived(name: str) -> None:
    composed = new(learning_rate="0.01")
    arrived = [composed.after(name, "classification", STEPS[:count], 0) for count in (1, 2, 3)]
    first, second = arrived[0].pruned, arrived[1].pruned
    assert arrived[2] is arrived[1]
    for old, new_mask, layer, before in zip(first.masks, second.masks, second.layers, first.layers, strict=True):
        assert not (new_mask & ~old).any()
        assert not layer.weight[~new_mask].any()
        assert not before.weight[~old].any()
        assert not torch.equal(layer.weight[new_mask], before.weight[new_mask])  # it was trained once more
    assert arrived[1].reached.steps == 4
    assert arrived[1].reached.documents == 16
    assert 0 < arrived[0].reached.seconds < arrived[1].reached.seconds


def test_the_sparsity_of_a_later_step_is_of_all_prunable_weights() -> None:
    composed = new()
    first, second = (composed.after(*OF, STEPS[:count], 0).pruned.counts for count in (1, 2))
    whole = composed.recoveries.bench.score(*OF, CONTROL)
    assert whole is not None
    dense = composed.recoveries.bench.counts[(*OF, CONTROL)]
    assert first.prunable_parameters == second.prunable_parameters == dense.prunable_parameters
    assert first.total_parameters == second.total_parameters == dense.total_parameters
    assert (first.prunable_sparsity, second.prunable_sparsity) == pytest.approx((0.5, 0.8), abs=1e-3)


def test_what_is_known_of_the_beginning_is_not_done_again(trained: list[Any]) -> None:
    composed = new()
    whole = composed.after(*OF, STEPS, 0)
    assert [(recipe, kind) for recipe, kind, _ in trained] == [(GROUPS, "finetune:2"), (SINGLE, "finetune:2")]
    assert composed.after(*OF, STEPS[:2], 0) is whole
    composed.after(*OF, STEPS[:1], 0)
    assert len(trained) == 2
    composed.after(*OF, (STEPS[0], Step("csr", Recipe("l1", 0.9), BRIEFLY)), 0)
    assert len(trained) == 3  # only the step that is another
    composed.after(*OF, STEPS[:1], 1)
    assert len(trained) == 4


def test_a_later_step_does_not_learn_from_the_documents_of_an_earlier_one_again(trained: list[Any]) -> None:
    composed = new(accumulate="2")
    arrived = composed.after(*OF, STEPS[:2], 0)
    composed._control(*OF, 0, arrived.reached.steps)
    (_, _, first), (_, _, second), (recipe, kind, control) = trained
    assert (recipe, kind) == (CONTROL, "finetune:4")
    assert control == first + second
    assert len(control) == arrived.reached.documents == 4 * 2 * 4


def test_the_dense_model_and_the_models_of_earlier_steps_are_left_as_they_were() -> None:
    composed = new()
    bench = composed.recoveries.bench
    subject = bench.subject(*OF)
    bench.pruned(subject, Recipe("l1", 0.7))
    earlier = composed.after(*OF, STEPS[:1], 0).pruned.model
    models = [subject.loaded.model, subject.workspace, earlier]
    before = [state(model) for model in models]
    composed.after(*OF, STEPS, 0)
    for count in (1, 2, 3):
        composed.stored(*OF, STEPS[:count], 0)
    assert [same(was, state(model)) for was, model in zip(before, models, strict=True)] == [True] * 3


def test_the_models_of_one_reference_are_held_at_a_time() -> None:
    composed = new()
    steps = (Step("packed", SINGLE), Step("csr"))
    composed.after("gpt2", "classification", steps, 0)
    composed.after("gpt2", "lm", steps, 0)
    assert {(reference, task) for reference, task, *_ in composed.made} == {("gpt2", "classification"), ("gpt2", "lm")}
    composed.after("bert", "classification", steps, 0)
    assert {reference for reference, *_ in composed.made} == {"bert"}


def test_without_a_recovery_the_steps_are_pruning_alone() -> None:
    composed = new()
    steps = (Step("compact", GROUPS), Step("packed", SINGLE))
    arrived = composed.after(*OF, steps, 0)
    assert arrived.reached == START
    own, dense = (state(model) for model in (arrived.pruned.model, composed.recoveries.bench.subject(*OF).loaded.model))
    pruned = {f"{layer.name}.weight" for layer in arrived.pruned.layers}
    assert {name for name in own if not torch.equal(own[name], dense[name])} == pruned


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "kind", "message"),
    [
        ((), BadValue, "a composition begins with a step that prunes"),
        ((Step("bf16"),), BadValue, "a composition begins with a step that prunes, not with bf16"),
        ((STEPS[0], Step("pakced", SINGLE)), UnknownName, "unknown format 'pakced'; did you mean 'packed'?"),
        ((Step("compact", GROUPS, recovery.parse("transfer:1")),), Refused, "begins with a new head"),
        ((STEPS[0], Step("packed", SINGLE, recovery.parse("gradual-finetune:1"))), Refused, "begins with all weights"),
    ],
)
def test_what_is_no_composition_is_refused_before_anything_is_trained(
    trained: list[Any], steps: tuple[Step, ...], kind: type[BadValue], message: str
) -> None:
    composed = new()
    assert message in refusal(kind, lambda: composed.after(*OF, steps, 0))
    assert message in refusal(kind, lambda: composed.stored(*OF, steps, 0))
    assert message in refusal(kind, lambda: compositions.cell_of(record.Cell("gpt2"), steps))
    assert trained == []
    assert composed.made == {}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (GROUPS, Recipe("l1", 0.3), "l1 brings back weights of transformer.h.0.attn.c_attn that an earlier step"),
        (SINGLE, Recipe("l2", 0.5, "neurons"), "l2 brings back weights of transformer.h.0.attn.c_attn"),
        (Recipe("shortgpt", 0.5, "layers"), SINGLE, "transformer.h.1 was removed from this model already"),
        (Recipe("l1", 0.9999999), SINGLE, "leaves no weight at all in transformer.h.0"),
    ],
    ids=str,
)  # fmt: skip
def test_a_step_that_cannot_follow_is_refused_in_one_line_and_the_first_stays(
    first: Recipe, second: Recipe, message: str
) -> None:
    composed = new()
    steps = (Step("dense", first), Step("dense", second))
    assert message in refusal(Refused, lambda: composed.after(*OF, steps, 0))
    assert [key[2] for key in composed.made] == ([steps[:1]] if first.sparsity < 0.99 else [])


def test_a_checkpoint_without_a_classifier_is_refused_with_what_it_lacks() -> None:
    folder = str(embedded.FOLDER / "bert" / "lm")
    message = refusal(Refused, lambda: new().after(folder, "classification", STEPS[:1], 0))
    assert message.startswith(f"{folder} has no classification head")


# -- what it is stored in, and what that still knows -----------------------------------------------


@BY_MODEL
def test_every_step_is_stored_as_what_computes_the_same(name: str) -> None:
    composed = new()
    shape = workload.parse("2x8")
    for count, kind in ((1, "float32"), (2, "float32"), (3, "bfloat16")):
        arrived = composed.after(name, "classification", STEPS[:count], 0)
        executed = composed.stored(name, "classification", STEPS[:count], 0)
        output, expected = (workload.call(shape, model)() for model in (executed, arrived.pruned.model))
        assert str(output.dtype) == f"torch.{kind}"
        assert relative_error(output, expected) <= CLOSE[kind]
        packed = [module for module in executed.modules() if isinstance(module, PackedLinear)]
        assert len(packed) == (len(arrived.pruned.layers) if count == 2 else 0)
        whole = [layer.weight.numel() for layer in arrived.pruned.layers]
        assert all(own.out_features * own.in_features < all_ for own, all_ in zip(packed, whole, strict=False))


@BY_MODEL
def test_the_executed_model_itself_is_judged(name: str, trained: list[Any]) -> None:
    composed = new()
    bench = composed.recoveries.bench
    args = (name, "classification", STEPS, 0)
    executed = composed.stored(*args)
    found, won = composed.judged(*args, executed)
    data = bench.quality_task(bench.subject(name, "classification"))
    assert found.value == won.values[0] == data.evaluate(executed).estimate.value
    assert (won.seeds, won.steps, won.documents) == ([0], 4, 16)
    assert (
        won.control
        == composed.recoveries.scores(
            Key(name, "classification", CONTROL, recovery.parse("finetune:4"), 0)
        ).estimate.value
    )
    assert won.one_shot == bench.score(name, "classification", SINGLE).estimate.value
    assert won.deltas == [won.delta] == pytest.approx([won.values[0] - won.control])
    assert won.gained == pytest.approx(won.values[0] - won.one_shot)
    assert found.delta == pytest.approx(found.value - bench.score(name, "classification", CONTROL).estimate.value)
    assert [recipe for recipe, *_ in trained] == [GROUPS, SINGLE, CONTROL]


def test_untrained_steps_are_held_against_dense_itself(trained: list[Any]) -> None:
    composed = new()
    steps = (Step("dense", Recipe("l1", 0.5)),)
    found, won = composed.judged("gpt2", "lm", steps, 0, composed.stored("gpt2", "lm", steps, 0))
    assert won.control == found.dense_value
    assert (won.delta, won.delta_stderr, won.verdict) == (found.delta, found.delta_stderr, found.verdict)
    assert (won.gained, won.gained_stderr) == (0.0, 0.0)  # it is the one-shot choice
    assert (won.steps, won.seconds, won.documents) == (None, None, None)
    assert [recipe for recipe, *_ in trained] == [Recipe("l1", 0.5)]


def test_what_is_judged_is_paired_over_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(*right: float) -> quality.Scores:
        values = np.asarray(right)
        return quality.Scores("accuracy", metrics.ratio(values, np.ones(4)), values, np.ones(4))

    composed = new()
    recoveries = composed.recoveries
    arrived = composed.after(*OF, (Step("dense", SINGLE),), 0)
    composed.made[(*OF, STEPS, 0)] = Arrived(arrived.pruned, Reached(9, 3.5, 70))
    recoveries.bench.scores[(*OF, CONTROL)] = scores(1, 1, 1, 0)
    recoveries.bench.scores[(*OF, SINGLE)] = scores(1, 0, 0, 0)
    control = Key(*OF, CONTROL, recovery.parse("finetune:9"), 0)
    recoveries.outcomes[control] = Outcome(scores(1, 1, 1, 1), arrived.pruned.counts, START)
    monkeypatch.setattr(quality.Task, "evaluate", lambda *_: scores(1, 1, 0, 0))
    found, won = composed.judged(*OF, STEPS, 0, arrived.pruned.model)
    assert (found.value, found.dense_value, found.delta, found.documents) == (0.5, 0.75, -0.25, 4)
    assert (won.values, won.one_shot, won.gained, won.control, won.delta) == ([0.5], 0.25, 0.25, 1.0, -0.5)
    assert won.gained_stderr == pytest.approx(0.25)  # of 0, 1, 0, 0: their spread 0.5, over the root of four
    assert won.delta_stderr == pytest.approx((1 / 3) ** 0.5 / 2)
    assert (won.steps, won.seconds, won.documents, won.verdict) == (9, 3.5, 70, "inconclusive")


# -- its records -----------------------------------------------------------------------------------


def test_the_cell_is_that_of_the_last_step_that_prunes_with_what_came_before() -> None:
    asked = record.Cell("gpt2", workload="8x64", recovery="finetune:2", task="classification", dtype="float32")
    one, two, three = (compositions.cell_of(asked, STEPS[:count]) for count in (1, 2, 3))
    kept: dict[str, Any] = {"workload": "8x64", "task": "classification", "dtype": "float32", "recovery": "finetune:2"}
    assert one == record.Cell("gpt2", "l2", "neurons+heads", "layer", 0.5, "compact", after=None, **kept)
    before = "l2 0.5 neurons+heads finetune:2"
    assert two == record.Cell("gpt2", "l1", "unstructured", "layer", 0.8, "packed", after=before, **kept)
    assert three == record.Cell("gpt2", "l1", "unstructured", "layer", 0.8, "bf16", after=before, **kept)
    plain = compositions.cell_of(asked, (Step("csr", Recipe("l1", 0.5, scope="global")),))
    assert (plain.recovery, plain.scope, plain.after) == (None, "global", None)


def test_reports_find_the_step_that_a_step_goes_on_from() -> None:
    steps = (*STEPS[:2], Step("csr", Recipe("l1", 0.9, scope="global"), recovery.parse("distill:3")))
    cells = [compositions.cell_of(record.Cell("gpt2"), steps[:count]) for count in (1, 2, 3)]
    assert [cell.after for cell in cells] == [None, answers.so_far(cells[0]), answers.so_far(cells[1])]
    assert answers.so_far(cells[2]) == composition.said(steps)


def test_an_interrupted_composition_has_a_state_for_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []
    carried_out = recover.recover

    def watched(*args: Any, **rest: Any) -> Any:
        folders.append(rest["state"])
        return carried_out(*args, **rest)

    monkeypatch.setattr(recover, "recover", watched)
    composed = new(training_state=str(tmp_path))
    composed.after(*OF, STEPS, 0)
    composed.after(*OF, STEPS[:1], 1)
    composed.recoveries.scores(Key(*OF, SINGLE, BRIEFLY, 0))
    assert len(set(folders)) == 4
    assert {folder.parent for folder in folders} == {tmp_path}


# -- the benchmark -------------------------------------------------------------------------------------------


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> Compositions:
    """What the benchmark composes in, of steps that are always the same."""
    steps = (("compact", "l2", "neurons+heads", 0.5), ("packed", "l1", "unstructured", 0.9), ("bf16", None, None, None))
    monkeypatch.setattr(axes, "COMPOSED", steps)
    return new()


def measured(composed: Compositions, count: int, text: str = "finetune:1") -> record.Record:
    """What a step of the benchmark leaves; raises what fails it."""
    benchmark: Any = FakeBenchmark(enabled=False)
    bench = composed.recoveries.bench
    recorder = Recorder(record.Cell("gpt2", workload="2x8", task="classification", recovery=text), benchmark)
    args = (benchmark, recorder, bench, composed, *OF, "2x8", text, count)
    test_composition.test_step(*args, peak_memory=memory.peak_memory, time_per_cell=0.1)
    return recorder.finished("passed", None)


def test_the_benchmark_leaves_a_whole_record_of_every_step(composed: Compositions) -> None:
    records = [measured(composed, count) for count in (1, 2, 3)]
    assert [(each.cell.format, each.cell.method, each.cell.after) for each in records] == [
        ("compact", "l2", None),
        ("packed", "l1", "l2 0.5 neurons+heads finetune:1"),
        ("bf16", "l1", "l2 0.5 neurons+heads finetune:1"),
    ]
    for steps, each in enumerate(records, 1):
        assert each.pruned is not None
        assert each.pruned.prunable_sparsity == pytest.approx(0.5 if steps == 1 else 0.9, abs=1e-3)
        assert each.recovered is not None
        assert each.recovered.steps == min(steps, 2)
        assert each.quality is not None
        assert each.quality.value == each.recovered.values[0]
        assert each.memory is not None
        assert each.memory.dense_weights_bytes is not None
        assert each.memory.weights_bytes < each.memory.dense_weights_bytes
        assert each.latency is None


def test_a_step_that_computes_something_else_fails_the_benchmark(
    monkeypatch: pytest.MonkeyPatch, composed: Compositions
) -> None:
    def shifted(pruned: PrunedModel, steps: Any) -> Any:
        model = copy.deepcopy(pruned.model)
        model.get_parameter("score.weight").mul_(1.01)
        return model

    monkeypatch.setattr(composition, "stored", shifted)
    with pytest.raises(AssertionError, match=r"got outputs off by 1\.0e-02 of their norm, should be at most .*l2"):
        measured(composed, 1)


def test_a_step_that_holds_no_less_than_dense_fails_the_benchmark(
    monkeypatch: pytest.MonkeyPatch, composed: Compositions
) -> None:
    monkeypatch.setattr(composition, "stored", lambda pruned, steps: pruned.model)
    with pytest.raises(AssertionError, match=r"got (\d+) bytes of weights, unpruned \1 \[gpt2 · l2"):
        measured(composed, 1)


def test_of_a_gradual_recovery_the_benchmark_measures_the_first_step_and_refuses_the_second_with_the_reason(
    composed: Compositions,
) -> None:
    assert measured(composed, 1, "gradual-finetune:2").recovered is not None
    reason = "recovery gradual-finetune:2 begins with all weights, so it cannot follow l2 0.5 neurons+heads"
    assert reason in refusal(Refused, lambda: measured(composed, 2, "gradual-finetune:2"))


@pytest.mark.slow
def test_the_benchmark_runs_and_reports_find_the_steps_in_its_result_file(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "benchmarks/test_composition.py",
        "-q",
        "--profile=smoke",
    ]
    command += ["--models=gpt2", "--recoveries=finetune:1", "--documents=20", "--calibration=20", "--workloads=1x8"]
    command += ["--time-per-cell=0.2", "--threads=1", f"--benchmark-json={file}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = json.loads(file.read_text())["benchmarks"]
    records = [record.from_json(each["extra_info"]["sparsity"]) for each in entries]
    assert [each.cell.format for each in records] == [kind for kind, *_ in axes.COMPOSED]
    assert all(each.latency is not None and each.outcome == "passed" for each in records)
    (ladder,) = recovery_report.ladders(records)
    assert [step.cost.cell.format for step in ladder] == [kind for kind, *_ in axes.COMPOSED]
