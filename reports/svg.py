"""A figure as SVG, for the inside of an HTML page and as a file: small, with real text, and names of its own.

matplotlib escapes what it writes, and what it wrote is parsed and written again, so no string becomes markup here.
Lays nothing out, and leaves the figure as it was.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree  # it reads only what matplotlib has just written

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from reports import canvas

DROPPED = ("metadata", "style")
"""Elements: what matplotlib says of itself, and rules that would hold for the whole page."""
HALO = "halo"
"""The class of letters that stand over lines; the page's style sheet draws a rim around them."""
RULES = (
    "svg *{stroke-linejoin:round;stroke-linecap:butt}text{font-family:'DejaVu Sans',Verdana,sans-serif}"
    ".halo text{paint-order:stroke;stroke:#fff;stroke-width:2px}"
)
"""What the style sheet of the page says of drawings, for a file of its own."""
NAMESPACE = "http://www.w3.org/2000/svg"
_FAMILY = re.compile(r"font-family: [^;]*;? ?")
_SHORT_FAMILY = re.compile(r"(font: [^;]*?px) [^;]*")
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")
_NAME = re.compile(r"(?:^|url\()#([\w.-]+)")
"""What refers to an id."""


def inline(figure: Figure, stem: str, description: str, box: Bbox | None = None) -> str:
    """The `<svg>` element; `stem` is unique on the page, `description` is for those who cannot see the figure.

    `box`: in inches, what of the figure is shown; None: all that is drawn, measured anew.
    """
    text = io.StringIO()
    with canvas.style(), matplotlib.rc_context({"svg.fonttype": "none"}):
        box = box or figure.get_tightbbox().padded(canvas.PADDING)
        with _letters(figure):
            figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches=box)
    root = ElementTree.fromstring(text.getvalue())  # noqa: S314  # our own
    _plain(root)
    _rename(root, stem)
    _flatten(root)
    root.set("role", "img")
    root.set("aria-label", description)
    root.set("style", f"--natural: {root.attrib.pop('width')}")  # the page decides how wide it is shown
    del root.attrib["height"]
    return ElementTree.tostring(root, encoding="unicode")


def alone(inside: str) -> str:
    """The element as the text of an SVG file, as wide as it was drawn."""
    root = ElementTree.fromstring(inside)  # noqa: S314  # our own
    root.set("xmlns", NAMESPACE)
    root.set("width", root.attrib.pop("style").removeprefix("--natural: "))
    rules = ElementTree.Element("style")
    rules.text = RULES
    root.insert(0, rules)
    return ElementTree.tostring(root, encoding="unicode")


@contextmanager
def _letters(figure: Figure) -> Iterator[None]:
    """Letters with a rim would be drawn as outlines, of many bytes each; here the page draws the rim."""
    found = [each for each in figure.findobj(Text) if isinstance(each, Text) and each.get_path_effects()]
    effects = [each.get_path_effects() for each in found]
    for each in found:
        each.set_path_effects([])
        each.set_gid(HALO)
    yield
    for each, own in zip(found, effects, strict=True):
        each.set_path_effects(own)
        each.set_gid(None)


def _plain(element: ElementTree.Element) -> None:
    """Without namespaces, which HTML does not know, and without what takes space only."""
    element.tag = _local(element.tag)
    element.text = element.text if element.tag in ("text", "tspan") else None
    element.tail = None
    written = {_local(name): _short(_local(name), value) for name, value in element.attrib.items()}
    element.attrib = {name: value for name, value in written.items() if value}
    if element.get("id") == HALO:
        element.attrib = {"class": HALO}
    for child in list(element):
        if _local(child.tag) in DROPPED:
            element.remove(child)
        else:
            _plain(child)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _short(name: str, value: str) -> str:
    if name == "style":
        return _SHORT_FAMILY.sub(r"\1 sans-serif", _FAMILY.sub("", value)).replace("; ", ";").replace(": ", ":")
    if name in ("d", "x", "y"):
        return _LONG_NUMBER.sub(r"\1", " ".join(value.split()))
    return "" if value.startswith("rotate(-0 ") else value


def _rename(root: ElementTree.Element, stem: str) -> None:
    """Leave only ids that something refers to, and call them by the stem of the figure and a number."""
    values = [value for element in root.iter() for name, value in element.attrib.items() if name != "id"]
    used = dict.fromkeys(name for value in values for name in _NAME.findall(value))
    names = {name: f"{stem}-{i}" for i, name in enumerate(used)}
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name != "id":
                element.set(name, _NAME.sub(lambda found: found[0].replace(found[1], names[found[1]]), value))
            elif value in names:
                element.set("id", names[value])
            else:
                del element.attrib["id"]


def _flatten(element: ElementTree.Element) -> None:
    """Say once what all children of a group look like, and take out groups that say nothing."""
    children: list[ElementTree.Element] = []
    for child in element:
        _flatten(child)
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    element[:] = children
    looks = {child.get("style", "") for child in children}
    look = next(iter(looks), "")
    if element.tag == "g" and len(children) > 1 and len(looks) == 1 and look and "style" not in element.attrib:
        if "opacity" in look.replace("-opacity", ""):  # of a group it is another than of each
            return
        element.set("style", look)
        for child in children:
            del child.attrib["style"]
