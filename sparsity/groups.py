"""Which slices of which matrices make up a neuron, a head, a block.

A *neuron* is a row of the up-projection (of gate and up, where there are two) and the column of the
down-projection that reads it. A *head* is its rows of query, key and value and its columns of the
output projection; with grouped-query attention a key-value head goes with all the query heads that
share it. A *layer* is a whole block. Removing a group exactly is removing what reads it, so the masked
dense model and the smaller one compute the same.

Refuses, by name: families that are not described, attentions whose heads cannot go, a single-block stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sparsity.errors import Refused
from sparsity.models.architecture import PrunableLayer, blocks_of, described_stacks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import Block
    from sparsity.models.families import Attention

Sums = Callable[[int, int], "torch.Tensor"]
"""(position of a layer, 0 or 1) → sums of its scores over that axis: 1 gives one for each row, 0 for each column."""


class GroupSet(Protocol):
    """Groups that are alike and compete: the neurons of a block, the heads of an attention, the blocks of a stack."""

    @property
    def kind(self) -> str:
        """`neurons`, `heads` or `layers`."""

    @property
    def name(self) -> str:
        """Where in the model, for messages."""

    @property
    def count(self) -> int:
        """How many groups."""

    def score(self, sums: Sums) -> torch.Tensor:
        """(groups,): the sum of the scores of each group's weights."""

    def write(self, masks: Sequence[torch.Tensor], kept: torch.Tensor) -> None:
        """Sets the groups that are not kept, (groups,) boolean, to False in the layers' masks."""


@dataclass(frozen=True)
class Part:
    """Rows or columns of one layer."""

    layer: int
    """Position among the prunable layers."""
    axis: int
    """0: rows, 1: columns."""
    index: torch.Tensor
    """(groups, members)"""


@dataclass(frozen=True)
class Slices:
    """Neurons or heads: slices of several layers."""

    kind: str
    name: str
    count: int
    parts: tuple[Part, ...]
    """The last is the columns that read the groups."""

    @property
    def reader(self) -> Part:
        """The columns that read the groups."""
        return self.parts[-1]

    def score(self, sums: Sums) -> torch.Tensor:
        """Each group's rows and columns, summed."""
        import torch

        found = [sums(part.layer, 1 - part.axis)[part.index].sum(1) for part in self.parts]
        return torch.stack(found).sum(0)

    def write(self, masks: Sequence[torch.Tensor], kept: torch.Tensor) -> None:
        """Rows and columns of the groups that go."""
        for part in self.parts:
            gone = part.index[~kept].reshape(-1)
            if part.axis == 0:
                masks[part.layer][gone] = False
            else:
                masks[part.layer][:, gone] = False


@dataclass(frozen=True)
class WholeBlocks:
    """The blocks of a stack that can go."""

    name: str
    blocks: tuple[int, ...]
    """Positions among all blocks."""
    layers: tuple[tuple[int, ...], ...]
    """For each block the positions of its layers."""
    kind: str = "layers"

    @property
    def count(self) -> int:
        """How many can go."""
        return len(self.blocks)

    def score(self, sums: Sums) -> torch.Tensor:
        """Each block's matrices, summed."""
        import torch

        return torch.stack([torch.stack([sums(i, 1).sum() for i in layers]).sum() for layers in self.layers])

    def write(self, masks: Sequence[torch.Tensor], kept: torch.Tensor) -> None:
        """All of a block that goes."""
        for layers, stays in zip(self.layers, kept.tolist(), strict=True):
            for i in layers:
                if not stays:
                    masks[i].fill_(False)


def groups_of(model: PreTrainedModel, layers: Sequence[PrunableLayer], kinds: Sequence[str]) -> list[GroupSet]:
    """The groups of a model, of each kind asked for, block by block.

    Raises `Refused` where the model's groups are not described or cannot go.
    """
    stacks, blocks = described_stacks(model), blocks_of(model)
    position = {id(layer.module): i for i, layer in enumerate(layers)}
    found: list[GroupSet] = []
    if "layers" in kinds:
        found += _whole_blocks(model, layers, blocks)
    for block in blocks:
        stack = stacks[block.stack]

        def at(path: str, block: Block = block) -> int:
            return position[id(block.module.get_submodule(path))]

        if "neurons" in kinds:
            found.append(_neurons(block, [at(path) for path in stack.feed_forward.matrices], layers))
        if "heads" in kinds:
            found += [_heads(block, attention, at, layers) for attention in stack.attentions]
    return found


def _neurons(block: Block, places: Sequence[int], layers: Sequence[PrunableLayer]) -> Slices:
    import torch

    count = layers[places[0]].weight.shape[0]
    index = torch.arange(count, device=layers[places[0]].weight.device)[:, None]
    ups = tuple(Part(place, 0, index) for place in places[:-1])
    return Slices("neurons", f"{block.name}, feed-forward", count, (*ups, Part(places[-1], 1, index)))


def _heads(block: Block, attention: Attention, at: Callable[[str], int], layers: Sequence[PrunableLayer]) -> Slices:
    """One group for each key-value head: with one query head, or with those that share it."""
    import torch

    name = f"{block.name}.{attention.path}"
    if attention.fixed:
        raise Refused(f"no head of {name} can be removed: {attention.fixed}")
    size = int(getattr(block.module.get_submodule(attention.path), attention.head_size))
    output = at(attention.output)
    device = layers[output].weight.device
    if attention.packed:
        packed = at(attention.query)
        width = layers[packed].weight.shape[0] // 3
        own = torch.arange(width, device=device).view(-1, size)
        rows = torch.cat([own, own + width, own + 2 * width], dim=1)
        return Slices("heads", name, len(own), (Part(packed, 0, rows), Part(output, 1, own)))
    query, key, value = (at(path) for path in (attention.query, attention.key, attention.value))
    shared = torch.arange(layers[key].weight.shape[0], device=device).view(-1, size)
    own = torch.arange(layers[query].weight.shape[0], device=device).view(len(shared), -1)
    parts = (Part(query, 0, own), Part(key, 0, shared), Part(value, 0, shared), Part(output, 1, own))
    return Slices("heads", name, len(shared), parts)


def _whole_blocks(model: PreTrainedModel, layers: Sequence[PrunableLayer], blocks: Sequence[Block]) -> list[GroupSet]:
    if getattr(model.config, "scale_attn_by_inverse_layer_idx", False):
        raise Refused("its attention is scaled by the number of each block, so none can be removed")
    members: dict[int, list[int]] = {}
    for i, layer in enumerate(layers):
        members.setdefault(layer.block, []).append(i)
    found: list[GroupSet] = []
    for place, stack in enumerate(described_stacks(model)):
        of_stack = [p for p, block in enumerate(blocks) if block.stack == place]
        free = of_stack[1:] if stack.first_stays else of_stack
        if len(of_stack) < 2:
            raise Refused(f"{stack.path} has one block, so none can be removed")
        found.append(WholeBlocks(stack.path, tuple(free), tuple(tuple(members[p]) for p in free)))
    return found
