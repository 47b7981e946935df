"""Sparse layers as a file holds them, without their zeros: a bit for each weight and the values that are kept.

One layout, whatever format the model runs in. Of a layer NAME, its weight seen as `(out_features, in_features)`:

    NAME.weight.kept      uint8: a bit for each weight, row by row, the first in the lowest bit of the first byte
    NAME.weight.values    the kept weights, in that order

which at 0.9 and float32 is 7.6 times smaller. All other tensors of the model lie beside them as they are.

Kept is every weight but +0, so weights come back bit for bit, -0 too. A weight that the mask kept and that is exactly
+0 nevertheless is not told from those that the mask removed, and comes back as one of them.

Refuses, each in one line: bits and values that fit neither each other nor the layer, layers that the model does not
have, two modules for one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from sparsity.errors import ModelNotLoaded, Refused
from sparsity.models.checkpoint import SPARSE

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparsity.models.architecture import PrunableLayer

KEY = "sparse"
"""Of the configuration: what `Recorded` holds."""
KEPT, VALUES = ".weight.kept", ".weight.values"


@dataclass(frozen=True)
class Recorded:
    """The format in which a model runs and the pattern of its zeros, as its configuration says them."""

    format: str
    pattern: str
    formats: dict[str, str] = field(default_factory=dict)
    """Of each prunable layer, where they are of several."""


def recorded(where: str, found: Any) -> Recorded | None:
    """What a configuration holds under `KEY`, if anything."""
    if found is None:
        return None
    said = found if isinstance(found, dict) else {}
    name, pattern, formats = said.get("format"), said.get("pattern"), said.get("formats", {})
    if not isinstance(name, str) or not isinstance(pattern, str):
        raise ModelNotLoaded(f"{where}: config.json holds no format and pattern under {KEY!r}")
    if not isinstance(formats, dict) or not all(isinstance(each, str) for each in formats.values()):
        raise ModelNotLoaded(f"{where}: config.json holds no formats of layers under {KEY!r}")
    return Recorded(name, pattern, formats)


def sparse_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that answer as `SparseLayer`, by the name of the prunable layer that each stands for.

    That is its `layer_name` where it has one, such as inside a module that runs two layers in one, else its path.
    """
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if _is_sparse(module):
            name = str(getattr(module, "layer_name", None) or path)
            if name in found:
                raise Refused(f"two modules of this model stand for the layer {name}")
            found[name] = module
    return found


def _is_sparse(module: nn.Module) -> bool:
    return callable(getattr(module, "dense_weight", None))


def stored(model: nn.Module, sizes_alone: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a file that holds the model: tied ones once, sparse layers without their zeros.

    Where sizes are wanted alone, the tensors of sparse layers are on torch's meta device.
    """
    inside = tuple(f"{path}." for path, part in model.named_modules(remove_duplicate=False) if _is_sparse(part))
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(inside)}
    tensors = {name: state[name] if sizes_alone else state[name].contiguous() for name in _each_once(model, state)}
    for name, layer in sparse_layers(model).items():
        tensors.update(_layer_tensors(name, cast("Any", layer), sizes_alone))
    return tensors


def _each_once(model: nn.Module, state: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """One name of each tensor, in order; of tied ones the name that transformers too writes: no target of a tie."""
    targets = getattr(model, "all_tied_weights_keys", {})
    first: dict[object, str] = {}
    for name in sorted(state, key=lambda name: name in targets):
        tensor = state[name]
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        first.setdefault(place, name)
    chosen = set(first.values())
    return (name for name in state if name in chosen)


def _layer_tensors(name: str, layer: Any, sizes_alone: bool) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    weight = layer.dense_weight().detach()
    mask = kept(weight)
    if sizes_alone:
        yield name + KEPT, torch.empty(-(-mask.numel() // 8), dtype=torch.uint8, device="meta")
        yield name + VALUES, torch.empty(int(mask.count_nonzero()), dtype=weight.dtype, device="meta")
    else:
        yield name + KEPT, packed(mask)
        yield name + VALUES, weight[mask].cpu()
    if layer.bias is not None:
        yield f"{name}.bias", layer.bias.detach().clone(memory_format=torch.contiguous_format)


def whole(
    where: str, tensors: Mapping[str, torch.Tensor], layers: Sequence[PrunableLayer]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(the tensors of a file with dense weights as the layers hold them, the masks of those that were sparse).

    Raises `ModelNotLoaded`, beginning with `where`.
    """
    given, masks, known = dict(tensors), {}, {layer.name: layer for layer in layers}
    for name in sorted({key.removesuffix(end) for key in tensors for end in (KEPT, VALUES) if key.endswith(end)}):
        if name not in known:
            raise ModelNotLoaded(f"{where}: {SPARSE} holds a sparse weight of {name}, which is no prunable layer")
        if f"{name}.weight" in given:
            raise ModelNotLoaded(f"{where}: {SPARSE} holds the weight of {name} twice, sparse and dense")
        masks[name], weight = _whole(f"{where}: {SPARSE} holds", known[name], given)
        given[f"{name}.weight"] = weight.t().contiguous() if known[name].transposed else weight
    return given, masks


def _whole(holds: str, layer: PrunableLayer, given: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(mask, weight) of a layer, `(out, in)`, whose two tensors are taken out of those given."""
    import torch

    bits, values, shape = given.pop(layer.name + KEPT, None), given.pop(layer.name + VALUES, None), layer.weight.shape
    if bits is None or values is None:
        lacking, there = (KEPT, VALUES) if bits is None else (VALUES, KEPT)
        raise ModelNotLoaded(f"{holds} {layer.name}{there} without {lacking.split('.')[-1]}; save the model again")
    if not fits(bits, shape):
        found = f"{bits.dtype} of shape {tuple(bits.shape)}"
        raise ModelNotLoaded(f"{holds} no bits for {layer.name}, {tuple(shape)}, but {found}; save the model again")
    mask = unpacked(bits, shape)
    count = int(mask.count_nonzero())
    if not values.is_floating_point() or values.dtype.itemsize < 2 or values.shape != (count,):
        found = f"{values.dtype} of shape {tuple(values.shape)}"
        raise ModelNotLoaded(f"{holds} no {count} values for {layer.name}, but {found}; save the model again")
    weight = torch.zeros(shape, dtype=values.dtype)
    weight[mask] = values
    return mask, weight


def kept(weight: torch.Tensor) -> torch.Tensor:
    """True where any bit of a weight is set: everywhere but at +0."""
    import torch

    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.dtype.itemsize]
    return weight.contiguous().view(bits) != 0


def packed(mask: torch.Tensor) -> torch.Tensor:
    """Eight values to a byte, row by row, the first in the lowest bit."""
    import torch

    bits = torch.nn.functional.pad(mask.reshape(-1).to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(1, dtype=torch.uint8).cpu()


def fits(bits: torch.Tensor, shape: torch.Size) -> bool:
    """Whether this is what `packed` makes of a mask of that shape, bits beyond its end unset."""
    import torch

    count = shape.numel()
    if bits.dtype != torch.uint8 or bits.shape != (-(-count // 8),):
        return False
    return not count % 8 or int(bits[-1]) >> count % 8 == 0


def unpacked(bits: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The mask that `packed` packed."""
    import torch

    each = (bits[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return each.reshape(-1)[: shape.numel()].view(shape).bool()
