"""The prunable matrices of a model, always seen as `(out_features, in_features)`.

`families` describes what is known; every other family with blocks of `nn.Linear` or GPT-2's
transposed `Conv1D` is searched for them, and can lose single weights but no heads or neurons.

Coverage is a contract, not a hope. `prunable_layers` refuses by name a block that holds a matrix it
cannot place (or lacks one that the description lists), a matrix that shares its storage with another
parameter, and weights that are not floating point. Embeddings, norms, biases, poolers and heads are
never prunable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.errors import ModelNotUnderstood, Refused
from sparsity.models.families import ARCHITECTURES, Architecture, Stack, gated_t5

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class PrunableLayer:
    """One prunable matrix of a model."""

    name: str
    """Full path of the module in the model."""
    module: nn.Module
    transposed: bool
    """True for `Conv1D`, which stores `(in_features, out_features)`."""
    block: int = 0
    """Position of its block among all blocks of the model."""
    tokens: str = "own"
    """Whose tokens it reads: "own" (a single stack, or an encoder), "decoder"."""

    @property
    def weight(self) -> torch.Tensor:
        """A detached view of the weight, `(out_features, in_features)`; writing to it writes the model."""
        weight: torch.Tensor = self.module.weight.detach()  # type: ignore[operator]  # nn.Module types attributes as Tensor | Module
        return weight.t() if self.transposed else weight


@dataclass(frozen=True)
class Block:
    """One block of a model."""

    name: str
    """Full path of the module in the model."""
    module: nn.Module
    stack: int
    """Position of its stack."""
    index: int
    """Position in its stack."""


def architecture_of(model_type: str) -> Architecture:
    """The description of a family by transformers' `config.model_type`; without stacks when there is none.

    Raises `ModelNotUnderstood` for what transformers does not know.
    """
    if model_type in ARCHITECTURES:
        return ARCHITECTURES[model_type]
    if (objective := _objective(model_type)) is None:
        raise ModelNotUnderstood(
            f"models of type {model_type!r} are not understood: transformers knows no language model of that type. "
            f"Described are {', '.join(ARCHITECTURES)}; any other type of transformers is searched for Linear layers"
        )
    return Architecture(stacks=None, objective=objective)


def architecture_for(config: PreTrainedConfig) -> Architecture:
    """The description of this configuration's family, in its variant."""
    found = architecture_of(config.model_type)
    return gated_t5(found) if config.model_type == "t5" and getattr(config, "is_gated_act", False) else found


def described_stacks(model: PreTrainedModel) -> tuple[Stack, ...]:
    """The stacks of a described family; raises `Refused` for another, naming those that are."""
    stacks = architecture_for(model.config).stacks
    if stacks is None:
        raise Refused(
            f"where {model.config.model_type} models keep their heads and neurons is not described, so none can be "
            f"removed; described are {', '.join(ARCHITECTURES)}"
        )
    return stacks


def _objective(model_type: str) -> str | None:
    """How the language model of a family is trained, by the auto classes that know it."""
    from transformers.models.auto import modeling_auto

    known = {
        "infilling": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "masked": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    }
    return next((objective for objective, types in known.items() if model_type in types), None)


def blocks_of(model: PreTrainedModel) -> list[Block]:
    """Every block of the model, stack by stack."""
    full_name = {module: name for name, module in model.named_modules()}
    found = []
    for position, blocks in enumerate(_stacks_of_blocks(model)):
        for index, block in enumerate(blocks.children()):
            found.append(Block(full_name[block], block, position, index))
    if not found:
        raise ModelNotUnderstood(f"{type(model).__name__} has no transformer blocks, so nothing to prune")
    return found


def _stacks_of_blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The `ModuleList` of each stack: the described ones, or those that are found."""
    stacks = architecture_for(model.config).stacks
    if stacks is None:
        return list(_searched(model.base_model))
    found = []
    for stack in stacks:
        try:
            found.append(model.base_model.get_submodule(stack.path))
        except AttributeError:
            kind, family = type(model).__name__, model.config.model_type
            raise ModelNotUnderstood(f"{kind} has no {stack.path!r}, where a {family} model keeps its blocks") from None
    return found


def _searched(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost lists of equal modules that hold linear layers, in order."""
    from torch import nn

    for child in module.children():
        if isinstance(child, nn.ModuleList) and any(_is_linear(part) for part in child.modules()):
            if len(kinds := sorted({type(block).__name__ for block in child})) > 1:
                raise ModelNotUnderstood(
                    f"its blocks are of several kinds ({', '.join(kinds)}), which is not understood"
                )
            yield child
        else:
            yield from _searched(child)


