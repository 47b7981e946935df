"""bf16: the whole model in bfloat16, its zeros multiplied like any other number.

No sparse format, but what a user would take instead of one: half of the bytes, and on processors that multiply
bfloat16 about half of the time, at any sparsity and for nothing but the digits. What runs sparse in float32 competes
with it. A copy as `from_pretrained(dtype=torch.bfloat16)` would have loaded it.

Refuses a model that is in bfloat16 already.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern, GroupPattern


class Bf16:
    """The masked dense model, cast."""

    def unsupported(self, pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
        """Whatever has more digits."""
        del pattern, device
        return "the model is in bfloat16 already: that is format dense" if dtype == "bfloat16" else None

    def convert(
        self, model: PreTrainedModel, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]
    ) -> PreTrainedModel:
        """Another model: what a checkpoint holds is cast, what it does not, such as tables of rotations, shared."""
        import torch
        from torch import nn

        del layers, masks
        shared: dict[int, torch.Tensor] = {id(each): each for each in [*model.parameters(), *model.buffers()]}
        for tensor in model.state_dict(keep_vars=True).values():
            if tensor.is_floating_point():
                cast = tensor.detach().to(torch.bfloat16)
                is_parameter = isinstance(tensor, nn.Parameter)
                shared[id(tensor)] = nn.Parameter(cast, tensor.requires_grad) if is_parameter else cast
        converted = copy.deepcopy(model, shared)
        converted.config.dtype = torch.bfloat16
        return converted


FORMAT = Bf16()
