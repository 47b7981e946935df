"""From two callables to a record: through pytest-benchmark's public API, judged, and never more than was measured."""

from __future__ import annotations

import gc
import math
import statistics
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sparsity.errors import Refused
from sparsity.measure import duet, latency
from sparsity.measure.latency import OnDevice, Pair
from sparsity.record import Cell, Record, from_json, to_json
from tests.fake_benchmark import FakeBenchmark

PLAN = duet.order(16, 2)


def pair(ratio: float, **more: Any) -> Pair:
    """A pair whose subject takes `ratio` times as long in every block."""
    own, reference = [0.010 * ratio, 0.011 * ratio] * 16, [0.010, 0.011] * 16
    return Pair(PLAN, own, reference, duet.block_logarithms(own, reference, 2), 0.95, **more)


def busy(rounds: int) -> Callable[[], int]:
    return lambda: sum(range(rounds))


def test_the_subject_is_timed_by_the_fixture_and_the_reference_in_turns_with_it() -> None:
    benchmark = FakeBenchmark()
    found = latency.paired(benchmark, busy(20_000), busy(20_000), 0.4)  # type: ignore[arg-type]  # a stand-in for the fixture
    assert found is not None
    assert found.own == benchmark.stats.stats.data
    assert len(found.reference) == len(found.own) == found.plan.rounds == benchmark.asked["rounds"]
    assert found.logarithms == duet.block_logarithms(found.own, found.reference, found.plan.calls)
    assert 0.3 < found.forward_share <= 1.0
    assert found.device is None


def test_twice_the_work_is_slower_and_half_of_it_faster() -> None:
    """No number of this machine: a factor of four in work, on any machine, is more than any noise."""
    slow, fast = busy(80_000), busy(20_000)
    assert latency.described(latency.timed_in_turns(slow, fast, 0.5), 0.05).verdict == "slower"
    assert latency.described(latency.timed_in_turns(fast, slow, 0.5), 0.05).verdict == "faster"


class Disabled:
    """The fixture under --benchmark-disable, or another plugin's."""

    def __init__(self, **more: object) -> None:
        self.called: list[object] = []
        vars(self).update(more)

    def pedantic(self, function: Callable[[], object]) -> None:
        self.called.append(function)


@pytest.mark.parametrize("more", [{"enabled": False}, {}])
def test_a_fixture_that_does_not_time_is_handed_the_subject_and_gives_nothing(more: dict[str, object]) -> None:
    benchmark, subject = Disabled(**more), busy(1)
    assert latency.paired(benchmark, subject, busy(1), 1.0) is None  # type: ignore[arg-type]  # a stand-in
    assert benchmark.called == [subject]


def test_beside_other_tests_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    with pytest.raises(Refused, match="side by side, so no time means anything; run without -n"):
        latency.paired(FakeBenchmark(), busy(1), busy(1), 1.0)  # type: ignore[arg-type]  # a stand-in


def test_a_brief_ratio_is_that_of_the_times_whatever_the_budget_and_tidies_up() -> None:
    """No number of this machine: a factor of sixteen in work, on any machine, is more than any noise."""
    slow, fast = busy(80_000), busy(5_000)
    for budget in (0.0, 0.1):
        assert latency.brief_ratio(fast, slow, budget) < 0.5
    assert latency.brief_ratio(slow, fast, 0.1) > 2.0
    assert gc.isenabled()


def test_a_brief_ratio_takes_no_more_blocks_than_the_budget_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[duet.Plan] = []

    def play(given: duet.Duet) -> list[float]:
        played.append(given.plan)
        given.reference_seconds = [2.0] * given.plan.rounds
        return [1.0] * given.plan.rounds

    monkeypatch.setattr(duet, "play", play)
    monkeypatch.setattr(duet, "warm_up", lambda call: 1.0)
    monkeypatch.setattr(duet, "seconds", lambda call: 2.0)
    for budget in (1.0, 36.0, 1e6):
        assert latency.brief_ratio(busy(1), busy(1), budget) == pytest.approx(0.5)
    planned = [(plan.blocks, plan.calls) for plan in played]
    assert planned == [(latency.FEW_BLOCKS, 1), (6, 1), (latency.MANY_BLOCKS, duet.BLOCK_CALLS)]


