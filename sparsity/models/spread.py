"""A checkpoint that is too large for one GPU, spread over those of the machine by accelerate (the extra `large`).

Blocks lie on different devices, and accelerate moves what goes from one to the next. What looks at one layer at a time
works as on one device; what needs all weights side by side is refused where it is asked for (`devices_of` tells).

Refuses, each in one line: accelerate that is not there, a run that is not on GPUs, weights that end anywhere else.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from sparsity.errors import BadValue, ModelNotLoaded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WAYS = ("auto", "balanced", "sequential")
"""Of accelerate: as evenly as it can, the same, and the first GPU full before the next."""
MOVERS = ("to", "cuda")
"""Methods that accelerate replaces on the model itself."""
STREAMED = "python -m sparsity.prune_streamed prunes a checkpoint from disk, block by block"


def check(way: str | None, device: str) -> None:
    """Raises `BadValue` where a model cannot be spread; of None there is nothing to spread."""
    if way is None:
        return
    if device != "cuda":
        raise BadValue(f"device-map {way} spreads a model over GPUs, so it needs --device=cuda, not {device}")
    if importlib.util.find_spec("accelerate") is None:
        raise BadValue(f'device-map {way} needs accelerate: pip install "sparsity-bench[large]"')


def settled(reference: str, model: PreTrainedModel) -> PreTrainedModel:
    """The model as accelerate left it, but for methods that a copy of it would call on the first.

    Raises `ModelNotLoaded` for weights that are not on a GPU.
    """
    for name in MOVERS:
        vars(model).pop(name, None)
    if elsewhere := sorted({device.type for device in devices_of(model)} - {"cuda"}):
        where = "on the CPU or on disk" if "meta" in elsewhere else f"on {elsewhere[0]}"
        raise ModelNotLoaded(f"{reference}: the GPUs here do not hold it, part of it ended {where}; {STREAMED}")
    return model


def devices_of(model: PreTrainedModel) -> set[torch.device]:
    """Where its parameters and buffers are."""
    return {tensor.device for tensors in (model.parameters(), model.buffers()) for tensor in tensors}
