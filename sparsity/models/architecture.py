"""Where each family of transformers keeps its attention and feed-forward matrices.

One declarative entry per family in `ARCHITECTURES`: the stacks of equal blocks, and in each block
the names of the matrices. From it come the *prunable* layers of a model, always seen as
`(out_features, in_features)` whether stored as `nn.Linear` or as GPT-2's transposed `Conv1D`.

Coverage is a contract, not a hope. `prunable_layers` refuses by name a family it does not know, a
block that holds a matrix the entry does not list (or lacks one it does), a matrix that shares its
storage with another parameter, and weights that are not floating point. Embeddings, norms, biases,
poolers and heads are never prunable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.errors import ModelNotUnderstood

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Stack:
    """A run of equal blocks inside the base model."""

    path: str
    """Path of the `ModuleList` of blocks, from the base model."""
    attention: tuple[str, ...]
    """Paths of the attention matrices, from the block."""
    feed_forward: tuple[str, ...]
    """Paths of the feed-forward matrices, from the block."""


@dataclass(frozen=True)
class Architecture:
    """One family: its stacks, and how its language model is trained and loaded."""

    stacks: tuple[Stack, ...]
    objective: str
    """Language-modelling objective, a key of `sparsity.tasks.language_modeling.OBJECTIVES`."""
    auto_class: str
    """transformers' auto class for the language model."""


_BART_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(
        stacks=(
            Stack(
                "encoder.layer",
                attention=(
                    "attention.self.query",
                    "attention.self.key",
                    "attention.self.value",
                    "attention.output.dense",
                ),
                feed_forward=("intermediate.dense", "output.dense"),
            ),
        ),
        objective="masked",
        auto_class="AutoModelForMaskedLM",
    ),
    "gpt2": Architecture(
        stacks=(
            Stack(
                "h",
                attention=("attn.c_attn", "attn.c_proj"),
                feed_forward=("mlp.c_fc", "mlp.c_proj"),
            ),
        ),
        objective="causal",
        auto_class="AutoModelForCausalLM",
    ),
    "bart": Architecture(
        stacks=(
            Stack(
                "encoder.layers",
                attention=tuple(f"self_attn.{name}" for name in _BART_ATTENTION),
                feed_forward=("fc1", "fc2"),
            ),
            Stack(
                "decoder.layers",
                attention=tuple(f"{side}.{name}" for side in ("self_attn", "encoder_attn") for name in _BART_ATTENTION),
                feed_forward=("fc1", "fc2"),
            ),
        ),
        objective="infilling",
        auto_class="AutoModelForSeq2SeqLM",
    ),
}


@dataclass(frozen=True)
class PrunableLayer:
    """One prunable matrix of a model."""

    name: str
    """Full path of the module in the model."""
    module: nn.Module
    transposed: bool
    """True for `Conv1D`, which stores `(in_features, out_features)`."""

    @property
    def weight(self) -> torch.Tensor:
        """A detached view of the weight, `(out_features, in_features)`; writing to it writes the model."""
        weight: torch.Tensor = self.module.weight.detach()  # type: ignore[operator]  # nn.Module types attributes as Tensor | Module
        return weight.t() if self.transposed else weight


def architecture_of(model_type: str) -> Architecture:
    """The entry of a family by transformers' `config.model_type`."""
    try:
        return ARCHITECTURES[model_type]
    except KeyError:
        raise ModelNotUnderstood(
            f"models of type {model_type!r} are not understood; known types: {', '.join(ARCHITECTURES)}. "
            "Describe the family in sparsity/models/architecture.py to add it"
        ) from None


def prunable_layers(model: PreTrainedModel) -> list[PrunableLayer]:
    """Every prunable matrix, in the order of the blocks.

    Raises `ModelNotUnderstood` rather than leave out a matrix or take one that is tied.
    """
    architecture = architecture_of(model.config.model_type)
    base = model.base_model
    full_name = {module: name for name, module in model.named_modules()}
    layers = []
    for stack in architecture.stacks:
        try:
            blocks = base.get_submodule(stack.path)
        except AttributeError:
            kind, family = type(model).__name__, model.config.model_type
            raise ModelNotUnderstood(f"{kind} has no {stack.path!r}, where a {family} model keeps its blocks") from None
        for block in blocks.children():
            layers += _block_layers(block, stack, full_name)
    if not layers:
        raise ModelNotUnderstood(f"{type(model).__name__} has no transformer blocks, so nothing to prune")
    _refuse_ties(model, layers)
    return layers


def _block_layers(block: nn.Module, stack: Stack, full_name: dict[nn.Module, str]) -> list[PrunableLayer]:
    """The listed matrices of one block; refuses when the block holds others, or not all of them."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    listed = stack.attention + stack.feed_forward
    found = {name.removesuffix(".weight") for name, p in block.named_parameters() if p.dim() > 1}
    where = full_name[block]
    if unlisted := sorted(found - set(listed)):
        raise ModelNotUnderstood(f"block {where} holds matrices that are not understood: {', '.join(unlisted)}")
    if missing := [name for name in listed if name not in found]:
        raise ModelNotUnderstood(f"block {where} lacks the matrices {', '.join(missing)}")
    layers = []
    for name in listed:
        module = block.get_submodule(name)
        if not isinstance(module, nn.Linear | Conv1D):
            raise ModelNotUnderstood(f"{where}.{name} is a {type(module).__name__}, neither Linear nor Conv1D")
        if not module.weight.is_floating_point():
            raise ModelNotUnderstood(f"{where}.{name} holds {module.weight.dtype} weights; load it unquantised")
        layers.append(PrunableLayer(full_name[module], module, isinstance(module, Conv1D)))
    return layers


def _refuse_ties(model: nn.Module, layers: list[PrunableLayer]) -> None:
    """No prunable matrix may share its storage with any other parameter."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(parameter.data_ptr(), []).append(name)
    for layer in layers:
        names = owners[layer.weight.data_ptr()]
        if len(names) > 1:
            raise ModelNotUnderstood(f"{layer.name} is tied: {', '.join(names)} share one storage; untie it first")
