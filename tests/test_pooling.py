"""The mean with random effects: published values, values by hand, and laws that any such mean obeys."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.errors import BadValue
from sparsity.pooling import random_effects, student

KACKER = [61.0, 61.4, 62.21, 62.3, 62.34, 62.6, 62.7, 62.84, 65.9]
VARIANCES = [0.2025, 1.21, 0.09, 0.2025, 0.3844, 0.5625, 0.0676, 0.0225, 1.8225]
"""Selenium in milk powder, by nine methods (Kacker, Metrologia 41, 2004)."""
BCG = [
    -0.8893, -1.5854, -1.3481, -1.4416, -0.2175, -0.7861, -1.6209, 0.0120, -0.4694, -1.3713, -0.3394, 0.4459, -0.0173,
]  # fmt: skip
BCG_VARIANCES = [
    0.3256, 0.1946, 0.4154, 0.0200, 0.0512, 0.0069, 0.2230, 0.0040, 0.0564, 0.0730, 0.0124, 0.5325, 0.0714,
]  # fmt: skip
"""Logarithms of the relative risk of tuberculosis, vaccinated or not, in 13 trials (Colditz et al., JAMA 271, 1994)."""

values = st.lists(st.floats(-5, 5), min_size=2, max_size=8)
errors = st.floats(0.001, 2)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (4, 2.7764), (20, 2.0860), (21, 2.0796), (30, 2.0423), (120, 1.9799)]
)
def test_students_quantiles(degrees: int, quantile: float) -> None:
    assert student(degrees) == pytest.approx(quantile, abs=1e-4)


def test_the_published_example_of_paule_and_mandels_estimator() -> None:
    found = random_effects(KACKER, [math.sqrt(each) for each in VARIANCES])
    assert found.tau == pytest.approx(0.8399, abs=5e-5)  # Kacker's table 1
    assert found.tau**2 == pytest.approx(0.705395309, abs=1e-8)  # R's metafor, rma(method="PM"), as the next two
    assert found.value == pytest.approx(62.4076199113, abs=1e-9)
    assert found.stderr == pytest.approx(0.338030602684, abs=1e-9)
    assert found.half_width == pytest.approx(2.3060 * 0.338030602684, abs=1e-4)
    assert found.nodes == 9


def test_the_vaccine_that_every_textbook_pools() -> None:
    found = random_effects(BCG, [math.sqrt(each) for each in BCG_VARIANCES])
    assert found.tau**2 == pytest.approx(0.3181, abs=2e-4)


def test_two_nodes_by_hand() -> None:
    found = random_effects([0.0, 2.0], [0.5, 0.5])  # squares 2 / (0.25 + tau²) = 1
    assert found.tau**2 == pytest.approx(1.75)
    assert found.value == pytest.approx(1.0)
    assert found.stderr == pytest.approx(1.0)
    assert found.half_width == pytest.approx(12.7062)


@given(st.floats(-5, 5), st.lists(errors, min_size=2, max_size=8))
def test_nodes_that_agree_have_no_spread_and_their_mean_is_that_of_fixed_effects(
    value: float, stderrs: list[float]
) -> None:
    found = random_effects([value] * len(stderrs), stderrs)
    assert found.tau == 0
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.stderr == pytest.approx(1 / math.sqrt(sum(1 / each**2 for each in stderrs)))


@given(values, errors)
def test_the_interval_grows_with_the_spread(spread: list[float], stderr: float) -> None:
    before = random_effects(spread, [stderr] * len(spread))
    after = random_effects([2 * each for each in spread], [stderr] * len(spread))
    assert after.half_width >= before.half_width * (1 - 1e-9)
    assert after.tau >= before.tau * (1 - 1e-9)
    if before.tau > 0.01:
        assert after.half_width > 1.5 * before.half_width


@given(values, errors, st.floats(-3, 3), st.integers(0, 99))
def test_order_and_origin_do_not_matter(spread: list[float], stderr: float, moved: float, seed: int) -> None:
    stderrs = [stderr * (1 + i) for i in range(len(spread))]
    found = random_effects(spread, stderrs)
    places = list(range(len(spread)))
    random.Random(seed).shuffle(places)
    other = random_effects([spread[i] + moved for i in places], [stderrs[i] for i in places])
    assert other.value == pytest.approx(found.value + moved, abs=1e-6)
    assert other.tau == pytest.approx(found.tau, abs=1e-6)
    assert other.half_width == pytest.approx(found.half_width, 1e-6)
    assert min(spread) - 1e-9 <= found.value <= max(spread) + 1e-9


def test_a_single_node_is_itself() -> None:
    found = random_effects([0.7], [0.1])
    assert (found.value, found.stderr, found.tau, found.nodes) == (0.7, 0.1, 0.0, 1)
    assert found.half_width == pytest.approx(0.196)


def test_errors_of_0_pool_as_well() -> None:
    assert random_effects([1.0, 1.0], [0.0, 0.1]).tau == 0
    assert random_effects([1.0, 2.0], [0.0, 0.0]).tau == pytest.approx(math.sqrt(0.5))


def test_the_interval_covers_nineteen_times_in_twenty_where_nodes_differ() -> None:
    draw = random.Random(0)
    covered = 0
    for _ in range(1500):
        stderrs = [draw.uniform(0.01, 0.03) for _ in range(4)]
        found = random_effects([draw.gauss(draw.gauss(0.5, 0.1), stderr) for stderr in stderrs], stderrs)
        covered += abs(found.value - 0.5) <= found.half_width
    assert covered / 1500 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("given_", "stderrs"),
    [([], []), ([1.0], [0.1, 0.1]), ([math.nan], [0.1]), ([1.0], [math.inf]), ([1.0, 2.0], [0.1, -0.1])],
)
def test_what_is_no_estimate_is_refused(given_: list[float], stderrs: list[float]) -> None:
    with pytest.raises(BadValue):
        random_effects(given_, stderrs)
