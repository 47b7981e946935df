"""A new folder, written whole or not at all: it takes its name once everything is in it.

Refuses, in one line: a place that holds something already, and one where nothing can be written.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sparsity.errors import BadValue, one_line


@contextlib.contextmanager
def whole_or_nothing(out: Path) -> Iterator[Path]:
    """A folder beside, which takes the name once everything is in it; raises `BadValue` where that cannot be."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
            folder = Path(beside) / out.name
            folder.mkdir()
            yield folder
            _refuse_taken(out)  # what was written may have taken long
            if out.exists():
                out.rmdir()  # it is empty; not every system renames over one
            folder.rename(out)
    except OSError as error:
        raise BadValue(f"{out}: nothing can be written there: {one_line(error)}") from None


def refuse_unwritable(out: Path) -> None:
    """Raises `BadValue` for a place that no folder can be written to, or that holds something, before hours pass."""
    try:
        _refuse_taken(out)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=nearest(out)):
            pass
    except OSError as error:
        raise BadValue(f"{out}: nothing can be written there: {one_line(error)}") from None


def nearest(out: Path) -> Path:
    """The folder above that exists."""
    return next(folder for folder in out.absolute().parents if folder.exists())


def _refuse_taken(out: Path) -> None:
    empty = out.is_dir() and not any(out.iterdir())
    if not empty and (out.exists() or out.is_symlink()):
        raise BadValue(f"{out} is there already; give the name of a new folder, or of an empty one")
