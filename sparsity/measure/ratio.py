"""A ratio of times with its exact interval, and the verdict on it.

The estimate is the median of the logarithms of block ratios; the interval is that of order statistics
(the sign test's), which holds at every number of blocks and for any distribution of the noise, where a
bootstrap of so few blocks covers too little. No interval exists for fewer than six blocks at 95 %.

A verdict is taken once, at the end: whoever measures until the interval clears the margin finds
differences between identical things.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sparsity.record import WITHHELD

CONFIDENCE = 0.95
LEAST_BLOCKS = 6
"""With fewer, even the widest interval of order statistics covers less than 95 %."""
MARGIN = 0.03
"""A difference up to this much counts as the same: what layout of a process in memory alone can make."""
NOISY = 0.05
"""A noise floor above this withholds all verdicts."""
MEDIAN_ERROR = 1.96 * 1.253
"""Half of a 95 % interval of a median, in standard deviations over the root of the number of values."""
TOO_MANY = 1_000_000
"""Blocks beyond which it makes no difference how many."""


@dataclass(frozen=True)
class Ratio:
    """Time of the subject over that of the reference; above 1 is slower."""

    value: float
    low: float
    high: float
    blocks: int
    scatter: float
    """Robust standard deviation of the logarithms of block ratios."""

    @property
    def floor(self) -> float:
        """How far from 1 the interval reaches, as a fraction: for a thing against itself, the noise floor."""
        return math.exp(max(abs(math.log(self.low)), abs(math.log(self.high)))) - 1.0


def ratio(logarithms: Sequence[float]) -> Ratio:
    """The ratio out of the logarithms of at least `LEAST_BLOCKS` block ratios."""
    low, high = median_interval(logarithms)
    middle = statistics.median(logarithms)
    return Ratio(math.exp(middle), math.exp(low), math.exp(high), len(logarithms), scatter(logarithms))


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The narrowest pair of order statistics that covers the median with the confidence, whatever the distribution.

    Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2. Raises `ValueError` for too few values.
    """
    ordered, size = sorted(values), len(values)
    rank, below = 0, 0.0  # below: chance that fewer than `rank + 1` values lie under the median
    while (below := below + math.comb(size, rank) * 0.5**size) <= (1 - confidence) / 2:
        rank += 1
    if not rank:
        raise ValueError(f"{size} values have no {confidence:.0%} interval of their median")
    return ordered[rank - 1], ordered[size - rank]


def scatter(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute deviation, which a few outliers do not move."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)


@dataclass(frozen=True)
class Verdict:
    """What can be said of a ratio."""

    verdict: str
    """`faster`, `same`, `slower` or `inconclusive`."""
    margin: float
    reason: str | None = None
    """Why it is inconclusive."""
    more_blocks: int | None = None
    """About how many more blocks would settle it, at this scatter."""


def judge(found: Ratio, noise_floor: float) -> Verdict:
    """The interval against the margin, `max(MARGIN, noise_floor)`."""
    margin = max(MARGIN, noise_floor)
    if noise_floor > NOISY:
        reason = (
            f"{WITHHELD}the unpruned model differs from its own copy by up to {noise_floor:.1%}, more than {NOISY:.0%}"
        )
        return Verdict("inconclusive", margin, reason)
    if found.high < 1 / (1 + margin):
        return Verdict("faster", margin)
    if found.low > 1 + margin:
        return Verdict("slower", margin)
    if found.low >= 1 / (1 + margin) and found.high <= 1 + margin:
        return Verdict("same", margin)
    more = blocks_to_settle(found, margin) - found.blocks
    about = f"about {more} more blocks" if more < TOO_MANY else "no number of blocks"
    straddles = f"[{found.low:.3f}, {found.high:.3f}] straddles the margin of {margin:.1%}"
    return Verdict("inconclusive", margin, f"{straddles}; {about} would settle it", more if more < TOO_MANY else None)


def blocks_to_settle(found: Ratio, margin: float) -> int:
    """Blocks after which the interval, at this scatter, would lie on one side of the nearer margin."""
    away = min(abs(math.log(found.value) - side * math.log1p(margin)) for side in (-1, 1))
    half = math.log(found.high / found.low) / 2  # what was reached, should the scatter promise more than it kept
    deviation = max(found.scatter, half * math.sqrt(found.blocks) / MEDIAN_ERROR)
    if deviation == 0 or away < MEDIAN_ERROR * deviation / math.sqrt(2 * TOO_MANY):
        return 2 * TOO_MANY
    return max(math.ceil((MEDIAN_ERROR * deviation / away) ** 2), found.blocks + 2)
