"""What is timed: the whole call and nothing else, warm, with quartiles that are those of its calls."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from sparsity.measure import latency


class Clock:
    """A clock that only a call moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(latency, "time", made)
    return made


def lasting(clock: Clock, durations: Iterator[float] | list[float]) -> tuple[Callable[[], None], list[float]]:
    """A function whose calls last so long, and the list of its calls."""
    source, made = iter(durations), []

    def function() -> None:
        made.append(next(source))
        clock.now += made[-1]

    return function, made


def forever(seconds: float) -> Iterator[float]:
    while True:
        yield seconds


def test_on_a_cpu_the_function_itself_is_timed() -> None:
    def function() -> int:
        return 3

    assert latency.synchronised(function, "cpu") is function


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_on_cuda_a_call_waits_once_for_its_own_device_after_the_work(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    log: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda which: log.append(f"wait {which}"))

    def function() -> str:
        log.append("work")
        return "result"

    wrapped = latency.synchronised(function, device)
    assert log == []
    assert wrapped() == "result"
    assert log == ["work", f"wait {device}"]


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (5.0, 3),  # long: three calls are enough
        (0.0625, 3),
        (0.03125, 4),  # 4 x 1/32 s is the first to reach 0.1 s
        (0.0078125, 13),
    ],
)
def test_warm_up_makes_three_calls_and_lasts_a_tenth_of_a_second(clock: Clock, seconds: float, calls: int) -> None:
    function, made = lasting(clock, forever(seconds))
    assert latency.warm_up(function) == seconds
    assert len(made) == calls


def test_warm_up_tells_what_the_last_call_took(clock: Clock) -> None:
    function, _ = lasting(clock, [8.0, 4.0, 2.0, 1.0])
    assert latency.warm_up(function) == 2.0


class FakeBenchmark:
    """As much of pytest-benchmark's fixture as `timed` may rely on."""

    def __init__(self, data: list[float] | None) -> None:
        self.stats = None if data is None else types.SimpleNamespace(stats=types.SimpleNamespace(data=data))
        self.asked: dict[str, Any] = {}
        self.function: object = None

    def pedantic(self, function: Callable[[], object], **asked: Any) -> None:
        self.function, self.asked = function, asked


def timed(benchmark: FakeBenchmark, function: Callable[[], object]) -> Any:
    return latency.timed(benchmark, function)  # type: ignore[arg-type]  # a stand-in for the fixture


def test_timed_gives_the_quartiles_of_the_calls(clock: Clock) -> None:
    function, _ = lasting(clock, forever(1.0))
    data = [7.0, 0.0, 12.0, 3.0, 9.0, 1.0, 6.0, 2.0, 11.0, 4.0, 8.0, 5.0, 10.0]
    benchmark = FakeBenchmark(data)
    result = timed(benchmark, function)
    assert (result.pruned_q1, result.pruned_seconds, result.pruned_q3) == (3.0, 6.0, 9.0)
    assert benchmark.function is function
    assert benchmark.asked == {"rounds": 10, "iterations": 1}  # every call its own round
    assert result.calls == 10


@pytest.mark.parametrize(("seconds", "rounds"), [(2.0, 10), (0.015625, 19), (0.0009765625, 307), (0.0, 300_000)])
def test_timed_makes_ten_calls_or_as_many_as_fill_its_time(
    monkeypatch: pytest.MonkeyPatch, seconds: float, rounds: int
) -> None:
    monkeypatch.setattr(latency, "warm_up", lambda function: seconds)
    benchmark = FakeBenchmark([1.0, 2.0])
    timed(benchmark, lambda: None)
    assert benchmark.asked["rounds"] == rounds


def test_dense_and_pruned_one_after_the_other_give_no_verdict(clock: Clock) -> None:
    function, _ = lasting(clock, forever(1.0))
    result = timed(FakeBenchmark([1.0, 2.0, 3.0]), function)
    assert result.verdict == "inconclusive"
    assert "drift" in result.reason
    assert (result.speedup, result.low, result.high, result.dense_seconds) == (None, None, None, None)


def test_where_timing_is_off_there_is_no_latency(clock: Clock) -> None:
    function, made = lasting(clock, forever(1.0))
    assert timed(FakeBenchmark(None), function) is None
    assert made
