"""Makes a model really smaller: fewer neurons, heads and blocks, with attributes and configuration that follow.

What the smaller model is stands in its configuration under `compact`, and is saved with it: the shape
of every block, and the values that the configuration had before. Where all blocks of a stack are
alike the configuration's own keys follow too; where they are not, no key of its own could say it.

Refuses: a family that is not described.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sparsity.groups import Slices, groups_of
from sparsity.models.architecture import PrunableLayer, blocks_of, described_stacks, prunable_layers

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from sparsity.models.families import Attention, Stack

KEY = "compact"
"""Of the configuration."""


def group_sets(model: PreTrainedModel, layers: Sequence[PrunableLayer]) -> list[Slices]:
    """The neurons and heads of a model that can go, block by block: in each the neurons, then the heads."""
    fixed = any(attention.fixed for stack in described_stacks(model) for attention in stack.attentions)
    found = groups_of(model, layers, ("neurons",) if fixed else ("neurons", "heads"))
    return [each for each in found if isinstance(each, Slices)]


def shrink_groups(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    sets: Sequence[Slices],
    kept: Sequence[torch.Tensor],
) -> None:
    """Replaces the layers of each set by smaller ones without the groups that are not kept, (groups,) boolean each."""
    rows: dict[int, torch.Tensor] = {}
    columns: dict[int, torch.Tensor] = {}
    for each, stays in zip(sets, kept, strict=True):
        if not bool(stays.all()):
            for part in each.parts:
                index = part.index[stays].reshape(-1).sort().values  # packed query, key, value stay in their order
                (rows if part.axis == 0 else columns)[part.layer] = index
    for i in rows.keys() | columns.keys():
        model.set_submodule(layers[i].name, _smaller(layers[i], rows.get(i), columns.get(i)))
    for block in blocks_of(model):
        for attention in described_stacks(model)[block.stack].attentions:
            _follow_attention(block.module, attention)


def _smaller(layer: PrunableLayer, rows: torch.Tensor | None, columns: torch.Tensor | None) -> nn.Module:
    """A layer of these rows (outputs) and columns (inputs) alone; its tensors are its own."""
    import torch
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    weight, bias = layer.weight, layer.module.bias
    if rows is not None:
        weight = weight[rows]
    if columns is not None:
        weight = weight[:, columns]
    out, into = weight.shape
    with torch.device("meta"):  # no memory and no random numbers for what is replaced at once
        module = Conv1D(out, into) if layer.transposed else nn.Linear(into, out, bias=bias is not None)
    stored = (weight.t() if layer.transposed else weight).clone(memory_format=torch.contiguous_format)
    module.weight = nn.Parameter(stored, requires_grad=False)
    if isinstance(bias, torch.Tensor):
        own = bias.detach() if rows is None else bias.detach()[rows]
        module.bias = nn.Parameter(own.clone(), requires_grad=False)
    return module.train(layer.module.training)


def _follow_attention(block: nn.Module, attention: Attention) -> None:
    """The attributes that count heads, after the matrix that reads them."""
    module = block.get_submodule(attention.path)
    width = _width(block, attention)
    if attention.heads:
        setattr(module, attention.heads, width // int(getattr(module, attention.head_size)))
    if attention.width:
        setattr(module, attention.width, width)


def _shape(module: nn.Module) -> tuple[int, int]:
    """(out, in) of a Linear or Conv1D."""
    from torch import nn

    weight: Any = module.weight
    out, into = weight.shape if isinstance(module, nn.Linear) else reversed(weight.shape)
    return int(out), int(into)


def _width(block: nn.Module, attention: Attention) -> int:
    return _shape(block.get_submodule(attention.output))[1]


def drop_blocks(model: PreTrainedModel, kept: Sequence[bool]) -> None:
    """Leaves out the blocks that are not kept, of all blocks of the model in order; the rest is numbered anew."""
    from torch import nn

    blocks = blocks_of(model)
    for position, stack in enumerate(described_stacks(model)):
        staying = [b for b, stays in zip(blocks, kept, strict=True) if stays and b.stack == position]
        if len(staying) == sum(b.stack == position for b in blocks):
            continue
        for index, block in enumerate(staying):
            for part in block.module.modules():  # a cache keeps keys and values by this number
                if hasattr(part, "layer_idx"):
                    setattr(part, "layer_idx", index)  # noqa: B010  # no attribute that nn.Module declares
        types = getattr(model.config, "layer_types", None)
        if types is not None:
            model.config.layer_types = [types[block.index] for block in staying]
        model.base_model.set_submodule(stack.path, nn.ModuleList([block.module for block in staying]))


def shapes_of(model: PreTrainedModel) -> list[list[dict[str, Any]]]:
    """For each stack, for each block: `heads` of each attention (key-value heads where shared), and `neurons`."""
    stacks = described_stacks(model)
    found: list[list[dict[str, Any]]] = [[] for _ in stacks]
    for block in blocks_of(model):
        stack, module = stacks[block.stack], block.module
        heads = [_heads(module, attention) for attention in stack.attentions]
        found[block.stack].append({"heads": heads, "neurons": _shape(module.get_submodule(stack.feed_forward.down))[1]})
    return found


def _heads(block: nn.Module, attention: Attention) -> int:
    size = int(getattr(block.get_submodule(attention.path), attention.head_size))
    packed = 3 if attention.query == attention.key else 1
    return _shape(block.get_submodule(attention.key))[0] // packed // size


def follow_config(model: PreTrainedModel) -> None:
    """Writes into the configuration what the model now is, and what it was before the first time."""
    config, stacks, shapes = model.config, described_stacks(model), shapes_of(model)
    before: dict[str, Any] = dict((getattr(config, KEY, None) or {}).get("before", {}))
    for stack, blocks, path in zip(stacks, shapes, (stack.path for stack in stacks), strict=True):
        first = model.base_model.get_submodule(path)
        for key, value in _config_values(stack, blocks, first).items():
            before.setdefault(key, getattr(config, key))
            setattr(config, key, value)
    setattr(config, KEY, {"before": before, "shapes": shapes})


def _config_values(stack: Stack, blocks: Sequence[dict[str, Any]], modules: nn.Module) -> dict[str, int]:
    """The configuration's own keys for a stack, as far as one number says it for all blocks."""
    values = dict.fromkeys(stack.config.blocks, len(blocks))
    if len({block["neurons"] for block in blocks}) == 1:
        values |= dict.fromkeys(stack.config.neurons, blocks[0]["neurons"])
    heads = {count for block in blocks for count in block["heads"]}
    if len(heads) == 1:
        first = next(iter(modules.children()))
        attention = stack.attentions[0]
        size = int(getattr(first.get_submodule(attention.path), attention.head_size))
        values |= dict.fromkeys(stack.config.heads, _width(first, attention) // size)
        values |= dict.fromkeys(stack.config.key_value_heads, heads.pop())
    return values


def to_shapes(model: PreTrainedModel, shapes: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Shrinks a model to what `shapes_of` gave of another; which weights stay does not matter.

    Raises `ValueError` for shapes that the model cannot be brought to.
    """
    import torch

    blocks, stacks = blocks_of(model), described_stacks(model)
    if len(shapes) != len(stacks):
        raise ValueError(f"{len(shapes)} stacks where the model has {len(stacks)}")
    kept_blocks = []
    for position, wanted in enumerate(shapes):
        have = sum(block.stack == position for block in blocks)
        if not 0 < len(wanted) <= have:
            raise ValueError(f"{len(wanted)} blocks where {stacks[position].path} has {have}")
        kept_blocks += [index < len(wanted) for index in range(have)]
    drop_blocks(model, kept_blocks)
    layers = prunable_layers(model)
    sets = group_sets(model, layers)
    wants = [(count, kind) for stack in shapes for block in stack for count, kind in _counts(block, sets)]
    if len(wants) != len(sets):
        raise ValueError(f"{len(wants)} groups of heads and neurons where the model has {len(sets)}")
    kept = []
    for each, (count, kind) in zip(sets, wants, strict=True):
        if each.kind != kind or not 0 < count <= each.count:
            raise ValueError(f"{count} {kind} where {each.name} has {each.count} {each.kind}")
        kept.append(torch.arange(each.count) < count)
    shrink_groups(model, layers, sets, kept)


def _counts(block: dict[str, Any], sets: Sequence[Slices]) -> list[tuple[int, str]]:
    """The wanted counts of a block in the order of its sets."""
    with_heads = any(each.kind == "heads" for each in sets)
    heads = [(int(count), "heads") for count in block["heads"]] if with_heads else []
    return [(int(block["neurons"]), "neurons"), *heads]
