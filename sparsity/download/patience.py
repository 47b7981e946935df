"""The hub's own client with a patience that ends: what passes is tried again, and nothing is waited for for ever.

`huggingface_hub` has time-outs for files and tries most things again. What it lacks, found by letting a
server misbehave under its version 2.4, is added here through the hooks of its HTTP client:

    it asks what a repository is, and which files it holds, without any time-out
    it waits as long as a hub asks it to, be it an hour
    a line that drips never times out, and a listing whose pages never end is read for ever
    a refusal that passes (429, 5xx) is final where it asks what a repository is, 5xx within a download as well
    version 1.5 has no limit for redirects about a file in a ring
    a hub that gives a path for the hash of a file writes where that path leads

`HF_HUB_DOWNLOAD_TIMEOUT` is how long a silent hub is waited for, in seconds (10); `HF_HUB_ETAG_TIMEOUT`
only where it is longer.

The client that the hooks are put on is renewed by `huggingface_hub` after a refused connection, and
then without them until the next try. Files that come through `hf_xet` do not pass it at all: that
library has time-outs and tries of its own.
"""

from __future__ import annotations

import contextlib
import email.utils
import importlib
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

TRIES = 3
"""Of one call, each with all the tries that the client itself makes of a request."""
FIRST_WAIT = 1.0
"""Seconds before the second try; twice as many before the third."""
LONGEST = 60.0
"""Seconds that a hub may ask to be left alone for, and after which no new try begins."""
WINDOW = 30.0
"""Seconds within which `LEAST` must come."""
LEAST = 30_000
"""Bytes."""
SAME = 20
"""How often the same part of the same file is asked for in one try: the client has no limit where some of it came."""
MOST = 10_000
"""Requests in one try."""
PASSING = (408, 429, 500, 502, 503, 504)
"""Statuses that pass."""
_CUT = ("RemoteProtocolError", "ReadError", "ReadTimeout")
"""Errors of the HTTP library that pass, by name: which library it is depends on the client's version."""

T = TypeVar("T")


class GaveUp(Exception):
    """The hub was given up; the message says what it does."""


class Tried(Exception):
    """What the last try raised is the cause; the message is how often and how long, empty for once."""


def tried(call: Callable[[], T]) -> T:
    """What the call returns; tried again while what it fails with is something that passes.

    Raises `Tried` from the error of the last try.
    """
    start = time.monotonic()
    for number in range(1, TRIES + 1):
        try:
            with _limits(), _quiet():
                return call()
        except Exception as error:
            spent, wait = time.monotonic() - start, _wait(error, number)
            if number == TRIES or not _passes(error) or spent + wait > LONGEST:
                raise Tried(f"after {number} tries in {spent:.0f} s" if number > 1 else "") from error
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def silence() -> float:
    """Seconds that a silent hub is waited for."""
    from huggingface_hub import constants

    return float(max(constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def status(error: BaseException) -> int | None:
    """The status of the hub's answer that an error is about."""
    answer = answered(error)
    return None if answer is None else int(answer.status_code)


def answered(error: BaseException) -> Any:
    """The hub's answer that an error is about, None where it is about none."""
    answers = (getattr(each, "response", None) for each in chain(error))
    return next((answer for answer in answers if answer is not None), None)


def _passes(error: BaseException) -> bool:
    """Whether it may go better another time; the wrong length is what a proxy or a full disk makes of a file."""
    cut = any(type(each).__name__ in _CUT or "Consistency check failed" in str(each) for each in chain(error))
    return cut or status(error) in PASSING


def _wait(error: BaseException, number: int) -> float:
    """Seconds before the next try: what the hub asks for, else ever longer."""
    answer = answered(error)
    return max(0.0 if answer is None else _asked(answer.headers), FIRST_WAIT * 2.0 ** (number - 1))


def _asked(headers: Mapping[str, str]) -> float:
    """Seconds that a refusal asks to wait: in one of two units, or in the hub's own header."""
    said = headers.get("Retry-After", "").strip()
    limit = re.search(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("RateLimit", ""))
    if said.isdigit():
        seconds = float(said)
    else:
        date = email.utils.parsedate_tz(said)
        seconds = email.utils.mktime_tz(date) - time.time() if date else 0.0
    return max(seconds, float(limit[1]) if limit else 0.0, 0.0)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """The limits, on every request that the client of this process makes meanwhile."""
    import huggingface_hub

    client, watch = huggingface_hub.get_session(), _Watch()
    hooks = client.event_hooks
    before = {kind: list(hooks[kind]) for kind in ("request", "response")}
    client.event_hooks = {
        "request": [*before["request"], watch.request],
        "response": [*before["response"], watch.response],
    }
    try:
        yield
    finally:
        client.event_hooks = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No log lines of the client on each of its tries: how it ended is said in one line."""
    from huggingface_hub import logging as of_client

    verbosity = of_client.get_verbosity()
    of_client.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        of_client.set_verbosity(verbosity)


class _Watch:
    """Sees the requests and answers of one try, from several threads."""

    def __init__(self) -> None:
        self.silence = silence()
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    def request(self, request: Any) -> None:
        """Give it a time-out where it has none, or a longer one; refuse the one too many."""
        given, parts = request.extensions.get("timeout", {}), ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {p: min(given.get(p) or self.silence, self.silence) for p in parts}
        if ".." in request.url.path.split("/"):  # of the state or a file that the hub named
            raise GaveUp(f"the hub names what leads out of the repository, {request.url.path}")
        what = f"{request.method} {request.url} {request.headers.get('Range', '')}"
        with self.lock:
            self.asked[what] += 1
            if self.asked[what] > SAME:
                raise GaveUp(f"the same part of {request.url.path} was asked for {SAME} times")
            if sum(self.asked.values()) > MOST:
                raise GaveUp(f"more than {MOST} requests, the last for {request.url.path}")

    def response(self, response: Any) -> None:
        """Refuse what no client should act on, and watch how fast the rest comes."""
        headers = response.headers
        if response.status_code in PASSING and (wait := _asked(headers)) > LONGEST:
            raise GaveUp(f"the hub asks to be left alone for {wait:.0f} s ({response.status_code}); try again later")
        if "X-Repo-Commit" in headers:  # an answer about a file: the client makes paths of these
            for name in ("X-Repo-Commit", "X-Linked-ETag", "ETag"):
                if re.search(r"[/\\]|\.\.", headers.get(name, "").removeprefix("W/")):
                    raise GaveUp(f"the hub gives a path as {name} of {response.request.url.path}")
        response.stream = _watched(response)


def _watched(response: Any) -> Any:
    """The answer's bytes, while they come fast enough."""
    http = importlib.import_module(type(response).__module__.partition(".")[0])  # httpx, or what came after it

    class Watched(http.SyncByteStream):  # type: ignore[misc, name-defined]  # known at run time
        """The same stream."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __iter__(self) -> Iterator[bytes]:
            since, came = time.monotonic(), 0
            for part in self.stream:
                came += len(part)
                yield part
                now = time.monotonic()
                if now - since > WINDOW:
                    if came < LEAST:
                        raise GaveUp(f"only {came} bytes came within {now - since:.0f} s; try again on a better line")
                    since, came = now, 0

        def close(self) -> None:
            self.stream.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)  # the client reads how long it took

    return Watched(response.stream)
