"""A model without its weights, and the part of them that is in memory now.

Parameters stay on torch's meta device, where nothing is stored. What the model computes for itself, such as rotary
frequencies, is real. Weights are read when a block is about to be used and let go when it is done; hidden states wait
on the CPU.

Refuses, each in one line: weights that the files lack or that have another shape than config.json wants, blocks
that the configuration does not have, prunable weights of several dtypes, quantised checkpoints.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparsity.errors import ModelNotLoaded, one_line
from sparsity.models.architecture import architecture_of, blocks_of
from sparsity.models.checkpoint import refuse_surplus_blocks, refuse_wrong_shapes

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

    from sparsity.models.architecture import PrunableLayer
    from sparsity.streaming.meter import Meter
    from sparsity.streaming.source import Entry, Source

RENAMED = {".gamma": ".weight", ".beta": ".bias"}
"""Ends of names in old checkpoints, which transformers renames as well."""
LEFT_OUT = ("pooler.",)
"""Of the base model, what comes after the blocks and may be missing."""


def class_of(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """Transformers' own class that the configuration names; None: the family's language model."""
    import transformers

    named = next(iter(config.architectures or ()), None)
    kind: Any = getattr(transformers, named, None) if isinstance(named, str) else None
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    return kind if known and kind.config_class is type(config) else None


def skeleton(reference: str, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The model of a configuration in eval mode: parameters on the meta device, buffers real and on the device."""
    import torch
    import transformers

    if getattr(config, "quantization_config", None) is not None:
        raise ModelNotLoaded(f"{reference}: config.json has a quantization_config; save the model unquantised")
    kind = class_of(config)
    auto = getattr(transformers, architecture_of(config.model_type).auto_class)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with _parameters_on_meta(), torch.random.fork_rng(devices=[]):
            model: PreTrainedModel = auto.from_config(config) if kind is None else kind(config)
    except Exception as error:
        raise ModelNotLoaded(f"{reference}: no model can be built from its config: {one_line(error)}") from None
    finally:
        torch.set_default_dtype(before)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]  # transformers leaves it untyped


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Each parameter of a module that is built meanwhile stores nothing, before it is ever filled."""
    from torch import nn

    own = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        own(module, name, parameter)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]  # past what layers allocate
    try:
        yield
    finally:
        nn.Module.register_parameter = own  # type: ignore[method-assign]  # as it was


def parameter_entries(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, Entry]:
    """Each parameter of a model, ties once, as a checkpoint of this dtype would hold it."""
    from sparsity.streaming.source import Entry

    return {name: Entry(dtype, tuple(parameter.shape)) for name, parameter in model.named_parameters()}


@dataclass(frozen=True)
class Names:
    """Which tensor of the files each parameter of the model is."""

    stored: Mapping[str, str]
    """By the parameter's name in the model; of tied ones each has the one that is there."""

    @classmethod
    def of(cls, reference: str, model: PreTrainedModel, entries: Mapping[str, Entry]) -> Names:
        """Raises `ModelNotLoaded` for weights that are not those of the configuration."""
        own = dict(model.named_parameters(remove_duplicate=False))
        stored: dict[str, str] = {}
        unknown = []
        for name in entries:
            place = next((each for each in _spellings(name, model.base_model_prefix) if each in own), None)
            if place is None:
                unknown.append(name)
            elif place in stored:
                raise ModelNotLoaded(f"{reference}: its files hold {place} twice, as {stored[place]} and as {name}")
            else:
                stored[place] = name
        tied: dict[int, str] = {id(own[place]): name for place, name in stored.items()}
        stored |= {place: tied[id(each)] for place, each in own.items() if place not in stored and id(each) in tied}
        _check(reference, model, entries, stored, unknown)
        return cls(stored)


def _spellings(name: str, prefix: str) -> Iterator[str]:
    """What a name in a file may be called in the model."""
    ends = [name, *(name.removesuffix(old) + new for old, new in RENAMED.items() if name.endswith(old))]
    for each in ends:
        yield each
        yield f"{prefix}.{each}"
        yield each.removeprefix(f"{prefix}.")


