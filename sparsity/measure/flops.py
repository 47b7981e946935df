"""How many floating-point operations a call makes, as torch counts them: matrix products and attention.

What a smaller model can gain at best: with everything else free, its time is its share of these.
Knows callables alone. Zeros in a dense tensor count like any other number, since they are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable


def flops(function: Callable[[], object]) -> int:
    """Floating-point operations of one call, two for each multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())
