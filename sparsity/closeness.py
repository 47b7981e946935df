"""How near two outputs are, and how near they must be where nothing but rounding differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CLOSE = {"float64": 1e-12, "float32": 1e-4, "float16": 5e-3, "bfloat16": 4e-2}
"""The largest relative error that rounding alone explains, by dtype."""


def relative_error(output: torch.Tensor, expected: torch.Tensor) -> float:
    """L2 norm of the difference over that of what was expected, in float64; not a number where either is not."""
    wanted = expected.double()
    return float((output.double() - wanted).norm() / wanted.norm())
