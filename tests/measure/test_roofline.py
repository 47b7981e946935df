"""What the machine does at best: the fastest of what fits into the budget, in the run's own dtype."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from sparsity.measure import roofline
from sparsity.measure.roofline import BUFFERS, REPEATS, SIZES, fastest
from sparsity.record import Read


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The only element is the time, which passes when somebody lets it."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def calls_of(clock: list[float], made: list[int], each: Callable[[int], float]) -> Callable[[int], Any]:
    """Makes calls that take as long as `each` says of their size."""

    def make(size: int) -> Callable[[], None]:
        made.append(size)

        def call() -> None:
            clock[0] += each(len(made))

        return call

    return make


def test_the_fastest_of_several_calls_counts(clock: list[float]) -> None:
    durations = iter([9.0, 3.0, 2.0, 5.0, 4.0, 6.0])
    found = fastest(calls_of(clock, [], lambda n: next(durations)), [10], 1000.0)
    assert found == {10: 2.0}
    assert len(list(durations)) == 6 - 1 - REPEATS


def test_a_size_that_would_not_fit_is_not_even_made(clock: list[float]) -> None:
    made: list[int] = []
    found = fastest(calls_of(clock, made, lambda n: 8.0**n), [1, 2, 3], 3000.0)
    # six calls of 8 s are 48 s, six of 64 s 384 s: the third would take 8 times as long
    assert made == [1, 2]
    assert found == {1: 8.0, 2: 64.0}


def test_the_smallest_is_measured_whatever_the_budget(clock: list[float]) -> None:
    assert fastest(calls_of(clock, [], lambda n: 5.0), [1, 2], 0.0) == {1: 5.0}


def test_a_clock_that_stands_still_gives_no_infinite_speed(clock: list[float]) -> None:
    assert fastest(calls_of(clock, [], lambda n: 0.0), [1], 1.0)[1] > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_this_machine_multiplies_in_the_dtype_that_is_asked_for(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    mm = torch.mm

    def watched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.add((a.dtype, a.shape, b.shape))
        return mm(a, b)

    monkeypatch.setattr(torch, "mm", watched)
    assert 1e6 < roofline.peak(dtype, "cpu", 0.02) < 1e15, "between a pocket calculator and a rack"
    shape = torch.Size([SIZES["cpu"][0]] * 2)
    assert (getattr(torch, dtype), shape, shape) in seen


def test_the_size_that_does_most_in_a_second_is_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "fastest", lambda make, sizes, budget: {10: 2.0, 20: 1.0, 40: 10.0})
    assert roofline.peak("float32", "cpu", 1.0) == 2 * 20**3
    assert roofline.reads("cpu", 1.0) == [Read(10, 5.0), Read(20, 20.0), Read(40, 4.0)]


def test_this_machine_reads_buffers_from_small_to_large() -> None:
    found = roofline.reads("cpu", 0.02)
    assert [read.bytes for read in found] == list(BUFFERS["cpu"][: len(found)])
    assert all(1e6 < read.bytes_per_second < 1e14 for read in found)


def test_sizes_grow_by_the_steps_that_the_budget_reckons_with() -> None:
    for sizes, power in ((SIZES, 3), (BUFFERS, 1)):
        for each in sizes.values():
            assert all(b**power == roofline.GROWTH * a**power for a, b in pairwise(each))
