"""A small language over llvmlite's IR builder, in which the kernel reads as Python.

Whole numbers are 64 bits wide and unsigned, floating point is fp32. A loop carries its values as a
functional loop does: what goes in, what each turn makes of it, what comes out.

Refuses: nothing; LLVM verifies what is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from llvmlite import ir

INT = ir.IntType(64)
FLOAT = ir.FloatType()
POINTER = ir.PointerType()
Value: TypeAlias = ir.Value
Number: TypeAlias = int | ir.Value
Count: TypeAlias = int
"""Inside `Code`, whose `int` makes whole numbers of the kernel."""


def vector(lanes: int) -> ir.VectorType:
    """So many fp32 numbers."""
    return ir.VectorType(FLOAT, lanes)


@dataclass
class Loop:
    """A loop while it is written, and its results afterwards."""

    index: Value
    values: list[Value]
    """What it carries, at the start of a turn."""
    following: list[Value] = field(default_factory=list)
    """What it carries on; to be set in the body, one for each of `values`."""
    results: list[Value] = field(default_factory=list)


class Code:
    """The body of one function."""

    def __init__(self, function: ir.Function) -> None:
        self.function = function
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))

    # numbers

    def int(self, number: Number) -> Value:
        """A whole number."""
        return INT(number) if isinstance(number, int) else number

    def add(self, a: Number, b: Number) -> Value:
        """A + b."""
        return self.builder.add(self.int(a), self.int(b))

    def sub(self, a: Number, b: Number) -> Value:
        """A - b."""
        return self.builder.sub(self.int(a), self.int(b))

    def mul(self, a: Number, b: Number) -> Value:
        """A x b."""
        return self.builder.mul(self.int(a), self.int(b))

    def blocks(self, a: Number, b: Number) -> Value:
        """How many b it takes to hold a."""
        return self.builder.udiv(self.sub(self.add(a, b), 1), self.int(b))

    def smaller(self, a: Number, b: Number) -> Value:
        """The smaller of the two."""
        a, b = self.int(a), self.int(b)
        return self.builder.select(self.builder.icmp_unsigned("<", a, b), a, b)

    def below(self, a: Number, b: Number) -> Value:
        """Whether a < b."""
        return self.builder.icmp_unsigned("<", self.int(a), self.int(b))

    # memory

    def at(self, pointer: Value, index: Number, kind: ir.Type = FLOAT) -> Value:
        """Where element `index` of an array of `kind` lies."""
        return self.builder.gep(pointer, [self.int(index)], inbounds=True, source_etype=kind)

    def load_int(self, pointer: Value, index: Number, bits: Count = 64) -> Value:
        """Element `index` of an array of unsigned integers."""
        kind = ir.IntType(bits)
        found = self.builder.load(self.at(pointer, index, kind), typ=kind)
        return found if bits == 64 else self.builder.zext(found, INT)

    def load_float(self, pointer: Value, index: Number) -> Value:
        """Element `index` of an array of fp32."""
        return self.builder.load(self.at(pointer, index), typ=FLOAT)

    def load(self, pointer: Value, index: Number, lanes: Count) -> Value:
        """The vector that begins at element `index` of an array of fp32."""
        return self.builder.load(self.at(pointer, index), typ=vector(lanes), align=4)

    def store(self, value: Value, pointer: Value, index: Number) -> None:
        """Writes a number or a vector to where element `index` of an array of fp32 lies."""
        self.builder.store(value, self.at(pointer, index), align=4)

    # vectors

    def spread(self, number: Value, lanes: Count) -> Value:
        """The number in every lane."""
        kind = vector(lanes) if number.type == FLOAT else ir.VectorType(number.type, lanes)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), _lanes([0] * lanes))

    def shuffle(self, a: Value, b: Value, order: Sequence[Count]) -> Value:
        """Lanes of a and b, counted through both."""
        return self.builder.shuffle_vector(a, b, _lanes(order))

    def splat(self, number: float, like: Value) -> Value:
        """A constant of the type of `like`."""
        if isinstance(like.type, ir.VectorType):
            return ir.Constant(like.type, [number] * like.type.count)
        return ir.Constant(like.type, number)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """A x b + c, rounded once where the processor can."""
        return self.intrinsic("llvm.fmuladd", a.type, [a, b, c], suffix=_name(a.type))

    def first(self, count: Value, lanes: Count) -> Value:
        """A mask, true for the lanes before `count`."""
        numbers = ir.Constant(ir.VectorType(INT, lanes), list(range(lanes)))
        return self.builder.icmp_unsigned("<", numbers, self.spread(count, lanes))

    def load_some(self, pointer: Value, index: Number, mask: Value, lanes: Count) -> Value:
        """A vector of which only the lanes in the mask are read; the others are 0."""
        kind = vector(lanes)
        zeros = ir.Constant(kind, [0.0] * lanes)
        arguments = [self.at(pointer, index), ir.IntType(32)(4), mask, zeros]
        return self.intrinsic("llvm.masked.load", kind, arguments, suffix=f"{_name(kind)}.p0")

    def store_some(self, value: Value, pointer: Value, index: Number, mask: Value) -> None:
        """Writes only the lanes in the mask."""
        arguments = [value, self.at(pointer, index), ir.IntType(32)(4), mask]
        self.intrinsic("llvm.masked.store", ir.VoidType(), arguments, suffix=f"{_name(value.type)}.p0")

    def prefetch(self, pointer: Value) -> None:
        """Asks for the cache line; a hint that can never fault."""
        hints = [ir.IntType(32)(n) for n in (0, 3, 1)]  # read, keep, data
        self.intrinsic("llvm.prefetch", ir.VoidType(), [pointer, *hints], suffix="p0")

    # calls

    def intrinsic(self, name: str, result: ir.Type, arguments: Sequence[Value], suffix: str) -> Value:
        """A call of an LLVM intrinsic of these types."""
        full = f"{name}.{suffix}"
        known = self.function.module.globals.get(full)
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(known or ir.Function(self.function.module, kind, full), arguments)

    def call(self, function: ir.Function, *arguments: Number) -> Value:
        """A call of a function of the same module."""
        return self.builder.call(function, [self.int(argument) for argument in arguments])

    # flow

    @contextmanager
    def loop(self, start: Number, stop: Number, step: Count = 1, carried: Sequence[Value] = ()) -> Iterator[Loop]:
        """`for index in range(start, stop, step)`, carrying values from turn to turn."""
        builder, start, stop = self.builder, self.int(start), self.int(stop)
        before = builder.block
        body, after = self.function.append_basic_block("body"), self.function.append_basic_block("after")
        builder.cbranch(self.below(start, stop), body, after)
        builder.position_at_end(body)
        index = builder.phi(INT)
        values = [builder.phi(value.type) for value in carried]
        loop = Loop(index, list(values))
        yield loop
        following = self.add(index, step)
        end = builder.block
        builder.cbranch(self.below(following, stop), body, after)
        for phi, first, last in zip([index, *values], [start, *carried], [following, *loop.following], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, end)
        builder.position_at_end(after)
        for value, last in zip(carried, loop.following, strict=True):
            result = builder.phi(value.type)
            result.add_incoming(value, before)
            result.add_incoming(last, end)
            loop.results.append(result)


def _lanes(order: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))


def _name(kind: ir.Type) -> str:
    """As intrinsics name their types: `v16f32`."""
    return f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
