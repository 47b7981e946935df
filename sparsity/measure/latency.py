"""What is timed: a callable that returns only when the work is done.

CUDA returns before the device has finished, so a timer around a bare call measures the launch. Here
the device is synchronised once, at the end of the call; what was queued before is waited for by
`warm_up`. Knows callables, nothing of pruning.

Dense and pruned are timed one after the other. On a shared machine that cannot tell a difference
from drift, so the verdict is `inconclusive`, whatever the numbers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sparsity.record import Latency

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

Result = TypeVar("Result")

WARM_UP_CALLS, WARM_UP_SECONDS = 3, 0.1
"""The least of both before anything is timed: allocator, caches, threads and kernel choices settle."""
TIMED_CALLS, TIMED_SECONDS = 10, 0.3
"""Timed calls: at least so many, and for at least so long."""


UNPAIRED = "dense and pruned were timed one after the other, so drift of the machine cannot be told from a difference"


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


def timed(benchmark: BenchmarkFixture, function: Callable[[], object]) -> Latency | None:
    """Times a warm callable through pytest-benchmark; None where that is told not to time."""
    seconds_per_call = warm_up(function)
    calls = max(TIMED_CALLS, int(TIMED_SECONDS / max(seconds_per_call, 1e-6)))
    benchmark.pedantic(function, rounds=calls, iterations=1)
    stats = getattr(benchmark, "stats", None)
    if stats is None:  # --benchmark-disable
        return None
    q1, median, q3 = statistics.quantiles(stats.stats.data, n=4, method="inclusive")
    return Latency(median, q1, q3, calls, verdict="inconclusive", reason=UNPAIRED)
