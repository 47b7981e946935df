"""What an execution format is, the adapter for one that replaces layer by layer, and what such layers answer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sparsity.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern, GroupPattern


LEFT_DENSE = "left_dense"
"""The attribute of a converted model that `left_dense` reads."""


class ExecutionFormat(Protocol):
    """Stores and multiplies pruned weights in one way."""

    def unsupported(self, pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
        """Why this format cannot run such a model here, or None. The test is skipped with the reason."""

    def convert(
        self, model: PreTrainedModel, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]
    ) -> PreTrainedModel:
        """A model that computes what the masked dense model computes.

        Args:
            model: the masked dense model, zeros in place; it is not changed. What the format leaves as it
                is, it may share.
            layers: the model's prunable layers; of a format that converts layer by layer also some of them,
                feed-forward parts whole, while the others are in other formats.
            masks: one for each, `(out_features, in_features)`, True = kept.
        """


class SparseLayer(Protocol):
    """What a format puts in the place of a prunable layer that it stores without its zeros.

    An `nn.Module` that maps `(..., in_features)` to `(..., out_features)`. Structural: a format need not
    import it. Saving and the count of stored bytes know sparse layers by this alone.
    """

    in_features: int
    out_features: int
    bias: torch.Tensor | None

    def dense_weight(self) -> torch.Tensor:
        """The weight of the masked dense model, zeros in place, `(out_features, in_features)`, bit for bit."""


def skeleton(model: PreTrainedModel) -> PreTrainedModel:
    """Another model of the same tensors: its modules may be replaced, the tensors are shared."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def left_dense(model: nn.Module) -> Mapping[str, str]:
    """The prunable layers that the model's format could not store, which stay dense, by name; and why."""
    found: Mapping[str, str] = getattr(model, LEFT_DENSE, {})
    return found


@dataclass(frozen=True)
class LayerWise:
    """A format that replaces each prunable layer by a module that computes the same."""

    convert_layer: Callable[[PrunableLayer, torch.Tensor], nn.Module | str]
    """(layer with its zeros in place, not to be changed; mask) → module, or why the layer stays dense."""
    reason: Callable[[ElementPattern | GroupPattern, str, str], str | None] = lambda pattern, dtype, device: None

    def unsupported(self, pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
        """What `reason` says."""
        return self.reason(pattern, dtype, device)

    def convert(
        self, model: PreTrainedModel, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]
    ) -> PreTrainedModel:
        """The model with the prunable layers replaced; `left_dense` tells those that are not.

        Raises `Refused` when none is.
        """
        converted, left = skeleton(model), {}
        for layer, mask in zip(layers, masks, strict=True):
            made = self.convert_layer(layer, mask)
            if isinstance(made, str):
                left[layer.name] = made
            else:
                converted.set_submodule(layer.name, made)
        if left and len(left) == len(layers):
            raise Refused(f"no layer of this model can be stored in this format: {next(iter(left.values()))}")
        setattr(converted, LEFT_DENSE, left)
        return converted
