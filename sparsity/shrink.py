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
    return _shape(block.get_submodule(attention.key))[0] // (3 if attention.packed else 1) // size


def follow_config(model: PreTrainedModel) -> None:
    """Writes into the configuration what the model now is, and what it was before the first time.

    A key that one number cannot fill, since blocks or stacks differ, keeps what it was before.
    """
    config, stacks, shapes = model.config, described_stacks(model), shapes_of(model)
    before: dict[str, Any] = dict((getattr(config, KEY, None) or {}).get("before", {}))
    values: dict[str, set[int]] = {}
    for stack, blocks in zip(stacks, shapes, strict=True):
        for key, numbers in _config_values(stack, blocks, model.base_model.get_submodule(stack.path)).items():
            values.setdefault(key, set()).update(numbers)
    for key, numbers in values.items():
        before.setdefault(key, getattr(config, key))
        setattr(config, key, next(iter(numbers)) if len(numbers) == 1 else before[key])
    setattr(config, KEY, {"before": before, "shapes": shapes})


def _config_values(stack: Stack, blocks: Sequence[dict[str, Any]], modules: nn.Module) -> dict[str, set[int]]:
    """The numbers that a stack would put under the configuration's own keys."""
    first, attention = next(iter(modules.children())), stack.attentions[0]
    shared = {count for block in blocks for count in block["heads"]}
    size = int(getattr(first.get_submodule(attention.path), attention.head_size))
    queries = _width(first, attention) // size // blocks[0]["heads"][0]  # query heads of one key-value head
    numbers = {
        stack.config.blocks: {len(blocks)},
        stack.config.neurons: {block["neurons"] for block in blocks},
        stack.config.heads: {count * queries for count in shared},
        stack.config.key_value_heads: shared,
    }
    return {key: found for keys, found in numbers.items() for key in keys}


def to_shapes(model: PreTrainedModel, shapes: Any) -> None:
    """Shrinks a model to what `shapes_of` gave of another; which weights stay does not matter.

    Raises `ValueError` for what are no shapes, or not such as the model can be brought to.
    """
    import torch

    stacks, have = described_stacks(model), shapes_of(model)
    if not isinstance(shapes, list) or len(shapes) != len(stacks):
        raise ValueError(f"{_count(shapes)} stacks where the model has {len(stacks)}")
    kept_blocks = []
    for stack, wanted, own in zip(stacks, shapes, have, strict=True):
        if not isinstance(wanted, list) or not 0 < len(wanted) <= len(own):
            raise ValueError(f"{_count(wanted)} blocks where {stack.path} has {len(own)}")
        kept_blocks += [index < len(wanted) for index in range(len(own))]
    drop_blocks(model, kept_blocks)
    layers = prunable_layers(model)
    sets = group_sets(model, layers)
    counts = [count for stack, wanted in enumerate(shapes) for i, block in enumerate(wanted)
              for count in _counts(block, have[stack][i], stacks[stack])]  # fmt: skip
    kept = [torch.arange(each.count) < count for each, count in zip(sets, counts, strict=True)]
    shrink_groups(model, layers, sets, kept)


def _count(found: Any) -> str:
    return str(len(found)) if isinstance(found, list) else "no list of"


def _counts(block: Any, own: dict[str, Any], stack: Stack) -> list[int]:
    """What a block is to keep of each of its sets, in their order; `own` is what it has."""
    if not isinstance(block, dict) or block.keys() != own.keys() or not isinstance(block["heads"], list):
        raise ValueError(f"a block of {stack.path} must have heads, a list, and neurons")
    wanted, most = [block["neurons"], *block["heads"]], [own["neurons"], *own["heads"]]
    if len(wanted) != len(most) or not all(type(w) is int and 0 < w <= m for w, m in zip(wanted, most, strict=True)):
        raise ValueError(f"{wanted} where a block of {stack.path} has {most} neurons and heads")
    if not any(attention.fixed for attention in stack.attentions):
        return wanted
    if block["heads"] != own["heads"]:
        raise ValueError(f"{block['heads']} heads where those of {stack.path} cannot go")
    return wanted[:1]
