"""Which shapes of zeros are allowed: frozen values that parse and print. Standard library only.

Two kinds. An *element* pattern looks at one matrix `(out_features, in_features)` and says which
weights go together and which compete: `pool` turns scores of weights into scores of units, `spread`
turns a choice of units into a mask of weights. A *group* pattern removes whole neurons, heads or
blocks, slices of several matrices at once; what belongs to a group is in `sparsity.groups`.

A pattern is one class here and its name in `PATTERNS`: `parse` reads its text or gives None, `str()`
of what it gives is the text again.

Refuses: texts that name no pattern, and n:m or tiles that would keep all or nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from sparsity.errors import BadValue, UnknownName

if TYPE_CHECKING:
    import torch

GROUP_KINDS = ("neurons", "heads", "layers")
LARGEST = 4096
"""The longest side of a tile, and the largest m of n:m."""


class Pattern(Protocol):
    """What both kinds have."""

    scopes: ClassVar[tuple[str, ...]]
    """Where units may compete; the first is what is meant when nothing is said."""

    @property
    def fixed(self) -> float | None:
        """The only sparsity that the pattern has; None where any will do."""


class ElementPattern(Pattern, Protocol):
    """A pattern inside one matrix. Scores and masks are `(out_features, in_features)`."""

    def misfit(self, rows: int, columns: int) -> str | None:
        """Why a matrix of this shape cannot have the pattern, or None."""

    def pool(self, score: torch.Tensor) -> torch.Tensor:
        """Scores of units, two-dimensional; with scope `row` the units of one row compete."""

    def spread(self, kept: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """The mask of weights that keeps these units; `kept` has the shape that `pool` gives."""


@dataclass(frozen=True)
class Unstructured:
    """Any weight may go, whatever its neighbours do."""

    scopes: ClassVar[tuple[str, ...]] = ("layer", "row", "global", "erk", "owl")
    fixed: ClassVar[float | None] = None

    @classmethod
    def parse(cls, text: str) -> Unstructured | None:
        """`unstructured`."""
        return cls() if text == "unstructured" else None

    def __str__(self) -> str:
        return "unstructured"

    def misfit(self, rows: int, columns: int) -> str | None:
        """Fits everything."""
        del rows, columns
        return None

    def pool(self, score: torch.Tensor) -> torch.Tensor:
        """Each weight is a unit."""
        return score

    def spread(self, kept: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """The mask as it is."""
        del rows, columns
        return kept


@dataclass(frozen=True)
class NM:
    """Of every m weights next to each other along the inputs, n stay (n:m, such as 2:4).

    Mishra et al.: Accelerating Sparse Deep Neural Networks, 2021 (arXiv 2104.08378), for 2:4.
    """

    n: int
    m: int
    scopes: ClassVar[tuple[str, ...]] = ("row",)

    @classmethod
    def parse(cls, text: str) -> NM | None:
        """`2:4`; raises `BadValue` when it would keep all or nothing."""
        match = re.fullmatch(r"([1-9][0-9]{0,5}|0):([1-9][0-9]{0,5}|0)", text)
        if not match:
            return None
        n, m = int(match[1]), int(match[2])
        if not 0 < n < m <= LARGEST:
            raise BadValue(f"pattern {text!r}: n of every m weights stay, so 0 < n < m ≤ {LARGEST}, as in 2:4")
        return cls(n, m)

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def fixed(self) -> float | None:
        """1 - n/m."""
        return 1 - self.n / self.m

    def misfit(self, rows: int, columns: int) -> str | None:
        """The inputs must be a multiple of m."""
        del rows
        return f"its {columns} inputs are no multiple of {self.m}" if columns % self.m else None

    def pool(self, score: torch.Tensor) -> torch.Tensor:
        """Each weight is a unit, and every m of them a row: `(out * in / m, m)`."""
        return score.reshape(-1, self.m)

    def spread(self, kept: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """The mask in the matrix's own shape."""
        return kept.reshape(rows, columns)


