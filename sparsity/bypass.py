"""A block that hands its input on, as if it were not there.

Zeros cannot remove a whole block: its biases and norms still act. So in the masked dense model a removed
block is computed, and what it gives is replaced by what it got. The `compact` format drops it for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparsity.models.architecture import Block, PrunableLayer


class HandsOn:
    """A forward hook: the output is the input."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """The hidden states as they came in; what else the block gave stays."""
        del module
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def bypass(block: nn.Module) -> None:
    """From now on the block hands on what it gets."""
    block.register_forward_hook(HandsOn(), with_kwargs=True, prepend=True)  # others see what it hands on


def bypass_gone(blocks: Sequence[Block], layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]) -> None:
    """The blocks of whose layers nothing is left hand on what they get, from now on."""
    left = {layer.block for layer, mask in zip(layers, masks, strict=True) if bool(mask.any())}
    for position in {layer.block for layer in layers} - left:
        if not is_bypassed(blocks[position].module):
            bypass(blocks[position].module)


def is_bypassed(block: nn.Module) -> bool:
    """Whether the block hands on what it gets."""
    return any(isinstance(hook, HandsOn) for hook in block._forward_hooks.values())


def restore(block: nn.Module) -> None:
    """The block computes again."""
    for key in [key for key, hook in block._forward_hooks.items() if isinstance(hook, HandsOn)]:
        del block._forward_hooks[key]
        block._forward_hooks_with_kwargs.pop(key, None)
