"""The duet: who is called when, what counts, and how a pilot plans it. Time is a clock that only calls move."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Callable, Iterator

import pytest

from sparsity.measure import duet, ratio
from sparsity.measure.duet import Duet, Plan


class Clock:
    """A clock that only a call moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(duet, "time", made)
    return made


Log = list[str]


def arm(clock: Clock, log: Log, name: str, durations: Iterator[float] | float) -> Callable[[], None]:
    """A callable that is logged and lasts so long."""
    source = itertools.repeat(durations) if isinstance(durations, float) else durations

    def function() -> None:
        log.append(name)
        clock.now += next(source)

    return function


def played(clock: Clock, plan: Plan, subject: float = 1.0, reference: float = 2.0) -> tuple[Duet, list[float], Log]:
    log: Log = []
    duo = Duet(arm(clock, log, "S", subject), arm(clock, log, "r", reference), plan)
    return duo, duet.play(duo), log


def test_each_block_plays_both_arms_in_its_order_and_one_uncounted_call_after_each_switch(clock: Clock) -> None:
    duo, own, log = played(clock, Plan(2, (True, False, False)))
    assert "".join(log) == "rrrSSS" + "SSrrr" + "SSSrrr"  # no switch from the first block to the second
    assert own == [1.0] * 6
    assert duo.reference_seconds == [2.0] * 6
    assert duo.uncounted_seconds == 2 * 1.0 + 3 * 2.0
    assert duo.inside(own) == clock.now - 1000.0


def test_calls_beyond_the_plan_are_left_alone(clock: Clock) -> None:
    duo, _, log = played(clock, Plan(1, (True, False)))
    before = len(log)
    duo.setup()
    duo.teardown()
    assert len(log) == before


def test_what_watches_is_told_of_each_block_and_each_counted_call(clock: Clock) -> None:
    log: Log = []
    subject, reference = arm(clock, log, "S", 1.0), arm(clock, log, "r", 1.0)
    names = {id(subject): "own", id(reference): "other"}
    duo = Duet(
        subject, reference, Plan(2, (True, False)), lambda: log.append("|"), lambda each: log.append(names[id(each)])
    )
    duet.play(duo)
    first = "| r r other r other S S own S own"
    second = "| S own S own r r other r other"
    assert " ".join(log) == f"{first} {second}"


@pytest.mark.parametrize("blocks", [6, 16, 17, 60])
@pytest.mark.parametrize("seed", range(5))
def test_either_arm_begins_equally_often_in_shuffled_order(blocks: int, seed: int) -> None:
    plan = duet.order(blocks, 4, seed)
    assert plan.blocks == blocks + blocks % 2
    assert sum(plan.reference_first) * 2 == plan.blocks
    assert plan.rounds == 4 * plan.blocks
    assert plan == duet.order(blocks, 4, seed)


def test_orders_differ_with_the_seed() -> None:
    assert len({duet.order(16, 1, seed).reference_first for seed in range(10)}) > 5


def test_a_block_is_its_fastest_calls(clock: Clock) -> None:
    subject, reference = [4.0, 2.0, 9.0, 8.0], [1.0, 3.0, 2.0, 8.0]
    assert duet.block_logarithms(subject, reference, 2) == [math.log(2.0 / 1.0), math.log(8.0 / 2.0)]
    assert duet.block_logarithms(subject, reference, 2, max) == [math.log(4.0 / 3.0), math.log(9.0 / 8.0)]


def test_drift_that_meets_both_arms_leaves_the_ratio_alone(clock: Clock) -> None:
    """The machine gets slower all the time; one after the other, the second arm would seem a third slower."""

    def drifting(seconds: float) -> Iterator[float]:
        while True:
            yield seconds * (1 + (clock.now - 1000.0) / 500)

    log: Log = []
    duo = Duet(arm(clock, log, "S", drifting(1.05)), arm(clock, log, "r", drifting(1.0)), duet.order(16, 4))
    own = duet.play(duo)
    found = ratio.ratio(duet.block_logarithms(own, duo.reference_seconds, 4))
    assert own[-1] / own[0] > 1.3
    assert found.value == pytest.approx(1.05, abs=0.01)


