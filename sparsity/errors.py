"""The errors of this project: each message says what, with which value, and what to do.

Everything that a user can cause is a `SparsityError`; whatever else escapes is a bug of ours. The
kinds exist because callers treat them differently: a refused cell is skipped with its reason, a
model that cannot be loaded stops the run before anything is measured.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable


class SparsityError(Exception):
    """The user can mend this; the message is one line and says how."""


class UnknownName(SparsityError):
    """A name that is not in the list it must come from."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        nearest = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        super().__init__(f"unknown {kind} {name!r}{hint or '.'} Known: {', '.join(names)}")


class BadValue(SparsityError):
    """A value outside what it must be."""


class ModelNotLoaded(SparsityError):
    """A checkpoint that could not be found, read or trusted."""


class ModelNotUnderstood(SparsityError):
    """A model whose blocks this suite does not know: refused, never half pruned."""


class Refused(SparsityError):
    """A cell that makes no sense or cannot be measured here; skipped with this reason."""


class ResultNotReadable(SparsityError):
    """A result file that is missing, broken or of another kind."""


def one_line(error: BaseException) -> str:
    """What an error of another library says, as one short line."""
    text = "".join(c if c.isprintable() else " " for c in str(error))  # some colour what they say
    return textwrap.shorten(text, 200, placeholder=" …") or type(error).__name__


def shown(reference: str) -> str:
    """What a user named: a path may be long; what no path is, is cut."""
    return reference if len(reference) <= 200 else f"{reference[:100]}… ({len(reference)} characters)"
