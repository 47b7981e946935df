"""Measures two checkouts by turns, each in fresh processes: base, head, head, base, base, head.

    python -m benchmarks.alternate --base ../base --head . --pairs 3 --out times -- --profile smoke -k latency

What follows `--` goes to `pytest benchmarks`, in both. Whatever drifts on a machine meanwhile (its clock, its
neighbours) is then no property of the one or the other; each pair of processes has a PYTHONHASHSEED of its own. Writes
`base-1.json`, `head-1.json` … and, beside each, what its process printed, and ends with the command that compares them.

Refuses a folder that holds no benchmarks, and stops at the first process that fails: a comparison of what is left
would be one of other cells. Not among the benchmarks: it measures the suite, not a model.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from reports.command import Parser, guarded
from sparsity.errors import BadValue, SparsityError


def split(arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """(what is said to the script, what follows `--` and is said to pytest)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    at = given.index("--") if "--" in given else len(given)
    return given[:at], given[at + 1 :]


def empty(folder: Path) -> None:
    """Makes the folder of --out. Raises `BadValue` where there is one that holds something."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BadValue(f"--out {folder}: is not empty; give a folder of its own")


class ProcessFailed(SparsityError):
    """A process that ended with an error, or left no result file."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """What it ended with."""


@dataclass(frozen=True)
class Arm:
    """One of the two that are measured."""

    name: str
    """`base` or `head`."""
    checkout: Path
    python: str
    """The interpreter that has what this checkout needs."""


@dataclass(frozen=True)
class Turn:
    """One process to come."""

    arm: Arm
    pair: int
    """From 1; also its PYTHONHASHSEED."""

    @property
    def name(self) -> str:
        """`base-1`."""
        return f"{self.arm.name}-{self.pair}"


def turns(base: Arm, head: Arm, pairs: int) -> Iterator[Turn]:
    """Base, head; head, base; base, head; … so that neither is always the first."""
    for pair in range(1, pairs + 1):
        for arm in (base, head) if pair % 2 else (head, base):
            yield Turn(arm, pair)


def measured(arm: Arm, seed: int, file: Path, arguments: Sequence[str]) -> Path:
    """The result file of one fresh process of `pytest benchmarks` in a checkout; what it printed lies beside it.

    Raises `ProcessFailed`.
    """
    file, log = file.resolve(), file.resolve().with_suffix(".log")
    file.unlink(missing_ok=True)
    command = [arm.python, "-m", "pytest", "benchmarks", f"--benchmark-json={file}", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONHASHSEED": str(seed)}
    try:
        with log.open("w", encoding="utf-8") as printed:
            done = subprocess.run(  # noqa: S603  # the interpreter that was asked for
                [*command, *arguments], cwd=arm.checkout, env=environment, stdout=printed, stderr=printed, check=False
            )
    except OSError as error:
        raise ProcessFailed(f"{arm.python} cannot be run in {arm.checkout} ({error.strerror})") from None
    if done.returncode or not file.is_file():
        ended = f"ended with exit status {done.returncode}" if done.returncode else "left no result file"
        raise ProcessFailed(f"{file.stem} {ended} ({_last_line(log)}); see {log}", done.returncode)
    return file


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip(" =") for line in reversed(lines) if line.strip()), "it printed nothing")


def comparison(folder: Path, pairs: int) -> str:
    """The command that compares the files of all pairs."""
    words = ["python", "-m", "reports", "compare"]
    for pair in range(1, pairs + 1):
        words += ["--again"] if pair > 1 else []
        words += [str(folder / f"{name}-{pair}.json") for name in ("base", "head")]
    return shlex.join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the processes; 0, or 2 after a line that says what failed."""
    own, given = split(arguments)
    options = _parser().parse_args(own)

    def alternate() -> int:
        base, head = _arm("base", options), _arm("head", options)
        options.out.mkdir(parents=True, exist_ok=True)
        order = list(turns(base, head, options.pairs))
        with tqdm(order, desc="processes", unit="process") as progress:
            for turn in progress:
                progress.set_postfix_str(turn.name)
                measured(turn.arm, turn.pair, options.out / f"{turn.name}.json", given)
        print(f"{len(order)} processes measured. Compare them by:\n{comparison(options.out, options.pairs)}")
        return 0

    return guarded(alternate)


def _arm(name: str, options: argparse.Namespace) -> Arm:
    """One of the two, out of the options."""
    checkout: Path = getattr(options, name)
    if not (checkout / "benchmarks").is_dir():
        raise BadValue(f"--{name} {checkout} holds no folder benchmarks, so it is no checkout of this suite")
    python: str = getattr(options, f"{name}_python")
    return Arm(name, checkout, str(Path(python).absolute()) if os.sep in python else python)


def _parser() -> Parser:
    summary, _, example, *_ = (__doc__ or "").split("\n")
    parser = Parser(prog="python -m benchmarks.alternate", description=summary, epilog=f"Example: {example.strip()}")
    for name in ("base", "head"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR", help=f"checkout of the {name}")
        usual = "the one that runs this"
        parser.add_argument(f"--{name}-python", default=sys.executable, help=f"interpreter of the {name} ({usual})")
    parser.add_argument("--pairs", type=positive, default=3, help="processes of each (3)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the result files")
    return parser


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
