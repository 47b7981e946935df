"""Runs the kernel on memory between pages that may not be touched: whoever reads or writes beyond a buffer dies.

A program, not a test: `python -m tests.kernel.fenced` says each call before it makes it, and at the end how
many went well. Every buffer that a call is given, and every one that it asks for, lies once flush
against the page after it and once against the page before it. What a buffer leaves of a page must be as it
was afterwards. Buffers begin as numbers that are none, so what is read before it is written shows in the results.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch

from sparsity.kernel import engine
from sparsity.kernel.build import using
from tests.kernel.weights import BUILDS, FUNCTIONS, THREADS_SHARED, Sample, inputs, sample

PAGE = mmap.PAGESIZE
LINE = 64
UNTOUCHED = 0xFF
"""Four such bytes are no number."""
NO_ACCESS, READ_ONLY = 0, 1
CLOSE = 1e-6
SIZES = [(1, 1), (8, 128), (5, 3), (42, 131), (386, 260), (393, 17)]
"""Rows and columns; of the second matrix of a pair, the rows of the first and 42."""
EVERY_TILE = (1, 2, 4, 6, 8, 11, 16, 25, 32, 50, 64, 67, 130)
BLOCKS = {2: (1, 25, 130), 4: (2, 8, 64), 8: (1, 11, 67)}
"""Tokens for blocks of more than one row, on the best build."""
_libc = ctypes.CDLL(None, use_errno=True)
_empty, _new_empty, _scratch = torch.empty, torch.Tensor.new_empty, engine._scratch


class Fence:
    """Memory whose neighbours on both sides fault."""

    def __init__(self, size: int, at_end: bool, alignment: int = 4) -> None:
        self.size, self.inside = size, -(-max(size, 1) // PAGE) * PAGE
        self.memory = mmap.mmap(-1, self.inside + 2 * PAGE)
        before = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.first = before + PAGE
        _protect(before, PAGE, NO_ACCESS)
        _protect(self.first + self.inside, PAGE, NO_ACCESS)
        ctypes.memset(self.first, UNTOUCHED, self.inside)
        self.address = (self.first + self.inside - size) // alignment * alignment if at_end else self.first

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """The buffer as a tensor, which must not outlive it."""
        if self.size == 0:
            return _empty(shape, dtype=dtype)
        return torch.frombuffer((ctypes.c_char * self.size).from_address(self.address), dtype=dtype).view(shape)

    def intact(self) -> bool:
        """Whether nothing was written beside the buffer."""
        end, last = self.address + self.size, self.first + self.inside
        around = ctypes.string_at(self.first, self.address - self.first) + ctypes.string_at(end, last - end)
        return around == bytes([UNTOUCHED]) * len(around)


def _protect(address: int, size: int, how: int) -> None:
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), how):
        raise OSError(ctypes.get_errno(), "mprotect")


@contextmanager
def fenced(at_end: bool) -> Iterator[list[Fence]]:
    """All that the kernel asks of torch is between fences; gives those in use."""
    fences: list[Fence] = []

    def empty(*shape: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        sizes = tuple(shape[0]) if isinstance(shape[0], tuple) else shape
        fences.append(Fence(prod(sizes) * dtype.itemsize, at_end))
        return fences[-1].tensor(sizes, dtype)

    def scratch(size: int) -> int:
        fences.append(Fence(size, at_end, LINE))
        return fences[-1].address

    engine._scratch, torch.empty = scratch, empty  # type: ignore[assignment]  # stands in for all that is used of it
    torch.Tensor.new_empty = lambda self, *shape: empty(*shape, dtype=self.dtype)  # type: ignore[assignment,method-assign]  # likewise
    try:
        yield fences
    finally:
        engine._scratch, torch.empty = _scratch, _empty
        torch.Tensor.new_empty = _new_empty  # type: ignore[method-assign]  # back again


def copied(tensor: torch.Tensor, fences: list[Fence], at_end: bool) -> torch.Tensor:
    """The same, fenced, and not to be written."""
    fence = Fence(tensor.nbytes, at_end)
    fences.append(fence)
    found = fence.tensor(tuple(tensor.shape), tensor.dtype)
    found.copy_(tensor)
    _protect(fence.first, fence.inside, READ_ONLY)
    return found


def check(up: Sample, down: Sample, tokens: int, activation: str, at_end: bool) -> None:
    """Both operators, fenced; the results are right and nothing else was touched."""
    x = inputs(tokens, up.weight.shape[1])
    between = FUNCTIONS[activation](up.exact(x))
    size = up.size(x) * (1 + float(down.weight.abs().double().norm())) + down.size(between)
    with fenced(at_end) as fences:
        own = copied(x, fences, at_end)
        for each in (up, down):
            each.__dict__["buffer"] = copied(each.buffer, fences, at_end)
        results = [up.linear(own, activation), up.feed_forward(down, own, activation)]
        assert all(fence.intact() for fence in fences), "wrote beside a buffer"
        places = [fence.address for fence in fences]
        assert len(fences) >= 7, "asked for memory in another way"  # x, two weights, two results, scratch for each
        assert all(result.data_ptr() in places for result in results), "asked for memory in another way"
        for result, exact in zip(results, (between, down.exact(between)), strict=True):
            error = float((result.double() - exact).norm())
            assert error <= CLOSE * size, f"wrong by {error} of {size}"  # and no number where it is none
        for each in (up, down):
            del each.__dict__["buffer"]


def calls(build: str) -> Iterator[tuple[int, int]]:
    """(block rows, tokens)."""
    yield from ((1, tokens) for tokens in EVERY_TILE)
    if build == BUILDS[0]:
        yield from ((rows, tokens) for rows, some in BLOCKS.items() for tokens in some)


def main() -> None:
    """All calls, on each build."""
    count, activations = 0, itertools.cycle(FUNCTIONS)
    for build, threads in itertools.product(BUILDS, (1, 2) if THREADS_SHARED else (1,)):
        torch.set_num_threads(threads)
        for block_rows, tokens in calls(build):
            for (rows, columns), at_end in itertools.product(SIZES, (True, False)):
                activation = next(activations)
                call = f"{build}, {threads} threads, {tokens} tokens, {rows} x {columns} in blocks of {block_rows}"
                print(f"{call}, {activation}, {'end' if at_end else 'beginning'}", flush=True)
                up, down = sample(rows, columns, 0.5, block_rows), sample(42, rows, 0.5, block_rows)
                with using(build):
                    check(up, down, tokens, activation, at_end)
                count += 1
    print(f"{count} calls went well")


if __name__ == "__main__":
    main()
