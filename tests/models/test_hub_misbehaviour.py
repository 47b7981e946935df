"""A hub that misbehaves: each way ends in the model or in one clear line, and never hangs.

With `-s` the lines are printed: what the hub does, how it ended, seconds and seconds of them slept, the line.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors

from sparsity.download import patience, verify
from sparsity.errors import ModelNotLoaded
from sparsity.models import hub
from tests.models import tiny
from tests.models.hub_misbehaviour import (
    Fault,
    Send,
    Waits,
    body,
    cut,
    drip,
    ended,
    headers,
    other_bytes,
    pages,
    redirect,
    same_page,
    say,
    shorter,
    stall,
    stall_in_the_middle,
)
from tests.models.hub_server import COMMIT, HubServer, use_hub

NAME = "owner/name"
INFO = r"GET /api/models/owner/name(/revision/[^/]+)?"
TREE = r"GET /api/models/owner/name/tree/.*"
HEAD = r"HEAD .*/resolve/.*"
WEIGHTS = r"GET /sent/.*"
CONFIG = r"GET .*/config\.json"
ANY = r".* /(api/models|owner|sent)/.*"
FINE = ""
SILENT = f"{NAME} is not in the local cache, and the hub cannot be reached (the hub said nothing for 0.3 s"
NO_HUB = " does not answer as a hub does ("


@dataclass(frozen=True)
class Case:
    """What the hub does, and how it must end."""

    where: str
    what: Send
    times: int | None
    says: str
    """A part of the line; empty for success."""


def listing(*paths: str) -> Send:
    """A listing of other paths."""
    return body(json.dumps([{"type": "file", "path": path, "size": 1, "oid": "0" * 40} for path in paths]).encode())


CASES = {
    "says nothing when asked what the repository is": Case(INFO, stall, None, SILENT),
    "says nothing once": Case(INFO, stall, 1, FINE),
    "says nothing when asked for a listing": Case(TREE, stall, None, SILENT),
    "says nothing when asked about a file": Case(HEAD, stall, None, SILENT),
    "says nothing when asked for a file": Case(WEIGHTS, stall, None, SILENT),
    "stalls in the middle of a file": Case(WEIGHTS, stall_in_the_middle, None, SILENT),
    "stalls in the middle of a file once": Case(WEIGHTS, stall_in_the_middle, 1, FINE),
    "drips a file": Case(WEIGHTS, drip(100, 0.1), None, "bytes came within"),
    "drips a listing": Case(TREE, drip(10, 0.1), None, "bytes came within"),
    "is slow with a file": Case(WEIGHTS, drip(20_000, 0.1), None, FINE),
    "cuts a file once": Case(WEIGHTS, cut(0.5), 1, FINE),
    "cuts a file twice and resumes neither": Case(WEIGHTS, cut(0.5, resumes=False), 2, FINE),
    "cuts a file always": Case(WEIGHTS, cut(0.5), None, "the line was cut in the middle of a file, after 3 tries"),
    "cuts a listing once": Case(TREE, cut(0.5), 1, FINE),
    "lacks a file that it lists": Case(
        HEAD + r"/model\.safetensors", say(404, code="EntryNotFound"), None, "lists a file that it does not have (404)"
    ),
    "wants a login": Case(ANY, say(401), None, "the hub does not allow it (401); `hf auth login`"),
    "forbids": Case(ANY, say(403), None, "the hub does not allow it (403); `hf auth login`"),
    "has too many requests once": Case(INFO, say(429, Retry_After="2"), 1, FINE),
    "has too many requests once about a file": Case(HEAD, say(429, Retry_After="2"), 1, FINE),
    "has too many requests once for a file": Case(WEIGHTS, say(429, Retry_After="2"), 1, FINE),
    "has too many requests always": Case(ANY, say(429, Retry_After="2"), None, "too many requests (429)"),
    "asks to wait for an hour": Case(
        TREE, say(429, Retry_After="3600"), None, "asks to be left alone for 3600 s (429); try again later"
    ),
    "asks to wait until a date": Case(
        TREE, say(429, Retry_After="Wed, 21 Oct 2665 07:28:00 GMT"), None, "asks to be left alone for"
    ),
    "asks to wait in its own header": Case(
        WEIGHTS, say(429, RateLimit='"resolvers";r=0;t=290'), None, "asks to be left alone for 290 s"
    ),
    "fails twice when asked what the repository is": Case(INFO, say(500), 2, FINE),
    "fails twice when asked for a listing": Case(TREE, say(500), 2, FINE),
    "fails twice when asked about a file": Case(HEAD, say(502), 2, FINE),
    "fails twice when asked for a file": Case(WEIGHTS, say(500), 2, FINE),
    "fails twice": Case(ANY, say(500), 2, FINE),
    "is down": Case(ANY, say(503), None, "the hub is in trouble (503) for /api/models/owner/name"),
    "is down where files are": Case(WEIGHTS, say(503), None, "the hub is in trouble (503) for /sent/models/"),
    "sends other weights": Case(WEIGHTS, other_bytes, None, "model.safetensors came with other bytes than its hash"),
    "sends other weights once": Case(WEIGHTS, other_bytes, 1, FINE),
    "sends another config once": Case(CONFIG, other_bytes, 1, FINE),
    "sends half a file as all of it": Case(WEIGHTS, shorter, None, "model.safetensors came with "),
    "sends half a file as all of it once": Case(WEIGHTS, shorter, 1, FINE),
    "sends an empty file": Case(WEIGHTS, body(b""), None, "model.safetensors came with 0 bytes and not the "),
    "sends a page of HTML as a file": Case(
        CONFIG, body(b"<html>", "text/html"), None, "config.json came with 6 bytes and not the "
    ),
    "redirects in a ring": Case(HEAD, redirect("/owner/name/resolve/main/{}"), None, "/owner/name/resolve/main/"),
    "redirects in a ring when asked what it is": Case(INFO, redirect("/api/models/owner/name?{}"), None, "redirects"),
    "redirects to no one": Case(INFO, redirect("http://127.0.0.1:1/{}"), None, "the hub cannot be reached"),
    "redirects files to no one": Case(WEIGHTS, redirect("http://127.0.0.1:1/{}"), None, "the hub cannot be reached"),
    "says what is no JSON": Case(INFO, body(b"{"), None, NO_HUB),
    "lists what is no JSON": Case(TREE, body(b"["), None, NO_HUB),
    "answers with a page of HTML": Case(ANY, body(b"<html>log in</html>", "text/html"), None, NO_HUB),
    "says other JSON": Case(INFO, body(b"[1]"), None, NO_HUB),
    "lists other JSON": Case(TREE, body(b'{"a": 1}'), None, NO_HUB),
    "lists no file": Case(TREE, body(b"[]"), None, "no config.json in the repository"),
    "lists a file outside of the folder": Case(TREE, listing("../config.json"), None, "no config.json in"),
    "lists a file from the root": Case(TREE, listing("/etc/config.json"), None, "no config.json in"),
    "lists for ever": Case(TREE, pages, None, "more than 100 requests"),
    "lists one page for ever": Case(TREE, same_page, None, "the same part of /api/models/owner/name/tree"),
    "gives a path for a hash": Case(HEAD, headers(ETag='"../../../../escaped"'), None, "the hub gives a path as ETag"),
    "gives a path for a commit": Case(
        HEAD, headers(X_Repo_Commit="../../escaped"), None, "the hub gives a path as X-Repo-Commit"
    ),
    "gives a path as its state": Case(
        INFO,
        body(json.dumps({"id": NAME, "sha": "../../../../escaped", "siblings": []}).encode()),
        None,
        "the hub names what leads out of the repository",
    ),
}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Short time-outs, and sleeps that are over soon."""
    waits = Waits()
    waits.quicken(monkeypatch)
    monkeypatch.setattr(patience, "WINDOW", 1.0)
    monkeypatch.setattr(patience, "MOST", 100)
    return waits


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: Waits) -> Iterator[HubServer]:
    """A hub with one model, before it misbehaves."""
    (tmp_path / "home").mkdir()
    folder = tiny.save(tmp_path / "served", "bert", "lm")
    tiny.add_tokenizer(folder, "bert")
    with HubServer({NAME: folder}) as running:
        use_hub(monkeypatch, running.url, tmp_path / "home" / "cache")
        yield running


