"""A hub on this machine: enough of the Hugging Face protocol for the real `huggingface_hub` client.

It serves folders as repositories, each with one commit, and answers as the hub does to four kinds of
request: what a repository is, which files it holds, the metadata of a file (HEAD), a file (GET). A
repository that does not exist, or is gated, is refused with the hub's own status and headers.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The one commit of every repository."""
_INFO = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(/revision/[^/]+)?")
_TREE = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/tree/[^/]+")
_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")


@dataclass
class HubServer:
    """A context manager: the hub is there inside it, and gone after it."""

    repositories: dict[str, Path] = field(default_factory=dict)
    """The folder of every repository, by `owner/name`."""
    gated: dict[str, int] = field(default_factory=dict)
    """Repositories whose files are refused, with the status: 401 without a login, 403 without a grant."""
    unknown: int = 401
    """The status for a repository that does not exist: the hub says 401 without a login, 404 with one."""
    broken: bool = False
    """Whether every answer is 503."""
    requests: list[str] = field(default_factory=list)
    """Method and path of every request so far."""

    def __enter__(self) -> Self:
        hub: HubServer = self

        class Handler(_Handler):
            """A handler that knows its hub."""

            state = hub

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The endpoint for the client; after the server has closed, that of a hub that cannot be reached."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def fetched(self) -> set[str]:
        """The files whose content was asked for."""
        matches = [_FILE.fullmatch(r.removeprefix("GET ")) for r in self.requests if r.startswith("GET ")]
        return {match["file"] for match in matches if match}


class _Handler(BaseHTTPRequestHandler):
    """One request, answered as the hub would; HTTP/1.0, so that no connection outlives its answer."""

    state: HubServer

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's own parameter name
        """Nothing on stderr; `HubServer.requests` keeps what was asked."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append(f"{self.command} {path}")
        match = _TREE.fullmatch(path) or _INFO.fullmatch(path) or _FILE.fullmatch(path)
        if self.state.broken:
            self._refuse(503, None, "Service Unavailable")
        elif match is None:
            self._refuse(404, None, "Not Found")
        elif (folder := self.state.repositories.get(match["name"])) is None:
            self._refuse(self.state.unknown, "RepoNotFound", "Repository not found")
        elif match.re is _INFO:
            self._send_json({"id": match["name"], "sha": COMMIT, "private": False, "tags": [], "siblings": []})
        elif match.re is _TREE:
            self._send_json([_entry(folder, file) for file in sorted(folder.rglob("*")) if file.is_file()])
        elif (status := self.state.gated.get(match["name"])) is not None:
            self._refuse(status, "GatedRepo", "Access to this model is restricted")
        elif (file := folder / match["file"]).is_file():
            data = file.read_bytes()
            self._send(data, {"ETag": f'"{_object_id(data)}"', "X-Repo-Commit": COMMIT})
        else:
            self._refuse(404, "EntryNotFound", "Entry not found")

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _send_json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(json.dumps({"error": message}).encode(), headers, status)


def _object_id(data: bytes) -> str:
    """The id that git gives to a file, which is the hub's ETag for it."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _entry(folder: Path, file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    path = file.relative_to(folder).as_posix()
    return {"type": "file", "path": path, "size": len(data), "oid": _object_id(data)}


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Point the client of this process at another hub and an empty cache, whatever the environment says.

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
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    huggingface_hub.close_session()  # the proxies are read when a session is opened
