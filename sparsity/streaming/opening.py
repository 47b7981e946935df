"""A model that is to be pruned from disk: which, in which dtype and where, and what is known of it without its weights.

Refuses what `hub` and `skeleton` refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity.models import embedded, hub
from sparsity.models.architecture import prunable_layers
from sparsity.streaming import skeleton
from sparsity.streaming.skeleton import Names
from sparsity.streaming.source import STANDARD_DEVIATION, Drawn, Files

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.streaming.source import Source

SHARD_BYTES = 5 * 10**9
"""Of each file of weights, unless another size is asked for."""


@dataclass(frozen=True)
class Settings:
    """How, beside what."""

    dtype: torch.dtype | None = None
    """Of all weights that are written; None: as they are stored (of random weights float32)."""
    device: str = "cpu"
    """Where a block and its statistics are."""
    shard_bytes: int = SHARD_BYTES
    """Of each file of weights, at most."""


@dataclass(frozen=True)
class Opened:
    """A model whose weights are not in memory."""

    reference: str
    model: PreTrainedModel
    source: Source
    names: Names
    layers: list[PrunableLayer]
    dtype: torch.dtype
    folder: Path | None
    """Where it is stored; None for random weights."""


def opened(reference: str, settings: Settings, seed: int) -> Opened:
    """The model that a reference leads to; raises `SparsityError` for one not wholly understood or not whole."""
    import torch

    device = torch.device(settings.device)
    folder = embedded.folder(reference, "lm") if reference in embedded.NAMES else None
    config = hub.config_of(reference if folder is None else str(folder))
    if reference.startswith(hub.RANDOM):
        dtype = settings.dtype or torch.float32
        model = skeleton.skeleton(reference, config, dtype, device)
        deviation = getattr(config, "initializer_range", None) or STANDARD_DEVIATION
        source: Source = Drawn(skeleton.parameter_entries(model, dtype), seed, deviation, device)
    else:
        folder = folder or hub.folder_of(reference)
        source = Files.of(reference, folder)
        dtype = settings.dtype or skeleton.most_frequent_dtype(source.entries)
        model = skeleton.skeleton(reference, config, dtype, device)
    layers = prunable_layers(model)
    names = Names.of(reference, model, source.entries)
    skeleton.refuse_dtypes(reference, layers, names, source, settings.dtype)
    return Opened(reference, model, source, names, layers, dtype, folder)
