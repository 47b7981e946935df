"""Which of several callables is fastest: a few calls of each by turns, those far behind left out early.

For choices, not for verdicts: no interval, and no more time than it takes to see what is clearly fastest.

Knows callables, nothing of pruning. Each must return only when its work is done.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Mapping

from sparsity.measure import duet
from sparsity.measure.duet import Call

MARGIN = 0.02
"""By which another must be faster than the reference to win."""
LEAST_TURNS, MOST_TURNS, SECONDS = 3, 25, 0.2
"""Between them, after so many seconds no further turn begins."""
SHORT = 3e-4
"""Calls that take less are timed several at a time."""
LONG = 0.02
"""A call of so many seconds is not doubled by another process that takes its core for a moment."""


def race(arms: Mapping[str, Call], seed: int = 0) -> dict[str, float]:
    """Median seconds of a call of each arm, by turns in shuffled order; without those that fell far behind.

    Between two calls of an arm the others are called: what it reads is as cold as where it is one part of many.
    The arms come warm.
    """
    chance, started = random.Random(seed), time.perf_counter()
    times = {name: [duet.seconds(arm)] for name, arm in arms.items()}
    calls = {name: max(1, math.ceil(SHORT / max(first, duet.TICK))) for name, (first,) in times.items()}
    for turn in range(1, MOST_TURNS):
        best = min(map(min, times.values()))
        if turn > 1 or best > LONG:
            times = {name: found for name, found in times.items() if min(found) <= best * (1 + 1 / turn)}
        if len(times) == 1 or (turn >= LEAST_TURNS and time.perf_counter() - started > SECONDS):
            break
        for name in chance.sample(list(times), len(times)):
            before = time.perf_counter()
            for _ in range(calls[name]):
                arms[name]()
            times[name].append((time.perf_counter() - before) / calls[name])
    return {name: statistics.median(found) for name, found in times.items()}


def winner(seconds: Mapping[str, float], reference: str) -> str:
    """The fastest of a race; the reference where it ran to the end and no other was clearly faster."""
    best = min(seconds, key=lambda name: seconds[name])
    return reference if reference in seconds and seconds[best] > (1 - MARGIN) * seconds[reference] else best
