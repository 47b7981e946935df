"""A limit on what runs in the main thread, held by a thread beside it.

When its seconds are over, `GaveUp` is raised in the main thread, through a signal. Native code that does not return
to Python sees no signal: after a grace the thread calls `hung`, which is to end the process. Native code that does
not even let another Python thread run (it holds the GIL) is ended by `faulthandler`, after twice the grace, with the
stacks of all threads and exit status 1.

The signal is SIGVTALRM, which nobody sends to a process that asks for no virtual timer: whoever uses SIGALRM, such as
pytest-timeout, is not touched. Nothing works without POSIX signals, or outside the main thread: `unavailable` tells.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two signals: the exception may be lost where Python can raise none, such as in `__del__`."""
PATIENCE = 5.0
"""Seconds that what is being put back in order is waited for."""
IN_ORDER = frozenset({"__enter__", "__exit__", "__del__"})
"""Functions that are not interrupted for so long: what they change would stay half changed."""
IMPORTS = "<frozen importlib._bootstrap>"
"""The file of functions that are never interrupted: torch and its like cannot be imported a second time."""


class GaveUp(BaseException):
    """Out of time. No `Exception`: code that makes do when one of its parts fails must not take it for that."""


def unavailable() -> str | None:
    """Why nothing can be limited here, or None."""
    if not hasattr(signal, "pthread_kill"):
        return "this system has no signals that reach a thread"
    if threading.current_thread() is not threading.main_thread():
        return "it does not run in the main thread, which alone sees signals"
    return None


@dataclass
class TimeLimit:
    """Begins with `start`, ends with `stop`, and raises in between, inside of `raising` alone."""

    seconds: float
    grace: float
    """Seconds after which what did not give up has hung."""
    hung: Callable[[], None]
    """Ends the process. Called in the other thread."""
    stderr: int | None = None
    """The file that faulthandler writes to; None where its only timer is another's."""
    raises: type[GaveUp] = GaveUp
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _before: Any = None
    """The signal's handler before this one."""
    _raising: bool = False
    _patient_until: float = 0.0

    def start(self) -> None:
        """The seconds begin. Raises nothing by itself."""
        self.stop()
        self._over = threading.Event()
        self._patient_until = time.monotonic() + self.seconds + PATIENCE
        self._before = signal.signal(signal.SIGVTALRM, self._rang)
        self._thread = threading.Thread(target=self._watch, args=(self._over,), name="time limit", daemon=True)
        self._thread.start()
        if self.stderr is not None:
            faulthandler.dump_traceback_later(self.seconds + 2 * self.grace, file=self.stderr, exit=True)

    def stop(self) -> None:
        """They end, whatever is left of them; nothing where they have not begun."""
        if self._thread is None:
            return
        self._over.set()
        self._thread.join()  # or else it could send its signal to the handler before
        if self.stderr is not None:
            faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL if self._before is None else self._before)
        self._thread = None

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Where `GaveUp` may be raised."""
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _watch(self, over: threading.Event) -> None:
        if over.wait(self.seconds):
            return
        end, pause = time.monotonic() + self.grace, FIRST_PAUSE
        while (left := end - time.monotonic()) > 0:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGVTALRM)
            if over.wait(min(pause, left)):
                return
            pause = min(2 * pause, LONGEST_PAUSE)
        self.hung()

    def _rang(self, number: int, frame: FrameType | None) -> None:
        """The signal, in the main thread."""
        del number
        if not self._raising or _giving_up():
            return
        running = _running(frame)
        if IMPORTS in running or (running & IN_ORDER and time.monotonic() < self._patient_until):
            return
        raise self.raises(f"gave up after {self.seconds:g} s")


def _giving_up() -> bool:
    """Whether the exception is on its way already, and what it leaves is just being cleared up."""
    error = sys.exception()
    while error is not None and not isinstance(error, GaveUp):
        error = error.__context__
    return error is not None


def _running(frame: FrameType | None) -> set[str]:
    """The names of all functions that are running, and their files."""
    found = set()
    while frame is not None:
        found |= {frame.f_code.co_name, frame.f_code.co_filename}
        frame = frame.f_back
    return found
