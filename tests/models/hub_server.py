"""A hub on this machine: enough of the Hugging Face protocol for the real clients of models and of data sets.

It serves folders as repositories, each with one commit, and answers as the hub does: what a repository
is, which files it holds (page by page), what is at some paths, the metadata of a file (HEAD), a file or
a part of it (GET). Large kinds of file lie where a second address sends them from, as on the hub. A
repository that does not exist, or is gated, is refused with the hub's own status and headers; one that
was renamed redirects. What goes wrong on demand is in `hub_misbehaviour`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The one commit of every repository."""
LARGE = (".safetensors", ".parquet", ".model")
"""Kinds of file that the hub keeps apart, names by their SHA-256 and redirects to."""
PAGE = 5
"""Entries on one page of a listing."""
_NAME = r"(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_INFO = re.compile(rf"/api/{_NAME}(/revision/[^/]+)?")
_TREE = re.compile(rf"/api/{_NAME}/tree/[^/]+(/(?P<file>.+))?")
_PATHS = re.compile(rf"/api/{_NAME}/paths-info/[^/]+")
_FILE = re.compile(r"/((?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")
_SENT = re.compile(r"/sent/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/(?P<file>.+)")


@dataclass(frozen=True)
class Answer:
    """What the hub would say to a request."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


class Misbehaviour(Protocol):
    """What goes wrong with some requests."""

    def applies(self, request: str) -> bool:
        """Whether to this one, "METHOD path"."""

    def send(self, handler: Handler, answer: Answer) -> None:
        """Something in place of the right answer."""


@dataclass
class HubServer:
    """A context manager: the hub is there inside it, and gone after it."""

    repositories: dict[str, Path] = field(default_factory=dict)
    """The folder of every model, by `owner/name`."""
    data_sets: dict[str, Path] = field(default_factory=dict)
    """The folder of every data set, likewise."""
    renamed: dict[str, str] = field(default_factory=dict)
    """The new name of a model by its old one."""
    gated: dict[str, int] = field(default_factory=dict)
    """Repositories whose files are refused, with the status: 401 without a login, 403 without a grant."""
    unknown: int = 401
    """The status for a repository that does not exist: the hub says 401 without a login, 404 with one."""
    broken: bool = False
    """Whether every answer is 503."""
    faults: list[Misbehaviour] = field(default_factory=list)
    """What goes wrong; the first that applies does."""
    requests: list[str] = field(default_factory=list)
    """Method and path of every request so far."""
    closing: threading.Event = field(default_factory=threading.Event)
    """Set when the hub goes: whoever stalls ends."""

    def __enter__(self) -> Self:
        hub: HubServer = self

        class Bound(Handler):
            """A handler that knows its hub."""

            state = hub

        self._http = [ThreadingHTTPServer(("127.0.0.1", 0), Bound) for _ in range(2)]  # the hub, and where files lie
        self._threads = [
            threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}) for http in self._http
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        for http, thread in zip(self._http, self._threads, strict=True):
            http.shutdown()
            thread.join()
            http.server_close()

    @property
    def url(self) -> str:
        """The endpoint for the client; after the server has closed, that of a hub that cannot be reached."""
        return f"http://127.0.0.1:{self._http[0].server_port}"

    @property
    def sent_from(self) -> str:
        """Where large files lie: another origin, so that the client treats it as one."""
        return f"http://localhost:{self._http[1].server_port}/sent"

    def fetched(self) -> set[str]:
        """The files whose content was asked for."""
        asked = [request.removeprefix("GET ") for request in self.requests if request.startswith("GET ")]
        return {match["file"] for path in asked if (match := _FILE.fullmatch(path) or _SENT.fullmatch(path))}

    def folder(self, kind: str | None, name: str) -> Path | None:
        """Of a repository."""
        return (self.data_sets if kind == "datasets" else self.repositories).get(name)

    def answer(self, request: str, query: dict[str, list[str]], body: bytes) -> Answer:
        """What the hub says to "METHOD path"."""
        path = request.partition(" ")[2]
        match = next((m for kind in _ANSWERS if (m := kind.fullmatch(path))), None)
        if self.broken:
            return refusal(503, None, "Service Unavailable")
        if match is None:
            return refusal(404, None, "Not Found")
        if match["name"] in self.renamed:
            return Answer(b"", {"Location": path.replace(match["name"], self.renamed[match["name"]])}, 307)
        folder = self.folder(match["kind"], match["name"])
        if folder is None:
            return refusal(self.unknown, "RepoNotFound", "Repository not found")
        return _ANSWERS[match.re](self, folder, match, {**query, "": [body.decode()]})

    def _info(self, folder: Path, match: re.Match[str], query: dict[str, list[str]]) -> Answer:
        siblings = [{"rfilename": entry["path"]} for entry in _entries(folder) if entry["type"] == "file"]
        about = {"id": match["name"], "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}
        return _json(about | {"lastModified": "2024-01-01T00:00:00.000Z"})

    def _tree(self, folder: Path, match: re.Match[str], query: dict[str, list[str]]) -> Answer:
        start, below = int(query.get("cursor", ["0"])[0]), match["file"]
        if below and not (folder / below).is_dir():
            return refusal(404, "EntryNotFound", f"{below} does not exist on main")
        entries = _entries(folder, below or "", recursive="true" in str(query.get("recursive", "")).lower())
        more = start + PAGE < len(entries)
        where = f"{self.url}{match[0]}?recursive={'recursive' in query}&cursor={start + PAGE}"
        return _json(entries[start : start + PAGE], {"Link": f'<{where}>; rel="next"'} if more else {})

    def _paths(self, folder: Path, match: re.Match[str], query: dict[str, list[str]]) -> Answer:
        (form,) = query[""]
        paths = json.loads(form)["paths"] if form.startswith("{") else parse_qs(form)["paths"]
        return _json([entry for entry in _entries(folder) if entry["path"] in paths])

    def _file(self, folder: Path, match: re.Match[str], query: dict[str, list[str]]) -> Answer:
        if (status := self.gated.get(match["name"])) is not None:
            return refusal(status, "GatedRepo", "Access to this model is restricted")
        file = folder / match["file"]
        if not file.is_file():
            return refusal(404, "EntryNotFound", "Entry not found")
        data, commit = file.read_bytes(), {"X-Repo-Commit": COMMIT}
        if not file.name.endswith(LARGE):
            return Answer(data, commit | {"ETag": f'"{_object_id(data)}"'})
        linked = {"X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
        where = f"{self.sent_from}/{match['kind'] or 'models'}/{match['name']}/{match['file']}"
        return Answer(b"Found", commit | linked | {"Location": where}, 302)

    def _sent(self, folder: Path, match: re.Match[str], query: dict[str, list[str]]) -> Answer:
        return Answer((folder / match["file"]).read_bytes(), {"ETag": '"of-the-store"'})


_ANSWERS: dict[re.Pattern[str], Callable[[HubServer, Path, re.Match[str], dict[str, list[str]]], Answer]] = {
    _TREE: HubServer._tree,
    _PATHS: HubServer._paths,
    _INFO: HubServer._info,
    _SENT: HubServer._sent,
    _FILE: HubServer._file,
}


class Handler(BaseHTTPRequestHandler):
    """One request, answered as the hub would; HTTP/1.0, so that no connection outlives its answer."""

    state: HubServer

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's own parameter name
        """Nothing on stderr; `HubServer.requests` keeps what was asked."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        request = f"{self.command} {unquote(url.path)}"
        self.state.requests.append(request)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.state.answer(request, parse_qs(url.query), body)
        fault = next((fault for fault in self.state.faults if fault.applies(request)), None)
        try:
            if fault is None:
                self.send(self.part(answer))
            else:
                fault.send(self, answer)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has had enough

    def part(self, answer: Answer) -> Answer:
        """The part of a file that was asked for; all of it where no range was."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None or answer.status != 200:
            return answer
        data = answer.body
        start, end = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        span = {"Content-Range": f"bytes {start}-{end}/{len(data)}"}
        return Answer(data[start : end + 1], answer.headers | span, 206)

    def send(self, answer: Answer, length: int | None = None, body: bool = True) -> None:
        """Status, headers, and on demand the body; `length` promised in place of its own."""
        self.send_response(answer.status)
        promised = {"Content-Length": str(len(answer.body) if length is None else length)}
        for name, value in {**promised, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(answer.body)


def refusal(status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> Answer:
    """As the hub words one."""
    said = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | (headers or {})
    return Answer(json.dumps({"error": message}).encode(), said, status)


def _json(content: Any, headers: dict[str, str] | None = None) -> Answer:
    return Answer(json.dumps(content).encode(), {"Content-Type": "application/json"} | (headers or {}))


def _object_id(data: bytes) -> str:
    """The id that git gives to a file, which is the hub's ETag for it."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _entries(folder: Path, below: str = "", recursive: bool = True) -> list[dict[str, Any]]:
    """What a listing says of a folder's files and folders."""
    found = sorted((folder / below).rglob("*") if recursive else (folder / below).iterdir())
    return [_entry(folder, path) for path in found]


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": COMMIT}
    data = path.read_bytes()
    entry = {"type": "file", "path": name, "size": len(data), "oid": _object_id(data)}
    if path.name.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Point the clients of this process at another hub and an empty cache, whatever the environment says.

    The client reads its environment once, when it is imported, and keeps it in these constants. Were
    one renamed, `setattr` fails; were it no longer read, no request reaches the server, which the
    tests notice.
    """
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)  # nobody's token leaves the machine
    # What a newer client keeps of a hub beside the cache: nothing of this one's in the user's home.
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(cache / "agents.json"), raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    huggingface_hub.close_session()  # the proxies are read when a session is opened
