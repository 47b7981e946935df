"""Saves pruned models and loads them: safetensors and JSON, no pickle.

A folder is a transformers checkpoint: `model.safetensors` and `config.json`. Of a compact model the
configuration holds, under `compact`, the shape of every block, so that per-layer widths survive. Of a
`PrunedModel` the masks are saved beside the weights, a bit each, in `masks.safetensors`; the weights
themselves are dense, so that others can read them.

Of a model in a sparse format the weights are in `sparse.safetensors` instead, without their zeros
(`sparsity.sparse_storage` has the layout), and the configuration holds under `sparse` its format and
the pattern of its zeros. transformers does not find weights there: it would take random ones. What has
no such layers (`bf16`, `fused`) is saved as the dense model that it is.

Refuses, each in one line: a model in the `masked` format, a folder whose weights are not those of its
configuration, a class that is not transformers' own, shapes that cannot be, a format that cannot run here.
"""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sparsity.errors import BadValue, ModelNotLoaded, Refused, UnknownName, one_line
from sparsity.execution import converted
from sparsity.formats import AUTO, FORMATS
from sparsity.measure.memory import file_bytes
from sparsity.models.architecture import prunable_layers
from sparsity.models.checkpoint import INDEX, SPARSE, WEIGHTS
from sparsity.prune import PrunedModel
from sparsity.rebuild import Rebuilt, rebuild
from sparsity.sparse_storage import KEY, Recorded, fits, packed, sparse_layers, stored, unpacked

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.formats.protocol import SparseLayer

MASKS = "masks.safetensors"
METADATA = {"format": "pt"}
"""Of every file of weights, as transformers writes it."""
DENSE = "dense"
WAY = 'sparsity.load(folder, format="dense") gives the dense model'


def save(model: PreTrainedModel | PrunedModel, folder: str | Path) -> None:
    """Writes a model, dense, with zeros, compact or in a sparse format, to a folder; of a `PrunedModel` its masks too.

    Raises `Refused` for a model with torch's masks still on, or blocks that are only bypassed, `BadValue`
    where no folder can be.
    """
    from safetensors.torch import save_file

    module, path = model.model if isinstance(model, PrunedModel) else model, Path(folder)
    _refuse_unsayable(module)
    tensors = stored(module) if hasattr(module.config, KEY) else None
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name in (MASKS, SPARSE, WEIGHTS, INDEX):  # of what was saved here before
            (path / name).unlink(missing_ok=True)
        if tensors is None:
            module.save_pretrained(path)
        else:
            _save_configuration(module, path)
            save_file(tensors, path / SPARSE, METADATA)
        if isinstance(model, PrunedModel):
            named = zip(model.layers, model.masks, strict=True)
            save_file({layer.name: packed(mask) for layer, mask in named}, path / MASKS)
    except (OSError, ValueError) as error:
        raise BadValue(f"{folder}: nothing can be saved there: {one_line(error)}") from None


def _refuse_unsayable(module: PreTrainedModel) -> None:
    """What a file cannot say."""
    from sparsity.bypass import is_bypassed

    if any(name.endswith("weight_mask") for name, _ in module.named_buffers()):
        raise Refused("torch's pruning masks are still on; fold them in (format dense) before saving")
    if any(is_bypassed(part) for part in module.modules()):
        raise Refused(
            "removed layers are only bypassed in this model, which a file cannot say; save its compact format"
        )
    if sparse_layers(module) and not hasattr(module.config, KEY):
        raise Refused("which format these sparse layers are in is not said; convert with sparsity.execution.in_format")


def _save_configuration(module: PreTrainedModel, path: Path) -> None:
    """As `save_pretrained` does, but on a copy."""
    config = copy.deepcopy(module.config)
    config.dtype = str(module.dtype).removeprefix("torch.")
    config.architectures = [type(module).__name__]
    config.save_pretrained(path)
    if module.can_generate():
        module.generation_config.save_pretrained(path)


def disk_bytes(model: PreTrainedModel) -> int:
    """Size of the file of weights that `save` writes of a model, without writing it.

    Of a model that `save` refuses it is that of its tensors as they are.
    """
    return file_bytes(stored(model, sizes_alone=True), METADATA)


