"""A pruned model in one execution format, or in the fastest of them for each of its parts (`auto`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsity import pattern as patterns
from sparsity.auto import chosen, fastest
from sparsity.closeness import CLOSE as CLOSE
from sparsity.closeness import relative_error as relative_error
from sparsity.errors import BadValue, Refused, UnknownName
from sparsity.formats import AUTO, FORMATS, NAMES
from sparsity.sparse_storage import KEY, sparse_layers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.auto import Run
    from sparsity.models.architecture import PrunableLayer
    from sparsity.prune import PrunedModel


def in_format(pruned: PrunedModel, name: str, run: Run | None = None) -> PreTrainedModel:
    """The pruned model with its layers in the format; the pruned model itself stays as it is.

    What the format leaves alone is shared, so the result holds until the pruned model is pruned anew.

    Args:
        pruned: by `sparsity.prune`.
        name: a key of `FORMATS`, or `AUTO`.
        run: for `AUTO` alone, which measures: gives what runs a model on a workload, and returns its outputs, such as
            `lambda model: sparsity.workload.call(workload, model)`.

    Raises `UnknownName` for a format that does not exist, `Refused` with the format's own reason
    for one that cannot run this pattern, dtype or device.
    """
    of = (pruned.model, pruned.layers, pruned.masks, pruned.recipe.pattern)
    if name != AUTO:
        return converted(*of, name)
    if run is None:
        raise BadValue(f"format {AUTO} chooses by measuring, so it must be told how the model is run: run=…")
    model = fastest(*of, run)
    found = chosen(model)
    return _saying(model, name, pruned.recipe.pattern, formats=found.formats if found else {})


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
        raise UnknownName("format", name, NAMES)
    dtype, device = str(model.dtype).removeprefix("torch."), model.device.type
    if reason := FORMATS[name].unsupported(patterns.parse(pattern), dtype, device):
        raise Refused(reason)
    return _saying(FORMATS[name].convert(model, layers, masks), name, pattern)


def _saying(model: PreTrainedModel, name: str, pattern: str, **more: object) -> PreTrainedModel:
    """The model, which says its format where it is saved in it."""
    if sparse_layers(model):
        setattr(model.config, KEY, {"format": name, "pattern": pattern, **more})
    return model
