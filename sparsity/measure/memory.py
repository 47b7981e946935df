"""How many bytes does a callable hold at its peak, and how many does a module hold at rest?

Exact counts, not samples, so equal runs give equal numbers and a regression check may ask for
equality:

- CUDA: the allocator's own peak (`max_memory_allocated`), tensors rounded up to its 512-byte blocks.
- CPU: every allocation and release of torch's CPU allocator during the call, from the profiler's
  memory events; the peak of their running sum. Scratch memory that a kernel takes elsewhere (MKL,
  oneDNN) is not tensor memory and is not in it.

Both are net of what was resident before the call. The first calls of anything allocate what stays
(workspaces, caches), so measure warm: `peak_memory` makes warm-up calls itself.

Refuses: a torch whose profiler gives no memory events. Knows callables and modules, nothing of
pruning.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.errors import Refused
from sparsity.record import Memory

if TYPE_CHECKING:
    import torch
    from torch import nn

CPU_SOURCE, CUDA_SOURCE = "cpu profiler", "cuda allocator"
_MEASURED = "sparsity: measured call"


@dataclass(frozen=True)
class Peak:
    """Bytes beyond what was resident when the call began."""

    bytes: int
    source: str


def verdict(total: int, dense_total: int) -> str:
    """`smaller`, `same` or `larger`: bytes against those of the dense model, exactly."""
    if total == dense_total:
        return "same"
    return "smaller" if total < dense_total else "larger"


def described(module: nn.Module, peak: Peak, disk: int, dense: tuple[int, int], control: bool = False) -> Memory:
    """The record of a module's bytes beside the dense model's (weights, peak), which alone judge it.

    Args:
        module: what was run.
        peak: of its forward pass.
        disk: bytes of its file.
        dense: weights and peak of the dense model.
        control: whether it is the dense model itself, which is not judged.
    """
    weights, (dense_weights, dense_peak) = resident_bytes(module), dense
    return Memory(
        weights_bytes=weights,
        peak_bytes=peak.bytes,
        source=peak.source,
        disk_bytes=disk,
        dense_weights_bytes=dense_weights,
        dense_peak_bytes=dense_peak,
        verdict=None if control else verdict(weights + peak.bytes, dense_weights + dense_peak),
    )


def peak_memory(function: Callable[[], object], device: str = "cpu", warmups: int = 1, replaces: bool = True) -> Peak:
    """The peak of tensor memory during one call of the function.

    Args:
        function: is called `warmups` + 1 times, on a CPU once more; its result is dropped.
        device: "cpu" or a CUDA device.
        warmups: calls before measuring begins; 0 where calls are costly and the first is like any other.
        replaces: whether a call may release what the call before it left, such as a cache; if not, a CPU's one call
            is enough.

    A call that takes no memory is a peak of 0, a measured one. Raises `Refused` when nothing was measured.
    """
    for _ in range(warmups):
        function()
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle would release what is not the function's
    try:
        return _cuda_peak(function, device) if device.startswith("cuda") else _cpu_peak(function, replaces)
    finally:
        if collecting:
            gc.enable()


def _cuda_peak(function: Callable[[], object], device: str) -> Peak:
    import torch

    gc.collect()  # what is garbage already need not crowd the device
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    resident = torch.cuda.memory_allocated(device)
    function()
    torch.cuda.synchronize(device)
    return Peak(torch.cuda.max_memory_allocated(device) - resident, CUDA_SOURCE)


def _cpu_peak(function: Callable[[], object], replaces: bool) -> Peak:
    """Two calls in one profile, the second measured; only that one where a call replaces nothing.

    A release is reported only for a block whose allocation was seen. A call that replaces what the
    call before it left (a weight computed anew, a cache) is counted right only when both are seen.
    A tensor made before them tells a call that takes no memory from a profiler that reports none.
    """
    import torch
    from torch.autograd.profiler import profile, record_function

    # Not torch.profiler.profile: that builds a tree of all operators, which takes longer than what is measured.
    with profile(use_kineto=True, profile_memory=True) as profiled:
        torch.empty(1)
        if replaces:
            function()
        with record_function(_MEASURED):
            function()
    events = profiled.kineto_results.events() if profiled.kineto_results is not None else []
    begin = next((e.start_ns() for e in events if e.name() == _MEASURED), None)
    memory = sorted((e.start_ns(), i, e.nbytes()) for i, e in enumerate(events) if e.name() == "[memory]")
    if not memory or begin is None:
        raise Refused(f"torch {torch.__version__} reports no memory events to its profiler, so no peak is measured")
    held = most = 0
    for moment, _, change in memory:  # positive: allocated, negative: released
        if moment >= begin:
            held += change
            most = max(most, held)
    return Peak(most, CPU_SOURCE)


def resident_bytes(module: nn.Module) -> int:
    """Bytes of all tensors that the module holds: parameters, buffers and plain attributes, each storage once."""
    storages: dict[object, int] = {}
    for part in module.modules():
        storages |= own_storages(part)
    return sum(storages.values())


def own_storages(part: nn.Module) -> dict[object, int]:
    """Bytes of each storage of the module's own tensors, by where it is; those of the modules in it left out."""
    storages: dict[object, int] = {}
    for tensor in _tensors(part):
        for each in _strided_parts(tensor):
            storage = each.untyped_storage()
            storages[storage.data_ptr(), each.device] = storage.nbytes()
    return storages


def file_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> int:
    """Size of a safetensors file of these tensors, exactly; nothing is written, and tensors on the meta device will do.

    The library itself writes the header, of empty tensors. With their true shapes it is as long as the real one.
    """
    import json

    import torch
    from safetensors.torch import save

    empty = {name: torch.empty(0, dtype=tensor.dtype) for name, tensor in tensors.items()}
    file = save(empty, None if metadata is None else dict(metadata))
    header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
    end = 0
    for name in (key for key in header if key != "__metadata__"):  # in the order of their offsets
        begin, end = end, end + tensors[name].numel() * tensors[name].dtype.itemsize
        header[name] |= {"shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // 8) * 8 + end


def _tensors(part: nn.Module) -> list[torch.Tensor]:
    import torch

    held = [*part._parameters.values(), *part._buffers.values(), *vars(part).values()]
    return [tensor for tensor in held if isinstance(tensor, torch.Tensor)]


def _strided_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors with storage that a tensor consists of."""
    import torch

    if tensor.layout is torch.strided:
        return [tensor]
    if tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    raise Refused(f"bytes of a {tensor.layout} tensor are not counted")
