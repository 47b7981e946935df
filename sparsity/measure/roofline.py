"""What the machine can do at best: operations per second, and bytes read per second.

Operations: the fastest of torch's own products of two square matrices, over a few sizes. Bytes: read
passes over buffers of a few sizes, again and again, as the weights of a warm model are: a small buffer
comes from a cache, a large one from memory, and which one lies where is hard to tell on a machine that
others use too. So a speed is called that of its size, and not that of a cache or of memory. Each is the
best of several repeats: what disturbs a call makes it longer, never shorter.

On the device and with the threads that torch computes with. Refuses nothing. Knows nothing of pruning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sparsity.measure.duet import TICK, seconds
from sparsity.measure.latency import on_device
from sparsity.record import Read

if TYPE_CHECKING:
    import torch

    from sparsity.measure.duet import Call

SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (1024, 2048, 4096, 8192)}
"""Of matrices, ascending; `GROWTH` times the work at each step."""
BUFFERS = {"cpu": (1 << 20, 8 << 20, 64 << 20, 512 << 20), "cuda": (16 << 20, 128 << 20, 1 << 30)}
"""Bytes, ascending, by the same steps."""
GROWTH = 8
REPEATS = 5
"""At most, of one size."""


def peak(dtype: str, device: str, budget: float) -> float:
    """Operations per second, measured now in about `budget` seconds; sizes that do not fit are left out."""
    import torch

    with torch.inference_mode():
        found = fastest(lambda size: _product(size, getattr(torch, dtype), device), SIZES[_kind(device)], budget)
    return max(2 * size**3 / took for size, took in found.items())


def reads(device: str, budget: float) -> list[Read]:
    """Bytes per second by size, measured now in about `budget` seconds; sizes that do not fit are left out."""
    import torch

    with torch.inference_mode():
        found = fastest(lambda size: _read(size, device), BUFFERS[_kind(device)], budget)
    return [Read(size, size / took) for size, took in found.items()]


def _kind(device: str) -> str:
    return "cuda" if device.startswith("cuda") else "cpu"


def fastest(make: Callable[[int], Call], sizes: Sequence[int], budget: float) -> dict[int, float]:
    """The seconds of the fastest call at each size that fits into the budget, and at the smallest in any case.

    Args:
        make: gives the call of a size; what it takes to make one counts too.
        sizes: ascending, each `GROWTH` times as costly as the one before.
        budget: seconds for all of them.
    """
    found: dict[int, float] = {}
    begun, took = time.perf_counter(), 0.0
    for size in sizes:
        here = time.perf_counter()
        if found and here - begun + GROWTH * took > budget:
            break
        call = make(size)
        call()  # warm
        times = [seconds(call)]
        while len(times) < REPEATS and time.perf_counter() - begun < budget:
            times.append(seconds(call))
        found[size] = max(min(times), TICK)
        took = time.perf_counter() - here
    return found


def _product(size: int, dtype: torch.dtype, device: str) -> Call:
    """A product of two matrices of random numbers."""
    import torch

    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    return on_device(lambda: torch.mm(a, b), device)


def _read(size: int, device: str) -> Call:
    """Reads so many bytes once, as the product of a vector with itself does: nothing in torch reads faster."""
    import torch

    vector = torch.ones(size // 4, device=device)
    return on_device(lambda: torch.dot(vector, vector), device)
