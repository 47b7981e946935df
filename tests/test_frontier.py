"""The frontier: which costs belong to which quality, what beats what, and what is on it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from sparsity.frontier import (
    Candidate,
    Cost,
    Loss,
    beats,
    candidates,
    costs,
    frontier,
    losses,
)
from sparsity.judging import CONFIDENCE, MARGINS, UNITS
from sparsity.record import METRICS, Cell, Latency, Memory, Record
from sparsity.tasks import metrics
from tests.reports import builders

CELL = Cell("bert", "l1", "unstructured", "layer", 0.8, "packed", workload="8x64", dtype="float32")
DENSE = 4_000_000


def timed(cell: Cell = CELL, speedup: float | None = 3.0, verdict: str = "faster") -> Record:
    low, high = (None, None) if speedup is None else (speedup * 0.9, speedup * 1.1)
    return Record(cell, latency=Latency(0.001, 0.001, 0.001, 20, verdict, speedup=speedup, low=low, high=high))


def held(cell: Cell = CELL, weights: int = 1_000_000, dense: int | None = DENSE) -> Record:
    return Record(cell, memory=Memory(weights, 500, "cpu profiler", dense_weights_bytes=dense))


def judged(sparsity: float = 0.8, **axes: object) -> Record:
    found = builders.accuracy("bert", "l1", "layer", sparsity)
    return replace(found, cell=replace(found.cell, **axes))  # type: ignore[arg-type]  # each of its field's type


def chosen(found: list[Candidate]) -> list[Candidate]:
    return [each for each in found if each.pruned]


def drawn(seed: int) -> list[Candidate]:
    """Candidates by chance, on a grid so coarse that many are equal in something; some lack a number."""
    chance = random.Random(seed)
    found = []
    for i in range(40):
        cell = replace(CELL, model=chance.choice(["bert", "gpt2"]), sparsity=(i + 1) / 100)
        speedup = chance.choice([None, 0.5, 1.0, 1.5, 2.0])
        weights = chance.choice([None, 1, 2, 3, 4])
        metric = chance.choice(METRICS)
        loss = Loss(cell, metric, chance.choice([-1.0, 0.0, 1.0, 2.0]), 0.1, "lost")
        found.append(Candidate(cell, loss, Cost(cell, "faster", speedup, speedup, speedup, weights, 4)))
    return found


def test_margins_confidence_and_metrics_are_those_that_verdicts_are_given_by() -> None:
    assert MARGINS == metrics.MARGINS
    assert CONFIDENCE == metrics.CONFIDENCE
    assert set(MARGINS) == set(UNITS) == set(METRICS)


def test_time_weights_and_quality_of_one_choice_are_one_candidate() -> None:
    (found,) = chosen(candidates([timed(), held(), judged()]))
    assert found.cell == CELL
    assert (found.cost.speedup, found.cost.weights_bytes, found.cost.smaller) == (3.0, 1_000_000, 4.0)
    assert found.loss.value == pytest.approx(100 * 0.42 * 0.8**5)
    assert found.loss.half_width == pytest.approx(1.96 * 0.4)
    assert not found.loss.trained


@pytest.mark.parametrize(
    "axes",
    [
        {"sparsity": 0.9},
        {"pattern": "2:4"},
        {"scope": "global"},
        {"method": "taylor"},
        {"model": "gpt2"},
        {"after": "x"},
    ],
)
def test_costs_of_another_choice_do_not_belong(axes: dict[str, object]) -> None:
    other = replace(CELL, **axes)  # type: ignore[arg-type]  # each of its field's type
    (found,) = chosen(candidates([timed(other), held(other), judged()]))
    assert not found.measured


def test_costs_of_another_dtype_do_not_belong_where_both_are_known() -> None:
    assert not any(c.measured for c in chosen(candidates([timed(), held(), judged(dtype="bfloat16")])))
    assert all(c.measured for c in chosen(candidates([timed(), held(), judged(dtype="float32")])))


def test_costs_without_a_recovery_stand_for_the_recovered_model_unless_its_own_were_measured() -> None:
    own = replace(CELL, recovery="distill:200")
    recovered = builders.recovered("bert", 0.8)
    (found,) = chosen(candidates([timed(), held(), recovered]))
    assert (found.cell.recovery, found.cost.speedup) == ("distill:200", 3.0)
    for records in ([timed(), timed(own, 2.0), recovered], [timed(own, 2.0), timed(), recovered]):
        (found,) = chosen(candidates(records))
        assert found.cost.speedup == 2.0
    other = replace(CELL, recovery="finetune:9")
    (found,) = chosen(candidates([timed(other), recovered]))
    assert found.cost.speedup is None


def test_recovered_is_judged_by_the_equally_trained_control_and_one_shot_by_the_unpruned_model() -> None:
    recovered, mended = builders.recovered(delta=-0.003), builders.recovered(recovery="reconstruct", delta=-0.02)
    found = {loss.cell.recovery: loss for loss in losses([judged(), recovered, mended])}
    assert found["distill:200"].value == pytest.approx(0.3)
    assert found["distill:200"].trained
    assert found["reconstruct"].value == pytest.approx(2.0)
    assert not found["reconstruct"].trained, "its control is the unpruned model as it is"
    assert found[None].value == pytest.approx(100 * 0.42 * 0.8**5)
    assert losses([judged(recovery="none")])[0].cell.recovery is None


def test_the_trained_control_is_no_candidate_and_the_unpruned_model_is_one() -> None:
    found = candidates([timed(), held(), judged(), builders.trained_control()])
    (unpruned,) = [each for each in found if not each.pruned]
    assert unpruned.loss.exact
    assert (unpruned.cost.speedup, unpruned.cost.weights_bytes, unpruned.loss.value) == (1.0, DENSE, 0.0)


def test_the_weights_of_the_unpruned_model_are_known_from_its_own_record_too() -> None:
    control = replace(CELL, method="none", pattern=None, scope=None, sparsity=0.0, format="dense")
    (_, own) = costs([held(control, 3_000_000, None), held(dense=None)])
    assert own.dense_bytes == 3_000_000


def test_another_format_of_the_unpruned_model_is_one_only_where_its_quality_was_measured() -> None:
    bf16 = replace(CELL, method="none", pattern=None, scope=None, sparsity=0.0, format="bf16")
    records = [timed(), held(), judged(), timed(bf16, 4.5), held(bf16, DENSE // 2)]
    assert not [each for each in candidates(records) if each.cell.format == "bf16"]
    quality = judged(0.0, method="none", pattern=None, scope=None, format="bf16")
    (found,) = [each for each in candidates([*records, quality]) if each.cell.format == "bf16"]
    assert (found.cost.speedup, found.measured) == (4.5, True)


def test_quality_measured_in_the_very_format_is_preferred() -> None:
    own = judged(format="packed")
    assert own.quality is not None
    own = replace(own, quality=replace(own.quality, delta=-0.5))
    csr = timed(replace(CELL, format="csr"))
    for records in ([judged(), own], [own, judged()]):
        found = {each.cell.format: each.loss.value for each in chosen(candidates([timed(), csr, *records]))}
        assert found == {"packed": pytest.approx(50), "csr": pytest.approx(100 * 0.42 * 0.8**5)}


def test_seeds_are_pooled_with_their_spread() -> None:
    seeds = [builders.accuracy("bert", "random", "layer", 0.1, seed) for seed in range(3)]
    (found,) = losses(seeds)
    assert found.value == pytest.approx(4.88)
    assert found.stderr == pytest.approx((0.4**2 + 1.0 / 3) ** 0.5), "deltas are a point apart"
    assert found.cell.seed is None
    cells = [replace(CELL, method="random", seed=seed) for seed in range(3)]
    records = [r for cell, x in zip(cells, (1.0, 2.0, 4.0), strict=True) for r in (timed(cell, x), held(cell, int(x)))]
    (cost,) = costs(records)
    assert cost.speedup == pytest.approx(2.0)
    assert [cost.low, cost.high] == pytest.approx([0.9, 4.4])
    assert cost.weights_bytes == 4
    assert cost.verdict == "faster"
    (doubtful,) = costs([*records, timed(cells[0], 1.0, "same")])
    assert doubtful.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("deltas", "expected"), [((0.0, 0.001), "kept"), ((0.0, -0.02), "inconclusive"), ((-0.3, -0.31), "lost")]
)
def test_seeds_that_disagree_are_judged_together(deltas: tuple[float, float], expected: str) -> None:
    records = []
    for seed, (delta, verdict) in enumerate(zip(deltas, ("kept", "inconclusive"), strict=True)):
        record = builders.accuracy("bert", "random", "layer", 0.1, seed)
        assert record.quality is not None
        records.append(
            replace(record, quality=replace(record.quality, delta=delta, delta_stderr=0.002, verdict=verdict))
        )
    assert losses(records)[0].verdict == expected


def test_what_only_looks_kept_is_neither_kept_nor_judged() -> None:
    loss = Loss(CELL, "accuracy", 0.0, 0.1, "inconclusive")
    assert not loss.kept, "such as a classifier that only guesses, pruned or not"
    assert not loss.judged
    assert replace(loss, verdict="kept").kept
    assert not replace(loss, verdict="kept", value=0.9).kept
    assert replace(loss, verdict="lost", value=5.0).judged


def test_failed_records_are_no_numbers() -> None:
    failed = [replace(each, outcome="failed") for each in (timed(), held(), judged())]
    assert candidates(failed) == []
    (found,) = chosen(candidates([*failed[:2], judged()]))
    assert not found.measured


@pytest.mark.parametrize("seed", range(20))
def test_no_member_beats_another_and_every_other_is_beaten_by_a_member_or_lacks_a_number(seed: int) -> None:
    found = drawn(seed)
    members = frontier(found)
    assert members
    assert not [(a, b) for a in members for b in members if beats(a, b)]
    for each in found:
        assert each in members or not each.measured or any(beats(member, each) for member in members)


@pytest.mark.parametrize("seed", range(20))
def test_a_beaten_candidate_changes_nothing(seed: int) -> None:
    found = drawn(seed)
    members = frontier(found)
    last = members[-1]
    worse = replace(last, cost=replace(last.cost, speedup=(last.cost.speedup or 0.0) / 2))
    assert frontier([*found, worse]) == members
    assert frontier(members) == members


def test_models_metrics_and_workloads_do_not_beat_each_other() -> None:
    cost, loss = Cost(CELL, "faster", 2.0, 2.0, 2.0, 1, 4), Loss(CELL, "accuracy", 0.0, 0.1, "kept")
    better = Candidate(CELL, loss, cost)
    worse = replace(better, cost=replace(cost, speedup=1.0))
    assert beats(better, worse)
    assert not beats(better, better)
    for axes in ({"model": "gpt2"}, {"workload": "1x64"}):
        assert not beats(better, replace(worse, cell=replace(CELL, **axes)))  # type: ignore[arg-type]  # both are text
    assert not beats(better, replace(worse, loss=replace(loss, metric="mean_nll")))
    assert not beats(better, replace(worse, cost=replace(cost, weights_bytes=None)))
