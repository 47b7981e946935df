"""The report as one HTML page that needs nothing beside itself: no file, no network.

Every string is escaped by the template engine, once. The drawings alone are handed on as they are; `svg` made them.
Names that are not given to a template are errors.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports import verdicts
from reports.document import Document
from reports.verdicts import Verdicts
from reports.words import line

TEMPLATES = Path(__file__).with_name("templates")
LOOKS = {
    "faster": "good", "smaller": "good", "kept": "good",
    "slower": "bad", "larger": "bad", "lost": "bad",
    "inconclusive": "open", "same": "even",
}  # fmt: skip
"""How a verdict is set, beside its word."""


def render(document: Document, table: Verdicts, drawings: Mapping[str, str]) -> str:
    """The page; `drawings` holds the `<svg>` element of each picture of the document by its stem."""
    environment = _environment()
    script = environment.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.jinja").render(
        document=document,
        verdicts=table,
        about_verdicts=verdicts.ABOUT,
        drawings={stem: Markup(drawing) for stem, drawing in drawings.items()},  # noqa: S704  # made by us
        script_hash=f"sha256-{digest}",
        looks=LOOKS,
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )


def _printable(value: Any) -> Any:
    """Of outside strings what can be shown: no control characters, and none that turn the direction of writing."""
    return line(value) if isinstance(value, str) and not isinstance(value, Markup) else value
