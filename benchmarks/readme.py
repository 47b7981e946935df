"""What README.md shows of the published results, made from their files: `python -m benchmarks.readme [--check]`.

Each block of README.md between `<!-- generated: NAME -->` and `<!-- end -->` is written by the function of that name,
from files under reports/published; beside them the page of each published run, the figures of the README and the
comparison of torch versions in docs/. With `--check` nothing is written, and the exit status is 1 where the blocks
would change. Refuses a block of a name that it does not know, and one that does not end.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from tqdm import tqdm

from reports import across, markdown, recovery, study
from reports.document import Table
from reports.read import Run, read
from reports.words import MISSING, fraction, number
from sparsity import answers, summary
from sparsity.errors import BadValue
from sparsity.frontier import candidates
from sparsity.record import Latency, Record
from sparsity.result_file import DRAWN, load

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "reports" / "published"
RUNS = {
    "cpu-study": tuple(f"cpu-study-{name}.json" for name in ("bert-base", "bert-base-more", "gpt2", "bart-base")),
    "embedded": ("torch-2.13.json",),
    "break-even": ("break-even.json",),
    "frontier": ("frontier-bert-gpt2.json", "frontier-bart.json", "frontier-costs.json"),
    "compositions": ("compositions.json",),
    "neurons-and-heads": ("neurons-and-heads.json",),
    "h200-fp16-128x64": ("h200-fp16-128x64.json",),
    "h200-fp32-128x64": ("h200-fp32-128x64.json",),
    "h200-recovery": ("h200-recovery.json",),
}
"""Each published run with its files; its page is `<run>.html` beside them."""
VERSIONS = ("torch-2.11.json", "torch-2.13.json", "torch-2.15.json")
FIGURES = {
    "text-classification-accuracy": ("embedded", "text-classification-accuracy"),
    "neurons-and-heads-perplexity": ("neurons-and-heads", "perplexity"),
    "formats-on-one-mask": ("embedded", "formats-on-one-mask"),
    "speed-map": ("break-even", "speed-map"),
}
"""Figures in docs/, each with its run and its stem in that run's report."""
CURVES = (
    ("none", None, None),
    ("l1", "unstructured", "layer"),
    ("sparsegpt", "unstructured", "layer"),
    ("ziplm", "neurons+heads", "layer"),
)
"""(method, pattern, scope) of the curves that the README prints."""
MARK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
OPENING = "<!-- generated: "


@cache
def run(name: str) -> Run:
    """A published run, read once."""
    return read([PUBLISHED / file for file in RUNS[name]])


# -- blocks --------------------------------------------------------------------------------------------


def full_size() -> str:
    """Times faster than unpruned, at full size: a row for each model and format, a column for each sparsity."""
    records = [r for r in run("cpu-study").drawn if r.latency is not None and r.latency.speedup]
    sparsities = sorted({r.cell.sparsity for r in records if r.cell.sparsity})
    rows: dict[tuple[str, str], dict[float, str]] = {}
    for record in records:
        if record.cell.method != "none" or record.cell.format != "dense":  # the control tells the noise, no gain
            key = (record.cell.model.removeprefix("random:"), f"`{record.cell.format}`")
            rows.setdefault(key, {})[record.cell.sparsity or 0.0] = _faster(record.latency)
    headers = ["", "", "0", *(fraction(sparsity) for sparsity in sparsities)]
    written = [[*key, *(found.get(s, MISSING) for s in (0.0, *sparsities))] for key, found in rows.items()]
    return markdown.pipes(headers, written, text_columns=2)


def _faster(latency: Latency | None) -> str:
    """`4.11 [3.81, 4.29]`, with a question mark where the verdict is inconclusive."""
    if latency is None or not (latency.speedup and latency.low and latency.high):
        return MISSING
    doubt = " ?" if latency.verdict == "inconclusive" else ""
    return f"{latency.speedup:.2f} [{latency.low:.2f}, {latency.high:.2f}]{doubt}"


def beside_the_study() -> str:
    """Time and weights over those of dense: the study's, and ours as torch leaves the zeros and packed."""
    records = run("cpu-study").drawn
    rows = []
    for model in dict.fromkeys(record.cell.model for record in records):
        published = study.TABLE[study.counterpart(model, None) or ""]
        for sparsity, cell in published.items():
            if sparsity:
                ours = [_beside(records, model, sparsity, kind) for kind in ("masked", "dense", "packed")]
                theirs = f"{number(cell.seconds / published[0.0].seconds)} / 1.00"  # it gives one size for all
                rows.append([model.removeprefix("random:"), fraction(sparsity), theirs, *ours])
    return markdown.pipes(["", "sparsity", "the study", "`masked`", "`dense`", "`packed`"], rows)