def _load() -> Any:
    hub.check(NAME)
    return hub.load(NAME, "lm", torch.float32, tiny.CPU)


@pytest.mark.parametrize("does", CASES)
def test_a_hub_that(does: str, server: HubServer, waits: Waits, tmp_path: Path) -> None:
    case = CASES[does]
    server.faults.append(Fault(case.where, case.what, case.times))
    start = time.monotonic()
    error = ended(_load)
    message = "" if error is None else str(error)
    spent = time.monotonic() - start
    print(f"| {does} | {message or 'loaded'} | {spent:.1f} | {waits.seconds:.0f} |")
    if case.where == TREE and not any(re.fullmatch(TREE, request) for request in server.requests):
        pytest.skip("this version of the client asks for no listing")
    if case.says == FINE:
        assert error is None, message
        assert server.faults[0].times in (None, 0)  # type: ignore[attr-defined]  # it did misbehave
    else:
        assert type(error) is ModelNotLoaded, error
        assert message.startswith(NAME)
        assert message.isprintable(), f"more than a line: {message!r}"
        assert case.says in message
        assert len(message) < 600
    assert not list(tmp_path.rglob("*escaped*"))
    for snapshot in (tmp_path / "home").glob("cache/*/snapshots/*"):
        assert not verify.wrong(snapshot, ["*"])
    assert {path.name for path in (tmp_path / "home").iterdir()} <= {"cache"}


def test_a_hub_that_asks_to_wait_is_waited_for(server: HubServer, waits: Waits) -> None:
    server.faults.append(Fault(INFO, say(429, Retry_After="17"), 1))
    assert ended(_load) is None
    assert waits.seconds >= 17


def test_a_model_in_the_cache_is_loaded_whatever_the_hub_does(server: HubServer, waits: Waits) -> None:
    if not hasattr(errors, "IncompleteSnapshotError"):
        pytest.skip("this version of the client does not know whether its cache is whole")
    expected = tiny.logits(_load().model)
    for what in (say(429, Retry_After="3600"), say(503), body(b"{"), cut(0.5), stall):
        server.faults[:] = [Fault(ANY, what)]
        assert torch.equal(tiny.logits(_load().model), expected)


def test_a_renamed_model_is_found(server: HubServer) -> None:
    server.renamed["owner/old"] = NAME
    hub.check("owner/old")
    assert f"GET /api/models/{NAME}/revision/main" in server.requests


def test_large_files_come_from_where_the_hub_redirects_to(server: HubServer) -> None:
    _load()
    assert f"GET /sent/models/{NAME}/model.safetensors" in server.requests
    assert f"GET /{NAME}/resolve/{COMMIT}/config.json" in server.requests


def test_the_client_is_left_as_it_was(server: HubServer) -> None:
    import huggingface_hub

    before = {kind: list(hooks) for kind, hooks in huggingface_hub.get_session().event_hooks.items()}
    _load()
    assert {kind: list(hooks) for kind, hooks in huggingface_hub.get_session().event_hooks.items()} == before
