"""The README says what the published files say, and every published file is told of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import readme
from sparsity.errors import BadValue

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_the_generated_one() -> None:
    assert readme.filled(README) == README, "run: python -m benchmarks.readme"


def test_every_block_is_used_and_every_number_of_it_is_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in readme.BLOCKS:
        assert f"<!-- generated: {name} -->" in README
        monkeypatch.setitem(readme.BLOCKS, name, lambda: "other numbers")
    assert readme.filled(README).count("other numbers") == len(readme.BLOCKS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- generated: nonsense -->\n<!-- end -->\n", "'nonsense' is none of full-size"),
        ("<!-- generated: terminal -->\nno end", "1 blocks begin, 0 end"),
    ],
)
def test_a_block_that_is_unknown_or_has_no_end_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadValue, match=re.escape(said)):
        readme.filled(text)


def test_a_doubtful_verdict_is_marked() -> None:
    rows = readme.full_size().splitlines()
    assert any(" ?" in row for row in rows) == any(
        record.latency.verdict == "inconclusive"
        for record in readme.run("cpu-study").drawn
        if record.latency and (record.cell.method != "none" or record.cell.format != "dense")
    )


def test_the_published_folder_names_its_files_and_has_their_pages() -> None:
    folder = readme.PUBLISHED
    told = (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("*.json"):
        assert f"`{path.name}`" in told or path.name.startswith("cpu-study-")
    for name, files in readme.RUNS.items():
        assert (folder / f"{name}.html").is_file(), "run: python -m benchmarks.readme"
        assert all((folder / file).is_file() for file in files)
    for shown in readme.FIGURES:
        assert (ROOT / "docs" / f"{shown}.png").is_file()
