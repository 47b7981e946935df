"""Files in the hub client's cache against their names, which say what they hold.

The cache keeps each file once, under its ETag: the SHA-256 of a large file, and of a small one the id
that git gives it. A file that does not fit its name is broken: on the disk, on the way, or by a proxy.

Refuses a file of the cache that leads out of it. Cannot check, and lets pass: a cache without symbolic
links (Windows, some network disks), where no file has such a name, and the ETags of a mirror that
are neither of the two.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

_fine: set[tuple[str, str, int, int]] = set()
"""What this process has found right: path, name, length and time of change."""


class LeadsOut(Exception):
    """A file of the cache is a link to somewhere else; the message says which."""


def wrong(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The snapshot's files whose content does not fit their name, of those whose path matches a pattern.

    Raises `LeadsOut`.
    """
    root = folder.resolve().parents[2]  # CACHE/models--OWNER--NAME/snapshots/COMMIT
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file()):
        name = path.relative_to(folder).as_posix()
        if not path.resolve().is_relative_to(root):
            raise LeadsOut(f"{name} in the cache leads out of it, to {path.resolve()}")
        if path.is_symlink() and any(fnmatch(name, pattern) for pattern in patterns) and not _fits(path):
            found.append(path)
    return found


def remove(path: Path) -> None:
    """The file, and what it links to: the client will fetch it as if it had never been there."""
    blob = path.parent / path.readlink()
    for each in (path.resolve(), blob, path):  # a blob may itself be a link, to one that several repositories share
        each.unlink(missing_ok=True)


def _fits(path: Path) -> bool:
    name = path.readlink().name
    if not re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", name) or not path.exists():
        return True
    about = path.stat()
    key = (str(path.resolve()), name, about.st_size, about.st_mtime_ns)
    if key not in _fine and _digest(path, of_git=len(name) == 40) == name:
        _fine.add(key)
    return key in _fine


def _digest(path: Path, of_git: bool) -> str:
    """The SHA-256 of a file, or the id that git gives it."""
    begin = b"blob %d\0" % path.stat().st_size
    digest = hashlib.sha1(begin, usedforsecurity=False) if of_git else hashlib.sha256()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()
