"""One estimate out of those of several nodes: a mean with random effects. Standard library only.

What a node measures scatters by the error within it, and nodes differ among themselves by more than that: each has its
own true value, drawn from those of all nodes that could have been taken. The spread between them, tau, is Paule and
Mandel's (Consensus values and weighting factors, J. Res. NBS 87, 1982): the one at which the weighted squares about the
mean sum to what they should, the number of nodes less 1. The interval is Hartung and Knapp's (Statistics in Medicine
20, 2001), of Student's t, and never narrower than without their factor (Knapp and Hartung, Statistics in Medicine 22,
2003), which at Paule and Mandel's tau it would be only where the nodes agree better than their errors allow. Of two
nodes it is wide, and rightly: a spread is not known from two.

Refuses values without errors for each, and an error that is negative or no number.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sparsity.errors import BadValue
from sparsity.judging import CONFIDENCE

NORMAL_95 = 1.959964
STUDENT_95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
)  # fmt: skip
"""Of a two-sided 95 % interval, by degrees of freedom from 1 on."""
LEAST_ERROR = 1e-9
"""An error of 0 would leave the others no weight; of logarithms this is none that a clock could tell."""
HALVINGS = 200
"""Of the interval in which tau lies; floats have fewer bits."""


@dataclass(frozen=True)
class Pooled:
    """The mean over nodes, in the unit of the values."""

    value: float
    stderr: float
    half_width: float
    """Of the 95 % interval."""
    tau: float
    """Standard deviation between nodes, the errors within them taken out; 0 of a single one."""
    nodes: int


def logarithm(value: float, low: float, high: float) -> tuple[float, float]:
    """A ratio with its 95 % interval, all above 0, as a logarithm and its standard error."""
    return math.log(value), abs(math.log(high) - math.log(low)) / (2 * CONFIDENCE)


def mean(values: Sequence[float], stderrs: Sequence[float]) -> tuple[float, float, bool]:
    """(mean, its standard error, whether the values scatter by more than their errors).

    The error is that of the errors within, or of the scatter between where that is larger.
    """
    within = statistics.fmean(stderr**2 for stderr in stderrs)
    between = statistics.variance(values) if len(values) > 1 else 0.0
    return statistics.fmean(values), math.sqrt(max(within, between) / len(values)), between > within


def random_effects(values: Sequence[float], stderrs: Sequence[float]) -> Pooled:
    """The mean of each node's value, whose standard error within the node is that of the same place.

    Of a single node it is that node's own, with a normal interval. Raises `BadValue` as the module says.
    """
    if not values or len(values) != len(stderrs):
        raise BadValue(f"{len(values)} values with {len(stderrs)} standard errors; give one of each for each node")
    if bad := [each for each in (*values, *stderrs) if not math.isfinite(each)] + [e for e in stderrs if e < 0]:
        raise BadValue(f"{bad[0]} is no value, or no standard error; give finite ones, and errors of 0 and more")
    if len(values) == 1:
        return Pooled(values[0], stderrs[0], CONFIDENCE * stderrs[0], 0.0, 1)
    variances = [max(stderr, LEAST_ERROR) ** 2 for stderr in stderrs]
    between = _between(values, variances)
    mean, squares, weight = _weighted(values, variances, between)
    stderr = math.sqrt(max(1.0, squares / (len(values) - 1)) / weight)
    return Pooled(mean, stderr, student(len(values) - 1) * stderr, math.sqrt(between), len(values))


def _weighted(values: Sequence[float], variances: Sequence[float], between: float) -> tuple[float, float, float]:
    """(mean, weighted squares about it, sum of the weights) with so much variance between nodes."""
    weights = [1 / (variance + between) for variance in variances]
    mean = math.fsum(w * value for w, value in zip(weights, values, strict=True)) / math.fsum(weights)
    squares = math.fsum(w * (value - mean) ** 2 for w, value in zip(weights, values, strict=True))
    return mean, squares, math.fsum(weights)


def _between(values: Sequence[float], variances: Sequence[float]) -> float:
    """Paule and Mandel's tau squared; 0 where the errors within nodes explain all that is seen."""
    wanted = len(values) - 1
    if _weighted(values, variances, 0.0)[1] <= wanted:
        return 0.0
    low, high = 0.0, statistics.variance(values)  # there the squares are too few, whatever the errors
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _weighted(values, variances, middle)[1] > wanted else (low, middle)
    return high


def student(degrees: int) -> float:
    """The quantile of a two-sided 95 % interval."""
    if degrees <= len(STUDENT_95):
        return STUDENT_95[degrees - 1]
    z, n = NORMAL_95, 4.0 * degrees  # the expansion in 1 / degrees, right to four places from here on
    terms = (z**3 + z, (5 * z**5 + 16 * z**3 + 3 * z) / 6, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 6)
    return z + sum(term / n ** (i + 1) for i, term in enumerate(terms))
