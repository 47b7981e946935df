"""Where the weights of a model are while it is pruned block by block, and its hidden states between two blocks.

Usually in memory, all the time (`IN_MEMORY`). `sparsity.streaming` has another, whose blocks come from disk one by one.

Refuses nothing.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Residence(Protocol):
    """What is in memory when. Blocks are named by their position among all blocks of the model."""

    def outside(self) -> AbstractContextManager[None]:
        """Meanwhile the weights are there that no block has and that come before the blocks, such as embeddings."""

    def block(self, position: int) -> AbstractContextManager[None]:
        """Meanwhile the weights of a block are there; what is written into them is lost with them."""

    def parked(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states, put where they wait for the next block."""

    def fetched(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states, brought to where a block computes."""


class InMemory:
    """Everything is there, all the time."""

    def outside(self) -> AbstractContextManager[None]:
        """Nothing to do."""
        return contextlib.nullcontext()

    def block(self, position: int) -> AbstractContextManager[None]:
        """Nothing to do."""
        del position
        return contextlib.nullcontext()

    def parked(self, hidden: torch.Tensor) -> torch.Tensor:
        """As they are."""
        return hidden

    def fetched(self, hidden: torch.Tensor) -> torch.Tensor:
        """As they are."""
        return hidden


IN_MEMORY = InMemory()
