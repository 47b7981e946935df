"""`python -m reports compare BASE.json HEAD.json`: is one run worse than another?

One line for each finding, the worst first, then one that counts them. Exit status 0 where all is fine, 1 for a
regression, 2 where something is missing, new or cannot be compared, or a file cannot be read, 3 where it is too noisy
to tell. What is compared, and how, is said in `sparsity.comparison`.

Refuses a file that is given for two pairs of runs: a second pair is worth something only if it was measured again;
and to write its table over a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reports.command import Parser, guarded
from reports.words import escape
from sparsity.comparison import Comparison, Rules, compare, margin
from sparsity.errors import BadValue, ResultNotReadable
from sparsity.gate import FINE, INCOMPLETE, NOISY, REGRESSION
from sparsity.gate_join import ALLOWED
from sparsity.gate_time import MARGIN
from sparsity.result_file import load

LARGEST_MARKDOWN = 60_000
"""Characters; a comment on a pull request may have a few more."""
VERDICTS = {
    FINE: "no regression",
    REGRESSION: "regression",
    INCOMPLETE: "incomplete: not everything could be compared",
    NOISY: "too noisy to tell",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what one run has become beside another; the exit status says the worst of it."""
    options = _parser().parse_args(arguments)
    return guarded(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    paths = [(options.base, options.head), *options.again]
    _each_pair_its_own(paths)
    _not_over_a_run(options.markdown, paths)
    allowed = frozenset(name for name in ALLOWED if getattr(options, f"allow_{name}"))
    rules = Rules(options.margin, not options.no_time, allowed)
    found = compare([(load(base), load(head)) for base, head in paths], rules)
    for finding in found.findings:
        print(finding)
    print(found)
    if options.markdown is not None:
        _write(options.markdown, markdown(found, options.base, options.head))
    return found.status


def _each_pair_its_own(paths: Sequence[tuple[Path, Path]]) -> None:
    seen: set[Path] = set()
    for pair in paths:
        own = {path.resolve() for path in pair}
        if twice := sorted(own & seen):
            raise BadValue(f"{twice[0]} is given for two pairs of runs; measure each pair in processes of its own")
        seen |= own


def _not_over_a_run(written: Path | None, paths: Sequence[tuple[Path, Path]]) -> None:
    if written is not None and any(written.resolve() == path.resolve() for pair in paths for path in pair):
        raise BadValue(f"--markdown {written} would write over a run; name another file there")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResultNotReadable(f"{path}: cannot be written ({error.strerror}); choose another --markdown") from None


def markdown(found: Comparison, base: Path, head: Path) -> str:
    """The same as a short Markdown table, as a comment on a pull request may hold it."""
    top = f"**{VERDICTS[found.status]}** \u2013 {escape(head)} beside {escape(base)}\n\n{escape(found)}\n"
    if not found.findings:
        return top
    top += "\n| finding | cell | what |\n|:--|:--|:--|\n"
    rows = [f"| {escape(each.kind)} | {escape(each.cell)} | {escape(each.said)} |\n" for each in found.findings]
    room, kept = LARGEST_MARKDOWN - len(top) - 100, 0
    while kept < len(rows) and len(rows[kept]) <= room:
        room -= len(rows[kept])
        kept += 1
    left_out = len(rows) - kept
    more = f"\n{left_out} more {'row is' if left_out == 1 else 'rows are'} left out: too many for one comment.\n"
    return top + "".join(rows[:kept]) + (more if left_out else "")


def margin_option(text: str) -> float:
    """A margin, for argparse."""
    try:
        return margin(text)
    except BadValue as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> Parser:
    parser = Parser(
        prog="python -m reports compare",
        description="Is one run worse than another?",
        epilog="Exit status: 0 fine, 1 regression, 2 incomplete or not comparable, 3 too noisy to tell.",
    )
    parser.add_argument("base", type=Path, metavar="BASE.json", help="the run to hold the other against")
    parser.add_argument("head", type=Path, metavar="HEAD.json", help="the run in question")
    again = "a further pair of runs in fresh processes: all pairs must agree on a slower time"
    parser.add_argument(
        "--again", nargs=2, action="append", default=[], type=Path, metavar=("BASE2.json", "HEAD2.json"), help=again
    )
    slower = f"slower by up to this fraction is not slower; at least the noise floors of the runs ({MARGIN:g})"
    parser.add_argument("--margin", type=margin_option, default=MARGIN, metavar="FRACTION", help=slower)
    parser.add_argument("--no-time", action="store_true", help="leave time out, as between two machines")
    for name in ALLOWED:
        parser.add_argument(f"--allow-{name}", action="store_true", help=f"cells that are {name} are told, no more")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the same as a Markdown table")
    return parser