def prunable_layers(model: PreTrainedModel) -> list[PrunableLayer]:
    """Every prunable matrix, in the order of the blocks.

    Raises `ModelNotUnderstood` rather than leave out a matrix or take one that is tied.
    """
    stacks = architecture_for(model.config).stacks
    full_name = {module: name for name, module in model.named_modules()}
    layers = []
    for position, block in enumerate(blocks_of(model)):
        stack = stacks[block.stack] if stacks is not None else None
        for path in _matrices(block, stack):
            module = block.module.get_submodule(path)
            tokens = "decoder" if stack is not None and _reads_decoder(stack, path) else "own"
            layers.append(PrunableLayer(full_name[module], module, not _is_plain(module), position, tokens))
    if not layers:
        raise ModelNotUnderstood(f"{type(model).__name__} has no Linear or Conv1D in its blocks, so nothing to prune")
    _refuse_ties(model, layers)
    return layers


def _reads_decoder(stack: Stack, path: str) -> bool:
    """Whether a matrix reads the decoder's tokens: all of a decoder do, but keys and values of the encoder's output."""
    from_encoder = {
        name for attention in stack.attentions if attention.cross for name in (attention.key, attention.value)
    }
    return stack.decoder and path not in from_encoder


def _matrices(block: Block, stack: Stack | None) -> list[str]:
    """Paths of the prunable matrices of a block; refuses when it holds what cannot be placed, or lacks one."""
    found = {name.removesuffix(".weight"): p for name, p in block.module.named_parameters() if p.dim() > 1}
    where = block.name
    if stack is None:
        listed = [name for name in found if not _is_embedding(block.module, name)]
    else:
        listed = [name for attention in stack.attentions for name in attention.matrices]
        listed += stack.feed_forward.matrices
        if unlisted := sorted(found.keys() - {*listed, *stack.others}):
            raise ModelNotUnderstood(f"block {where} holds matrices that are not understood: {', '.join(unlisted)}")
        if missing := [name for name in listed if name not in found]:
            raise ModelNotUnderstood(f"block {where} lacks the matrices {', '.join(missing)}")
    for name in listed:
        _refuse_strange(block, name, found[name])
    return listed


def _refuse_strange(block: Block, name: str, parameter: torch.Tensor) -> None:
    try:
        module = block.module.get_submodule(name)
    except AttributeError:  # a parameter of its own, of no layer
        raise ModelNotUnderstood(f"block {block.name} holds matrices that are not understood: {name}") from None
    if not _is_linear(module):
        raise ModelNotUnderstood(f"{block.name}.{name} is a {type(module).__name__}, neither Linear nor Conv1D")
    if not parameter.is_floating_point() or parameter.dtype.itemsize < 2:
        raise ModelNotUnderstood(f"{block.name}.{name} holds {parameter.dtype} weights; load it unquantised")


def _is_plain(module: nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear)


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return _is_plain(module) or isinstance(module, Conv1D)


def _is_embedding(block: nn.Module, name: str) -> bool:
    from torch import nn

    try:
        return isinstance(block.get_submodule(name), nn.Embedding)
    except AttributeError:
        return False


def _refuse_ties(model: nn.Module, layers: list[PrunableLayer]) -> None:
    """No prunable matrix may share its storage with any other parameter."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(_storage(parameter), []).append(name)
    for layer in layers:
        names = owners[_storage(layer.module.weight)]  # type: ignore[arg-type]  # as in `PrunableLayer.weight`
        if len(names) > 1:
            raise ModelNotUnderstood(f"{layer.name} is tied: {', '.join(names)} share one storage; untie it first")


def _storage(parameter: torch.Tensor) -> int:
    """What two parameters share that are tied; on the meta device, where nothing is stored, the parameter itself."""
    return id(parameter) if parameter.is_meta else parameter.data_ptr()
