"""That a figure inside a page is small, named apart from the others, and nothing but a drawing."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from matplotlib.figure import Figure

from reports import canvas, svg
from tests.reports import builders


def _figure(name: str = "bert") -> Figure:
    with canvas.style():
        figure, panels = canvas.panels([name], "Title", "y")
        for i in range(2):
            panels[name].plot([0.1, 0.5, 0.9], [1, 2, 3 + i], label=canvas.text(name), **canvas.line_look(i))
        canvas.finish(figure, canvas.text(name))
    return figure


def _parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314  # our own


def test_text_is_text_and_nothing_says_what_drew_it(tmp_path: Path) -> None:
    figure = _figure()
    figure.savefig(tmp_path / "a.svg")
    text = svg.inline(figure, "a", 'about "it" <b>')
    assert len(text) < 0.5 * (tmp_path / "a.svg").stat().st_size
    assert "bert" in [element.text for element in _parsed(text).iter("text")]
    assert not re.search(r"https?:|xmlns|<\?|<!|<metadata|<style|DejaVu", text)
    assert _parsed(text).attrib["aria-label"] == 'about "it" <b>'
    assert _parsed(text).attrib["role"] == "img"


def test_alone_it_is_a_file_with_its_own_size_and_rules() -> None:
    inside = svg.inline(_figure(), "a", "about")
    root = _parsed(svg.alone(inside))
    assert root.tag == f"{{{svg.NAMESPACE}}}svg"
    assert re.fullmatch(r"[0-9.]+pt", root.attrib["width"])
    assert "style" not in root.attrib
    assert [child.text for child in root if child.tag.endswith("style")] == [svg.RULES]
    assert svg.alone(inside) == svg.alone(svg.inline(_figure(), "a", "about"))


def test_ids_are_only_those_that_are_used_and_those_of_two_figures_differ() -> None:
    found = [_parsed(svg.inline(_figure(), stem, "")) for stem in ("one", "two")]
    ids = [{element.attrib["id"] for element in root.iter() if "id" in element.attrib} for root in found]
    for root, own, stem in zip(found, ids, ("one", "two"), strict=True):
        links = [element.attrib["href"].removeprefix("#") for element in root.iter("use")]
        clips = [re.fullmatch(r"url\(#(.*)\)", element.attrib.get("clip-path", "")) for element in root.iter()]
        assert own == {*links, *(clip[1] for clip in clips if clip)}
        assert all(name.startswith(f"{stem}-") for name in own)
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])


def test_a_hostile_name_is_drawn_and_is_no_markup() -> None:
    evil = "<script>alert(1)</script>"
    root = _parsed(svg.inline(_figure(evil), "a", evil))
    assert {element.tag for element in root.iter()} <= {"svg", "defs", "g", "path", "use", "text", "clipPath", "rect"}
    assert [element.text for element in root.iter("text")].count(evil) >= 2, "a panel and a line"
    shown = svg.inline(_figure(builders.EVIL), "a", builders.EVIL)
    assert not re.search(r"<(?!/?(svg|defs|g|path|use|text|clipPath|rect)\b)", shown)
    assert _parsed(shown).attrib["aria-label"] == builders.EVIL