@dataclass(frozen=True)
class Block:
    """Tiles of rows x columns go together (4x1: four outputs of one input). A tile's score is its weights' sum.

    Narang, Undersander, Diamos: Block-Sparse Recurrent Neural Networks, 2017 (arXiv 1711.02782).
    """

    rows: int
    columns: int
    scopes: ClassVar[tuple[str, ...]] = ("layer", "row", "global", "erk", "owl")
    fixed: ClassVar[float | None] = None

    @classmethod
    def parse(cls, text: str) -> Block | None:
        """`4x1`: rows (outputs) x columns (inputs)."""
        match = re.fullmatch(r"([1-9][0-9]{0,5}|0)x([1-9][0-9]{0,5}|0)", text)
        if not match:
            return None
        rows, columns = int(match[1]), int(match[2])
        if not (0 < rows <= LARGEST and 0 < columns <= LARGEST) or rows * columns == 1:
            raise BadValue(f"pattern {text!r}: tiles are 1 to {LARGEST} rows x columns, as in 4x1; 1x1 is unstructured")
        return cls(rows, columns)

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    def misfit(self, rows: int, columns: int) -> str | None:
        """Tiles must cover the matrix."""
        fits = rows % self.rows == 0 and columns % self.columns == 0
        return None if fits else f"its {rows}x{columns} weights cannot be cut into tiles of {self}"

    def pool(self, score: torch.Tensor) -> torch.Tensor:
        """`(out / rows, in / columns)`, the sum over each tile."""
        rows, columns = score.shape
        wide = score if score.dtype.itemsize >= 4 else score.float()  # half precision would round sums to ties
        return wide.reshape(rows // self.rows, self.rows, columns // self.columns, self.columns).sum((1, 3))

    def spread(self, kept: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """Each unit's choice for all weights of its tile."""
        tiles = kept[:, None, :, None].expand(-1, self.rows, -1, self.columns)
        return tiles.reshape(rows, columns)


@dataclass(frozen=True)
class Groups:
    """Whole neurons of the feed-forward parts, whole attention heads, or whole blocks ("layers") go.

    Neurons and heads may be asked for together (`neurons+heads`): each kind loses the same share.
    """

    kinds: tuple[str, ...]
    scopes: ClassVar[tuple[str, ...]] = ("layer", "global")
    fixed: ClassVar[float | None] = None

    @classmethod
    def parse(cls, text: str) -> Groups | None:
        """`neurons`, `heads`, `neurons+heads`; each kind once, in this order."""
        kinds = tuple(text.split("+"))
        if not all(kind in GROUP_KINDS for kind in kinds):
            return None
        if kinds != tuple(kind for kind in GROUP_KINDS[:2] if kind in kinds):
            raise BadValue(f"pattern {text!r}: neurons, heads or neurons+heads; layers go alone")
        return cls(kinds)

    def __str__(self) -> str:
        return "+".join(self.kinds)


@dataclass(frozen=True)
class Layers:
    """Whole blocks go, an equal share of every stack; within a stack all compete."""

    kinds: ClassVar[tuple[str, ...]] = ("layers",)
    scopes: ClassVar[tuple[str, ...]] = ("global",)
    fixed: ClassVar[float | None] = None

    @classmethod
    def parse(cls, text: str) -> Layers | None:
        """`layers`."""
        return cls() if text == "layers" else None

    def __str__(self) -> str:
        return "layers"


GroupPattern = Groups | Layers


class _Parses(Protocol):
    def parse(self, text: str) -> ElementPattern | GroupPattern | None: ...


PATTERNS: dict[str, _Parses] = {
    "unstructured": Unstructured,
    "n:m": NM,
    "rxc": Block,
    "layers": Layers,
    "neurons+heads": Groups,
}
"""Every pattern by the form of its text, the first that reads a text has it."""
EXAMPLES = ("unstructured", "2:4", "1:4", "4x1", "16x16", "neurons", "heads", "neurons+heads", "layers")


def parse(text: str) -> ElementPattern | GroupPattern:
    """The pattern that a text names; `UnknownName` lists examples of all, `BadValue` what is wrong with its numbers."""
    for pattern in PATTERNS.values():
        if (found := pattern.parse(text)) is not None:
            return found
    raise UnknownName("pattern", text, EXAMPLES)
