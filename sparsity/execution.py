"""A pruned model in one execution format, and how near two outputs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsity import pattern as patterns
from sparsity.errors import Refused, UnknownName
from sparsity.formats import FORMATS
from sparsity.sparse_storage import KEY, sparse_layers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.prune import PrunedModel


CLOSE = {"float64": 1e-12, "float32": 1e-4, "float16": 5e-3, "bfloat16": 4e-2}
"""The largest relative error that rounding alone explains, by dtype."""


def relative_error(output: torch.Tensor, expected: torch.Tensor) -> float:
    """L2 norm of the difference over that of what was expected, in float64; not a number where either is not."""
    wanted = expected.double()
    return float((output.double() - wanted).norm() / wanted.norm())


def in_format(pruned: PrunedModel, name: str) -> PreTrainedModel:
    """The pruned model with its layers in the format; the pruned model itself stays as it is.

    What the format leaves alone is shared, so the result holds until the pruned model is pruned anew.

    Raises `UnknownName` for a format that does not exist, `Refused` with the format's own reason
    for one that cannot run this pattern, dtype or device.
    """
    return converted(pruned.model, pruned.layers, pruned.masks, pruned.recipe.pattern, name)


def converted(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    masks: Sequence[torch.Tensor],
    pattern: str,
    name: str,
) -> PreTrainedModel:
    """The same of a masked dense model, its layers and masks, and the pattern of its zeros.

    A model with sparse layers says its format and pattern in its configuration, and is saved with them.
    """
    if name not in FORMATS:
        raise UnknownName("format", name, FORMATS)
    dtype, device = str(model.dtype).removeprefix("torch."), model.device.type
    if reason := FORMATS[name].unsupported(patterns.parse(pattern), dtype, device):
        raise Refused(reason)
    result = FORMATS[name].convert(model, layers, masks)
    if sparse_layers(result):
        setattr(result.config, KEY, {"format": name, "pattern": pattern})
    return result
