"""What is timed: a callable that returns only when the work is done.

CUDA returns before the device has finished, so a timer around a bare call measures the launch. Here
the device is synchronised once, at the end of the call; what was queued before is waited for by
`warm_up`. Knows callables, nothing of pruning.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")

WARM_UP_CALLS, WARM_UP_SECONDS = 3, 0.1
"""The least of both before anything is timed: allocator, caches, threads and kernel choices settle."""
TIMED_CALLS, TIMED_SECONDS = 10, 0.3
"""Timed calls: at least so many, and for at least so long."""


class Quartiles(NamedTuple):
    """Of the seconds that each call took."""

    q1: float
    median: float
    q3: float


def synchronised(function: Callable[[], Result], device: str) -> Callable[[], Result]:
    """The function, returning once the device has done what it asked for."""
    if not device.startswith("cuda"):
        return function
    import torch

    def call() -> Result:
        result = function()
        torch.cuda.synchronize(device)
        return result

    return call


def warm_up(function: Callable[[], object]) -> float:
    """Call the function until it is warm; returns the seconds of its last call."""
    started = time.perf_counter()
    calls = 0
    while True:
        before = time.perf_counter()
        function()
        calls += 1
        now = time.perf_counter()
        if calls >= WARM_UP_CALLS and now - started >= WARM_UP_SECONDS:
            return now - before


def timed_calls(seconds_per_call: float) -> int:
    """How many calls to time for a call of about so long."""
    return max(TIMED_CALLS, int(TIMED_SECONDS / max(seconds_per_call, 1e-6)))


def quartiles(seconds: Sequence[float]) -> Quartiles:
    """First quartile, median and third quartile of two or more times."""
    return Quartiles(*statistics.quantiles(seconds, n=4, method="inclusive"))
