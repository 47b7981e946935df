"""A race: every arm by turns, those far behind left out early, and no winner but the reference without a clear lead."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from sparsity.measure import race


class Clock:
    """Time that passes only in the arms."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.called: list[str] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def arm(self, name: str, *seconds: float) -> Callable[[], None]:
        """Takes each of these times in turn, then the last again and again."""
        left = list(seconds)

        def call() -> None:
            self.called.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_median_of_what_each_arm_took(clock: Clock) -> None:
    found = race.race({"a": clock.arm("a", 0.001, 0.005, 0.001), "b": clock.arm("b", 0.00101)})
    assert found == pytest.approx({"a": 0.001, "b": 0.00101})
    counts = Counter(clock.called)
    assert counts["a"] == counts["b"] == race.MOST_TURNS


def test_arms_are_called_by_turns_in_changing_order(clock: Clock) -> None:
    race.race({name: clock.arm(name, 0.001) for name in "abc"})
    turns = [clock.called[i : i + 3] for i in range(0, len(clock.called), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_short_calls_are_timed_several_at_a_time(clock: Clock) -> None:
    found = race.race({"a": clock.arm("a", 1e-4), "b": clock.arm("b", 1e-3)})
    assert found == pytest.approx({"a": 1e-4})
    assert Counter(clock.called)["a"] > Counter(clock.called)["b"]


def test_what_is_far_behind_leaves_after_one_long_call_or_two_short_ones(clock: Clock) -> None:
    found = race.race({"long": clock.arm("long", 1.0), "longer": clock.arm("longer", 2.1)})
    assert set(found) == {"long"}
    assert clock.called == ["long", "longer"]
    found = race.race({"fast": clock.arm("fast", 0.001), "slow": clock.arm("slow", 0.01, 0.001)})
    assert set(found) == {"fast", "slow"}  # a short call may be disturbed once


def test_no_turn_begins_after_the_time_is_up_but_there_are_a_few(clock: Clock) -> None:
    race.race({"a": clock.arm("a", 5.0), "b": clock.arm("b", 5.1)})
    assert Counter(clock.called) == {"a": race.LEAST_TURNS, "b": race.LEAST_TURNS}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"dense": 1.0, "a": 0.5, "b": 0.4}, "b"),
        ({"dense": 1.0, "a": 0.99}, "dense"),
        ({"dense": 1.0, "a": 0.97}, "a"),
        ({"dense": 1.0, "a": 1.5}, "dense"),
        ({"a": 1.0, "b": 0.99}, "b"),  # the reference was far behind
    ],
)
def test_the_reference_wins_unless_another_is_clearly_faster(seconds: dict[str, float], expected: str) -> None:
    assert race.winner(seconds, "dense") == expected
