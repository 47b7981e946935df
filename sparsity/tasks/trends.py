"""What a sparsity-versus-metric curve must look like, as rules that can fail.

Every rule takes a curve and gives sentences, one for each way in which the curve breaks it; none
means it holds. All comparisons are paired over documents and ask for both a tolerance and a
multiple of the standard error: pairing makes errors so small that significance alone means nothing.
Losses are positive when worse: nats per token, or a fraction of accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sparsity.tasks.metrics import Estimate, ratio
from sparsity.tasks.quality import Scores

TOLERANCE = {"mean_nll": 0.02, "accuracy": 0.01}
FLAT = {"mean_nll": 0.05, "accuracy": 0.01}
FAR = {"mean_nll": 0.5, "accuracy": 0.10}
FLAT_UNTIL, COLLAPSED_FROM, CHANCE_FROM = 0.3, 0.95, 0.99
STEP_ERRORS, HEAD_ERRORS, END_ERRORS = 4.0, 3.0, 6.0
"""Standard errors; four for steps, since a suite makes hundreds of such comparisons."""
CHANCE_ACCURACY = 0.5


class Point(NamedTuple):
    """One point of a curve."""

    sparsity: float
    scores: Scores


def loss(scores: Scores, reference: Scores) -> Estimate:
    """How much worse than the reference, over the same documents, with its paired standard error."""
    sign = 1.0 if scores.metric == "mean_nll" else -1.0
    return ratio(sign * (scores.numerators - reference.numerators), reference.denominators)


def head_is_flat(curve: Sequence[Point]) -> list[str]:
    """Up to sparsity 0.3 nothing is lost beyond the tolerance and three standard errors."""
    dense, broken = curve[0].scores, []
    for point in curve[1:]:
        if point.sparsity <= FLAT_UNTIL:
            lost = loss(point.scores, dense)
            allowed = FLAT[dense.metric] + HEAD_ERRORS * lost.stderr
            if lost.value > allowed:
                broken.append(f"at {point.sparsity} got a loss of {lost.value:.4f}, should be at most {allowed:.4f}")
    return broken


def no_step_improves(curve: Sequence[Point]) -> list[str]:
    """From no point to the next does the metric improve beyond max(tolerance, four standard errors)."""
    broken = []
    for before, after in pairwise(curve):
        gained = loss(before.scores, after.scores)
        allowed = max(TOLERANCE[before.scores.metric], STEP_ERRORS * gained.stderr)
        if gained.value > allowed:
            broken.append(
                f"from {before.sparsity} to {after.sparsity} got better by {gained.value:.4f}, "
                f"should be at most {allowed:.4f}"
            )
    return broken


def end_is_far_worse(curve: Sequence[Point]) -> list[str]:
    """From sparsity 0.95 on, far worse than dense: by half a nat or ten points, and six standard errors."""
    dense, broken = curve[0].scores, []
    for point in curve:
        if point.sparsity >= COLLAPSED_FROM:
            lost = loss(point.scores, dense)
            least = max(FAR[dense.metric], END_ERRORS * lost.stderr)
            if lost.value <= least:
                broken.append(f"at {point.sparsity} got a loss of {lost.value:.4f}, should be above {least:.4f}")
    return broken


def end_is_at_chance(curve: Sequence[Point]) -> list[str]:
    """From sparsity 0.99 on, accuracy is within four standard errors of chance (the documents are balanced)."""
    broken = []
    for point in curve:
        if point.scores.metric == "accuracy" and point.sparsity >= CHANCE_FROM:
            allowed = STEP_ERRORS * (CHANCE_ACCURACY * (1 - CHANCE_ACCURACY) / len(point.scores.numerators)) ** 0.5
            value = point.scores.estimate.value
            if abs(value - CHANCE_ACCURACY) > allowed:
                should = f"should be {CHANCE_ACCURACY} ± {allowed:.3f}"
                broken.append(f"at {point.sparsity} got accuracy {value:.3f}, {should}")
    return broken


def dense_knows_the_task(curve: Sequence[Point]) -> list[str]:
    """The dense classifier is far above chance; on one that is not, no curve means anything."""
    scores = curve[0].scores
    least = CHANCE_ACCURACY + max(FAR["accuracy"], END_ERRORS * scores.estimate.stderr)
    if scores.metric == "accuracy" and scores.estimate.value <= least:
        return [f"dense got accuracy {scores.estimate.value:.3f}, should be above {least:.3f}"]
    return []


def never_better_than_dense(curve: Sequence[Point]) -> list[str]:
    """At no point is the metric better than dense beyond max(tolerance, four standard errors)."""
    dense, broken = curve[0].scores, []
    for point in curve[1:]:
        gained = loss(dense, point.scores)
        allowed = max(TOLERANCE[dense.metric], STEP_ERRORS * gained.stderr)
        if gained.value > allowed:
            broken.append(f"at {point.sparsity} got a gain of {gained.value:.4f}, should be at most {allowed:.4f}")
    return broken


def beats_random(scores: Scores, random: Sequence[Scores]) -> list[str]:
    """Better than the mean of three or more random masks of the same sparsity, by four standard errors."""
    mean = replace(random[0], numerators=np.mean([s.numerators for s in random], axis=0))
    gained = loss(mean, scores)
    least = STEP_ERRORS * gained.stderr
    if gained.value <= least:
        return [f"got a lead of {gained.value:.4f} over {len(random)} random masks, should be above {least:.4f}"]
    return []


ANY_METHOD = (dense_knows_the_task, never_better_than_dense, end_is_far_worse, end_is_at_chance)
"""Rules for the curve of every method."""
INFORMED = (head_is_flat, no_step_improves)
"""Rules only for a method that looks at single weights: whole groups are missed from the first, chance hurts
from the start, and one draw of masks varies from step to step by more than the documents' errors tell."""


def broken_rules(curve: Sequence[Point], informed: bool) -> list[str]:
    """Every way in which a curve breaks the rules, as "not so: rule: got …, should be …"; dense is its first point."""
    rules = ANY_METHOD + INFORMED if informed else ANY_METHOD
    return [f"not so: {rule.__name__.replace('_', ' ')}: {sentence}" for rule in rules for sentence in rule(curve)]
