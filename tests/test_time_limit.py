"""The limit on what runs in the main thread: where it interrupts, where it does not, and what it leaves behind."""

from __future__ import annotations

import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sparsity import time_limit
from sparsity.time_limit import GaveUp, TimeLimit, unavailable

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX are needed")
SOON = 0.05
ENOUGH = 30.0
"""Seconds in which all that should happen does, on a busy machine."""


def fail() -> None:
    """For what must not hang."""
    raise AssertionError("it was taken for hung")


@contextlib.contextmanager
def limited(seconds: float = SOON) -> Iterator[TimeLimit]:
    """A limit that runs, and raises inside."""
    limit = TimeLimit(seconds, ENOUGH, fail)
    limit.start()
    try:
        with limit.raising():
            yield limit
    finally:
        limit.stop()


def wait(done: Callable[[], bool] = lambda: False, seconds: float = ENOUGH) -> None:
    """Until something is so, or for ever, as far as a test goes."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.01)


def test_what_takes_too_long_is_interrupted_and_says_after_how_long() -> None:
    with pytest.raises(GaveUp, match=r"^gave up after 0\.05 s$"), limited():
        wait()


def test_what_is_done_in_time_is_not_and_leaves_the_signal_as_it_was() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGVTALRM, lambda number, frame: seen.append(number))
    try:
        with limited(ENOUGH):
            pass
        signal.raise_signal(signal.SIGVTALRM)
        assert seen == [signal.SIGVTALRM]
    finally:
        signal.signal(signal.SIGVTALRM, before)
    assert "time limit" not in {thread.name for thread in threading.enumerate()}


def test_nothing_is_raised_but_where_it_may_be() -> None:
    limit = TimeLimit(SOON, ENOUGH, fail)
    limit.start()
    try:
        wait(seconds=10 * SOON)
        with pytest.raises(GaveUp), limit.raising():  # the time is over already
            wait()
        wait(seconds=10 * SOON)
    finally:
        limit.stop()


def test_the_timers_of_others_go_on() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 4 * SOON)
    try:
        with pytest.raises(GaveUp), limited():
            wait()
        wait(lambda: bool(rung))
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_code_that_makes_do_with_failures_does_not_swallow_it() -> None:
    with pytest.raises(GaveUp), limited():  # noqa: PT012  # what is tested is what happens in between
        with contextlib.suppress(Exception):
            wait()
        pytest.fail("it was swallowed")


def test_one_that_was_lost_is_raised_again() -> None:
    lost = []
    with pytest.raises(GaveUp), limited():  # noqa: PT012  # what is tested is what happens in between
        try:
            wait()
        except GaveUp as error:
            lost.append(str(error))
        wait()
    assert len(lost) == 1


def test_what_is_cleared_up_meanwhile_is_not_interrupted_again() -> None:
    cleared = []
    with pytest.raises(GaveUp), limited():  # noqa: PT012  # what is tested is what happens in between
        try:
            wait()
        finally:
            wait(seconds=20 * SOON)
            cleared.append(True)
    assert cleared == [True]


class Puts:
    """Puts something back in order, which takes longer than there is time."""

    back = False

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> Puts:
        return self

    def __exit__(self, *given: object) -> None:
        wait(seconds=self.seconds)
        self.back = True


def test_what_is_put_back_in_order_is_waited_for() -> None:
    puts = Puts(20 * SOON)
    with pytest.raises(GaveUp), limited():  # noqa: PT012  # what is tested is what happens in between
        with puts:
            pass
        assert puts.back
        wait()
    assert puts.back


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "PATIENCE", 4 * SOON)
    puts = Puts(ENOUGH)
    with pytest.raises(GaveUp), limited(), puts:
        pass
    assert not puts.back


def test_an_import_is_never_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "PATIENCE", 0.0)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slowly_imported.py").write_text("import time\ntime.sleep(0.5)\nWHOLE = True\n")
    with pytest.raises(GaveUp), limited():  # noqa: PT012  # what is tested is what happens in between
        import slowly_imported  # type: ignore[import-not-found]  # made just now

        wait()
    assert sys.modules.pop("slowly_imported").WHOLE
    assert slowly_imported.WHOLE


def test_garbage_collection_is_on_again_after_what_had_turned_it_off() -> None:
    from sparsity.measure.duet import without_garbage_collection

    assert gc.isenabled()
    with pytest.raises(GaveUp), limited(), without_garbage_collection():
        wait()
    assert gc.isenabled()


def test_what_does_not_come_back_is_hung_after_the_grace() -> None:
    hung: list[float] = []
    limit = TimeLimit(SOON, SOON, lambda: hung.append(time.monotonic()))
    begun = time.monotonic()
    limit.start()
    wait(lambda: bool(hung))  # where nothing is raised
    limit.stop()
    assert len(hung) == 1
    assert hung[0] >= begun + 2 * SOON


def test_a_limit_may_begin_anew_and_stop_twice() -> None:
    limit = TimeLimit(ENOUGH, ENOUGH, fail)
    for _ in range(2):
        limit.start()
    limit.stop()
    limit.stop()
    assert "time limit" not in {thread.name for thread in threading.enumerate()}


def test_once_it_is_stopped_nothing_ends_the_process() -> None:
    script = (
        "import time; from sparsity.time_limit import TimeLimit\n"
        "limit = TimeLimit(0.05, 0.05, lambda: None, stderr=2); limit.start(); limit.stop()\n"
        "time.sleep(0.5); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("goes on\n", "")


def test_outside_the_main_thread_there_is_none() -> None:
    told: list[str | None] = []
    thread = threading.Thread(target=lambda: told.append(unavailable()))
    thread.start()
    thread.join()
    assert told == ["it does not run in the main thread, which alone sees signals"]
    assert unavailable() is None


def test_without_signals_of_posix_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "pthread_kill")
    assert unavailable() == "this system has no signals that reach a thread"
