"""The product for a single token, as in decoding: the lanes of a vector are the eight rows of a bundle.

Each step gathers the inputs that its columns name. What limits it is how fast the weights arrive from
memory, so they are asked for ahead of time. A row is summed up in the same order as in `product`, so the
result is the same to the last bit.
"""

from __future__ import annotations

from llvmlite import ir

from sparsity.kernel.code import Code, Value
from sparsity.kernel.layout import BUNDLE
from sparsity.kernel.product import Variant

AHEAD = 2048
"""Bytes ahead in the stream of values."""
BYTE, SHORT, INDEX = ir.IntType(8), ir.IntType(16), ir.IntType(32)


def write_single_panel(function: ir.Function, variant: Variant, fresh: bool) -> None:
    """As `product.write_panel`, where a tile is one token."""
    code = Code(function)
    columns, values, lengths, order, bundles, tile, output, bias = function.args
    slots = BUNDLE // variant.block_rows
    with code.loop(0, bundles, 1, [code.int(0)]) as bundle:
        (start,) = bundle.values
        end = code.add(start, code.load_int(lengths, bundle.index, 8))
        rows = _spread(code, code.at(order, code.mul(bundle.index, slots), SHORT), SHORT, variant.block_rows)
        rows = code.builder.add(rows, _numbers([i % variant.block_rows for i in range(BUNDLE)]))
        sums = _gather(code, variant, bias if fresh else output, rows)
        with code.loop(start, end, 1, [sums]) as step:
            place = code.mul(step.index, BUNDLE)
            code.prefetch(code.at(values, code.add(place, AHEAD // 4)))
            named = _spread(code, code.at(columns, code.mul(step.index, slots), BYTE), BYTE, variant.block_rows)
            inputs = _gather(code, variant, tile, named)
            step.following = [code.fma(code.load(values, place, BUNDLE), inputs, step.values[0])]
        for i in range(BUNDLE):
            row = code.builder.zext(code.builder.extract_element(rows, INDEX(i)), ir.IntType(64))
            code.store(code.builder.extract_element(step.results[0], INDEX(i)), output, row)
        bundle.following = [end]
    code.builder.ret_void()


def _spread(code: Code, pointer: Value, kind: ir.IntType, block_rows: int) -> Value:
    """The numbers of a bundle's slots, each for all rows of its block, as eight 32-bit integers."""
    slots = BUNDLE // block_rows
    found = code.builder.load(pointer, typ=ir.VectorType(kind, slots), align=1)
    wide = code.builder.zext(found, ir.VectorType(INDEX, slots))
    return code.shuffle(wide, wide, [i // block_rows for i in range(BUNDLE)])


def _gather(code: Code, variant: Variant, pointer: Value, indices: Value) -> Value:
    """The eight numbers at these indices."""
    kind = ir.VectorType(ir.FloatType(), BUNDLE)
    if variant.gathers:
        every = code.builder.bitcast(_numbers([-1] * BUNDLE), kind)  # the mask is a sign bit in each lane
        arguments = [ir.Constant(kind, ir.Undefined), pointer, indices, every, BYTE(4)]
        return code.intrinsic("llvm.x86.avx2.gather.d.ps", kind, arguments, suffix="256")
    found: Value = ir.Constant(kind, ir.Undefined)
    for i in range(BUNDLE):
        index = code.builder.zext(code.builder.extract_element(indices, INDEX(i)), ir.IntType(64))
        found = code.builder.insert_element(found, code.load_float(pointer, index), INDEX(i))
    return found


def _numbers(numbers: list[int]) -> Value:
    return ir.Constant(ir.VectorType(INDEX, len(numbers)), numbers)