def _beside(records: Iterable[Record], model: str, sparsity: float, kind: str) -> str:
    time = size = None
    for record in records:
        cell = record.cell
        if (cell.model, cell.sparsity, cell.format, cell.pattern) == (model, sparsity, kind, "unstructured"):
            if record.latency is not None and record.latency.speedup:
                time = 1 / record.latency.speedup
            if record.memory is not None and record.memory.dense_weights_bytes:
                size = record.memory.weights_bytes / record.memory.dense_weights_bytes
    return f"{number(time)} / {number(size)}"


def terminal() -> str:
    """What the default run prints at its end; of its long tables the rows that a first reader needs."""
    file = load(PUBLISHED / RUNS["embedded"][0])
    records = [entry.record for entry in file.entries if entry.record.outcome in DRAWN]
    costs = [record for record in records if _telling(record)]
    judged = [record for record in records if record.quality is not None]
    curves = [record for record in judged if (record.cell.method, record.cell.pattern, record.cell.scope) in CURVES]
    curves = [record for record in curves if record.recovered is None]
    about_time = "\n".join([summary.limits(records, file.run.roofline), summary.doubts(records)])
    found = candidates(records)
    parts = [summary.costs([*costs, *judged]), about_time, summary.quality(curves)]
    parts += [summary.recovered(records), "\n".join(answers.sentences(found))]
    return "```\n" + "\n\n".join(part for part in parts if part) + "\n```"


def _telling(record: Record) -> bool:
    """Costs of BERT in every format, and of the others where they gain most or nothing."""
    cell = record.cell
    if record.latency is None and record.memory is None:
        return False
    few = cell.format == "masked" or (cell.format == "packed" and cell.sparsity != 0.5) or cell.method == "ziplm"
    return cell.model == "bert" or few


def recovered() -> str:
    """What training won back, a row for each recovered cell of the frontier's run."""
    table = recovery.recovered([r for r in run("frontier").drawn if r.cell.after is None])
    kept = [i for i, header in enumerate(table.headers) if header not in ("metric", "steps", "seeds (differences)")]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return markdown.table(Table(tuple(table.headers[i] for i in kept), rows, text_columns=3))


def frontier() -> str:
    """The sentences of the frontier's run."""
    return "```\n" + "\n".join(answers.sentences(candidates(run("frontier").drawn))) + "\n```"


def compositions() -> str:
    """The steps of each composition."""
    return markdown.table(recovery.ladder(run("compositions").drawn))


BLOCKS: dict[str, Callable[[], str]] = {
    "full-size": full_size,
    "beside-the-study": beside_the_study,
    "terminal": terminal,
    "recovered": recovered,
    "frontier": frontier,
    "compositions": compositions,
}


def filled(text: str) -> str:
    """The text of README.md with every block written anew; raises `BadValue` as the module says."""
    names = [match.group(2) for match in MARK.finditer(text)]
    if text.count(OPENING) != len(names):
        raise BadValue(
            f"README.md: {text.count(OPENING)} blocks begin, {len(names)} end; write <!-- end --> after each"
        )
    if unknown := sorted(set(names) - BLOCKS.keys()):
        raise BadValue(f"README.md: block {unknown[0]!r} is none of {', '.join(BLOCKS)}")
    return MARK.sub(lambda found: f"{found.group(1)}{BLOCKS[found.group(2)]()}\n{found.group(4)}", text)


# -- everything ----------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes blocks, pages and figures, or checks the blocks; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where README.md would change")
    options = parser.parse_args(arguments)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = filled(text)
    if options.check:
        print("README.md is as the files say" if new == text else "README.md: run python -m benchmarks.readme")
        return int(new != text)
    readme.write_text(new, encoding="utf-8")
    _pages_and_figures()
    _versions()
    return 0


def _pages_and_figures() -> None:
    """The page of each run, and the figures that the README shows, out of a report of it."""
    from reports.__main__ import report

    for name, files in tqdm(RUNS.items(), desc="pages", unit="page"):
        with tempfile.TemporaryDirectory() as folder:
            page = report([PUBLISHED / file for file in files], Path(folder))
            shutil.copyfile(page, PUBLISHED / f"{name}.html")
            for shown, (of, stem) in FIGURES.items():
                if of == name:
                    shutil.copyfile(page.with_name(f"{stem}.png"), ROOT / "docs" / f"{shown}.png")


def _versions() -> None:
    """The default run under several versions of torch, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        across.main([*(str(PUBLISHED / file) for file in VERSIONS), "--out", folder])
        shutil.copyfile(Path(folder) / "across.md", ROOT / "docs" / "torch-versions.md")


if __name__ == "__main__":
    sys.exit(main())
