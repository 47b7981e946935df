"""What a hub can do wrong, on demand: for requests that match, always or a number of times.

    server.faults.append(Fault("GET .*/model.safetensors", cut(0.5), times=1))

Each of the functions below makes one kind of wrong answer out of the right one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import pytest

from tests.models.hub_server import Answer, Handler, refusal

Send = Callable[[Handler, Answer], None]
"""Sends something in place of the right answer."""
SILENCE = 0.3
"""Seconds that the client of a test waits for a silent hub."""
LONGEST = 60.0
"""Seconds after which whoever stalls gives up, should the test not end before."""


@dataclass
class Fault:
    """One thing that goes wrong."""

    where: str
    """A pattern for "METHOD path", from its beginning to its end."""
    what: Send
    times: int | None = None
    """How often; None for always."""

    def applies(self, request: str) -> bool:
        """Whether to this request; counts it."""
        if self.times == 0 or not re.fullmatch(self.where, request):
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def send(self, handler: Handler, answer: Answer) -> None:
        """What goes wrong."""
        self.what(handler, answer)


def say(status: int, message: str = "", code: str | None = None, **headers: str) -> Send:
    """Refuse with a status; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, answer: handler.send(refusal(status, code, message or f"status {status}", named))


def body(content: bytes, kind: str = "application/json") -> Send:
    """Another body, with its own length and the right headers; a redirect is no more."""

    def send(handler: Handler, answer: Answer) -> None:
        kept = {name: value for name, value in answer.headers.items() if name != "Location"}
        handler.send(Answer(content, kept | {"Content-Type": kind}))

    return send


def other_bytes(handler: Handler, answer: Answer) -> None:
    """As many bytes, the middle and the last of them others: what a broken disk or a bad proxy sends."""
    data = bytearray(answer.body)
    for place in {len(data) // 2, len(data) - 1} if data else set():
        data[place] ^= 0xFF
    handler.send(handler.part(Answer(bytes(data), answer.headers, answer.status)))


def shorter(handler: Handler, answer: Answer) -> None:
    """The first half, said to be all."""
    handler.send(Answer(answer.body[: len(answer.body) // 2], answer.headers, answer.status))


def cut(share: float, resumes: bool = True) -> Send:
    """A share of what was asked for, then the line is cut; where it `resumes`, a part may be asked for."""

    def send(handler: Handler, answer: Answer) -> None:
        right = handler.part(answer) if resumes else answer
        half = Answer(right.body[: int(len(right.body) * share)], right.headers, right.status)
        handler.send(half, length=len(right.body))

    return send


def stall(handler: Handler, answer: Answer) -> None:
    """Never an answer."""
    handler.state.closing.wait(LONGEST)
    handler.close_connection = True


def stall_in_the_middle(handler: Handler, answer: Answer) -> None:
    """Half of it, then nothing any more, and the line stays open."""
    cut(0.5)(handler, answer)
    handler.wfile.flush()
    stall(handler, answer)


def drip(size: int, pause: float) -> Send:
    """All of it, a few bytes at a time."""

    def send(handler: Handler, answer: Answer) -> None:
        right = handler.part(answer)
        handler.send(right, body=False)
        for start in range(0, len(right.body), size):
            if handler.state.closing.wait(pause):
                return
            handler.wfile.write(right.body[start : start + size])
            handler.wfile.flush()

    return send


def redirect(where: str) -> Send:
    """Elsewhere: a URL, or a path on the same hub; `{}` is a number that rises."""
    numbers = count()
    return lambda handler, answer: handler.send(Answer(b"", {"Location": where.format(next(numbers))}, 302))


def headers(**others: str) -> Send:
    """The right answer with other headers; underscores in their names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in others.items()}
    return lambda handler, answer: handler.send(Answer(answer.body, answer.headers | named, answer.status))


def same_page(handler: Handler, answer: Answer) -> None:
    """A page of a listing, after which it comes again."""
    link = f'<{handler.state.url}{handler.path}>; rel="next"'
    handler.send(Answer(answer.body, answer.headers | {"Link": link}, answer.status))


def pages(handler: Handler, answer: Answer) -> None:
    """A page of a listing, after which there is always another."""
    path = handler.path.partition("?")[0]
    number = len(handler.state.requests)
    link = f'<{handler.state.url}{path}?recursive=true&cursor=0&page={number}>; rel="next"'
    handler.send(Answer(answer.body, answer.headers | {"Link": link}, answer.status))


@dataclass
class Waits:
    """Seconds that were slept meanwhile; a hundredth of each really is."""

    seconds: float = 0.0

    def quicken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Shorten every sleep of this process, and the client's time-outs to `SILENCE`."""
        from huggingface_hub import constants

        sleep = time.sleep

        def slept(seconds: float) -> None:
            self.seconds += seconds
            sleep(seconds / 100)

        monkeypatch.setattr("time.sleep", slept)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", SILENCE)
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", SILENCE)


def ended(call: Callable[[], object]) -> BaseException | None:
    """What the call raised, None for nothing; fails where it has not ended within `LONGEST` seconds."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)  # one that hangs must not hold the tests
    thread.start()
    thread.join(LONGEST)
    if not raised:
        pytest.fail(f"has not ended within {LONGEST:.0f} seconds")
    return raised[0]