def load(folder: str | Path, format: str | None = None, device: str = "cpu") -> PreTrainedModel:  # noqa: A002  # the word for it everywhere
    """The model that `save` wrote, in eval mode and without gradients.

    Its parameters are those that were saved, bit for bit, and its attention is transformers' default. What
    a model computes for itself, such as rotary frequencies, is as `from_pretrained` makes it.

    Args:
        folder: that `save` wrote.
        format: of a model that was saved in a sparse format, the one to have it in: "dense", with zeros, or
            another that can run the pattern of its zeros. When not given, what it was saved in; of several
            formats (`auto`) each layer in its own.
        device: where it will run.

    Raises `ModelNotLoaded` for a folder that holds no such model, saying what is wrong, `Refused` for a
    format that cannot run here, `UnknownName` for one that does not exist, `BadValue` for such a device.
    """
    if format not in (None, AUTO, *FORMATS):
        raise UnknownName("format", str(format), (*FORMATS, AUTO))
    read = rebuild(folder)
    try:
        model: PreTrainedModel = read.model.eval().requires_grad_(False).to(device)
    except Exception as error:
        raise BadValue(f"device {device!r} is not here: {one_line(error)}") from None
    if read.sparse is not None:
        if (name := format or read.sparse.format) != DENSE:
            model = _in_format(str(folder), model, read, name)
    elif format not in (None, DENSE):
        raise Refused(f"{folder} was not saved in a sparse format; prune it, and sparsity.execution.in_format converts")
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]  # transformers leaves it untyped


def stored_masks(folder: str | Path) -> dict[str, torch.Tensor]:
    """The masks saved with a `PrunedModel`, `(out, in)` boolean, by layer; empty when there are none.

    Of a model that was saved in a sparse format they are where its file holds weights.
    """
    from safetensors.torch import load_file

    path = Path(folder)
    if not any((path / name).is_file() for name in (MASKS, SPARSE)):
        return {}
    if (read := rebuild(folder)).sparse is not None:
        return read.masks
    shapes = {layer.name: layer.weight.shape for layer in prunable_layers(read.model)}
    try:
        found = load_file(path / MASKS)
    except Exception as error:
        raise ModelNotLoaded(f"{folder}: {MASKS} is not whole: {one_line(error)}") from None
    if surplus := sorted(found.keys() - shapes.keys()):
        raise ModelNotLoaded(f"{folder}: {MASKS} holds a mask for {surplus[0]}, which is no prunable layer")
    for name, shape in shapes.items():
        if name not in found or not fits(found[name], shape):
            raise ModelNotLoaded(f"{folder}: {MASKS} holds no mask that fits {name}, {tuple(shape)}")
    return {name: unpacked(found[name], shape) for name, shape in shapes.items()}


def _in_format(where: str, model: PreTrainedModel, read: Rebuilt, name: str) -> PreTrainedModel:
    """The dense model brought into a format; holds it to the weights of the file."""
    assert read.sparse is not None  # the caller has looked
    layers = prunable_layers(model)
    formats = _formats(where, read.sparse, [layer.name for layer in layers], name)
    pattern, result = read.sparse.pattern, model
    try:
        for each in dict.fromkeys(formats.values()):
            some = [layer for layer in layers if formats[layer.name] == each]
            masks = [read.masks[layer.name].to(model.device) for layer in some]
            result = result if each == DENSE else converted(result, some, masks, pattern, each)
        found = sparse_layers(result)
        wrong = [layer.name for layer in layers if layer.name in found and not _holds(found[layer.name], layer.weight)]
    except Refused as error:
        raise Refused(f"{where}: format {name} cannot run here: {error}; {WAY}") from None
    except Exception as error:  # whatever zeros from elsewhere may lead to
        raise ModelNotLoaded(f"{where}: its weights do not go into format {name}: {one_line(error)}; {WAY}") from None
    if wrong:
        zeros = f"the zeros of {wrong[0]} are not those of pattern {pattern!r}"
        raise ModelNotLoaded(f"{where}: {zeros}, which format {name} relies on; {WAY}")
    if found and read.sparse.formats and name == read.sparse.format:  # each of the several has said its own
        setattr(result.config, KEY, asdict(read.sparse))
    return result


def _formats(where: str, sparse: Recorded, layers: list[str], name: str) -> dict[str, str]:
    """The format of each layer: the same one, or what the configuration says where that is of several."""
    formats = sparse.formats if name == sparse.format and sparse.formats else dict.fromkeys(layers, name)
    if formats.keys() != set(layers):
        layer = min(formats.keys() ^ set(layers))
        raise ModelNotLoaded(
            f"{where}: config.json names formats of other layers than the model's, as of {layer!r}; {WAY}"
        )
    if unknown := sorted(set(formats.values()) - FORMATS.keys()):
        known = ", ".join(FORMATS)
        raise ModelNotLoaded(f"{where}: there is no format {unknown[0]!r} to load it in, known are {known}; {WAY}")
    return {layer: formats[layer] for layer in layers}


def _holds(layer: torch.nn.Module, weight: torch.Tensor) -> bool:
    """Whether a sparse layer has the same numbers; the sign of a zero is none that a format must keep."""
    import torch

    return torch.allclose(cast("SparseLayer", layer).dense_weight(), weight, rtol=0, atol=0, equal_nan=True)
