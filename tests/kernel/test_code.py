"""The small language: what its words compute, once compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numpy.typing import NDArray

from sparsity.kernel.build import builds
from sparsity.kernel.code import INT, POINTER, Code, Value

LANES = 4
Write = Callable[[Code, Any, Any], None]


def run(write: Write, numbers: list[int], floats: list[float]) -> tuple[list[int], NDArray[np.float32]]:
    """(whole numbers, fp32) after a function has worked on them; both are arrays in memory."""
    module = ir.Module("tested")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, POINTER]), "tested")
    code = Code(function)
    write(code, *function.args)
    code.builder.ret_void()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    best = next(iter(builds().values()))
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=best.processor, features=best.features)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    whole, single = np.array(numbers, np.int64), np.array(floats, np.float32)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(engine.get_function_address("tested"))
    call(whole.ctypes.data, single.ctypes.data)
    return whole.tolist(), single


def put(code: Code, value: Value, pointer: Value, index: int) -> None:
    """Writes a whole number."""
    code.builder.store(value, code.at(pointer, index, INT))


def test_numbers() -> None:
    def write(code: Code, whole: Value, _: Value) -> None:
        a, b = code.load_int(whole, 0), code.load_int(whole, 1)
        below = code.builder.zext(code.below(a, b), INT)
        results = (code.add(a, b), code.sub(a, b), code.mul(a, 3), code.blocks(a, b), code.smaller(a, b), below)
        for place, value in enumerate(results, 2):
            put(code, value, whole, place)

    assert run(write, [13, 4, *[0] * 6], [])[0] == [13, 4, 17, 9, 39, 4, 4, 0]
    assert run(write, [4, 13, *[0] * 6], [])[0][4:] == [12, 1, 4, 1]
    assert run(write, [8, 4, *[0] * 6], [])[0][5] == 2


def test_whole_numbers_are_unsigned() -> None:
    def write(code: Code, whole: Value, _: Value) -> None:
        put(code, code.builder.zext(code.below(1, code.load_int(whole, 0)), INT), whole, 1)
        put(code, code.load_int(whole, 0, bits=8), whole, 2)
        put(code, code.load_int(whole, 2, bits=16), whole, 3)  # the third 16 bits of the first number

    assert run(write, [-2, 0, 0, 0], [])[0] == [-2, 1, 254, 0xFFFF]


@pytest.mark.parametrize(
    ("start", "stop", "step", "turns"), [(0, 5, 1, [0, 1, 2, 3, 4]), (2, 9, 3, [2, 5, 8]), (4, 4, 1, []), (5, 4, 1, [])]
)
def test_a_loop_carries_its_values(start: int, stop: int, step: int, turns: list[int]) -> None:
    def write(code: Code, whole: Value, _: Value) -> None:
        with code.loop(code.load_int(whole, 0), code.load_int(whole, 1), step, [code.int(100), code.int(1)]) as loop:
            loop.following = [code.add(loop.values[0], loop.index), code.mul(loop.values[1], 2)]
        put(code, loop.results[0], whole, 2)
        put(code, loop.results[1], whole, 3)

    assert run(write, [start, stop, 0, 0], [])[0][2:] == [100 + sum(turns), 2 ** len(turns)]


def test_loops_within_loops() -> None:
    def write(code: Code, whole: Value, _: Value) -> None:
        with code.loop(0, 3, 1, [code.int(0)]) as outer:
            with code.loop(0, outer.index, 1, outer.values) as inner:
                inner.following = [code.add(inner.values[0], code.add(code.mul(outer.index, 10), inner.index))]
            outer.following = inner.results
        put(code, outer.results[0], whole, 0)

    assert run(write, [0], [])[0] == [10 + 20 + 21]


@pytest.mark.parametrize("count", range(LANES + 1))
def test_only_the_lanes_in_a_mask_are_read_and_written(count: int) -> None:
    def write(code: Code, whole: Value, single: Value) -> None:
        mask = code.first(code.load_int(whole, 0), LANES)
        some = code.load_some(single, 0, mask, LANES)
        code.store(some, single, LANES)
        code.store_some(some, single, 2 * LANES, mask)

    given = [1.0, 2.0, 3.0, 4.0, *[9.0] * 8]
    kept = given[:count]
    expected = [1.0, 2.0, 3.0, 4.0, *kept, *[0.0] * (LANES - count), *kept, *[9.0] * (LANES - count)]
    assert run(write, [count], given)[1].tolist() == expected


def test_vectors() -> None:
    def write(code: Code, _: Value, single: Value) -> None:
        a, b = code.load(single, 0, LANES), code.load(single, LANES, LANES)
        number = code.load_float(single, 1)
        results = (code.spread(number, LANES), code.shuffle(a, b, [7, 0, 5, 2]), code.fma(a, b, code.splat(0.5, a)))
        for place, value in enumerate(results, 2):
            code.store(value, single, place * LANES)
        code.store(code.fma(number, number, code.splat(0.5, number)), single, 5 * LANES)

    single = run(write, [], [1, 2, 3, 4, 10, 20, 30, 40, *[0] * 13])[1]
    assert single[8:].tolist() == [2, 2, 2, 2, 40, 1, 20, 3, 10.5, 40.5, 90.5, 160.5, 4.5]


def test_asking_for_memory_ahead_never_faults() -> None:
    run(lambda code, _, single: code.prefetch(code.at(single, 1 << 40)), [], [])
