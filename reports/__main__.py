"""`python -m reports RUN.json ... [--out DIR]`: figures, tables and one page from result files.

Whatever the user can cause ends in one line on stderr that begins with `error:`, and exit status 2.
matplotlib is imported only once there is something to draw, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sparsity.errors import SparsityError

PAGE = "report.md"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other error, instead of the usage and two."""
        self.exit(2, f"error: {message}; see python -m reports --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; 0, or 2 after an error line."""
    options = _parser().parse_args(arguments)
    try:
        written = report(options.runs, options.out)
    except SparsityError as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or options.out or "the report"
        print(f"error: {where}: cannot be written ({error.strerror}); choose another --out", file=sys.stderr)
        return 2
    print(f"Report: {written}")
    return 0


def report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write figures and page, overwriting an earlier report there; the absolute path of the page.

    `out` defaults to `<stem of the first file>-report` beside that file. Raises `ResultNotReadable`
    before anything is written, and `OSError` where nothing can be.
    """
    from reports.read import read

    run = read(runs)
    folder = (out or runs[0].with_name(f"{runs[0].stem}-report")).resolve()
    folder.mkdir(parents=True, exist_ok=True)

    from reports.canvas import description, save
    from reports.figures import draw
    from reports.page import page

    descriptions = {}
    for stem, figure in draw(run).items():
        save(figure, folder, stem)
        descriptions[stem] = description(figure)
    written = folder / PAGE
    written.write_text(page(run, descriptions), encoding="utf-8")
    return written


def _parser() -> _Parser:
    parser = _Parser(prog="python -m reports", description="Figures, tables and one page from result files.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="written by pytest --benchmark-json")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; RUN-report beside the first file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
