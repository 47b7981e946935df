"""What bounds the time of a forward pass: work that it cannot do without, and all that is no prunable layer.

Two limits, both measured where the times are. The *ideal time* of a pruned model is what its kept
operations and the bytes it reads take at the machine's roofline. The *ceiling* is the speedup of the
unpruned model with every prunable layer free: no format can exceed it, whatever the sparsity (Amdahl),
but one that saves what is between the layers too: heads and blocks that are gone, fused activations.

Refuses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sparsity.formats.protocol import skeleton
from sparsity.measure import dispatch, flops, latency, memory, roofline
from sparsity.models.architecture import prunable_layers
from sparsity.record import Roofline
from sparsity.sparse_storage import sparse_layers

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from sparsity.measure.duet import Call
    from sparsity.prune import PrunedModel
    from sparsity.record import Latency, Products

SHARE = 0.25
"""Of a latency's budget, for the ceiling."""
ROOFLINE_SHARE, MOST_FOR_ROOFLINE = 0.25, 1.0
"""Of a latency's budget, and in seconds, for each of the machine's speeds."""
OWN_OPERATORS = {"sparsity::packed_linear": 1, "sparsity::packed_feed_forward": 2}
"""How many sparse layers one call of each of our own operators runs. Of torch's operators each runs one."""


@dataclass(frozen=True)
class Unpruned:
    """What the unpruned model does in a forward pass on a workload."""

    flops: int
    inputs: dict[str, int]
    """By prunable layer, how many input vectors it multiplies; 0 for one that is not called."""
    calls: dict[str, int]
    """By prunable layer, how often it is called."""
    products: Products
    ceiling: float


