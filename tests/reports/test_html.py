"""That the page is whole and well formed, asks for nothing, and shows hostile strings as they are."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from reports import html
from reports.__main__ import report
from reports.document import Document, Part, Picture, Table
from reports.verdicts import Column, Row, Value, Verdicts
from reports.words import line
from tests.reports import builders

VOID = {"meta", "link", "input", "br", "img"}
VERDICTS = Verdicts(
    (Column("way", "model", "text"), Column("time", "ms", "number"), Column("time", "verdict", "verdict")),
    (
        Row("l1 0.9", (Value("bert"), Value("4.00", 4.0), Value("faster"))),
        Row("unpruned", (Value("bert"), Value(), Value())),
    ),
    ("memory",),
)


class Page(HTMLParser):
    """The elements of a page in order, each with its attributes and the text right inside it; fails on bad nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))
        assert len(attrs) == len(dict(attrs)), f"{tag} says something twice"
        if tag not in VOID:
            self.open.append((tag, self.found[-1][2]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1][1].append(data)

    def all(self, tag: str, **wanted: str) -> list[str]:
        """The text of each such element."""
        return ["".join(text) for name, attrs, text in self.found if name == tag and wanted.items() <= attrs.items()]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs, _ in self.found if name == tag]


def rendered(*parts: Part, answer: Part | None = None, drawings: dict[str, str] | None = None, **more: Any) -> Page:
    document = Document("Title", answer, ("caveat",), parts)
    return Page(html.render(document, more.get("verdicts", Verdicts((), ())), drawings or {}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a whole run."""
    folder = tmp_path_factory.mktemp("whole")
    return report([builders.write(folder / "run.json", builders.run_json())]).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run in which every string is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    return report([builders.write(folder / "run.json", builders.hostile_json())]).read_text(encoding="utf-8")


def test_parts_become_sections_with_headings_lists_tables_and_notes() -> None:
    table = Table(("name", "ms"), (("x", "1"), ("y", "2")))
    inner = Part("Inner", ("first",), ("one", "two"), table, ("note.", "more."))
    page = rendered(Part("Outer", parts=(inner,)), answer=Part("Answer", points=("yes",)))
    assert page.all("h1") == ["Title"]
    assert page.all("h2") == ["Answer", "Outer"]
    assert page.all("h3") == ["Inner"]
    assert page.all("li")[:1] == ["yes"]
    assert page.all("caption") == ["Inner"]
    assert page.all("th") == ["name", "ms", "x", "y"]
    assert page.all("td", **{"class": "n"}) == ["1", "2"]
    assert "note. more." in page.all("p")
    assert "caveat" in page.all("p")


def test_a_table_without_headers_has_none() -> None:
    page = rendered(Part("Facts", table=Table(("", ""), (("torch", "2.9"),), 2)))
    assert page.all("thead") == []
    assert (page.all("th"), page.all("td")) == (["torch"], ["2.9"])


def test_a_figure_stands_in_the_page_with_what_it_shows_and_where_that_is_from() -> None:
    picture = Picture("time", "what is drawn", "a machine", ("bert · l1", "gpt2 · l1"))
    page = rendered(Part("Figures", pictures=(picture,)), drawings={"time": '<svg role="img"><g/></svg>'})
    assert page.attributes("svg") == [{"role": "img"}]
    assert "what is drawn" in page.all("p")
    assert "a machine" in page.all("p")
    assert page.all("summary") == ["Drawn from 2 cells"]
    assert {"bert · l1", "gpt2 · l1"} <= set(page.all("li"))


def test_the_verdicts_have_a_value_to_sort_by_and_a_dash_for_what_is_absent() -> None:
    page = rendered(verdicts=VERDICTS)
    heads = [attrs for attrs in page.attributes("th") if attrs.get("scope") == "col"]
    assert [attrs["data-kind"] for attrs in heads] == ["text", "number", "verdict"]
    assert [(a["colspan"]) for a in page.attributes("th") if a.get("scope") == "colgroup"] == ["1", "2"]
    assert page.all("td", **{"class": "n"}) == ["4.00", "–"]
    assert [attrs.get("data-sort") for attrs in page.attributes("td")] == ["4", None, None, None]
    assert page.all("span", **{"class": "good"}) == ["faster"]
    assert "2 of 2 rows" in page.all("p", role="status")
    assert "Not measured here: memory." in page.all("p")
    assert [attrs for attrs in page.attributes("form") if "hidden" in attrs], "of no use without the script"


def test_without_verdicts_there_is_no_table_of_them() -> None:
    assert "verdict-table" not in [attrs.get("id") for attrs in rendered().attributes("table")]


def test_a_name_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        html._environment().get_template("page.html.jinja").render(document=Document("T", None, (), ()))


def test_the_answer_comes_first_and_what_was_run_last(whole: str) -> None:
    page = Page(whole)
    titles = page.all("h2")
    assert titles[:3] == ["The answer", "Verdicts", "What it found"]
    assert titles[-2:] == ["Failed or not measured", "What was run"]
    assert [name for name, _, _ in page.found if name in ("header", "main", "nav", "footer")] == [
        "header", "main", "nav", "footer",
    ]  # fmt: skip


def test_every_link_and_every_name_inside_the_page_leads_somewhere_and_is_there_once(whole: str) -> None:
    page = Page(whole)
    ids = [attrs["id"] for _, attrs, _ in page.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [str(attrs["href"]) for name, attrs, _ in page.found if name in ("a", "use")]
    assert len(links) > 20
    assert {link.removeprefix("#") for link in links} <= set(ids)
    for reference in re.findall(r"url\(([^)]*)\)", whole):
        assert reference.removeprefix("#") in ids


def test_the_page_asks_for_nothing_and_its_policy_holds_it_to_that(whole: str) -> None:
    page = Page(whole)
    (policy,) = [str(m["content"]) for m in page.attributes("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}';" in policy
    assert "img-src data:;" in policy
    for name, attrs, _ in page.found:
        for key in {"src", "href", "action", "poster", "data", "srcset"} & attrs.keys():
            assert str(attrs[key]).startswith(("#", "data:")), f"{name} {key}"
    assert not re.search(r"https?:|@import|url\((?!#)", whole)


def test_every_figure_of_the_run_is_drawn_in_it(whole: str) -> None:
    page = Page(whole)
    figures = page.attributes("figure")
    drawings = page.attributes("svg")
    assert len(figures) == len(drawings) > 10
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    provenance = [text for text in page.all("p", **{"class": "note"}) if "commit 0123abc" in text]
    assert len(provenance) == len(figures)
    assert all("AMD EPYC 7763" in text for text in provenance)
    assert sum(1 for text in page.all("summary") if re.fullmatch(r"Drawn from \d+ cells?", text)) == len(figures)
    own = next(text for text in provenance if "gpt2" in text and "bert" not in text)
    assert "GPT2LMHeadModel" in own, "a figure of one model says what that one is"


def test_nothing_from_outside_becomes_markup(hostile: str) -> None:
    page = Page(hostile)
    assert len(page.all("script")) == 1
    assert "alert" not in page.all("script")[0]
    assert page.attributes("img") == []
    assert not [name for _, attrs, _ in page.found for name in attrs if name.startswith("on")]
    shown = builders.EVIL.replace("\n\n", " ")
    assert shown in page.all("li"), "as it was, braces and entities too"
    assert any(shown in text for text in page.all("span"))
    assert "\n# t" not in hostile
    assert "49" not in "".join(page.all("li")), "no expression is computed"


def with_everywhere(text: str) -> Page:
    """A page in which every string from outside is this."""
    row = Row(text, (Value(text), Value(text, 1.0)))
    verdicts = Verdicts((Column(text, text, "text"), Column(text, text, "number")), (row,), (text,))
    pictures = (Picture("time", text, text, (text,)),)
    part = Part(text, (text,), (text,), Table((text, text), ((text, text),)), (text,), pictures)
    return Page(html.render(Document(text, part, (text,), (part,)), verdicts, {"time": "<svg></svg>"}))


PLAIN = with_everywhere("word")


@settings(max_examples=20, deadline=None)
@given(st.text(st.sampled_from("<>&\"'`{}%#=/; \n\x1b\u202eab") | st.characters(), min_size=1, max_size=30))
def test_any_text_is_shown_as_its_printable_characters_and_makes_no_markup(text: str) -> None:
    page = with_everywhere(text)
    assert [name for name, _, _ in page.found] == [name for name, _, _ in PLAIN.found]
    assert [attrs.keys() for _, attrs, _ in page.found] == [attrs.keys() for _, attrs, _ in PLAIN.found]
    for tag in ("h1", "h2", "li", "caption", "td", "th"):
        assert line(text) in map(line, page.all(tag)), tag
        assert "word" in PLAIN.all(tag), tag


def test_characters_that_are_not_printed_are_not_handed_on() -> None:
    page = rendered(Part("P", ("a\x00b\u202ec\x1b[0m\ud800d",)))
    assert "a b c [0m d" in page.all("p")
