"""Long texts read whole by a causal language model: windows that overlap, in which each token is scored once.

A model reads no more than its positions at once. Text that is cut there begins anew, with nothing before its first
tokens, and looks harder than it is. Where windows of LENGTH positions advance by STRIDE, each token that a window
is the first to reach has at least LENGTH - STRIDE tokens of context, but in the first window of a text; only those
count ("Perplexity of fixed-length models" in the documentation of transformers). Whatever the stride, the same tokens
are scored; with STRIDE = LENGTH the text is cut into pieces. The tokens that a window scores are the unit of chance: of
one long text there is no other.

Refuses, in one line: what is no LENGTH/STRIDE, strides that leave tokens out, windows that the model cannot read, and
objectives that predict no next token.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from sparsity.errors import BadValue, Refused
from sparsity.positions import positions_of
from sparsity.tasks.batching import IGNORED, Example
from sparsity.tasks.language_modeling import SpecialTokens, causal_example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CAUSAL = "causal"
"""The one objective, of `language_modeling.OBJECTIVES`, that predicts the next token."""


class Window(NamedTuple):
    """How a long text is read."""

    length: int
    """Positions that are read at once."""
    stride: int
    """Positions by which each window is behind the one before it, 1 to `length`."""

    def __str__(self) -> str:
        return f"{self.length}/{self.stride}"


def parse(text: str) -> Window:
    """`1024/512` → windows of 1024 positions, each 512 behind the one before it. Raises `BadValue`."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,6})", text)
    if not match:
        raise BadValue(f"window {text!r} is not LENGTH/STRIDE, such as 1024/512")
    window = Window(int(match[1]), int(match[2]))
    if window.stride > window.length:
        raise BadValue(f"window {text}: a stride above the length leaves tokens out; the stride is at most {match[1]}")
    return window


def check(window: Window, model: PreTrainedModel, objective: str) -> None:
    """Raises `Refused` for a model that cannot be scored so."""
    if objective != CAUSAL:
        what = f"{model.config.model_type} models predict by the {objective} objective, where no token is the next one"
        raise Refused(f"window {window}: {what}; leave out --window")
    positions = positions_of(model)
    if positions is not None and window.length > positions:
        raise Refused(f"window {window} is longer than the model's {positions} positions; choose a shorter one")


def places(count: int, window: Window) -> Iterator[tuple[int, int, int]]:
    """Where each window over `count` positions begins, where it begins to score, and where it ends."""
    begin = scored = 0
    while scored < count:
        end = min(begin + window.length, count)
        yield begin, scored, end
        begin, scored = begin + window.stride, end


def examples(ids: list[int], special: SpecialTokens, window: Window) -> Iterator[Example]:
    """The windows of a text's own tokens, framed as a whole; none of a text without tokens."""
    whole = causal_example(ids, special, random.Random()) if ids else Example([], [])  # nothing is drawn
    for begin, scored, end in places(len(whole.labels), window):
        yield Example(whole.input_ids[begin:end], [IGNORED] * (scored - begin) + whole.labels[scored:end])
