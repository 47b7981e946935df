"""A ratio's interval is exact, and a verdict says only what the interval shows."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.measure import ratio
from sparsity.measure.ratio import Ratio, judge, median_interval

LOGARITHMS = st.lists(st.floats(-1, 1), min_size=6, max_size=40)


def covered(size: int, rank: int) -> float:
    """Chance that the order statistics `rank` and `size + 1 - rank` enclose the median."""
    outside: int = sum(math.comb(size, below) for below in range(rank))
    return 1.0 - 2.0 * outside / 2.0**size


@pytest.mark.parametrize(
    ("size", "rank"), [(6, 1), (7, 1), (8, 1), (9, 2), (12, 3), (16, 4), (20, 6), (25, 8), (30, 10), (60, 22)]
)
def test_the_ranks_are_those_of_the_sign_test(size: int, rank: int) -> None:
    low, high = median_interval([float(value) for value in range(1, size + 1)])
    assert (low, high) == (rank, size + 1 - rank)
    assert covered(size, rank) >= 0.95 > covered(size, rank + 1)


@pytest.mark.parametrize("size", range(1, 6))
def test_too_few_values_have_no_interval(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} values have no 95% interval"):
        median_interval([0.0] * size)
    assert size < ratio.LEAST_BLOCKS


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    chance, hits, trials = random.Random(0), 0, 2000
    for _ in range(trials):
        low, high = median_interval([chance.expovariate(1.0) for _ in range(16)])
        hits += low <= math.log(2) <= high
    assert 0.945 < hits / trials < 0.99  # 97.9 % by the binomial distribution


@given(LOGARITHMS)
def test_a_ratio_lies_in_its_interval(logarithms: list[float]) -> None:
    found = ratio.ratio(logarithms)
    assert found.low <= found.value <= found.high
    assert found.blocks == len(logarithms)
    assert found.floor >= 0


@given(LOGARITHMS)
def test_swapped_arms_give_the_reciprocal(logarithms: list[float]) -> None:
    found, swapped = ratio.ratio(logarithms), ratio.ratio([-value for value in logarithms])
    assert swapped.value == pytest.approx(1 / found.value)
    assert (swapped.low, swapped.high) == pytest.approx((1 / found.high, 1 / found.low))
    assert swapped.floor == pytest.approx(found.floor)
    opposite = {"faster": "slower", "slower": "faster"}
    said = judge(found, 0.0).verdict
    assert judge(swapped, 0.0).verdict in (opposite.get(said, said), "inconclusive") or said == "inconclusive"


def test_scatter_is_a_standard_deviation_that_outliers_do_not_move() -> None:
    chance = random.Random(1)
    values = [chance.gauss(0, 0.01) for _ in range(4000)]
    assert ratio.scatter(values) == pytest.approx(0.01, rel=0.05)
    assert ratio.scatter([*values, *[9.0] * 40]) == pytest.approx(0.01, rel=0.05)


def test_the_noise_floor_is_the_far_end_of_the_interval_in_either_direction() -> None:
    assert Ratio(1.0, 0.98, 1.01, 16, 0.01).floor == pytest.approx(1 / 0.98 - 1)
    assert Ratio(1.0, 0.99, 1.04, 16, 0.01).floor == pytest.approx(0.04)


def between(low: float, high: float) -> Ratio:
    return Ratio(math.sqrt(low * high), low, high, 16, 0.01)


@pytest.mark.parametrize(
    ("low", "high", "floor", "expected"),
    [
        (0.99, 1.01, 0.0, "same"),
        (0.98, 1.03, 0.0, "same"),
        (1.031, 1.2, 0.0, "slower"),
        (0.5, 0.97, 0.0, "faster"),
        (1.02, 1.05, 0.0, "inconclusive"),
        (0.95, 0.99, 0.0, "inconclusive"),
        (0.90, 1.10, 0.0, "inconclusive"),
        (1.031, 1.2, 0.04, "inconclusive"),
        (1.041, 1.2, 0.04, "slower"),
        (0.97, 1.035, 0.04, "same"),
        (1.031, 1.2, 0.02, "slower"),  # a quiet machine does not narrow the margin
    ],
)
def test_the_verdict_is_the_interval_against_the_margin(low: float, high: float, floor: float, expected: str) -> None:
    said = judge(between(low, high), floor)
    assert said.verdict == expected
    assert said.margin == max(0.03, floor)
    assert (said.reason is None) == (expected != "inconclusive")


@pytest.mark.parametrize(("low", "high"), [(2.0, 3.0), (0.2, 0.3), (0.999, 1.001)])
def test_on_a_noisy_machine_every_verdict_is_withheld(low: float, high: float) -> None:
    said = judge(between(low, high), 0.051)
    assert said.verdict == "inconclusive"
    assert said.reason is not None
    assert said.reason.startswith("noisy: the unpruned model differs from its own copy by up to 5.1%")
    assert judge(between(low, high), 0.05).verdict != "inconclusive"


def test_inconclusive_says_how_many_more_blocks_would_settle_it() -> None:
    said = judge(Ratio(1.05, 1.02, 1.08, 16, 0.05), 0.0)
    away = math.log(1.05) - math.log(1.03)
    assert said.more_blocks == math.ceil((1.96 * 1.253 * 0.05 / away) ** 2) - 16
    assert (
        said.reason
        == f"[1.020, 1.080] straddles the margin of 3.0%; about {said.more_blocks} more blocks would settle it"
    )


def test_at_the_margin_itself_no_number_of_blocks_helps() -> None:
    said = judge(Ratio(1.03, 1.01, 1.05, 16, 0.03), 0.0)
    assert said.more_blocks is None
    assert "no number of blocks" in str(said.reason)


def test_blocks_to_settle_really_settle_it() -> None:
    chance = random.Random(3)

    def measured(blocks: int) -> Ratio:
        return ratio.ratio([chance.gauss(math.log(1.05), 0.05) for _ in range(blocks)])

    assert [judge(measured(16), 0.0).verdict for _ in range(50)].count("inconclusive") >= 25
    needed = ratio.blocks_to_settle(Ratio(1.05, 1.025, 1.075, 16, 0.05), 0.03)
    settled = [judge(measured(needed), 0.0).verdict for _ in range(50)]
    assert settled.count("slower") >= 20  # about half: the interval then just touches the margin
    assert statistics.mode(judge(measured(4 * needed), 0.0).verdict for _ in range(20)) == "slower"