def _check(
    reference: str, model: PreTrainedModel, entries: Mapping[str, Entry], stored: Mapping[str, str], unknown: list[str]
) -> None:
    own = dict(model.base_model.named_parameters())
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    needed = {f"{prefix}{name}": tuple(each.shape) for name, each in own.items() if not name.startswith(LEFT_OUT)}
    refuse_surplus_blocks(reference, architecture_of(model.config.model_type), model, unknown)
    if missing := sorted(needed.keys() - stored.keys()):
        more = f" and {len(missing) - 1} more weights" if len(missing) > 1 else ""
        raise ModelNotLoaded(f"{reference}: the checkpoint lacks {missing[0]}{more}; save or fetch it again")
    found = {name: entries[stored[name]].shape for name in needed}
    refuse_wrong_shapes(
        reference, [(name, found[name], shape) for name, shape in needed.items() if found[name] != shape]
    )


def most_frequent_dtype(entries: Mapping[str, Entry]) -> torch.dtype:
    """That of most elements; of whole models it is that of the prunable ones."""
    counts: Counter[torch.dtype] = Counter()
    for entry in entries.values():
        counts[entry.dtype] += entry.count
    return max(counts, key=lambda dtype: counts[dtype])


def refuse_dtypes(
    reference: str, layers: Iterable[PrunableLayer], names: Names, source: Source, asked: torch.dtype | None
) -> None:
    """Raises `ModelNotLoaded` for prunable weights that are no floats, or of several dtypes unless one is asked for."""
    dtypes = {source.entries[names.stored[f"{layer.name}.weight"]].dtype for layer in layers}
    told = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    if not all(dtype.is_floating_point and dtype.itemsize >= 2 for dtype in dtypes):
        raise ModelNotLoaded(f"{reference}: its prunable weights are {told}; save the model unquantised")
    if len(dtypes) > 1 and asked is None:
        raise ModelNotLoaded(f"{reference}: its prunable weights are of several dtypes ({told}); choose one by --dtype")


@dataclass(frozen=True)
class Streamed:
    """A `Residence`: the model's weights are read from a source, block by block."""

    model: PreTrainedModel
    source: Source
    names: Names
    dtype: torch.dtype
    device: torch.device
    meter: Meter
    pruned: set[int] = field(default_factory=set)
    """Blocks of which something was pruned; the meter notes them when they are let go."""

    @property
    def blocks(self) -> list[nn.Module]:
        """All of them, by position."""
        return [block.module for block in blocks_of(self.model)]

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Every weight of the base model that is in no block."""
        inside = {id(parameter) for block in self.blocks for parameter in block.parameters()}
        with self._read(parameter for parameter in self._base() if id(parameter) not in inside):
            yield

    @contextlib.contextmanager
    def block(self, position: int) -> Iterator[None]:
        """The weights of one block; on leaving they are let go, whatever became of them."""
        with self._read(self.blocks[position].parameters()):
            yield
        if position in self.pruned:
            self.meter.note(f"block {position + 1}")

    def parked(self, hidden: torch.Tensor) -> torch.Tensor:
        """On the CPU."""
        return hidden.to("cpu")

    def fetched(self, hidden: torch.Tensor) -> torch.Tensor:
        """On the device."""
        return hidden.to(self.device)

    def _base(self) -> Iterator[torch.Tensor]:
        for name, parameter in self.model.base_model.named_parameters():
            if not name.startswith(LEFT_OUT):
                yield parameter

    @contextlib.contextmanager
    def _read(self, parameters: Iterable[torch.Tensor]) -> Iterator[None]:
        """These parameters hold what the source has, for as long as it lasts."""
        from torch import nn

        wanted = {id(parameter) for parameter in parameters}
        holders = []
        for path, module in self.model.named_modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and id(parameter) in wanted:
                    holders.append((module, name, parameter, f"{path}.{name}" if path else name))
        try:
            with self.meter.phase("read"):
                there: dict[int, nn.Parameter] = {}  # what is tied is read once
                for module, name, parameter, full in holders:
                    if id(parameter) not in there:
                        tensor = self.source.read(self.names.stored[full]).to(self.device, self.dtype)
                        there[id(parameter)] = nn.Parameter(tensor, requires_grad=False)
                        del tensor
                    module._parameters[name] = there[id(parameter)]
                there.clear()
            yield
        finally:
            for module, name, parameter, _ in holders:
                module._parameters[name] = parameter


def largest_block(model: PreTrainedModel, dtype: torch.dtype) -> int:
    """Bytes of the weights of the largest block."""
    blocks = blocks_of(model)
    return max(sum(p.numel() for p in block.module.parameters()) for block in blocks) * dtype.itemsize
