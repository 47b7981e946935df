"""What a method may know of a layer beyond its weight.

So far one thing, chance: a seed of the layer's own. Statistics of the layer's inputs come with the
methods that need them; a method names what it needs in `needs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LayerStatistics:
    """What is known of one layer."""

    seed: tuple[int, int] = (0, 0)
    """(the run's seed, the layer's position in the model)."""

    def generator(self) -> torch.Generator:
        """A fresh source of chance, the same at every call: scores may be computed more than once."""
        import torch

        run, position = self.seed
        return torch.Generator().manual_seed(run * 1_000_003 + position)
