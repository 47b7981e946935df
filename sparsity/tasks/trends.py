"""What a sparsity-versus-metric curve must look like, as rules that can fail.

Every rule takes a curve and gives sentences, one for each way in which the curve breaks it; none
means it holds. All comparisons are paired over documents and ask for both a tolerance and a
multiple of the standard error: pairing makes errors so small that significance alone means nothing.
Losses are positive when worse: nats per token, or a fraction of accuracy.

On generated reviews the rules are strict: what is not certain breaks them, since models, data and their
size are ours. On the user's own documents (`Scores.chance` says so) nothing is known of what a model may
lose, so there are `LAWS`: they scale by what the unpruned model knows beyond a guess, and only what is
certain breaks one. There a model may win by pruning, or be no better than a guess at some sparsity and by
luck of its favourite class at the next; so what is worse than a guess counts as a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sparsity.tasks.metrics import Estimate, ratio
from sparsity.tasks.quality import CHANCE, Scores, knows

TOLERANCE = {"mean_nll": 0.02, "accuracy": 0.01}
FLAT = {"mean_nll": 0.05, "accuracy": 0.01}
FAR = {"mean_nll": 0.5, "accuracy": 0.10}
FLAT_UNTIL, COLLAPSED_FROM, CHANCE_FROM = 0.3, 0.95, 0.99
STEP_ERRORS, HEAD_ERRORS, END_ERRORS = 4.0, 3.0, 6.0
"""Standard errors; four for steps, since a suite makes hundreds of such comparisons."""
CHANCE_ACCURACY = CHANCE
SMALL_PART, HALF = 0.25, 0.5
"""Of what the unpruned model knows beyond a guess."""


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
    """Better than the mean of three or more random masks of the same sparsity, by four standard errors.

    On the user's own documents merely not worse: broken where the masks know something, and certainly more.
    """
    numerators = np.mean([s.numerators for s in random], axis=0)
    mean = replace(random[0], numerators=numerators, estimate=ratio(numerators, random[0].denominators))
    gained = loss(mean, scores)
    if scores.chance is not None:
        behind = -gained.value - STEP_ERRORS * gained.stderr
        if knows(mean) and behind > TOLERANCE[scores.metric]:
            return [f"got {-gained.value:.4f} behind {len(random)} random masks, should be ahead"]
        return []
    least = STEP_ERRORS * gained.stderr
    if gained.value <= least:
        return [f"got a lead of {gained.value:.4f} over {len(random)} random masks, should be above {least:.4f}"]
    return []


def known(scores: Scores) -> float:
    """How much better than a guess, 0 at the least; of scores on the user's own documents."""
    assert scores.chance is not None
    value = scores.estimate.value
    return max(0.0, scores.chance - value if scores.metric == "mean_nll" else value - scores.chance)


def dense_beats_a_guess(curve: Sequence[Point]) -> list[str]:
    """The unpruned model is certain to do better than a guess; on one that does not, no curve means anything."""
    dense = curve[0].scores
    if knows(dense):
        return []
    got = f"dense got {dense.metric} {dense.estimate.value:.3f} ± {dense.estimate.stderr:.3f}"
    return [f"{got}, a guess {dense.chance:.3f}; look for the order of classes, or take more documents"]


def head_is_kept(curve: Sequence[Point]) -> list[str]:
    """Up to sparsity 0.3 at most a quarter of what dense knows is certain to be lost."""
    dense, broken = curve[0].scores, []
    most = max(FLAT[dense.metric], SMALL_PART * known(dense))
    for point in curve[1:]:
        lost = loss(point.scores, dense)
        certain = lost.value - HEAD_ERRORS * lost.stderr
        if point.sparsity <= FLAT_UNTIL and known(dense) and certain > most:
            broken.append(f"at {point.sparsity} got a loss of {certain:.4f} at least, should be at most {most:.4f}")
    return broken


def nothing_comes_back(curve: Sequence[Point]) -> list[str]:
    """From no point to the next is more than a quarter of what dense knows certain to come back."""
    dense, broken = curve[0].scores, []
    most = max(TOLERANCE[dense.metric], SMALL_PART * known(dense))
    for before, after in pairwise(curve):
        error = loss(before.scores, after.scores).stderr
        certain = known(after.scores) - known(before.scores) - STEP_ERRORS * error
        if known(dense) and certain > most:
            step = f"from {before.sparsity} to {after.sparsity}"
            broken.append(f"{step} got better by {certain:.4f} at least, should be at most {most:.4f}")
    return broken


def end_loses_half(curve: Sequence[Point]) -> list[str]:
    """From sparsity 0.95 on half of what dense knows is lost, or what counts as far, unless it is certain not to be."""
    dense, broken = curve[0].scores, []
    least = min(FAR[dense.metric], HALF * known(dense))
    for point in curve[1:]:
        if point.sparsity >= COLLAPSED_FROM and knows(dense):
            lost = loss(point.scores, dense)
            at_most = lost.value + STEP_ERRORS * lost.stderr
            if at_most < least:
                broken.append(f"at {point.sparsity} got a loss of {at_most:.4f} at most, should be above {least:.4f}")
    return broken


LAWS = (dense_beats_a_guess, end_loses_half)
"""Rules for the curve of every method on the user's own documents."""
INFORMED_LAWS = (head_is_kept, nothing_comes_back)
"""There, for a method that looks at single weights."""
ANY_METHOD = (dense_knows_the_task, never_better_than_dense, end_is_far_worse, end_is_at_chance)
"""Rules for the curve of every method."""
INFORMED = (head_is_flat, no_step_improves)
"""Rules only for a method that looks at single weights: whole groups are missed from the first, chance hurts
from the start, and one draw of masks varies from step to step by more than the documents' errors tell."""


def broken_rules(curve: Sequence[Point], informed: bool) -> list[str]:
    """Every way in which a curve breaks the rules, as "not so: rule: got …, should be …"; dense is its first point."""
    any_method, of_informed = (ANY_METHOD, INFORMED) if curve[0].scores.chance is None else (LAWS, INFORMED_LAWS)
    rules = any_method + of_informed if informed else any_method
    return [f"not so: {rule.__name__.replace('_', ' ')}: {sentence}" for rule in rules for sentence in rule(curve)]
