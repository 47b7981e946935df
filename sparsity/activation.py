"""Which activation a module computes, told by its values and not by its name.

Models write the same function in many ways: GPT-2's `gelu_new` is a chain of elementwise operators, and
equals torch's own `gelu(approximate="tanh")`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

PROBES = 257
"""Points that are looked at, from -8 to 8."""


def known() -> dict[str, Callable[[], nn.Module]]:
    """Torch's own activations, each one operator."""
    from torch import nn

    return {
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
        "silu": nn.SiLU,
        "relu": nn.ReLU,
    }


def activation_of(module: Callable[[torch.Tensor], torch.Tensor]) -> str | None:
    """The name of the activation among `known` that a module computes, None for any other."""
    import torch

    x = torch.linspace(-8, 8, PROBES)
    with torch.no_grad():
        values = module(x)
        same = (name for name, make in known().items() if torch.allclose(make()(x), values, rtol=1e-5, atol=1e-6))
        return next(same, None)
