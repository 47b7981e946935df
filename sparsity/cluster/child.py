"""A warm pytest process beside a Ray worker: it collects once, then runs the groups of tests that it is handed.

A process of its own, so that one that dies (no memory, a broken kernel, `--cell-timeout`) takes nothing with it and
says how it ended, and one that stays keeps its imports and models for the next group. It hears tests on one pipe and
answers on another, a line of JSON each; `pytest_ray_worker` is the other end. When its pipe closes it ends.

Refuses nothing: what does not start, does not answer or ends is told as an event, `{"died": reason}`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

SETTINGS = "SPARSITY_WORKER"
"""The variable by which the process knows what it is: its pipes, what its node is called."""
START = 900.0
"""Seconds until it must have collected: a file system that stalls must not hold a sweep for ever."""
LONGEST = 300
"""Characters of its last words that are told."""
Event = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What is to be run, and how."""

    key: str
    """Of the run and its environment: a process that was started under another is not taken."""
    arguments: tuple[str, ...]
    """Of pytest."""
    folder: str
    """To run it in."""
    environment: Mapping[str, str]
    """Beside that of the machine."""
    settings: Mapping[str, Any]
    """For the process."""
    tests: tuple[str, ...]
    silence: float
    """Seconds after which a test that has not ended is taken for lost with its process."""
    forget: bool = False
    """Whether models are given back when the group is done."""
    budget: float | None = None
    """Seconds from now after which no test is begun."""


@dataclass
class Child:
    """The process, and its two pipes."""

    key: str
    process: subprocess.Popen[bytes]
    orders: IO[bytes]
    answers: int
    log: IO[bytes]
    """What it writes to its own output."""
    rest: bytes = b""
    ended: str | None = None
    """How, once it has."""

    def read(self, seconds: float) -> Event | None:
        """Its next answer; None when it has ended. Raises `TimeoutError`."""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            while b"\n" not in self.rest:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise TimeoutError
                more = os.read(self.answers, 1 << 20)
                if not more:
                    return None
                self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        event: Event = json.loads(line)
        return event

    def end(self) -> str:
        """Ends it, and says how it had ended if it had."""
        if self.ended is None:
            self.ended = self._end()
        return self.ended

    def _end(self) -> str:
        with contextlib.suppress(OSError):
            self.orders.close()
        try:
            code: int | None = self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it may hang in a file system
                self.process.wait(5.0)
            code = None
        with contextlib.suppress(OSError):
            os.close(self.answers)
        return _told(code, self._last_words())

    def _last_words(self) -> str:
        self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, self.log.tell() - 4096))
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        self.log.close()
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or [""])[-1].strip()[:LONGEST]


def _told(code: int | None, words: str) -> str:
    if code is None:
        return "its process had to be killed"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"its process was ended by {name}" + (" (out of memory, or killed from outside)" if code == -9 else "")
    return f"its process ended with status {code}" + (f": {words}" if words else "")


_warm: list[Child] = []
"""At most one, of this Ray worker."""


def run(order: Order) -> Iterator[Event]:
    """Runs a group: what its tests leave, event by event; the last is `{"end": …}` or `{"died": reason}`."""
    try:
        child = _taken(order)
    except OSError as error:
        yield {"died": f"its process could not be started: {error.strerror} ({error.filename})"}
        return
    finished = False
    try:
        for event in _answers(child, order):
            yield event
        finished = "end" in event
    finally:
        if not finished or event["end"]:  # cut off, or it stopped by itself
            _warm.clear()
            child.end()


def _answers(child: Child, order: Order) -> Iterator[Event]:
    wanted = {"tests": order.tests, "forget": order.forget, "budget": order.budget}
    patience = START
    try:
        child.orders.write(json.dumps(wanted).encode() + b"\n")
        child.orders.flush()
        while True:
            event = child.read(patience)
            if event is None:
                break
            yield event
            if event.keys() & {"end", "refused"}:
                return
            patience = order.silence
    except TimeoutError:
        child.process.kill()
        yield {"died": f"nothing was heard of it for {patience:g} s"}
        return
    except OSError:  # its pipe is closed, so it has ended
        pass
    yield {"died": child.end()}


def _taken(order: Order) -> Child:
    """The warm process, or a new one."""
    if _warm and (_warm[0].key != order.key or _warm[0].process.poll() is not None):
        _warm.pop().end()
    if not _warm:
        _warm.append(_started(order))
    return _warm[0]


def _started(order: Order) -> Child:
    if not Path(order.folder).is_dir():
        raise FileNotFoundError(2, "the folder of the run is not there; share it with this node", order.folder)
    hears, orders = os.pipe()
    answers, tells = os.pipe()
    settings = json.dumps({**order.settings, "hears": hears, "tells": tells})
    log = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process is
    try:
        process = subprocess.Popen(  # noqa: S603  # the command line of the run itself
            [sys.executable, "-m", "pytest", *order.arguments, "-p", "sparsity.pytest_ray_worker"],
            cwd=order.folder,
            env={**os.environ, **order.environment, SETTINGS: settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(hears, tells),
        )
    finally:
        os.close(hears)
        os.close(tells)
    return Child(order.key, process, os.fdopen(orders, "wb"), answers, log)


@atexit.register
def _end_all() -> None:
    while _warm:
        _warm.pop().end()
