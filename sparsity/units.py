"""The parts of a model whose format is chosen as one, and what each of them computes.

A feed-forward part is one unit, its matrices and the activation, since a format may do the work of all of them in one
place; any other prunable matrix is a unit by itself. Of a family that is not described every matrix is.

Refuses what `sparsity.models.architecture` refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.models.architecture import architecture_for, blocks_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.models.architecture import PrunableLayer

NEAR, MOST = 0.02, 8
"""Units are alike where their shares of kept weights differ by no more; by more, where that would be too many kinds."""


@dataclass(frozen=True)
class Unit:
    """One part, by full paths of its modules."""

    layers: tuple[int, ...]
    """Positions of its matrices among the prunable layers of the model."""
    first: tuple[str, ...]
    """What reads its input: a matrix; or gate and up, of which the activation is applied to the first."""
    activation: str | None = None
    down: str | None = None
    """Both None of a matrix by itself."""

    def held(self, model: PreTrainedModel) -> list[tuple[type, list[int]]]:
        """What its modules are in a model, and which tensors they hold: equal where nothing was changed."""
        paths = (*self.first, *(path for path in (self.activation, self.down) if path is not None))
        modules = [model.get_submodule(path) for path in paths]
        return [(type(each), [id(tensor) for tensor in (*each.parameters(), *each.buffers())]) for each in modules]

    def of(self, model: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
        """What the part computes in a model, in whatever format that is."""
        ups = [model.get_submodule(path) for path in self.first]
        if self.activation is None or self.down is None:
            return ups[0]
        activation, down = model.get_submodule(self.activation), model.get_submodule(self.down)

        def feed_forward(x: torch.Tensor) -> torch.Tensor:
            hidden = activation(ups[0](x))
            for up in ups[1:]:
                hidden = hidden * up(x)
            return down(hidden)  # type: ignore[no-any-return]  # torch leaves what modules return untyped

        return feed_forward


def units_of(model: PreTrainedModel, layers: Sequence[PrunableLayer]) -> list[Unit]:
    """Every unit of a model, in the order of its prunable layers; each layer is in one."""
    position = {layer.name: i for i, layer in enumerate(layers)}
    stacks = architecture_for(model.config).stacks
    found = []
    for block in blocks_of(model) if stacks else ():
        part = stacks[block.stack].feed_forward  # type: ignore[index]  # there are stacks, or no block is looked at
        paths = [f"{block.name}.{path}" for path in part.matrices]
        places = tuple(position[path] for path in paths)
        found.append(Unit(places, tuple(paths[:-1]), f"{block.name}.{part.activation}", paths[-1]))
    joined = {place for unit in found for place in unit.layers}
    found += [Unit((i,), (layer.name,)) for i, layer in enumerate(layers) if i not in joined]
    return sorted(found, key=lambda unit: unit.layers)


def alike(units: Sequence[Unit], layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]) -> list[list[Unit]]:
    """Units of equal shapes and near-equal shares of kept weights together, ascending in that share."""
    shares = {unit: _share([masks[i] for i in unit.layers]) for unit in units}
    shapes: dict[tuple[object, ...], list[Unit]] = {}
    for unit in sorted(units, key=lambda unit: shares[unit]):
        shapes.setdefault(tuple(layers[i].weight.shape for i in unit.layers), []).append(unit)
    near = NEAR
    while True:
        found = [group for same in shapes.values() for group in _split(same, shares, near)]
        if len(found) <= max(MOST, len(shapes)):
            return found
        near *= 2


def _split(units: Sequence[Unit], shares: Mapping[Unit, float], near: float) -> list[list[Unit]]:
    """Runs of ascending units, none farther from the first of its run than `near`."""
    found = [[units[0]]]
    for unit in units[1:]:
        first = shares[found[-1][0]]
        if shares[unit] - first <= near * max(first, NEAR):
            found[-1].append(unit)
        else:
            found.append([unit])
    return found


def _share(masks: Sequence[torch.Tensor]) -> float:
    return sum(int(mask.count_nonzero()) for mask in masks) / sum(mask.numel() for mask in masks)
