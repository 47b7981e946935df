"""Blocks of numbers turned on their side, with lists in the place of vectors."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sparsity.kernel.code import Code
from sparsity.kernel.tiles import transposed


class Lists:
    """The one word that turning takes."""

    def __init__(self) -> None:
        self.shuffles = 0

    def shuffle(self, a: list[Any], b: list[Any], order: list[int]) -> list[Any]:
        self.shuffles += 1
        return [(a + b)[k] for k in order]


@pytest.mark.parametrize(("lanes", "rounds"), [(1, 0), (2, 1), (4, 2), (8, 3), (16, 4)])
def test_rows_become_columns_in_as_many_rounds_as_lanes_halve(lanes: int, rounds: int) -> None:
    code = Lists()
    rows = [[(row, column) for column in range(lanes)] for row in range(lanes)]
    assert transposed(cast("Code", code), rows) == [list(column) for column in zip(*rows, strict=True)]
    assert code.shuffles == lanes * rounds
