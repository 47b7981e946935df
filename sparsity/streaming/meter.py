"""What pruning from disk takes: seconds of each of its phases, and the most memory that the process ever held.

Resident memory is that of the whole process above what it held when the meter began: weights, statistics, buffers of
libraries, everything. It is sampled, and where the system keeps a highest mark that rose meanwhile, that is taken.

Refuses nothing.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

EVERY = 0.01
"""Seconds between two samples."""
PHASES = ("read", "statistics", "prune", "write")


def resident() -> int:
    """Bytes of this process that are in memory now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _highest_mark() -> int:
    """The most bytes that this process ever held; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return mark if sys.platform == "darwin" else mark * 1024


@dataclass
class Meter:
    """Begins when it is made; everything is above what was resident then."""

    device: str = "cpu"
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    base: int = field(default_factory=resident)
    mark: int = field(default_factory=_highest_mark)
    sampled: int = 0
    curve: list[tuple[str, int, int]] = field(default_factory=list)
    """(what was just done, resident bytes then, the peak until then), above the base."""
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Samples meanwhile."""
        over = threading.Event()

        def sample() -> None:
            while not over.wait(EVERY):
                self.sampled = max(self.sampled, resident())

        if self.device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The seconds meanwhile count for a phase, those of a phase within it for that one alone."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _switch(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def note(self, what: str) -> None:
        """One more point of the curve."""
        now = resident()
        self.sampled = max(self.sampled, now)
        self.curve.append((what, now - self.base, self.peak))

    @property
    def peak(self) -> int:
        """Resident bytes above the base, at their most until now."""
        mark = _highest_mark()
        return max(self.sampled, mark if mark > self.mark else 0) - self.base

    @property
    def allocated(self) -> int | None:
        """Bytes of a GPU's memory in tensors, at their most since it began; None on a CPU."""
        if not self.device.startswith("cuda"):
            return None
        import torch

        return int(torch.cuda.max_memory_allocated(self.device))
