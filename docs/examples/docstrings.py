"""Makes a small labelled data set of natural text, with no network: which library does a docstring come from?

    python docs/examples/docstrings.py --out docstrings

The prose at the beginning of each docstring of eight libraries that are installed with the suite's tests, its
library's names masked. A file's docstrings are all in `train.csv` or all in `test.csv`, and of docstrings that
share their words only one is kept, so that nothing is to be had by remembering. Nothing is imported: sources are
read. The same versions of the libraries give the same files.

Refuses: a library that is not installed, or that has too few docstrings.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import importlib.util
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

LIBRARIES = {
    "matplotlib": r"matplotlib|mpl|pyplot|plt|pylab",
    "networkx": r"networkx|nx",
    "numpy": r"numpy|np",
    "pandas": r"pandas|pd",
    "scipy": r"scipy|sp",
    "sklearn": r"scikit[ -]learn|scikits?|sklearn",
    "sympy": r"sympy",
    "torch": r"pytorch|torch|aten",
}
"""Each library with what it is called in texts."""
NAME = re.compile(rf"(?i)\b(?:{'|'.join(LIBRARIES.values())})\b")
MASK = "library"
"""What stands in place of a name."""
LEFT_OUT = {"tests", "testing", "_vendor", "externals"}
"""Folders of tests, and of other people's code."""
NO_PROSE = re.compile(r"(>>>|\.\. |[-*:=#~+|]|\d+\.|\w+:\s*$|[\w ]+:?\n\s*[-=~]{3,})")
"""How an example, a directive, a list or a section begins."""
FEWEST_WORDS, MOST_WORDS = 10, 60
SHINGLE = 4
"""Words in a row; docstrings that share enough of those are taken for copies of each other."""
SKETCH = 12
"""Shingles by which a docstring is known: those with the smallest hashes."""
SHARED = 3
"""Of these, as many make a copy."""
TEST_FILES = 0.2
"""Share of a library's files whose docstrings are in the test."""
EACH = {"train": 900, "test": 220}
"""Docstrings of each library, at most."""


class Docstring(NamedTuple):
    """The prose of one, and where it stands."""

    text: str
    library: str
    file: str
    """Below the library's folder."""


def root_of(library: str) -> Path:
    """The folder that the library is installed in."""
    found = importlib.util.find_spec(library)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f'error: {library} is not installed; pip install "sparsity-bench[test]" brings it')
    return Path(found.submodule_search_locations[0])


def sources(root: Path) -> list[Path]:
    """The library's own files, its tests apart."""
    return sorted(file for file in root.rglob("*.py") if not LEFT_OUT & set(file.relative_to(root).parts))


def docstrings(library: str) -> Iterator[Docstring]:
    """Those of every module, class and function whose prose is neither too short nor too long."""
    root = root_of(library)
    for file in sources(root):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in other people's strings
            tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = prose(ast.get_docstring(node) or "")
                if FEWEST_WORDS <= len(text.split()) <= MOST_WORDS:
                    yield Docstring(text, library, file.relative_to(root).as_posix())


def prose(docstring: str) -> str:
    """What stands before the first section, list, example or directive, on one line, names masked."""
    kept: list[str] = []
    for paragraph in re.split(r"\n\s*\n", docstring):
        first = paragraph.strip()
        if NO_PROSE.match(first) or "\n    " in paragraph:
            break
        if len(" ".join([*kept, first]).split()) > MOST_WORDS:
            break
        kept.append(first)
    text = re.sub(r":\w+:`~?([^`<]+)[^`]*`", r"\1", " ".join(kept))  # :func:`name` is told as its name
    return NAME.sub(MASK, re.sub(r"[\s`*]+", " ", text)).strip()


def without_copies(found: Iterable[Docstring]) -> Iterator[Docstring]:
    """Of docstrings that share their words, the first."""
    known: dict[int, list[int]] = {}
    for index, each in enumerate(found):
        sketch = sketch_of(each.text)
        beside = Counter(other for shingle in sketch for other in known.get(shingle, ()))
        if max(beside.values(), default=0) < min(SHARED, len(sketch)):
            yield each
        for shingle in sketch:  # of a copy as well: a copy of a copy is one
            known.setdefault(shingle, []).append(index)


def sketch_of(text: str) -> list[int]:
    """The smallest hashes of its shingles."""
    words = re.findall(r"[a-z]+", text.lower())
    shingles = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
    return sorted(hashed(shingle) for shingle in shingles)[:SKETCH]


def hashed(text: str) -> int:
    """The same in every run, unlike Python's own hash."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def part_of(each: Docstring) -> str:
    """Where a file's docstrings go."""
    return "test" if hashed(f"{each.library}/{each.file}") % 1000 < TEST_FILES * 1000 else "train"


def chosen(found: Sequence[Docstring], part: str) -> list[Docstring]:
    """As many of each library as there may be, in an order without meaning; the same at every run."""
    chance = random.Random(0)
    kept = []
    for library in LIBRARIES:
        own = [each for each in found if each.library == library and part_of(each) == part]
        if len(own) < EACH[part] / 2:
            raise SystemExit(f"error: {library} has only {len(own)} docstrings for {part}; install its usual version")
        kept += chance.sample(own, min(EACH[part], len(own)))
    chance.shuffle(kept)
    return kept


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that receives train.csv and test.csv")
    folder: Path = parser.parse_args().out
    found = [each for library in LIBRARIES for each in docstrings(library)]
    random.Random(0).shuffle(found)
    single = list(without_copies(found))
    print(f"{len(found)} docstrings, {len(single)} of them no copies of others")
    folder.mkdir(parents=True, exist_ok=True)
    for part in EACH:
        rows = chosen(single, part)
        with (folder / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("docstring", "library"))
            writer.writerows((each.text, each.library) for each in rows)
        print(f"{folder / part}.csv: {len(rows)} docstrings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
