"""Compiles the kernel for the processor at hand, when it is first needed.

One source, three builds: AVX-512, AVX2, and a plain one for every processor that LLVM knows. Threads
are those of the OpenMP runtime that torch itself uses, so no second pool competes with it; where that
is not found, the kernel runs on one thread.

The environment variable `SPARSITY_KERNEL` names the build to use instead of the best one, such as `avx2`.

Refuses: a build that the processor cannot run.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from sparsity.errors import UnknownName
from sparsity.kernel.product import Variant
from sparsity.kernel.program import Program

Entry = Callable[[int], None]
VARIABLE = "SPARSITY_KERNEL"


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
    gathers: bool = False
    """Whether it has AVX2's loads from eight places at once."""


@functools.cache
def builds() -> dict[str, Build]:
    """Every build that this processor runs, the best first."""
    flags = llvm.get_host_cpu_features()
    own: tuple[str, str] = (llvm.get_host_cpu_name(), flags.flatten())
    found = []
    if flags.get("avx512f") and flags.get("avx512vl"):
        found.append(Build("avx512", 16, 16, *own, gathers=True))
    if flags.get("avx2") and flags.get("fma"):
        found.append(Build("avx2", 8, 8, *(("haswell", "") if found else own), gathers=True))
    found.append(Build("plain", 4, 8, *(("x86-64", "") if found else own)))
    return {build.name: build for build in found}


def _known(name: str) -> str:
    if name not in builds():
        raise UnknownName("build of the kernel", name, builds())
    return name


_current: list[str] = []
"""The name of the build in use, once that is known."""


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Everything within runs on the build of this name, on all threads; for tests and comparisons.

    Raises `UnknownName` for one that this processor cannot run.
    """
    before, _current[:] = list(_current), [_known(name)]
    try:
        yield
    finally:
        _current[:] = before


_entries: dict[tuple[str, int, int], tuple[Entry, Entry]] = {}
_compiling = threading.Lock()
_engines: list[Any] = []
"""Whoever drops an engine drops its code."""


def entries(tokens: int, block_rows: int) -> tuple[Entry, Entry]:
    """(linear, feed_forward) for tiles of so many tokens and blocks of so many rows, compiled now or before."""
    if not _current:
        _current.append(_known(os.environ.get(VARIABLE) or next(iter(builds()))))
    key = (_current[0], tokens, block_rows)
    found = _entries.get(key)
    if found is None:
        with _compiling:
            found = _entries[key] = _entries.get(key) or _compile(builds()[key[0]], tokens, block_rows)
    return found


def _compile(build: Build, tokens: int, block_rows: int) -> tuple[Entry, Entry]:
    lanes = min(build.lanes, tokens)
    variant = Variant(lanes, tokens, block_rows, build.accumulators, build.lanes, build.gathers)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.add_symbol("GOMP_parallel", parallel() or 1)  # without it, it is never called
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=build.processor, features=build.features, opt=3)
    module = llvm.parse_assembly(str(Program(variant).module))
    module.verify()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _engines.append(engine)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    linear, feed_forward = (kind(engine.get_function_address(name)) for name in ("linear", "feed_forward"))
    return linear, feed_forward


@functools.cache
def parallel() -> int:
    """The address of `GOMP_parallel` in the OpenMP runtime that torch brings or has loaded; 0 where there is none."""
    import torch

    paths: list[str | None] = [str(path) for path in (Path(torch.__file__).parent / "lib").glob("lib*omp*.so*")]
    for path in [*paths, None]:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # the last from Windows, of None
            return ctypes.cast(ctypes.CDLL(path).GOMP_parallel, ctypes.c_void_p).value or 0
    return 0
