"""Builds the kernel for the processor at hand, when it is first needed, and calls it.

One source, three builds: AVX-512, AVX2, and a plain one for every processor that LLVM knows. Threads
are those of the OpenMP runtime that torch itself uses, so no second pool competes with it; where that
is not found, the kernel runs on one thread.

Refuses: a build that the processor cannot run.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm

from sparsity.kernel.layout import PANEL_ROWS
from sparsity.kernel.product import Variant
from sparsity.kernel.program import NEXT, SLACK, Program

if TYPE_CHECKING:
    import torch

TILES = (1, 4, 8, 16, 32, 64)
"""Tokens of a tile. The last tile of a batch is the smallest that holds what is left."""
LARGEST = TILES[-1]
ALIGN = 64
"""Bytes; of a cache line."""
Entry = Callable[[int], None]


@dataclass(frozen=True)
class Build:
    """For which processors the kernel is compiled."""

    name: str
    lanes: int
    """Numbers of a vector."""
    accumulators: int
    """Half of the vector registers."""
    processor: str
    features: str = ""


@dataclass(frozen=True)
class Weight:
    """A weight with its bias, as the kernel takes them."""

    packed: torch.Tensor
    """What `layout.pack` made."""
    rows: int
    columns: int
    block_rows: int

    @property
    def panel_rows(self) -> int:
        """Of all its panels, the last filled up."""
        return -(-self.rows // PANEL_ROWS) * PANEL_ROWS


def native() -> Build:
    """The best build that this processor runs."""
    return next(iter(builds().values()))


@functools.cache
def builds() -> dict[str, Build]:
    """Every build that this processor runs, the best first."""
    flags = llvm.get_host_cpu_features()
    processor, features = llvm.get_host_cpu_name(), flags.flatten()
    found = []
    if flags.get("avx512f") and flags.get("avx512vl"):
        found.append(Build("avx512", 16, 16, processor, features))
    if flags.get("avx2") and flags.get("fma"):
        found.append(Build("avx2", 8, 8, "haswell") if found else Build("avx2", 8, 8, processor, features))
    found.append(Build("plain", 4, 8, "x86-64") if found else Build("plain", 4, 8, processor, features))
    return {build.name: build for build in found}


_forced: Build | None = None


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Everything within runs on the build of this name, on all threads; for tests and comparisons."""
    global _forced
    before, _forced = _forced, builds()[name]
    try:
        yield
    finally:
        _forced = before


@functools.cache
def compiled(build: Build, tokens: int, block_rows: int) -> tuple[Entry, Entry]:
    """(linear, feed_forward) for tiles of so many tokens."""
    variant = Variant(min(build.lanes, tokens), tokens, block_rows, build.accumulators, build.lanes)
    source = str(Program(variant).module)
    with _compiling:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.add_symbol("GOMP_parallel", _parallel() or 1)
        target = llvm.Target.from_default_triple()
        machine = target.create_target_machine(cpu=build.processor, features=build.features, opt=3)
        module = llvm.parse_assembly(source)
        module.verify()
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        _engines.append(engine)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    linear, feed_forward = (kind(engine.get_function_address(name)) for name in ("linear", "feed_forward"))
    return linear, feed_forward


_compiling = threading.Lock()
_engines: list[Any] = []
"""Whoever drops an engine drops its code."""
_Context = ctypes.c_int64 * (NEXT + 5)
_own = threading.local()
"""Each calling thread has its own scratch memory, which grows and stays."""


@functools.cache
def _parallel() -> int:
    """The address of `GOMP_parallel` in the OpenMP runtime that torch brings or has loaded; 0 where there is none."""
    import torch

    paths: list[str | None] = [str(path) for path in (Path(torch.__file__).parent / "lib").glob("lib*omp*.so*")]
    for path in [*paths, None]:
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.cast(ctypes.CDLL(path).GOMP_parallel, ctypes.c_void_p).value or 0
    return 0


def threads() -> int:
    """Those that torch computes with; 1 where its runtime cannot be shared."""
    import torch

    return torch.get_num_threads() if _parallel() else 1


def linear(x: torch.Tensor, weight: Weight, activation: int, y: torch.Tensor) -> None:
    """y = act(x W' + b), for x `(tokens, columns)` and y `(tokens, rows)`, both fp32 and contiguous."""
    each = weight.columns + SLACK + PANEL_ROWS + SLACK
    for first, count, tile in _portions(len(x)):
        few = _few(count, tile)
        shared = -(-count // tile) * (weight.columns + SLACK) * tile * 4 if few else 0
        entry, _ = compiled(_forced or native(), tile, weight.block_rows)
        _call(entry, (x, first, count, y), (weight, None), activation, (each * tile * 4, shared, few))


def feed_forward(x: torch.Tensor, up: Weight, down: Weight, activation: int, y: torch.Tensor) -> None:
    """y = act(x U' + c) D' + b, for x `(tokens, columns of U)` and y `(tokens, rows of D)`."""
    import torch

    each = up.columns + down.panel_rows + PANEL_ROWS + 3 * SLACK
    for first, count, tile in _portions(len(x)):
        if _few(count, tile) or up.block_rows != down.block_rows:
            hidden = torch.empty(count, up.rows)
            linear(x[first : first + count], up, activation, hidden)
            linear(hidden, down, 0, y[first : first + count])
        else:
            _, entry = compiled(_forced or native(), tile, up.block_rows)
            _call(entry, (x, first, count, y), (up, down), activation, (each * tile * 4, 0, False))


def _portions(tokens: int) -> Iterator[tuple[int, int, int]]:
    """(first token, how many, tokens of a tile): whole tiles, then what is left."""
    whole = tokens // LARGEST * LARGEST
    if whole:
        yield 0, whole, LARGEST
    if left := tokens - whole:
        yield whole, left, next(tile for tile in TILES if tile >= left)


def _few(count: int, tile: int) -> bool:
    """Whether there are too few tiles to keep every thread at work."""
    tiles, available = -(-count // tile), threads()
    return available > 1 and tiles < 2 * available and tiles % available != 0


def _call(
    entry: Entry,
    tokens: tuple[torch.Tensor, int, int, torch.Tensor],
    weights: tuple[Weight, Weight | None],
    activation: int,
    memory: tuple[int, int, bool],
) -> None:
    """One call of the kernel; `memory` is (scratch bytes of a thread, of all together, few tiles)."""
    (x, first, count, y), (one, two), (each, shared, few) = tokens, weights, memory
    columns, rows, workers = x.shape[1], y.shape[1], threads()
    each = -(-each // ALIGN) * ALIGN
    context = _Context(
        *(x.data_ptr() + 4 * first * columns, columns, y.data_ptr() + 4 * first * rows, rows, count),
        *(one.packed.data_ptr(), two.packed.data_ptr() if two else 0),
        *(activation, _scratch(each * workers + shared), each, 0, 0, 0, workers, few),
    )
    entry(ctypes.addressof(context))


def _scratch(size: int) -> int:
    """The address of at least so many bytes."""
    import torch

    found: torch.Tensor | None = getattr(_own, "scratch", None)
    if found is None or found.numel() < size:
        found = _own.scratch = torch.empty(size, dtype=torch.uint8)
    return found.data_ptr()
