"""`python -m reports RUN.json ... [--out DIR]`: figures, tables and pages from result files; and `compare`, `across`.

Whatever the user can cause ends in one line on stderr that begins with `error:`, and exit status 2.
matplotlib is imported only once there is something to draw, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from reports.command import Parser, guarded

PAGE = "report.md"
COMMANDS = {
    "compare": "is one run worse than another? exit status 0 fine, 1 regression, 2 not comparable, 3 too noisy",
    "across": "several runs side by side: versions of torch, machines, commits",
}
"""What else there is, each in the module of its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report, or hand over to another command; 0, or 2 after an error line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        status: int = importlib.import_module(f"reports.{given[0]}").main(given[1:])
        return status
    options = _parser().parse_args(given)

    def write() -> int:
        print(f"Report: {report(options.runs, options.out)}")
        return 0

    return guarded(write)


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


def _parser() -> Parser:
    others = "; ".join(f"{name}: {what}" for name, what in COMMANDS.items())
    parser = Parser(
        prog="python -m reports",
        description="Figures, tables and one page from result files.",
        epilog=f"Other commands, each with its own --help: {others}.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="written by pytest --benchmark-json")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; RUN-report beside the first file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
