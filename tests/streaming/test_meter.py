"""The peak is that of the process, seconds of a phase count once."""

from __future__ import annotations

import gc
import mmap
import time
from collections.abc import Iterator

import pytest

from sparsity.streaming.meter import Meter

LARGE = 64 * 2**20


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    """What earlier tests left must not be let go of meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def resident() -> mmap.mmap:
    """Memory that is new to the process: an allocator may give again what it has."""
    held = mmap.mmap(-1, LARGE)
    for offset in range(0, LARGE, mmap.PAGESIZE):
        held[offset] = 1
    return held


def test_the_peak_stays_when_the_memory_is_gone() -> None:
    meter = Meter()
    with meter.on():
        held = resident()
        meter.note("held")
        held.close()
        meter.note("gone")
    (_, then, peak), (_, now, still) = meter.curve
    assert then > LARGE * 0.9
    assert now < then - LARGE * 0.9
    assert LARGE * 0.9 < peak <= still == meter.peak
    assert meter.allocated is None


def test_what_comes_and_goes_between_two_notes_is_sampled() -> None:
    meter = Meter()
    with meter.on():
        held = resident()
        time.sleep(0.1)
        held.close()
    assert meter.peak > LARGE * 0.9


def test_a_phase_within_another_counts_for_itself_alone() -> None:
    meter = Meter()
    began = time.perf_counter()
    with meter.phase("statistics"):
        time.sleep(0.02)
        with meter.phase("read"):
            time.sleep(0.04)
    took = time.perf_counter() - began
    assert meter.seconds["read"] >= 0.04
    assert meter.seconds["statistics"] >= 0.02
    assert meter.seconds["read"] + meter.seconds["statistics"] <= took
    assert meter.seconds["prune"] == 0
