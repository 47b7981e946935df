"""How many floating-point operations a call makes, as torch counts them: matrix products and attention.

What a smaller model can gain at best: with everything else free, its time is its share of these.
Knows callables alone. Zeros in a dense tensor count like any other number, since they are multiplied.

Refuses nothing, but sees no operators that torch has no formula for, such as products of sparse tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def flops(function: Callable[[], object]) -> int:
    """Floating-point operations of one call, two for each multiply-add."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # Torch has formulas for attention on a GPU only.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        function()
    return int(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    """Of the two products in an attention, by shapes (batch, heads, positions, width); as if it were not causal.

    Torch hands over the shape of the output and the other arguments as well.
    """
    del rest, out_shape, options
    batch, heads, positions, width = query
    return int(2 * batch * heads * positions * key[-2] * (width + value[-1]))
