"""Orderings over several trainings: a sign needs tolerance and four errors, a sentence needs every training."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import orderings
from benchmarks.orderings import PAIRS, Pair, page, said, verdict
from sparsity import prune
from sparsity.errors import Refused
from sparsity.models import embedded
from sparsity.prune import Recipe
from sparsity.tasks import metrics, quality

GOOD, BAD = Recipe("l1", 0.5), Recipe("random", 0.5)


class FakeBench:
    """Knows the losses of each recipe on every document."""

    def __init__(self, losses: dict[Recipe, list[float]]) -> None:
        self.losses = losses

    def score(self, reference: str, task: str, recipe: Recipe) -> quality.Scores:
        if recipe not in self.losses:
            raise Refused("not on this model")
        values = np.asarray(self.losses[recipe])
        return quality.Scores("mean_nll", metrics.Estimate(float(values.mean()), 0.1), values, np.ones(len(values)))


@pytest.mark.parametrize(
    ("losses", "sign"),
    [
        ({GOOD: [1.0, 1.1, 0.9], BAD: [2.0, 2.1, 1.9]}, "+"),
        ({GOOD: [2.0, 2.1, 1.9], BAD: [1.0, 1.1, 0.9]}, "-"),
        ({GOOD: [1.0, 1.1, 0.9], BAD: [1.01, 1.11, 0.91]}, "="),  # certain, but within the tolerance
        ({GOOD: [1.0, 3.0, 1.0], BAD: [2.0, 1.0, 3.0]}, "="),  # beyond it, but not certain
        ({GOOD: [1.0, 1.1, 0.9]}, "?"),
    ],
)
def test_a_sign_needs_the_tolerance_and_four_errors(losses: dict[Recipe, list[float]], sign: str) -> None:
    bench = FakeBench(losses)
    assert verdict(Pair(GOOD, BAD), bench, "bert", "lm") == sign  # type: ignore[arg-type]  # a stand-in


def test_only_what_all_trainings_agree_on_is_said() -> None:
    assert said([["+", "+"], ["+", "-"], ["-", "-"], ["=", "="], ["+", "+"]]) == "2 better, 1 worse"
    assert said([["+", "="], ["=", "="]]) == "–"


def test_the_page_has_a_row_for_each_pair_and_a_sign_for_each_training() -> None:
    signs = {
        (pair, name, task): ["+", "=", "-"] for pair in PAIRS for name in embedded.NAMES for task in orderings.TASKS
    }
    rows = [line for line in page(signs, 3, 20).splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(PAIRS)
    assert all(row.count("+=-") == 6 for row in rows[1:])


def test_every_pair_can_be_asked_for_and_compares_two_things() -> None:
    assert len(set(map(str, PAIRS))) == len(PAIRS)
    for pair in PAIRS:
        assert pair.better != pair.worse
        assert not [r for r in pair if prune.refusal(r.method, r.pattern, r.scope)]
