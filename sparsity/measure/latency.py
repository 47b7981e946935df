"""What a forward pass costs, measured in turns with a reference: from two callables to a record.

A timed callable returns only when its work is done. CUDA returns before the device has finished, so a
timer around a bare call measures the launch; `on_device` waits, and keeps, apart from the time that the
user feels, the time that the device took by its own events.

Knows callables, nothing of pruning. Inputs of both arms stay on the device, and caches are warm: nothing
is flushed between calls.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.errors import Refused
from sparsity.measure import duet, ratio
from sparsity.record import Latency

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.measure.duet import Call
    from sparsity.measure.gpu import Clocks

CACHES = "warm"
FEW_BLOCKS, MANY_BLOCKS = 2, 16
"""Of a ratio without an interval."""


@dataclass
class OnDevice:
    """A callable that returns once its CUDA device has done what it asked for, and knows how long that took."""

    function: Call
    device: str
    last: float = 0.0
    """Seconds between two events around the last call, by the device's own clock."""

    def __call__(self) -> object:
        """Whatever the function returns, when it is true."""
        import torch

        begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(self.device)
        begun.record(stream)
        result = self.function()
        done.record(stream)
        torch.cuda.synchronize(self.device)
        self.last = begun.elapsed_time(done) / 1e3
        return result


def on_device(function: Call, device: str) -> Call:
    """The function, returning once the device has done what it asked for."""
    return OnDevice(function, device) if device.startswith("cuda") else function


@dataclass(frozen=True)
class Pair:
    """A duet that has been played."""

    plan: duet.Plan
    own: list[float]
    """Seconds of each counted call of the subject, block by block."""
    reference: list[float]
    logarithms: list[float]
    """Of each block's ratio."""
    forward_share: float
    """Of the wall time that all of it took, the part spent inside the two callables."""
    device: tuple[list[float], list[float]] | None = None
    """Seconds on the device of the counted calls, of the subject and of the reference."""
    clocks: Clocks | None = None

    @property
    def ratio(self) -> ratio.Ratio:
        """Time of the subject over that of the reference."""
        return ratio.ratio(self.logarithms)


def times(benchmark: BenchmarkFixture) -> bool:
    """Whether the fixture is pytest-benchmark's, and not told to leave timing out."""
    return getattr(benchmark, "enabled", False)


def paired(
    benchmark: BenchmarkFixture, subject: Call, reference: Call, budget: float, clocks: Clocks | None = None
) -> Pair | None:
    """Times the subject through pytest-benchmark, and in turns with it the reference, in `budget` seconds.

    None where the fixture is told not to time, or is not pytest-benchmark's: then the subject is
    merely handed to it. Raises `Refused` in a worker of pytest-xdist.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        raise Refused("pytest-xdist runs tests side by side, so no time means anything; run without -n")
    if not times(benchmark):
        benchmark.pedantic(subject)
        return None

    def through_fixture(played: duet.Duet) -> list[float]:
        rounds = played.plan.rounds
        benchmark.pedantic(played.subject, setup=played.setup, teardown=played.teardown, rounds=rounds)
        assert benchmark.stats is not None  # it is enabled
        return list(benchmark.stats.stats.data)

    return timed_in_turns(subject, reference, budget, clocks, through_fixture)


def timed_in_turns(
    subject: Call,
    reference: Call,
    budget: float,
    clocks: Clocks | None = None,
    play: Callable[[duet.Duet], list[float]] = duet.play,
) -> Pair:
    """The same without pytest-benchmark, or with whatever else can `play` a duet."""
    on_gpu = isinstance(subject, OnDevice)
    device: dict[int, list[float]] = {id(subject): [], id(reference): []}

    def counted(arm: Call) -> None:
        if isinstance(arm, OnDevice):
            device[id(arm)].append(arm.last)

    started = time.perf_counter()
    with duet.without_garbage_collection():
        plan, inside = duet.prepare(subject, reference, budget)
        played = duet.Duet(subject, reference, plan, clocks.read if clocks else None, counted)
        own = play(played)
    share = (inside + played.inside(own)) / (time.perf_counter() - started)
    of_block = statistics.median if on_gpu else min
    logarithms = duet.block_logarithms(own, played.reference_seconds, plan.calls, of_block)
    on_it = (device[id(subject)], device[id(reference)]) if on_gpu else None
    return Pair(plan, own, played.reference_seconds, logarithms, share, on_it, clocks)


def brief_ratio(subject: Call, reference: Call, budget: float) -> float:
    """Time of the subject over that of the reference, from a few blocks in turns in about `budget` seconds.

    No interval and no verdict: for what is many times faster, or slower, than the reference.
    """
    with duet.without_garbage_collection():
        per_call = max(duet.warm_up(subject) + duet.seconds(reference), duet.TICK)
        rounds = int(budget / per_call)
        calls = duet.BLOCK_CALLS if rounds >= MANY_BLOCKS * (duet.BLOCK_CALLS + 1) else 1
        blocks = min(max(rounds // (calls + 1), FEW_BLOCKS), MANY_BLOCKS)  # a call of each turn is not counted
        played = duet.Duet(subject, reference, duet.order(blocks, calls))
        own = duet.play(played)
    return math.exp(statistics.median(duet.block_logarithms(own, played.reference_seconds, calls)))


def described(pair: Pair, noise_floor: float, control: bool = False) -> Latency:
    """The record of a pair, judged against the noise floor (a fraction); a control only against the bare margin."""
    found = pair.ratio
    said = ratio.judge(found, 0.0 if control else noise_floor)
    q1, median, q3 = statistics.quantiles(pair.own, n=4, method="inclusive")
    device = [statistics.median(each) for each in pair.device] if pair.device else [None, None]
    clocks = pair.clocks if pair.clocks is not None and pair.clocks.megahertz else None
    return Latency(
        pruned_seconds=median,
        pruned_q1=q1,
        pruned_q3=q3,
        calls=len(pair.own),
        verdict=said.verdict,
        reason=said.reason,
        dense_seconds=statistics.median(pair.reference),
        speedup=1 / found.value,
        low=1 / found.high,
        high=1 / found.low,
        noise_floor=noise_floor,
        margin=said.margin,
        blocks=found.blocks,
        more_blocks=said.more_blocks,
        block_ratios=list(pair.logarithms),
        order_effect=duet.order_effect(pair.logarithms, pair.plan),
        forward_share=pair.forward_share,
        caches=CACHES,
        device_seconds=device[0],
        dense_device_seconds=device[1],
        sm_megahertz_low=min(clocks.megahertz) if clocks else None,
        sm_megahertz_high=max(clocks.megahertz) if clocks else None,
        throttled=", ".join(sorted(clocks.throttled)) or None if clocks else None,
    )
