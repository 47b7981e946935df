"""The peak is that of the process, seconds of a phase count once."""

from __future__ import annotations

import time

import torch

from sparsity.streaming.meter import Meter

LARGE = 64 * 2**20


def test_the_peak_stays_when_the_memory_is_gone() -> None:
    meter = Meter()
    with meter.on():
        held = torch.ones(LARGE // 4)
        meter.note("held")
        del held
        meter.note("gone")
    (_, then, peak), (_, now, still) = meter.curve
    assert then > LARGE * 0.9
    assert now < then - LARGE * 0.9
    assert LARGE * 0.9 < peak <= still == meter.peak
    assert meter.allocated is None


def test_what_comes_and_goes_between_two_notes_is_sampled() -> None:
    meter = Meter()
    with meter.on():
        held = torch.ones(LARGE // 4)
        time.sleep(0.1)
        del held
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
