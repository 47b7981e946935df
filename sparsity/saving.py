"""Saves pruned models and loads them: safetensors and JSON, no pickle.

A folder is a transformers checkpoint: `model.safetensors` and `config.json`. Of a compact model the
configuration holds, under `compact`, the shape of every block, so that per-layer widths survive. Of a
`PrunedModel` the masks are saved beside the weights, a bit each, in `masks.safetensors`.

Refuses, each in one line: a model in the `masked` format, a folder whose weights are not those of its
configuration, a class that is not transformers' own, shapes that cannot be.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity.errors import ModelNotLoaded, Refused
from sparsity.models.architecture import prunable_layers
from sparsity.models.checkpoint import WEIGHTS, one_line, read_json, refuse_incomplete
from sparsity.prune import PrunedModel
from sparsity.shrink import KEY, follow_config, to_shapes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MASKS = "masks.safetensors"


def save(model: PreTrainedModel | PrunedModel, folder: str | Path) -> None:
    """Writes a model, dense, with zeros or compact, to a folder; of a `PrunedModel` its masks as well.

    Raises `Refused` for a model with torch's masks still on, or blocks that are only bypassed.
    """
    from safetensors.torch import save_file

    from sparsity.bypass import is_bypassed

    module = model.model if isinstance(model, PrunedModel) else model
    if any(name.endswith("weight_mask") for name, _ in module.named_buffers()):
        raise Refused("torch's pruning masks are still on; fold them in (format dense) before saving")
    if any(is_bypassed(part) for part in module.modules()):
        raise Refused(
            "removed layers are only bypassed in this model, which a file cannot say; save its compact format"
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    module.save_pretrained(folder)
    if isinstance(model, PrunedModel):
        named = zip(model.layers, model.masks, strict=True)
        save_file({layer.name: _packed(mask) for layer, mask in named}, Path(folder) / MASKS)


def load(folder: str | Path) -> PreTrainedModel:
    """The model that `save` wrote, in eval mode and without gradients, bit for bit.

    Raises `ModelNotLoaded` for a folder that holds no such model, saying what is wrong.
    """
    path, where = Path(folder), str(folder)
    if not (path / "config.json").is_file():
        raise ModelNotLoaded(f"{where}: no config.json there; give a folder that sparsity.save wrote")
    raw = read_json(where, path / "config.json")
    refuse_incomplete(where, path)
    compact = raw.pop(KEY, None)
    model = _built(where, raw, compact)
    if compact is not None:
        try:
            to_shapes(model, compact["shapes"])
            follow_config(model)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelNotLoaded(f"{where}: config.json gives shapes that cannot be: {one_line(error)}") from None
    _fill(where, path, model)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]  # transformers leaves it untyped


def stored_masks(folder: str | Path) -> dict[str, torch.Tensor]:
    """The masks saved with a `PrunedModel`, `(out, in)` boolean, by layer; empty when there are none."""
    from safetensors.torch import load_file

    path = Path(folder)
    if not (path / MASKS).is_file():
        return {}
    model = load(folder)
    shapes = {layer.name: layer.weight.shape for layer in prunable_layers(model)}
    try:
        packed = load_file(path / MASKS)
    except Exception as error:
        raise ModelNotLoaded(f"{folder}: {MASKS} is not whole: {one_line(error)}") from None
    for name, shape in shapes.items():
        if name not in packed or packed[name].numel() != -(-shape.numel() // 8):
            raise ModelNotLoaded(f"{folder}: {MASKS} holds no mask that fits {name}, {tuple(shape)}")
    return {name: _unpacked(packed[name], shape) for name, shape in shapes.items()}


def _built(where: str, raw: dict[str, Any], compact: dict[str, Any] | None) -> PreTrainedModel:
    """A model of the configuration as it was before it followed the smaller shapes; its weights are filled later."""
    import transformers

    names = raw.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    kind = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise ModelNotLoaded(f"{where}: config.json names the class {name!r}, which is no model of transformers")
    try:
        before = dict(compact["before"]) if compact is not None else {}
        # types of layers are read off the number of blocks again
        plain = {key: value for key, value in raw.items() if compact is None or key != "layer_types"}
        config = transformers.AutoConfig.for_model(plain.pop("model_type"), **{**plain, **before})
        return kind(config)
    except Exception as error:
        raise ModelNotLoaded(f"{where}: no model can be built from its config.json: {one_line(error)}") from None


def _fill(where: str, path: Path, model: PreTrainedModel) -> None:
    """Every tensor from the files, in the dtype that it has there; nothing missing, left over or of another shape."""
    from safetensors.torch import load_file

    files = sorted(path.glob("model*.safetensors"))
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    expected = model.state_dict()
    for name, tensor in tensors.items():
        if name not in expected:
            raise ModelNotLoaded(f"{where}: {WEIGHTS} holds {name}, which its config.json has no place for")
        if tensor.shape != expected[name].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise ModelNotLoaded(f"{where}: {name} is {found} where config.json wants {wanted}; save the model again")
    tied = _tied(model)
    if missing := [name for name in expected if name not in tensors and not tied.get(name, set()) & tensors.keys()]:
        raise ModelNotLoaded(f"{where}: {WEIGHTS} lacks {missing[0]}; save the model again")
    # Cloned: a file's tensors lie where they lie, and products of unaligned ones may round otherwise.
    model.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, strict=False, assign=True)
    model.tie_weights()


def _tied(model: PreTrainedModel) -> dict[str, set[str]]:
    """For each tensor the names that share its storage."""
    names: dict[int, set[str]] = {}
    for name, tensor in model.state_dict().items():
        names.setdefault(tensor.data_ptr(), set()).add(name)
    return {name: shared for shared in names.values() for name in shared}


def _packed(mask: torch.Tensor) -> torch.Tensor:
    """Eight values to a byte, row by row, the first in the lowest bit."""
    import torch

    bits = torch.nn.functional.pad(mask.reshape(-1).to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(1, dtype=torch.uint8).cpu()


def _unpacked(packed: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    import torch

    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.reshape(-1)[: shape.numel()].view(shape).bool()
