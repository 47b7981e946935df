"""Is a cell slower than the same cell of a baseline? A ratio of ratios, with an interval.

Each run timed the pruned model in turns with the unpruned one, so what is compared between runs is that ratio and never
seconds: d = log(pruned / dense) now - the same before, above 0 is slower. This is the ratio of ratios of Kalibera and
Jones (Rigorous benchmarking in reasonable time, ISMM 2013), who say too where to repeat: at the level that varies most.
That is the process. The same code in a fresh process is faster or slower by where its memory happens to lie and by what
the machine does meanwhile, and the interval of one process knows nothing of it: over 21 processes on two shared cores
the ratios of dense models scattered by 0.4 to 0.9 % (standard deviation), those of packed ones by 1.4 and 2.3 %. Of the
20 comparisons of neighbours one was a false alarm at a margin of 5 %, and three were too noisy; one was too noisy at
7.5 %; none at 10 %. Hence a margin, 7.5 % unless told otherwise (a quiet machine of one's own may do with less), and
never less than the noise floors of both runs; and hence several pairs of runs in fresh processes, whose spread is then
part of the error and all of which must agree.

False alarms are what ends the use of such gates: users of thresholds on plain times report that every second benchmark
of identical code drifts by more than 5 %. So a regression is said only where the whole interval, widened so that all
cells of a run together have a chance of 5 % of one false alarm, lies beyond the margin; no regression only where the
95 % interval lies within it; all else is too noisy to tell, and is told as that.

Not seen: what slows both arms alike, such as a slower product of dense matrices. The ratio is made not to see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparsity import pooling
from sparsity.gate import FINE, NOISY, Finding, critical, incomparable, percent, regression
from sparsity.judging import CONFIDENCE
from sparsity.record import Cell, Latency, Training

MARGIN = 0.075
"""Slower by up to this much is not slower, a fraction."""
HOPELESS = 100
"""Times as long a measurement beyond which it is not worth naming."""
LARGEST = 700.0
"""A logarithm, of what still is a number."""
Pair = tuple[Latency, Latency]
"""Of one cell: in the baseline, and in the run that is compared with it."""


@dataclass(frozen=True)
class Change:
    """How the ratio to dense has changed, as a logarithm; above 0 is slower."""

    value: float
    stderr: float
    least: float
    """Of all pairs of runs."""
    pairs: int
    scattered: bool
    """Whether processes differ by more than the error within each."""

    @property
    def reach(self) -> float:
        """Half of the 95 % interval."""
        return CONFIDENCE * self.stderr

    def __str__(self) -> str:
        """`+8.1 % [+6.0 %, +10.2 %]`."""
        found = (self.value, self.value - self.reach, self.value + self.reach)
        value, low, high = (percent(math.expm1(min(each, LARGEST))) for each in found)
        return f"{value} [{low}, {high}]"


def change(pairs: Sequence[Pair]) -> Change | None:
    """Over all pairs of runs; None where a latency has no interval."""
    differences, errors = [], []
    for base, head in pairs:
        before, after = _logarithm(base), _logarithm(head)
        if before is None or after is None:
            return None
        differences.append(before[0] - after[0])
        errors.append(math.hypot(before[1], after[1]))
    value, stderr, scattered = pooling.mean(differences, errors)
    return Change(value, stderr, min(differences), len(pairs), scattered)


def of_training(training: Training) -> Latency:
    """A training step as if it were a forward pass: that which holds masks beside that which holds none."""
    held = training.held_seconds
    step = Latency(held, held, held, 1, "inconclusive", dense_seconds=training.free_seconds)
    if not (training.ratio and training.low and training.high):
        return step
    speedup, low, high = (1 / each for each in (training.ratio, training.high, training.low))
    if not all(map(math.isfinite, (speedup, low, high))):  # of a file that nobody measured
        return step
    return replace(step, speedup=speedup, low=low, high=high)


def _logarithm(latency: Latency) -> tuple[float, float] | None:
    """log(dense / pruned) and its standard error."""
    if not latency.speedup or not latency.low or not latency.high:
        return None
    return pooling.logarithm(latency.speedup, latency.low, latency.high)


def judged(cell: Cell, pairs: Sequence[Pair], tests: int, least_margin: float = MARGIN) -> Finding | None:
    """What a cell's time has become, one of so many; None where it is certain to be within the margin."""
    found = change(pairs)
    if found is None:
        return incomparable(cell, "latency without a ratio to dense and its interval")
    if withheld := next((each.reason for pair in pairs for each in pair if each.withheld), None):
        return Finding(NOISY, "noisy", str(cell), f"time {found} was measured in too much noise ({withheld})")
    margin = max(least_margin, *(each.noise_floor or 0.0 for pair in pairs for each in pair))
    limit, beside = math.log1p(margin), f"the margin of {100 * margin:.1f} %"
    certain = found.value - max(CONFIDENCE, critical(tests)) * found.stderr
    if found.least > limit and certain > limit:
        return regression(cell, f"time {found}, beyond {beside}")
    if found.value + found.reach > limit:
        return Finding(NOISY, "noisy", str(cell), f"time {found} straddles {beside}; {_remedy(found, limit)}")
    if found.value + found.reach < -limit:
        return Finding(FINE, "faster", str(cell), f"time {found}, beyond {beside}")
    return None


def _remedy(found: Change, limit: float) -> str:
    """How much more must be measured until the interval lies within the limit, at this scatter."""
    room = limit - found.value
    if room <= 0:
        return "it is too near the margin; measure more pairs of runs, for --again"
    if (times := found.reach / room) > math.sqrt(HOPELESS):
        return f"more than {HOPELESS} times the --time-per-cell would be needed"
    factor = times**2
    if found.scattered:
        return f"about {math.ceil(found.pairs * factor)} pairs of runs would settle it"
    return f"about {math.ceil(factor)} times the --time-per-cell would settle it"
