"""The files of a hub repository, in the hub client's cache: whole, checked, and said in a line where they cannot be.

Raises `NotHad` for whatever goes wrong, with one line: the hub's refusals, a hub that cannot be reached
or misbehaves, a file that is twice not what its name says. Where the cache holds all that was
asked for, a hub that fails is no failure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from sparsity.download import patience, verify
from sparsity.errors import one_line

T = TypeVar("T")
SILENT = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError", "OfflineModeIsEnabled")
"""Errors, by name, of a hub that cannot be reached."""


class Kind(Enum):
    """What callers say in words of their own, or answer in their own way."""

    NO_ID = "no id"
    UNKNOWN = "unknown"
    GATED = "gated"
    UNREACHABLE = "unreachable"
    BROKEN = "broken"
    """The repository itself; what was had of it before is no way out."""
    OTHER = "other"


class NotHad(Exception):
    """Why files of the hub are not here: the rest of a sentence that begins with the repository's name."""

    def __init__(self, kind: Kind, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def snapshot(name: str, files: Sequence[str], kind: str = "model", nested: bool = False) -> Path:
    """The folder in the cache that holds the repository's files by these patterns; `nested` those in folders as well.

    `kind` is "model" or "dataset". A file that does not fit its name is removed and fetched once more.
    """
    folder = _brought(name, files, kind, nested)
    broken = _wrong(folder, files)
    if not broken:
        return folder
    what = ", ".join(path.name for path in broken)
    _remove(broken)
    again = f"had a broken {what} in the cache, which was removed, and now"
    try:
        folder = _brought(name, files, kind, nested)
    except NotHad as error:
        raise NotHad(error.kind, f"{again} {error}") from error
    if not all(path.exists() for path in broken):  # an older client, offline, is content with the rest
        raise NotHad(Kind.UNREACHABLE, f"{again} it is not in the local cache, and the hub cannot be reached")
    if broken := _wrong(folder, files):
        _remove(broken)
        why = "came with other bytes than its hash says, twice, and was removed; ask whoever runs the hub or the proxy"
        raise NotHad(Kind.OTHER, f"cannot be had from the hub: {broken[0].name} {why}")
    return folder


def from_hub(call: Callable[[], T]) -> T:
    """What a call of the hub's client returns, within limits (see `patience`); raises `NotHad`."""
    try:
        return patience.tried(call)
    except patience.Tried as error:
        cause = error.__cause__
        assert cause is not None  # it is raised from the last try's
        raise (cause if isinstance(cause, NotHad) else _not_had(cause, str(error))) from cause.__cause__


def _brought(name: str, files: Sequence[str], kind: str, nested: bool) -> Path:
    """The folder of a snapshot.

    One file is asked for as a whole snapshot would be: for a single one the client retries an
    unreachable hub for 23 seconds before it gives up.
    """
    import huggingface_hub
    from huggingface_hub import errors

    wanted: dict[str, Any] = {"repo_type": kind, "allow_patterns": list(files)}
    if not nested:
        wanted["ignore_patterns"] = ["*/*"]
    try:
        return Path(from_hub(lambda: huggingface_hub.snapshot_download(name, **wanted)))
    except NotHad as error:
        # An older client takes half a snapshot for a whole one.
        if error.kind is not Kind.OTHER or not hasattr(errors, "IncompleteSnapshotError"):
            raise
        try:
            return Path(huggingface_hub.snapshot_download(name, local_files_only=True, **wanted))
        except Exception:
            raise error from None


def _wrong(folder: Path, files: Sequence[str]) -> list[Path]:
    try:
        return verify.wrong(folder, files)
    except (verify.LeadsOut, OSError, RuntimeError) as error:  # a ring of links is either of the two
        raise NotHad(Kind.OTHER, f"is not read from the cache: {one_line(error)}; remove it there") from None


def _remove(broken: list[Path]) -> None:
    for path in broken:
        try:
            verify.remove(path)
        except OSError as error:
            why = f"is broken in the cache and cannot be removed: {one_line(error)}"
            raise NotHad(Kind.OTHER, f"is not read: {path.name} {why}") from None


def _not_had(error: BaseException, tries: str) -> NotHad:
    """Why, by the error of the last try."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return NotHad(Kind.NO_ID, "is no hub id")
    if isinstance(error, errors.GatedRepoError):
        return NotHad(Kind.GATED, "is gated on the hub; ask for access there, then `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotHad(Kind.UNKNOWN, "is not on the hub, or is private (`hf auth login`)")
    why = _why(error) + (f", {tries}" if tries else "")
    if patience.status(error) is None and any(type(each).__name__ in SILENT for each in patience.chain(error)):
        return NotHad(Kind.UNREACHABLE, f"is not in the local cache, and the hub cannot be reached ({why})")
    return NotHad(Kind.OTHER, f"cannot be had from the hub: {why}")


def _why(error: BaseException) -> str:
    """What went wrong, in our words where the client's are of its own inside."""
    from huggingface_hub import constants

    causes = list(patience.chain(error))
    status, kinds = patience.status(error), {type(each).__name__ for each in causes}
    cause = next((each for each in causes if type(each).__name__ in SILENT), causes[-1])
    answer = patience.answered(error)
    where = f" for {answer.request.url.path}" if answer is not None else ""
    if status in (401, 403):
        return f"the hub does not allow it ({status}); `hf auth login` with a token that may read it"
    if status == 429:
        return f"too many requests (429){where}; try again later"
    if status is not None and status >= 500:
        return f"the hub is in trouble ({status}){where}; try again later"
    if status == 404:
        return f"the hub lists a file that it does not have (404){where}"
    if any(kind.endswith("Timeout") for kind in kinds):
        return f"the hub said nothing for {patience.silence():g} s"
    if kinds & {"RemoteProtocolError", "ReadError"}:
        return "the line was cut in the middle of a file"
    if found := re.search(r"size (\d+) but has size (\d+) \((?:.*/)?([^/]+?)\)\.", str(cause)):
        return f"{found[3]} came with {found[2]} bytes and not the {found[1]} that the hub says"
    if isinstance(cause, ValueError | TypeError | KeyError | AttributeError | AssertionError):
        return f"{constants.ENDPOINT} does not answer as a hub does ({one_line(cause)})"
    return one_line(cause)
