"""Turns a tile of tokens on its side and back: `[tokens][features]` to `[features][tokens]`.

Blocks of `lanes` x `lanes` numbers are transposed in registers, by log2(lanes) rounds of exchanges. At
ragged edges only what is there is read and written; the rest of a tile is zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from sparsity.kernel.code import Code, Value


def transposed(code: Code, rows: Sequence[Value]) -> list[Value]:
    """As many vectors as they have lanes, transposed."""
    found, lanes = list(rows), len(rows)
    distance = lanes // 2
    while distance:
        for i in (i for i in range(lanes) if not i & distance):
            a, b = found[i], found[i + distance]
            low = [k - distance + lanes if k & distance else k for k in range(lanes)]
            high = [k + lanes if k & distance else k + distance for k in range(lanes)]
            found[i], found[i + distance] = code.shuffle(a, b, low), code.shuffle(a, b, high)
        distance //= 2
    return found


def write_take(function: ir.Function, lanes: int, tokens: int) -> None:
    """`(from, stride, count, features, to)`: `count` rows of `from` become the columns of `to[features][tokens]`.

    Features are written in whole vectors: `to` has room for a multiple of `lanes`.
    """
    code = Code(function)
    source, stride, count, features, target = function.args
    with code.loop(0, tokens, lanes) as token, code.loop(0, features, lanes) as feature:
        left = code.sub(features, feature.index)

        def read(whole: bool) -> list[Value]:
            rows = []
            for i in range(lanes):
                row = code.add(token.index, i)
                place = code.add(code.mul(row, stride), feature.index)
                there = code.builder.select(code.below(row, count), left, code.int(0))
                rows.append(_load(code, source, place, lanes, None if whole else there))
            return rows

        def move(whole: bool) -> None:
            for i, column in enumerate(transposed(code, read(whole))):
                code.store(column, target, code.add(code.mul(code.add(feature.index, i), tokens), token.index))

        fits = code.below(code.add(token.index, lanes - 1), count)
        _either(code, code.builder.and_(fits, code.below(lanes - 1, left)), move)
    code.builder.ret_void()


def write_give(function: ir.Function, lanes: int, tokens: int) -> None:
    """`(from, features, count, to, stride)`: the columns of `from[features][tokens]` become `count` rows of `to`.

    Features are read in whole vectors: `from` holds a multiple of `lanes`.
    """
    code = Code(function)
    source, features, count, target, stride = function.args
    with code.loop(0, tokens, lanes) as token, code.loop(0, features, lanes) as feature:
        left = code.sub(features, feature.index)

        def move(whole: bool) -> None:
            columns = [
                code.load(source, code.add(code.mul(code.add(feature.index, i), tokens), token.index), lanes)
                for i in range(lanes)
            ]
            for i, row in enumerate(transposed(code, columns)):
                number = code.add(token.index, i)
                place = code.add(code.mul(number, stride), feature.index)
                there = code.builder.select(code.below(number, count), left, code.int(0))
                if whole:
                    code.store(row, target, place)
                else:
                    code.store_some(row, target, place, code.first(there, lanes))

        fits = code.below(code.add(token.index, lanes - 1), count)
        _either(code, code.builder.and_(fits, code.below(lanes - 1, left)), move)
    code.builder.ret_void()


def _load(code: Code, source: Value, place: Value, lanes: int, there: Value | None) -> Value:
    if there is None:
        return code.load(source, place, lanes)
    return code.load_some(source, place, code.first(there, lanes), lanes)


def _either(code: Code, whole: Value, move: Callable[[bool], None]) -> None:
    """The block at full speed where it is whole, else with care."""
    with code.builder.if_else(whole) as (yes, no):
        with yes:
            move(True)
        with no:
            move(False)
