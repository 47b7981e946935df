"""The product itself: a panel of the sparse weight times a tile of the input, added to a tile of the output.

Tokens are the lanes of the vectors. A kept weight is broadcast and multiplied with the row of the tile
that its column names; sums stay in registers for the whole of a bundle. A sum is a chain of dependent
instructions, so several run side by side: rows of a bundle, and vectors of a row, until the
accumulators take up half of the registers.

Every sum runs over a row's weights in the same order whatever the tile, so a token's result depends
neither on the batch that it comes in nor on the threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from sparsity.kernel.code import Code, Value
from sparsity.kernel.layout import BUNDLE

PREFETCH = 512
"""Bytes ahead in the stream of weights."""


@dataclass(frozen=True)
class Variant:
    """What one build of the kernel is for."""

    lanes: int
    """Of a vector of tokens."""
    tokens: int
    """Of a tile."""
    block_rows: int
    accumulators: int
    """Vectors that are summed up side by side."""
    wide: int
    """Lanes of the widest vector of the processor, for what runs along memory."""
    gathers: bool
    """Whether the processor loads from eight places at once."""

    @property
    def vectors(self) -> int:
        """Of a row of a tile that are summed up at a time."""
        return min(self.tokens // self.lanes, max(1, self.accumulators // self.rows))

    @property
    def rows(self) -> int:
        """Of a block that are summed up at a time."""
        return min(self.block_rows, 4)

    @property
    def streams(self) -> int:
        """Rows, or blocks, of a bundle that are summed up side by side."""
        return min(BUNDLE // self.block_rows, max(1, self.accumulators // (self.rows * self.vectors)))


def write_panel(function: ir.Function, variant: Variant, fresh: bool) -> None:
    """`(columns, values, lengths, order, bundles, input, output, bias)`: output += panel x input.

    `columns`, `values`, `lengths`, `order` are the panel's own, as in `layout`; `input` is
    `[panel columns][tokens]`, `output` `[panel rows][tokens]`. A fresh panel does not add to what is in
    the output, but to the bias of each row.
    """
    code = Code(function)
    columns, values, lengths, order, bundles, tile, output, bias = function.args
    slots = BUNDLE // variant.block_rows
    with code.loop(0, bundles, 1, [code.int(0)]) as bundle:
        (start,) = bundle.values
        steps = code.load_int(lengths, bundle.index, 8)
        ahead = code.at(values, code.add(code.mul(code.add(start, steps), BUNDLE), PREFETCH // 4))
        code.prefetch(ahead)
        code.prefetch(code.at(ahead, 16))
        end = code.add(start, steps)
        with code.loop(0, variant.tokens, variant.lanes * variant.vectors) as part:
            for slot in range(0, slots, variant.streams):
                for row in range(0, variant.block_rows, variant.rows):
                    first = code.mul(bundle.index, slots)
                    where = [code.load_int(order, code.add(first, slot + s), 16) for s in range(variant.streams)]
                    numbers = [code.add(w, row + r) for w in where for r in range(variant.rows)]
                    targets = [code.at(output, code.add(code.mul(n, variant.tokens), part.index)) for n in numbers]
                    places = [(target, v * variant.lanes) for target in targets for v in range(variant.vectors)]
                    if fresh:
                        starts = [code.spread(code.load_float(bias, n), variant.lanes) for n in numbers]
                        sums = [each for each in starts for _ in range(variant.vectors)]
                    else:
                        sums = [code.load(target, offset, variant.lanes) for target, offset in places]
                    stored, at = (columns, values), (slot, row)
                    results = _sum_up(code, variant, stored, at, (start, end), code.at(tile, part.index), sums)
                    for (target, offset), result in zip(places, results, strict=True):
                        code.store(result, target, offset)
        bundle.following = [end]
    code.builder.ret_void()


def _sum_up(
    code: Code,
    variant: Variant,
    stored: tuple[Value, Value],
    at: tuple[int, int],
    steps: tuple[Value, Value],
    tile: Value,
    sums: list[Value],
) -> list[Value]:
    """The sums of some rows of a bundle, over all of its steps."""
    (columns, values), (slot, row) = stored, at
    lanes, slots = variant.lanes, BUNDLE // variant.block_rows
    with code.loop(*steps, 1, sums) as step:
        added = iter(step.values)
        for s in range(variant.streams):
            column = code.load_int(columns, code.add(code.mul(step.index, slots), slot + s), 8)
            begin = code.mul(column, variant.tokens)
            inputs = [code.load(tile, code.add(begin, v * lanes), lanes) for v in range(variant.vectors)]
            for r in range(variant.rows):
                number = (slot + s) * variant.block_rows + row + r
                weight = code.load_float(values, code.add(code.mul(step.index, BUNDLE), number))
                spread = code.spread(weight, lanes)
                step.following += [code.fma(spread, x, next(added)) for x in inputs]
    return step.results
