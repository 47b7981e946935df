"""A test of the tests: curves that break the rules are caught, each by the rule it breaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sparsity.tasks import metrics, trends
from sparsity.tasks.quality import Scores

DOCUMENTS = 1000
SPARSITIES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
ACCURACIES = (0.95, 0.95, 0.95, 0.94, 0.90, 0.80, 0.60, 0.50, 0.50)
NLLS = (1.7, 1.7, 1.71, 1.75, 1.9, 2.4, 3.5, 5.0, 6.0)


def accuracy(value: float) -> Scores:
    """The first documents right, the rest wrong: nested, as the documents of real curves nearly are."""
    right = (np.arange(DOCUMENTS) < round(value * DOCUMENTS)).astype(np.float64)
    ones = np.ones(DOCUMENTS)
    return Scores("accuracy", metrics.ratio(right, ones), right, ones)


def nll(value: float) -> Scores:
    """Documents of 5 to 14 tokens whose losses scatter about the value."""
    tokens = np.asarray(5.0 + np.arange(DOCUMENTS) % 10, dtype=np.float64)
    scatter = np.asarray(0.3 * np.sin(np.arange(DOCUMENTS)), dtype=np.float64)
    losses = tokens * (value + scatter)
    return Scores("mean_nll", metrics.ratio(losses, tokens), losses, tokens)


def curve(metric: str, values: tuple[float, ...]) -> list[trends.Point]:
    make = accuracy if metric == "accuracy" else nll
    return [trends.Point(sparsity, make(value)) for sparsity, value in zip(SPARSITIES, values, strict=True)]


GOOD = {"accuracy": ACCURACIES, "mean_nll": NLLS}
BY_METRIC = pytest.mark.parametrize("metric", ["accuracy", "mean_nll"])


@BY_METRIC
def test_a_curve_as_it_should_be_breaks_no_rule(metric: str) -> None:
    assert trends.broken_rules(curve(metric, GOOD[metric]), informed=True) == []


@BY_METRIC
@pytest.mark.parametrize("swapped", [(4, 5), (5, 6), (6, 7), (1, 4)])
def test_two_points_swapped_are_caught(metric: str, swapped: tuple[int, int]) -> None:
    values = list(GOOD[metric])
    i, j = swapped
    values[i], values[j] = values[j], values[i]
    broken = trends.broken_rules(curve(metric, tuple(values)), informed=True)
    assert any(sentence.startswith("not so: no step improves: from") for sentence in broken), broken


@BY_METRIC
def test_a_flat_curve_is_caught(metric: str) -> None:
    flat = tuple(GOOD[metric][0] for _ in SPARSITIES)
    broken = trends.broken_rules(curve(metric, flat), informed=True)
    assert sum(sentence.startswith("not so: end is far worse") for sentence in broken) == 2, broken


@BY_METRIC
@pytest.mark.parametrize("position", [1, 3, 5])
@pytest.mark.parametrize("informed", [True, False])
def test_a_point_better_than_dense_is_caught_whatever_the_method(metric: str, position: int, informed: bool) -> None:
    values = list(GOOD[metric])
    values[position] = values[0] + (0.04 if metric == "accuracy" else -0.1)
    broken = trends.broken_rules(curve(metric, tuple(values)), informed)
    gained = "0.0400" if metric == "accuracy" else "0.1000"
    expected = f"not so: never better than dense: at {SPARSITIES[position]} got a gain of {gained}, should be at most "
    assert [sentence for sentence in broken if sentence.startswith(expected)], broken


@BY_METRIC
def test_a_gain_over_dense_within_the_tolerance_is_chance(metric: str) -> None:
    values = list(GOOD[metric])
    values[1] = values[0] + (0.009 if metric == "accuracy" else -0.019)
    assert trends.never_better_than_dense(curve(metric, tuple(values))) == []
    values[1] = values[0] + (0.04 if metric == "accuracy" else -0.021)
    assert len(trends.never_better_than_dense(curve(metric, tuple(values)))) == 1


def test_a_gain_over_dense_within_four_standard_errors_is_chance() -> None:
    """Some documents got better and some worse, so the difference of their counts says little."""
    dense = accuracy(0.5)
    for better, worse, count in ((240, 200, 0), (260, 160, 1)):  # errors of 0.021 and 0.020: gains of 0.04 and 0.10
        right = dense.numerators.copy()
        right[500 : 500 + better] = 1
        right[:worse] = 0
        scores = Scores("accuracy", metrics.ratio(right, dense.denominators), right, dense.denominators)
        found = trends.never_better_than_dense([trends.Point(0.0, dense), trends.Point(0.5, scores)])
        assert len(found) == count, found


@BY_METRIC
def test_a_curve_that_recovers_yet_never_beats_dense_breaks_no_rule_of_every_method(metric: str) -> None:
    values = list(GOOD[metric])
    values[3], values[6] = values[6], values[3]
    broken = trends.broken_rules(curve(metric, tuple(values)), informed=False)
    assert broken == []


def test_a_curve_at_chance_from_the_start_is_caught() -> None:
    broken = trends.broken_rules(curve("accuracy", tuple(0.5 for _ in SPARSITIES)), informed=True)
    assert any(s.startswith("not so: dense knows the task: dense got accuracy 0.500") for s in broken), broken


def test_a_ruined_language_model_from_the_start_is_caught() -> None:
    broken = trends.broken_rules(curve("mean_nll", tuple(6.0 for _ in SPARSITIES)), informed=True)
    assert any(s.startswith("not so: end is far worse") for s in broken), broken


@BY_METRIC
def test_a_loss_right_at_the_head_is_caught_for_informed_methods_alone(metric: str) -> None:
    values = list(GOOD[metric])
    values[1:3] = [values[5]] * 2
    values[3:5] = [values[5]] * 2
    broken = trends.broken_rules(curve(metric, tuple(values)), informed=True)
    assert [s.split(": ")[1] for s in broken] == ["head is flat", "head is flat"]
    assert "at 0.1 got a loss of" in broken[0]
    assert trends.broken_rules(curve(metric, tuple(values)), informed=False) == []


def test_an_end_above_or_below_chance_is_caught() -> None:
    for value in (0.6, 0.4):
        broken = trends.broken_rules(curve("accuracy", (*ACCURACIES[:-1], value)), informed=False)
        expected = f"not so: end is at chance: at 0.99 got accuracy {value:.3f}, should be 0.5"
        assert any(sentence.startswith(expected) for sentence in broken), broken


@BY_METRIC
def test_a_gain_within_chance_is_no_improvement(metric: str) -> None:
    values = list(GOOD[metric])
    values[3] = values[2] + (0.009 if metric == "accuracy" else -0.015)
    assert trends.no_step_improves(curve(metric, tuple(values))) == []


def test_rules_hold_only_where_there_are_points() -> None:
    assert trends.broken_rules(curve("accuracy", ACCURACIES)[:6], informed=True) == []


def test_no_lead_over_random_masks_is_caught() -> None:
    assert trends.beats_random(accuracy(0.94), [accuracy(0.70), accuracy(0.65), accuracy(0.60)]) == []
    broken = trends.beats_random(accuracy(0.66), [accuracy(0.70), accuracy(0.65), accuracy(0.62)])
    assert len(broken) == 1
    assert "over 3 random masks" in broken[0]
    assert trends.beats_random(nll(1.9), [nll(3.0), nll(3.5), nll(4.0)]) == []
    assert trends.beats_random(nll(3.6), [nll(3.0), nll(3.5), nll(4.0)])


def test_a_loss_is_positive_when_worse_in_both_metrics() -> None:
    assert trends.loss(accuracy(0.8), accuracy(0.9)).value == pytest.approx(0.1)
    assert trends.loss(nll(2.0), nll(1.5)).value == pytest.approx(0.5)


# -- the user's own documents ---------------------------------------------------------------------------------


def own(curve_: list[trends.Point], chance: float) -> list[trends.Point]:
    """The same curve on documents of which nothing is known but what a guess scores."""
    return [point._replace(scores=replace(point.scores, chance=chance)) for point in curve_]


CHANCE = {"accuracy": 0.5, "mean_nll": 7.0}


@BY_METRIC
def test_a_curve_as_it_should_be_breaks_no_law(metric: str) -> None:
    assert trends.broken_rules(own(curve(metric, GOOD[metric]), CHANCE[metric]), informed=True) == []


def test_little_above_the_most_frequent_class_is_enough_where_it_is_certain() -> None:
    values = (0.77, 0.77, 0.765, 0.75, 0.70, 0.69, 0.69, 0.69, 0.31)  # of 69 % of one class; at last always the other
    assert trends.broken_rules(own(curve("accuracy", values), 0.69), informed=True) == []
    assert trends.broken_rules(curve("accuracy", values), informed=True) != [], "on balanced reviews the end is chance"


@BY_METRIC
def test_a_dense_model_that_only_guesses_breaks_a_law(metric: str) -> None:
    values = tuple(CHANCE[metric] for _ in SPARSITIES)
    broken = trends.broken_rules(own(curve(metric, values), CHANCE[metric]), informed=True)
    assert [sentence.split(": ")[1] for sentence in broken] == ["dense beats a guess"]
    assert "look for the order of classes" in broken[0]


@BY_METRIC
def test_a_model_that_loses_nothing_at_the_end_breaks_a_law(metric: str) -> None:
    flat = tuple(GOOD[metric][0] for _ in SPARSITIES)
    for informed in (True, False):
        broken = trends.broken_rules(own(curve(metric, flat), CHANCE[metric]), informed)
        assert [sentence.split(": ")[1] for sentence in broken] == ["end loses half"] * 2


def test_a_loss_of_half_of_what_was_known_is_enough_at_the_end() -> None:
    values = (0.74, 0.74, 0.74, 0.73, 0.72, 0.71, 0.70, 0.70, 0.70)  # it could not lose ten points
    assert trends.broken_rules(own(curve("accuracy", values), 0.69), informed=True) == []


@BY_METRIC
def test_a_loss_right_at_the_head_breaks_a_law_of_informed_methods(metric: str) -> None:
    values = list(GOOD[metric])
    values[1:5] = [GOOD[metric][-1]] * 4
    values[5] = GOOD[metric][-1]
    points = own(curve(metric, tuple(values)), CHANCE[metric])
    broken = trends.broken_rules(points, informed=True)
    assert sum("head is kept" in sentence for sentence in broken) == 2, broken
    assert not any("head is kept" in sentence for sentence in trends.broken_rules(points, informed=False))


@BY_METRIC
def test_what_comes_back_breaks_a_law_but_not_below_a_guess(metric: str) -> None:
    values = list(GOOD[metric])
    values[5], values[4] = values[4], GOOD[metric][-1]
    broken = trends.broken_rules(own(curve(metric, tuple(values)), CHANCE[metric]), informed=True)
    assert any("nothing comes back: from 0.7 to 0.8" in sentence for sentence in broken), broken
    worse_than_a_guess = {"accuracy": 0.2, "mean_nll": 11.0}[metric]
    values = [*GOOD[metric][:6], worse_than_a_guess, *[CHANCE[metric]] * 2]
    assert trends.nothing_comes_back(own(curve(metric, tuple(values)), CHANCE[metric])) == []


def test_pruning_may_make_a_model_better_on_own_documents() -> None:
    values = (0.80, 0.82, 0.82, 0.80, 0.76, 0.72, 0.6, 0.5, 0.5)
    assert trends.broken_rules(own(curve("accuracy", values), 0.5), informed=True) == []
    assert any("never better" in s for s in trends.broken_rules(curve("accuracy", values), informed=True))


def test_random_masks_that_only_guess_are_not_ahead() -> None:
    def of(value: float) -> Scores:
        return replace(accuracy(value), chance=0.69)

    assert trends.beats_random(of(0.31), [of(0.69)] * 3) == [], "another favourite class"
    assert trends.beats_random(of(0.75), [of(0.75)] * 3) == []
    assert trends.beats_random(of(0.72), [of(0.85)] * 3)
