"""`python -m reports RUN.json ... [--out DIR]`: figures, tables and pages from result files; and `compare`, `across`.

Whatever the user can cause ends in one line on stderr that begins with `error:`, and exit status 2.
matplotlib is imported only once there is something to draw, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reports.command import Parser, guarded

if TYPE_CHECKING:
    from reports.document import Picture
    from reports.drawn import Drawn
    from reports.run import Run

PAGE, MARKDOWN = "report.html", "report.md"
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
    """Write figures and both pages, overwriting an earlier report there; the absolute path of the HTML page.

    `out` defaults to `<stem of the first file>-report` beside that file. Raises `ResultNotReadable`
    before anything is written, and `OSError` where nothing can be.
    """
    from reports.read import read

    run = read(runs)
    folder = (out or runs[0].with_name(f"{runs[0].stem}-report")).resolve()
    folder.mkdir(parents=True, exist_ok=True)

    from reports import exports, html, markdown
    from reports.page import page
    from reports.verdicts import verdicts

    pictures, drawings = _figures(run, folder)
    document = page(run, pictures)
    (folder / MARKDOWN).write_text(markdown.render(document), encoding="utf-8")
    for name, text in exports.files(run).items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    written = folder / PAGE
    written.write_text(html.render(document, verdicts(run.drawn, len(run.machines)), drawings), encoding="utf-8")
    return written


def _figures(run: Run, folder: Path) -> tuple[list[Picture], dict[str, str]]:
    """Write each figure as PNG and SVG; what the page says of them, and the drawings for its inside by their stem."""
    from reports import canvas, figures, svg
    from reports.document import Picture

    pictures, drawings = [], {}
    for stem, drawn in figures.draw(run).items():
        about = canvas.description(drawn.figure)
        box = canvas.save(drawn.figure, folder, stem)
        drawings[stem] = svg.inline(drawn.figure, stem, about, box)
        (folder / f"{stem}.svg").write_text(svg.alone(drawings[stem]), encoding="utf-8")
        pictures.append(Picture(stem, about, _provenance(run, stem, drawn), drawn.cells))
    return pictures, drawings


def _provenance(run: Run, stem: str, drawn: Drawn) -> str:
    """Machine, commit, and the models that the cells of a figure are of."""
    from reports import figures
    from reports.series import models

    names = [name for name in models(run.drawn) if any(f"{cell} ".startswith(f"{name} ") for cell in drawn.cells)]
    metric = "accuracy" if stem == "text-classification-accuracy" else "mean_nll"
    return figures.provenance(run, names, metric, drawn.nodes).replace(
        r"\$", "$"
    )  # drawn, a dollar would begin a formula


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