def unpruned(
    model: PreTrainedModel, forward: Callable[[PreTrainedModel], Call], device: str, budget: float
) -> Unpruned:
    """Measured now; `forward` gives a pass of a model, `budget` is that of a latency in seconds."""
    layers = prunable_layers(model)
    inputs, calls = ({layer.name: 0 for layer in layers} for _ in range(2))

    def count(name: str, width: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            del module
            inputs[name] += args[0].numel() // width
            calls[name] += 1

        return hook

    whole = forward(model)  # before anything is counted: it may fill a cache
    hooks = [layer.module.register_forward_pre_hook(count(layer.name, layer.weight.shape[1])) for layer in layers]
    try:
        operations = flops.flops(whole)
    finally:
        for hook in hooks:
            hook.remove()
    share = latency.brief_ratio(forward(without_layers(model)), whole, SHARE * budget)
    return Unpruned(operations, inputs, calls, dispatch.products(whole, device), 1 / share)


def without_layers(model: PreTrainedModel) -> PreTrainedModel:
    """The model with every prunable layer free: it gives what it gave before, of the right shape."""
    free = skeleton(model)
    for layer in prunable_layers(free):
        # The module stays: some families look at its weight.
        setattr(layer.module, "forward", _Free(layer.weight.shape[0]))  # noqa: B010  # to a method no one may assign
    return free


class _Free:
    """In place of a layer's forward: zeros, made at the first call of a shape."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.made: dict[tuple[int, ...], torch.Tensor] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:-1], self.width)
        if shape not in self.made:
            self.made[shape] = x.new_zeros(shape)
        return self.made[shape]


def kept_flops(of: Unpruned, pruned: PrunedModel, layers: Collection[str] | None = None) -> int:
    """The unpruned model's operations without those that multiply by a removed weight, of some layers or of all.

    What is between the layers counts in full, such as the attention of a head that was removed.
    """
    left = of.flops
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        if layers is None or layer.name in layers:
            left -= 2 * (mask.numel() - int(mask.count_nonzero())) * of.inputs[layer.name]
    return left


def read_bytes(model: PreTrainedModel, calls: Counter[nn.Module]) -> int:
    """Bytes of weights that a pass reads: those of every module, as often as it is called.

    A sparse layer in a module that runs several in one is called with that. Of a table of embeddings only a
    few rows are read.
    """
    from torch import nn

    layers, above = set(sparse_layers(model).values()), dict[nn.Module, nn.Module]()
    read: dict[object, int] = {}  # by storage, since modules may share one
    for module in model.modules():  # from the outside in
        above.update(dict.fromkeys(module.children(), module))
        if module in layers and not calls[module]:
            calls[module] = calls[above[module]]
        if not isinstance(module, nn.Embedding):
            for place, size in memory.own_storages(module).items():
                read[place] = max(read.get(place, 0), calls[module] * size)
    return sum(read.values())


@contextmanager
def counted_calls(model: nn.Module) -> Iterator[Counter[nn.Module]]:
    """How often each module is called meanwhile."""
    found: Counter[nn.Module] = Counter()

    def count(module: nn.Module, args: tuple[Any, ...]) -> None:
        del args
        found[module] += 1

    hooks = [module.register_forward_pre_hook(count) for module in model.modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class Limits:
    """What a run measures once, and what each latency is set beside."""

    device: str
    roofline: Roofline | None = None
    """None until the first latency is there."""
    unpruned: dict[tuple[str, str], Unpruned] = field(default_factory=dict)
    """By model and workload."""

    def unpruned_of(
        self,
        key: tuple[str, str],
        model: PreTrainedModel,
        forward: Callable[[PreTrainedModel], Call],
        budget: float,
    ) -> Unpruned:
        """Of a model on a workload, measured when it is first asked for."""
        if key not in self.unpruned:
            self.unpruned[key] = unpruned(model, forward, self.device, budget)
        return self.unpruned[key]

    def roofline_in(self, dtype: str, budget: float) -> Roofline:
        """The machine's, with its speed in a dtype; both measured when they are first asked for."""
        seconds = min(ROOFLINE_SHARE * budget, MOST_FOR_ROOFLINE)
        known = self.roofline.flops_per_second if self.roofline else {}
        reads = self.roofline.reads if self.roofline else roofline.reads(self.device, seconds)
        if dtype not in known:
            self.roofline = Roofline({**known, dtype: roofline.peak(dtype, self.device, seconds)}, reads)
        assert self.roofline is not None  # made just now, if it was not there
        return self.roofline

    def beside(
        self,
        timed: Latency,
        of: Unpruned,
        pruned: PrunedModel,
        executed: PreTrainedModel,
        forward: Call,
        budget: float,
    ) -> Latency:
        """The latency of a pruned model's pass, executed in some format, with its limits and with what ran."""
        sparse = sparse_layers(executed)
        # Torch has no formula for products of sparse tensors, and would take them for dense ones.
        made = kept_flops(of, pruned, sparse) if sparse else flops.flops(forward)
        with counted_calls(executed) as calls:
            products = dispatch.products(forward, self.device, OWN_OPERATORS)
        needed, size = min(kept_flops(of, pruned), made), read_bytes(executed, calls)
        dtype = str(executed.dtype).removeprefix("torch.")
        return replace(
            timed,
            flops=made,
            dense_flops=of.flops,
            kept_flops=needed,
            read_bytes=size,
            ideal_seconds=self.roofline_in(dtype, budget).seconds(dtype, needed, size),
            ceiling=of.ceiling,
            products=products,
        )


def unkept_promise(executed: PreTrainedModel, found: Products, of: Unpruned) -> str | None:
    """What is wrong where sparse layers ran other than by a sparse product each; None where nothing is."""
    promised = sum(of.calls[name] for name in sparse_layers(executed))
    ran = sum(count * OWN_OPERATORS.get(dispatch.operator(name), 1) for name, count in found.sparse.items())
    dense, most = sum(found.dense.values()), sum(of.products.dense.values()) - promised
    if ran >= promised and (not promised or dense <= most):
        return None
    how = ", ".join(f"{count} {name}" for name, count in {**found.dense, **found.sparse}.items())
    return (
        f"got {ran} sparse and {dense} dense matrix products, should be {promised} and {most}, "
        f"one sparse product for each sparse layer; ran {how}"
    )
