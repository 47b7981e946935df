"""How far a run is and how long it still takes, as a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

EVERY = 5.0
"""Seconds between two lines."""


@dataclass
class Progress:
    """Counts finished tests. Time runs from the first, which also waits for imports and is no measure of the others."""

    total: int
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    first_done: float = 0.0
    begun: float = field(init=False)
    told: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.told = self.clock()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self.clock() - self.begun

    @property
    def left(self) -> int:
        """Tests still to run."""
        return self.total - self.done

    def advance(self, what: object) -> str | None:
        """One more is done; a line when it is time for one."""
        now = self.clock()
        self.done += 1
        if self.done == 1:
            self.first_done = now
        if now - self.told < EVERY:
            return None
        self.told = now
        if self.done == 1:
            return f"1 of {self.total} · {what}"
        left = (now - self.first_done) / (self.done - 1) * self.left
        return f"{self.done} of {self.total} · about {duration(left)} left · {what}"


def duration(seconds: float) -> str:
    """`59 s`, `1 min 00 s`."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