def test_the_order_effect_is_what_the_order_makes() -> None:
    plan = Plan(1, (True, False, True, False))
    assert duet.order_effect([0.3, 0.1, 0.3, 0.1], plan) == pytest.approx(0.2)
    assert duet.order_effect([0.1, 0.1, 0.1, 0.1], plan) == 0.0


@pytest.mark.parametrize(
    ("seconds", "budget", "calls"),
    [
        pytest.param(0.001, 60.0, 2, id="two calls"),
        pytest.param(0.1, 30.0, 2, id="still two"),
        pytest.param(0.1, 15.0, 1, id="a budget for few calls"),
        pytest.param(10.0, 1.0, 1, id="no budget at all"),
    ],
)
def test_a_block_has_two_counted_calls_or_what_the_budget_allows(
    clock: Clock, seconds: float, budget: float, calls: int
) -> None:
    plan, _ = duet.prepare(arm(clock, [], "S", seconds), arm(clock, [], "r", seconds), budget)
    assert plan.calls == calls


def scattering(seconds: float, by: float) -> Iterator[float]:
    return itertools.cycle(seconds * (1 + by * step) for step in (-3, 1, 2, -1, 3, -2, 0))


@pytest.mark.parametrize(("by", "blocks"), [(0.0, 32), (0.0002, 32), (0.2, 400)])
def test_more_scatter_in_the_pilot_plans_more_blocks(clock: Clock, by: float, blocks: int) -> None:
    subject, reference = arm(clock, [], "S", scattering(0.05, by)), arm(clock, [], "r", 0.05)
    plan, _ = duet.prepare(subject, reference, 1e6)
    assert plan.blocks == blocks


@pytest.mark.parametrize("budget", [3.0, 5.0, 10.0])
def test_all_of_it_keeps_to_the_budget(clock: Clock, budget: float) -> None:
    log: Log = []
    subject, reference = arm(clock, log, "S", scattering(0.01, 0.2)), arm(clock, log, "r", 0.01)
    plan, inside = duet.prepare(subject, reference, budget)
    assert inside == pytest.approx(clock.now - 1000.0), "the pilot is calls and nothing else"
    duet.play(Duet(subject, reference, plan))
    assert clock.now - 1000.0 <= 1.1 * budget
    assert plan.blocks > ratio.LEAST_BLOCKS


def test_a_budget_too_small_still_gives_an_interval(clock: Clock) -> None:
    plan, _ = duet.prepare(arm(clock, [], "S", 5.0), arm(clock, [], "r", 5.0), 0.5)
    assert (plan.blocks, plan.calls) == (ratio.LEAST_BLOCKS, 1)


@pytest.mark.parametrize(("budget", "piloted"), [(20.0, False), (120.0, True)])
def test_a_pilot_that_alone_would_take_the_budget_is_not_played(clock: Clock, budget: float, piloted: bool) -> None:
    log: Log = []
    duet.prepare(arm(clock, log, "S", 1.0), arm(clock, log, "r", 1.0), budget)
    assert (len(log) > 2 * duet.WARM_CALLS) is piloted


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (5.0, 3),  # long: three calls are enough
        (0.0625, 3),
        (0.015625, 4),  # 4 x 1/64 s is the first to reach 0.05 s
        (0.0078125, 7),
    ],
)
def test_warm_up_makes_three_calls_and_lasts_a_twentieth_of_a_second(clock: Clock, seconds: float, calls: int) -> None:
    log: Log = []
    assert duet.warm_up(arm(clock, log, "S", seconds)) == seconds
    assert len(log) == calls


def test_warm_up_tells_what_the_last_call_took(clock: Clock) -> None:
    assert duet.warm_up(arm(clock, [], "S", iter([8.0, 4.0, 2.0, 1.0]))) == 2.0


def test_no_garbage_is_collected_meanwhile_and_afterwards_as_before() -> None:
    assert gc.isenabled()
    with duet.without_garbage_collection():
        assert not gc.isenabled()
        with duet.without_garbage_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
