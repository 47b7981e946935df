"""Data sets by name: where they are on the hub, which split is evaluated, which columns hold text and class.

The test splits of GLUE have no labels (all are -1), so it is evaluated on validation, as its papers do.
WikiText's rows are lines; they are put together to articles, which is what its perplexities are of.

Refuses GLUE's regression task.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Known(NamedTuple):
    """A data set of the hub."""

    repository: str
    config: str
    evaluated: str
    """The split that is evaluated."""
    text: tuple[str, ...]
    """One column, or two for pairs."""
    label: str | None = None
    articles: bool = False
    """Whether rows are lines of articles."""


def _glue(config: str, *text: str, evaluated: str = "validation") -> Known:
    return Known("nyu-mll/glue", config, evaluated, text, "label")


KNOWN = {
    "cola": _glue("cola", "sentence"),
    "sst2": _glue("sst2", "sentence"),
    "mrpc": _glue("mrpc", "sentence1", "sentence2"),
    "qqp": _glue("qqp", "question1", "question2"),
    "mnli": _glue("mnli", "premise", "hypothesis", evaluated="validation_matched"),
    "qnli": _glue("qnli", "question", "sentence"),
    "rte": _glue("rte", "sentence1", "sentence2"),
    "wnli": _glue("wnli", "sentence1", "sentence2"),
    "wikitext2": Known("Salesforce/wikitext", "wikitext-2-raw-v1", "test", ("text",), articles=True),
    "wikitext103": Known("Salesforce/wikitext", "wikitext-103-raw-v1", "test", ("text",), articles=True),
}
TRAINING = "train"
REFUSED = {"stsb": "stsb is a regression task, and only accuracy of classes is measured; take mrpc or qqp"}
TITLE = re.compile(r" = [^=].*[^=] = \n?")
"""A line that begins an article; its sections have two signs or more."""


def articles(lines: Iterable[str]) -> Iterator[str]:
    """Articles out of WikiText's lines, each with its title."""
    article: list[str] = []
    for line in lines:
        if TITLE.fullmatch(line) and article:
            yield "".join(article)
            article = []
        article.append(line)
    if article:
        yield "".join(article)
