"""Which operators multiplied matrices in a call: what ran, and not what was meant to run.

torch's profiler sees every operator that is called, on every device. An operator for products that
works on a sparse layout is told from a dense one by what it does: it asks the tensor for its indices,
or hands the work to an operator that has "sparse" in its name. Libraries below the operators (MKL,
oneDNN) do not show; on a GPU the kernels that were launched do.

Refuses nothing. Knows callables and operators, nothing of pruning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sparsity.record import Products

MULTIPLY = frozenset(
    f"aten::{name}"
    for name in (
        *("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "_addmm_activation"),
        *("scaled_dot_product_attention", "_scaled_mm", "_grouped_mm", "mkldnn_linear", "_weight_int8pack_mm"),
        *("_sparse_mm", "_sparse_addmm", "sspaddmm", "_cslt_sparse_mm"),
        *("_sparse_semi_structured_linear", "_sparse_semi_structured_mm", "_sparse_semi_structured_addmm"),
    )
)
"""Operators that multiply matrices; those that only hand on to one of these, such as linear, left out."""
INDICES = frozenset(f"aten::{name}" for name in ("crow_indices", "ccol_indices", "_indices", "_nnz"))
"""What only a sparse tensor is asked for."""
DTYPES = {"float": "float32", "double": "float64", "c10::Half": "float16", "c10::BFloat16": "bfloat16"}
"""As the profiler calls them."""


@dataclass
class _Product:
    """An operator that multiplied, called by none that did."""

    operator: str
    dtype: str | None
    sparse: bool
    within: set[int] = field(default_factory=set)
    """Correlation ids of what ran inside it."""

    @property
    def name(self) -> str:
        return self.operator if self.dtype is None else f"{self.operator} {self.dtype}"


def products(function: Callable[[], object], device: str = "cpu", own: Collection[str] = ()) -> Products:
    """What multiplied matrices in one call of the function.

    Args:
        function: is called once, warm or not; on a GPU it returns when its work is done.
        device: "cpu" or a CUDA device.
        own: operators of a library, such as `library::spmm`, that multiply sparse matrices.
    """
    from torch.autograd.profiler import profile

    # Not torch.profiler.profile: that builds a tree of all operators, which takes longer than the call.
    with profile(use_kineto=True, record_shapes=True, use_device="cuda" if device.startswith("cuda") else None) as seen:
        function()
    return _told(seen.kineto_results.events() if seen.kineto_results is not None else [], frozenset(own))


def operator(name: str) -> str:
    """The operator of an entry of `Products`, without its dtype."""
    return name.partition(" ")[0]


def _told(events: Iterable[Any], own: frozenset[str]) -> Products:
    """The products among the profiler's events."""
    on_cpu: list[Any] = []
    elsewhere: list[Any] = []
    for event in events:
        (on_cpu if event.device_type().name == "CPU" else elsewhere).append(event)
    found = list(_outermost(on_cpu, own))
    launched = {i: product for product in found for i in product.within}
    kernels = [event.name() for event in elsewhere if event.linked_correlation_id() in launched]
    return Products(
        dense=dict(Counter(product.name for product in found if not product.sparse)),
        sparse=dict(Counter(product.name for product in found if product.sparse)),
        kernels=dict(Counter(kernels)) if elsewhere else None,
    )


def _outermost(events: Iterable[Any], own: frozenset[str]) -> Iterator[_Product]:
    """Products that are part of no other; an operator's events lie within its own time, on its thread."""
    current, thread, until = None, None, 0
    for event in sorted(events, key=lambda e: (e.start_thread_id(), e.start_ns(), -e.duration_ns())):
        name = event.name()
        inside = current is not None and event.start_thread_id() == thread and event.start_ns() < until
        if not inside:
            if current is not None:
                yield current
            current = None
            if name not in MULTIPLY and name not in own:
                continue
            dtype = next((DTYPES[each] for each in event.dtypes() if each in DTYPES), None)
            current = _Product(name, dtype, name in own)
            thread, until = event.start_thread_id(), event.start_ns() + event.duration_ns()
        if current is not None:
            current.within.add(event.correlation_id())
            current.sparse = current.sparse or name in INDICES or "sparse" in name
    if current is not None:
        yield current
