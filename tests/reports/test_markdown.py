"""That the Markdown page holds what the document does, and that nothing from outside becomes markup in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reports.document import Document, Part, Picture, Table
from reports.markdown import render, table
from reports.page import page
from reports.read import read
from tests.reports import builders


def _cells(text: str) -> list[list[str]]:
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines()]
    return [[cell.strip() for cell in line] for i, line in enumerate(lines) if i != 1]


def _shown(text: str) -> str:
    """What a reader sees of escaped text."""
    plain = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
    for name, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        plain = plain.replace(name, sign)
    return plain


def test_parts_stand_in_the_order_of_the_document() -> None:
    inner = Part("Inner", ("first",), ("one", "two"), Table(("a", "b"), (("x", "1"),)), ("note.", "more."))
    whole = Document("Title", Part("Answer", points=("yes",)), ("caveat",), (Part("Outer", parts=(inner,)),))
    assert render(whole).splitlines() == [
        *("# Title", "", "## Answer", "", "- yes", "", "caveat", "", "## Outer", "", "### Inner", "", "first", ""),
        *("- one", "- two", "", "| a   |   b |", "|:----|----:|", "| x   |   1 |", "", "note. more."),
    ]
    assert "Answer" not in render(Document("Title", None, (), ()))


def test_pictures_are_linked_with_svg_and_alt_text() -> None:
    picture = Picture("required-time", "Required [time]", "machine", ("a cell",))
    text = render(Document("Title", None, (), (Part("Figures", pictures=(picture,)),)))
    assert "![Required \\[time\\]](required-time.png)\n\n[required-time as SVG](required-time.svg)" in text


def test_no_table_without_a_row() -> None:
    assert table(Table(("a",))) == ""
    assert table(None) == ""


def test_a_cell_shows_exactly_its_characters_and_stays_in_its_place() -> None:
    evil = "a|b`c`<img src=x> d *e* [l](http://e) _f_ ~g~ $h$ \\| &lt;"
    text = table(Table((evil, "ms"), ((evil, "4"), ("x", evil))))
    assert len(text.splitlines()) == 4
    found = _cells(text)
    assert [len(row) for row in found] == [2, 2, 2]
    assert [_shown(found[0][0]), _shown(found[1][0]), _shown(found[2][1])] == [evil] * 3
    assert "<img" not in text


@pytest.mark.parametrize("text", ["# title", "- item", "+ item", "1. item", "12) item", "=====", "-----", "    code"])
def test_no_line_becomes_more_than_a_paragraph(text: str) -> None:
    whole = Document("T", None, (text,), (Part("P", (text,), (text,)),))
    for line in (line.removeprefix("- ") for line in render(whole).splitlines()[1:] if not line.startswith("## P")):
        assert not re.match(r"#|[-+] |\d+[.)]|[-=]+$| {4}", line)
        assert _shown(line) in ("", text.strip())


def test_nothing_from_outside_becomes_markup(tmp_path: Path) -> None:
    text = render(page(read([builders.write(tmp_path / "run.json", builders.hostile_json())])))
    assert "<script" not in text
    assert "<img" not in text
    assert "\n# t" not in text
    assert "](http://e)" not in text.replace("\\](http://e)", "")
    assert "`x`" not in text.replace("\\`", "")
    assert text.count("alert(1)") > 20, "shown everywhere, and harmless"