def test_a_record_says_what_the_pair_shows() -> None:
    found = latency.described(pair(1.25), 0.01)
    assert found.pruned_seconds == pytest.approx(statistics.median(pair(1.25).own))
    assert found.dense_seconds == pytest.approx(0.0105)
    assert (found.speedup, found.low, found.high) == pytest.approx((0.8, 0.8, 0.8))
    assert (found.verdict, found.margin, found.noise_floor) == ("slower", 0.03, 0.01)
    assert (found.calls, found.blocks, found.caches) == (32, 16, "warm")
    assert found.block_ratios == pytest.approx([math.log(1.25)] * 16)
    assert found.order_effect == pytest.approx(0.0)
    assert found.forward_share == 0.95
    assert found.pruned_q1 <= found.pruned_seconds <= found.pruned_q3
    assert (found.device_seconds, found.sm_megahertz_low, found.throttled) == (None, None, None)


def test_a_record_survives_the_file() -> None:
    record = Record(Cell("bert"), latency=latency.described(pair(0.5), 0.02))
    assert from_json(to_json(record)) == record


def test_a_noisy_control_withholds_the_verdict_but_no_number() -> None:
    found = latency.described(pair(1.25), 0.08)
    assert found.verdict == "inconclusive"
    assert "noisy" in str(found.reason)
    assert found.speedup == pytest.approx(0.8)


def test_a_control_is_judged_against_the_bare_margin_and_never_calls_itself_noisy() -> None:
    assert latency.described(pair(1.04), 0.04, control=True).verdict == "slower"
    assert latency.described(pair(1.04), 0.04).verdict == "same"
    found = latency.described(pair(1.10), 0.10, control=True)
    assert (found.verdict, found.noise_floor) == ("slower", 0.10)


def test_on_a_cpu_the_function_itself_is_timed() -> None:
    function = busy(1)
    assert latency.on_device(function, "cpu") is function


class FakeEvent:
    """A CUDA event that logs; a call between two of them takes 2 ms on the device."""

    log: list[str] = []  # noqa: RUF012  # shared on purpose: events of one test

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: str) -> None:
        self.log.append(f"event on {stream}")

    def elapsed_time(self, other: FakeEvent) -> float:
        return 2.0


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    FakeEvent.log = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: FakeEvent.log.append(f"wait {device}"))
    return FakeEvent.log


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_on_cuda_a_call_waits_once_for_its_own_device_and_is_timed_by_events_too(
    fake_cuda: list[str], device: str
) -> None:
    def function() -> str:
        fake_cuda.append("work")
        return "result"

    wrapped = latency.on_device(function, device)
    assert fake_cuda == []
    assert wrapped() == "result"
    event = f"event on stream of {device}"
    assert fake_cuda == [event, "work", event, f"wait {device}"]
    assert isinstance(wrapped, OnDevice)
    assert wrapped.last == pytest.approx(0.002)


@pytest.mark.usefixtures("fake_cuda")
def test_on_cuda_device_time_stands_apart_and_blocks_are_medians() -> None:
    subject, reference = (latency.on_device(busy(2000), "cuda") for _ in range(2))
    found = latency.timed_in_turns(subject, reference, 0.4)
    assert found.device == ([0.002] * found.plan.rounds, [0.002] * found.plan.rounds)
    assert found.logarithms == duet.block_logarithms(found.own, found.reference, found.plan.calls, statistics.median)
    record = latency.described(found, 0.01)
    assert (record.device_seconds, record.dense_device_seconds) == (0.002, 0.002)


def test_clocks_are_told_where_there_were_any() -> None:
    clocks = types.SimpleNamespace(megahertz=[1980, 1410, 1755], throttled={"power cap", "hardware slowdown"})
    found = latency.described(pair(1.0, clocks=clocks), 0.01)
    assert (found.sm_megahertz_low, found.sm_megahertz_high) == (1410, 1980)
    assert found.throttled == "hardware slowdown, power cap"
    silent = types.SimpleNamespace(megahertz=[], throttled=set())
    assert latency.described(pair(1.0, clocks=silent), 0.01).sm_megahertz_low is None
    free = types.SimpleNamespace(megahertz=[1980], throttled=set())
    assert latency.described(pair(1.0, clocks=free), 0.01).throttled is None
