"""A pruned model in one execution format, and how near two outputs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity import pattern
from sparsity.errors import Refused, UnknownName
from sparsity.formats import FORMATS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

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
    if name not in FORMATS:
        raise UnknownName("format", name, FORMATS)
    model, chosen = pruned.model, FORMATS[name]
    dtype, device = str(model.dtype).removeprefix("torch."), model.device.type
    if reason := chosen.unsupported(pattern.parse(pruned.recipe.pattern), dtype, device):
        raise Refused(reason)
    return chosen.convert(model, pruned.layers, pruned.masks)
