"""Which method is better than which? Asked of several trainings of the embedded models, not of one.

    python -m sparsity.train_embedded --out seed1 --seed 1        # once for each further training seed
    python -m sparsity.train_embedded --out seed2 --seed 2
    python -m benchmarks.orderings seed1 seed2 > docs/orderings.md

An ordering that one training shows may be a property of its weights. Each pair of recipes is compared
on the shipped models and on those of every folder, paired over the same documents; the table says in
how many trainings the first is better, worse, or neither by more than the tolerance and four standard
errors. Only what all trainings agree on deserves to be said.

Not among the benchmarks that `pytest benchmarks` collects: it measures no machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate
from tqdm import tqdm

from sparsity.bench import Bench
from sparsity.errors import SparsityError
from sparsity.models import embedded
from sparsity.options import Options
from sparsity.prune import Recipe
from sparsity.tasks import trends

TASKS = ("lm", "classification")


class Pair(NamedTuple):
    """Is the first better than the second?"""

    better: Recipe
    worse: Recipe

    def __str__(self) -> str:
        return f"{_named(self.better)} / {_named(self.worse)}"


def _named(recipe: Recipe) -> str:
    pattern = "" if recipe.pattern == "unstructured" else f" {recipe.pattern}"
    return f"{recipe.method}{pattern} {recipe.scope} {recipe.sparsity:g}"


def _same_sparsity(first: tuple[str, str], second: tuple[str, str], pattern: str, *sparsities: float) -> list[Pair]:
    """Two methods, each with its scope, on one pattern."""
    return [Pair(Recipe(first[0], s, pattern, first[1]), Recipe(second[0], s, pattern, second[1])) for s in sparsities]


FREE = "unstructured"
PAIRS: list[Pair] = [
    *_same_sparsity(("l1", "layer"), ("random", "layer"), FREE, 0.5),
    *_same_sparsity(("l1", "global"), ("l1", "layer"), FREE, 0.7, 0.9),
    *_same_sparsity(("l1", "row"), ("l1", "layer"), FREE, 0.7),
    *_same_sparsity(("l1", "erk"), ("l1", "layer"), FREE, 0.7),
    *_same_sparsity(("l1", "owl"), ("l1", "layer"), FREE, 0.7),
    *_same_sparsity(("wanda", "row"), ("l1", "layer"), FREE, 0.5, 0.7, 0.8),
    *_same_sparsity(("sparsegpt", "layer"), ("l1", "layer"), FREE, 0.5, 0.7, 0.8, 0.9),
    *_same_sparsity(("sparsegpt", "layer"), ("wanda", "row"), FREE, 0.7, 0.8),
    *_same_sparsity(("taylor", "layer"), ("l1", "layer"), FREE, 0.5, 0.7),
    *_same_sparsity(("taylor", "global"), ("taylor", "layer"), FREE, 0.7),
    *_same_sparsity(("sparsegpt", "row"), ("l1", "row"), "2:4", 0.5),
    Pair(Recipe("l1", 0.5), Recipe("l1", 0.5, "2:4")),
    Pair(Recipe("l1", 0.5), Recipe("l1", 0.5, "4x1")),
    *_same_sparsity(("l2", "layer"), ("random", "layer"), "neurons", 0.5),
    *_same_sparsity(("taylor", "layer"), ("l2", "layer"), "neurons", 0.5),
    *_same_sparsity(("ziplm", "layer"), ("l2", "layer"), "neurons", 0.5, 0.75),
    *_same_sparsity(("ziplm", "layer"), ("taylor", "layer"), "neurons", 0.5),
    *_same_sparsity(("l2", "layer"), ("random", "layer"), "heads", 0.5),
    *_same_sparsity(("taylor", "layer"), ("l2", "layer"), "heads", 0.5),
    *_same_sparsity(("ziplm", "layer"), ("l2", "layer"), "heads", 0.5),
    *_same_sparsity(("ziplm", "layer"), ("taylor", "layer"), "heads", 0.5),
    *_same_sparsity(("shortgpt", "global"), ("l1", "global"), "layers", 0.5),
    *_same_sparsity(("taylor", "global"), ("l1", "global"), "layers", 0.5),
]


def verdict(pair: Pair, bench: Bench, reference: str, task: str) -> str:
    """`+` the first is better, `-` it is worse, `=` neither by enough to be said, `?` one of them is refused."""
    try:
        first, second = (bench.score(reference, task, recipe) for recipe in pair)
    except SparsityError:
        return "?"
    lead = trends.loss(second, first)  # how much worse the second is
    least = max(trends.TOLERANCE[first.metric], trends.STEP_ERRORS * lead.stderr)
    return "+" if lead.value > least else "-" if lead.value < -least else "="


def main() -> int:
    """The command line; prints the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orderings", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="what train_embedded wrote, one for each training")
    parser.add_argument("--documents", type=int, default=2000)
    asked = parser.parse_args()
    bench = Bench(Options(documents=asked.documents))
    roots: list[Path | None] = [None, *asked.folders]
    signs: dict[tuple[Pair, str, str], list[str]] = {}
    work = [(name, task, root) for name in embedded.NAMES for task in TASKS for root in roots]
    for name, task, root in tqdm(work, desc="trainings"):
        reference = name if root is None else str((root / name / task).resolve())
        for pair in tqdm(PAIRS, desc=f"{name} {task}", leave=False):
            signs.setdefault((pair, name, task), []).append(verdict(pair, bench, reference, task))
    sys.stdout.write(page(signs, len(roots), asked.documents) + "\n")
    return 0


def page(signs: dict[tuple[Pair, str, str], list[str]], trainings: int, documents: int) -> str:
    """The page, Markdown: a row for each pair, a column for each model and task, a sign for each training."""
    columns = [(name, task) for name in embedded.NAMES for task in TASKS]
    rows = []
    for pair in PAIRS:
        found = [signs[pair, *column] for column in columns]
        rows.append([str(pair), *("".join(each) for each in found), said(found)])
    headers = ["better? / than", *(f"{name} {task}" for name, task in columns), "all trainings agree"]
    intro = (
        f"# Which method is better than which, one-shot\n\nMade by `python -m benchmarks.orderings`: {trainings} "
        f"trainings of the embedded models, {documents} documents each. A sign for each training: `+` the first is "
        "better, `-` worse, `=` neither by more than the tolerance (0.02 nats, 1 point) and four standard errors of "
        "the paired difference, `?` one of the two is refused. The last column counts the six models and tasks in "
        "which all trainings say the same. Nothing here is after recovery, and nothing holds for other models."
    )
    return f"{intro}\n\n{tabulate(rows, headers, tablefmt='github', disable_numparse=True)}"


def said(found: Sequence[Sequence[str]]) -> str:
    """In how many columns all trainings say better, and in how many worse."""
    agreed = [each[0] for each in found if len(set(each)) == 1]
    parts = [f"{agreed.count(sign)} {word}" for sign, word in (("+", "better"), ("-", "worse")) if sign in agreed]
    return ", ".join(parts) or "–"


if __name__ == "__main__":
    sys.exit(main())
