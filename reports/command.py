"""What the commands of `python -m reports` share: whatever a user can cause is one line that begins with `error:`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable
from typing import NoReturn

from reports.words import line
from sparsity.errors import SparsityError

NOT_COMPARABLE = 2
"""Exit status of whatever could not be done; also that of a command line that makes no sense."""


class Parser(argparse.ArgumentParser):
    """Tells an error in one line instead of the usage and two."""

    def error(self, message: str) -> NoReturn:
        """Ends the process."""
        self.exit(NOT_COMPARABLE, f"error: {line(message)}; see {self.prog} --help\n")


def guarded(action: Callable[[], int]) -> int:
    """The exit status of `action`, or `NOT_COMPARABLE` after the line that says what a user can mend."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths and names hold what a terminal may not know
    try:
        return action()
    except SparsityError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'the report'}: cannot be written ({error.strerror}); choose another --out"
    print(f"error: {line(message)}", file=sys.stderr)
    return NOT_COMPARABLE
