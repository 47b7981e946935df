"""What a cell's time beside its baseline has become: intervals, margins, several pairs of processes."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.gate import FINE, INCOMPLETE, NOISY, REGRESSION, critical
from sparsity.gate_time import Pair, change, judged, of_training
from sparsity.record import Cell, Latency, Training
from sparsity.rules import LARGEST

CELL = Cell("bert", "l1", sparsity=0.8, format="packed", workload="8x64")
FIVE = 0.05
"""A margin that the numbers below are easy to read with."""
LIMIT = math.log1p(FIVE)
logarithms = st.floats(-3, 3)
widths = st.floats(0, 2)


def latency(ratio: float = 0.0, reach: float = 0.01, **more: Any) -> Latency:
    """With log(pruned / dense) in the middle of its 95 % interval."""
    speedup, low, high = (math.exp(-ratio + side * reach) for side in (0, -1, 1))
    values: dict[str, Any] = {"calls": 40, "verdict": "same", "speedup": speedup, "low": low, "high": high}
    values |= {"pruned_seconds": 0.1, "pruned_q1": 0.1, "pruned_q3": 0.1} | more
    return Latency(**values)


def pair(slower: float, reach: float = 0.01, before: float = -0.5) -> Pair:
    """Head is slower by so much, as a logarithm; both intervals reach so far."""
    return latency(before, reach), latency(before + slower, reach)


def status(*pairs: Pair, tests: int = 1, margin: float = FIVE) -> int | None:
    found = judged(CELL, pairs, tests, margin)
    return None if found is None else found.status


def test_the_interval_of_a_change_is_that_of_both_runs() -> None:
    found = change([pair(0.08, reach=0.03)])
    assert found is not None
    assert found.value == pytest.approx(0.08)
    assert found.reach == pytest.approx(0.03 * math.sqrt(2))
    assert str(change([pair(math.log(1.1), reach=0.0)])) == "+10.0 % [+10.0 %, +10.0 %]"


def test_what_moves_both_arms_alike_is_not_seen() -> None:
    """Only the ratio to dense counts, not the seconds."""
    slow = latency(-0.5, pruned_seconds=99.0, dense_seconds=99.0)
    assert judged(CELL, [(latency(-0.5), slow)], 1, FIVE) is None


def test_slower_beyond_the_margin_for_certain_is_a_regression() -> None:
    found = judged(CELL, [pair(math.log(1.10), reach=0.01)], 1, FIVE)
    assert found is not None
    assert (found.status, found.kind) == (REGRESSION, "regression")
    assert found.said == "time +10.0 % [+8.5 %, +11.6 %], beyond the margin of 5.0 %"


@pytest.mark.parametrize(
    ("slower", "reach", "expected"),
    [
        (0.0, 0.03, None),
        (0.03, 0.01, None),
        (0.03, 0.03, NOISY),  # the interval reaches beyond the margin
        (0.06, 0.03, NOISY),  # and here back into it
        (0.12, 0.03, REGRESSION),
        (-0.12, 0.03, FINE),
        (-0.06, 0.03, None),
    ],
)
def test_the_whole_interval_decides(slower: float, reach: float, expected: int | None) -> None:
    assert status(pair(slower, reach)) == expected


def test_faster_is_told_and_no_regression() -> None:
    found = judged(CELL, [pair(-0.2)], 1, FIVE)
    assert found is not None
    assert (found.status, found.kind) == (FINE, "faster")


@pytest.mark.parametrize("tests", [1, 10, 1000])
def test_of_many_cells_each_must_be_further_from_chance(tests: int) -> None:
    """The interval is widened by as many standard errors as keep one false alarm of all cells at 5 %."""
    stderr = 0.03 * math.sqrt(2) / 1.96
    edge = LIMIT + max(1.96, critical(tests)) * stderr
    assert status(pair(edge + 0.001, 0.03), tests=tests) == REGRESSION
    assert status(pair(edge - 0.001, 0.03), tests=tests) == NOISY


def test_the_noise_floor_of_either_run_widens_the_margin() -> None:
    base, head = pair(0.09)
    assert status((base, head)) == REGRESSION
    quiet, noisy = latency(-0.5, noise_floor=0.01), latency(-0.41, noise_floor=0.12)
    assert status((quiet, noisy)) is None
    assert status((latency(-0.5, noise_floor=0.12), latency(-0.41))) is None
    assert status((quiet, head)) == REGRESSION
    assert status((quiet, head), margin=0.2) is None


def test_a_verdict_that_noise_withheld_is_none_here_either() -> None:
    reason = "noisy: the unpruned model differs from its own copy by up to 9.0%, more than 5%"
    for files in (
        (latency(reason=reason), latency(3.0)),
        (latency(), latency(3.0, reason=reason)),
        (latency(), latency(0.0, reason=reason)),
    ):
        found = judged(CELL, [files], 1, FIVE)
        assert found is not None
        assert found.status == NOISY
        assert reason in found.said


@pytest.mark.parametrize("missing", ["speedup", "low", "high"])
@pytest.mark.parametrize("value", [None, 0.0])
def test_a_latency_without_its_ratio_cannot_be_compared(missing: str, value: float | None) -> None:
    without: dict[str, Any] = {missing: value}
    part = latency(**without)
    for files in ((part, latency()), (latency(), part)):
        assert status(files) == INCOMPLETE
        assert status(pair(0.0), files) == INCOMPLETE


def test_a_noisy_time_says_what_would_settle_it() -> None:
    said = [judged(CELL, [pair(*each)], 1, FIVE) for each in ((0.0, 0.06), (0.0, 0.9), (0.06, 0.03))]
    tails = [found.said.split("; ", 1)[1] for found in said if found is not None]
    assert tails == [
        "about 4 times the --time-per-cell would settle it",  # (0.06 * sqrt 2 / 0.0488)^2 = 3.02
        "more than 100 times the --time-per-cell would be needed",
        "it is too near the margin; measure more pairs of runs, for --again",
    ]


@given(logarithms, st.floats(0.001, 1))
def test_so_many_times_as_long_does_settle_it(slower: float, reach: float) -> None:
    found = judged(CELL, [pair(slower, reach)], 1, FIVE)
    if found is not None and "would settle" in found.said:
        times = int(found.said.split("about ")[1].split()[0])
        assert times > 1
        assert status(pair(slower, reach / math.sqrt(times))) in (None, FINE)


# -- several pairs of processes --------------------------------------------------------------------------


def test_more_pairs_narrow_the_interval_as_long_as_they_agree() -> None:
    assert status(pair(0.0, 0.06)) == NOISY
    assert status(*[pair(0.0, 0.06)] * 4) is None
    found = change([pair(0.0, 0.06)] * 4)
    assert found is not None
    assert found.reach == pytest.approx(0.06 * math.sqrt(2) / 2)


def test_pairs_that_disagree_widen_it_and_ask_for_more_of_them() -> None:
    scattered = [pair(0.0, 0.001), pair(0.06, 0.001)]
    found = judged(CELL, scattered, 1, FIVE)
    assert found is not None
    assert found.status == NOISY
    assert "pairs of runs would settle it" in found.said
    found_change = change(scattered)
    assert found_change is not None
    assert found_change.stderr == pytest.approx(math.sqrt(0.06**2 / 2 / 2))


def test_all_pairs_must_be_slower() -> None:
    """One process that happened to lie badly in memory convinces nobody."""
    rest = [pair(0.3, 0.001) for _ in range(20)]
    assert status(*rest) == REGRESSION
    assert status(*rest, pair(0.3, 0.001)) == REGRESSION
    assert status(*rest, pair(0.04, 0.001)) == NOISY


# -- laws ------------------------------------------------------------------------------------------------


@given(logarithms, st.floats(0, LIMIT / 1.96 * 1.3))
def test_a_run_beside_itself_is_fine_where_its_interval_is_narrow(ratio: float, reach: float) -> None:
    here = latency(ratio, reach)
    assert status((here, here)) in ((None,) if reach * math.sqrt(2) < LIMIT else (None, NOISY))


@given(logarithms, widths, widths, st.integers(1, 500), st.integers(1, 4))
def test_wider_intervals_never_make_a_regression(
    slower: float, reach: float, more: float, tests: int, pairs: int
) -> None:
    before = status(*[pair(slower, reach)] * pairs, tests=tests)
    after = status(*[pair(slower, reach + more)] * pairs, tests=tests)
    assert after in {REGRESSION: (REGRESSION, NOISY), NOISY: (NOISY,), None: (None, NOISY)}.get(
        before, (FINE, None, NOISY)
    )


@given(logarithms, widths, st.integers(1, 500), st.floats(0.05, 3), st.floats(0, 3))
def test_a_wider_margin_never_makes_a_regression(
    slower: float, reach: float, tests: int, margin: float, more: float
) -> None:
    if status(pair(slower, reach), tests=tests, margin=margin + more) == REGRESSION:
        assert status(pair(slower, reach), tests=tests, margin=margin) == REGRESSION


@given(st.lists(st.tuples(logarithms, widths), min_size=1, max_size=4))
def test_no_regression_becomes_one_when_runs_are_swapped(found: list[tuple[float, float]]) -> None:
    pairs = [pair(*each) for each in found]
    if status(*pairs) == REGRESSION:
        assert status(*[(head, base) for base, head in pairs]) in (FINE, None)


@given(*[st.floats(5e-324, LARGEST)] * 3)
def test_no_number_that_a_file_may_hold_breaks_it(speedup: float, low: float, high: float) -> None:
    odd = latency(speedup=speedup, low=low, high=high)
    for files in ((odd, latency()), (latency(), odd), (odd, odd)):
        found = judged(CELL, [files, files], 1, FIVE)
        assert found is None or str(found)


@pytest.mark.parametrize("margin", [0.0, 5e-324, 1e-200])
def test_no_margin_breaks_it(margin: float) -> None:
    here = latency(noise_floor=None)
    found = judged(CELL, [(here, here)], 1, margin)
    assert found is not None
    assert found.status == NOISY


def test_of_identical_code_hardly_any_run_gives_an_alarm_and_a_slower_cell_does() -> None:
    """Many cells, whose processes are 1 % apart by where they lie in memory, and whose intervals are right."""
    dice, cells, runs = random.Random(7), 20, 300
    alarms = caught = 0
    for _ in range(runs):
        drawn = [_drawn(dice, 0.0) for _ in range(cells)]
        alarms += any(status(each, tests=cells) == REGRESSION for each in drawn)
        caught += status(_drawn(dice, math.log(1.15)), tests=cells) == REGRESSION
    assert alarms <= 0.05 * runs
    assert caught >= 0.9 * runs


def _drawn(dice: random.Random, slower: float) -> Pair:
    reach = 0.02
    errors = [dice.gauss(0, reach / 1.96) + dice.gauss(0, 0.01) for _ in range(2)]
    return latency(errors[0], reach), latency(slower + errors[1], reach)


def test_a_training_step_is_judged_like_a_pass() -> None:
    before, after = (of_training(Training(held, 1.0, held, held * 0.99, held * 1.01)) for held in (1.0, 1.2))
    assert status((before, after)) == REGRESSION
    assert status((after, before)) == FINE
    assert of_training(Training(0.0, 1.0, 0.0, 0.0, 1.0)).speedup is None
    assert of_training(Training(0.0, 1.0, 5e-324, 5e-324, 5e-324)).speedup is None  # whose inverse is no number
