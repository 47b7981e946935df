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

from sparsity.errors import BadValue, ModelNotLoaded, Refused
from sparsity.models.architecture import architecture_of, prunable_layers
from sparsity.models.checkpoint import INDEX, WEIGHTS, one_line, read_json, refuse_incomplete
from sparsity.prune import PrunedModel
from sparsity.shrink import KEY, to_shapes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MASKS = "masks.safetensors"
LARGEST = 1 << 24
"""No width or number of blocks is larger."""


def save(model: PreTrainedModel | PrunedModel, folder: str | Path) -> None:
    """Writes a model, dense, with zeros or compact, to a folder; of a `PrunedModel` its masks as well.

    Raises `Refused` for a model with torch's masks still on, or blocks that are only bypassed, `BadValue`
    where no folder can be.
    """
    from safetensors.torch import save_file

    from sparsity.bypass import is_bypassed

    module, path = model.model if isinstance(model, PrunedModel) else model, Path(folder)
    if any(name.endswith("weight_mask") for name, _ in module.named_buffers()):
        raise Refused("torch's pruning masks are still on; fold them in (format dense) before saving")
    if any(is_bypassed(part) for part in module.modules()):
        raise Refused(
            "removed layers are only bypassed in this model, which a file cannot say; save its compact format"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / MASKS).unlink(missing_ok=True)  # of what was saved here before
        module.save_pretrained(path)
        if isinstance(model, PrunedModel):
            named = zip(model.layers, model.masks, strict=True)
            save_file({layer.name: _packed(mask) for layer, mask in named}, path / MASKS)
    except (OSError, ValueError) as error:
        raise BadValue(f"{folder}: nothing can be saved there: {one_line(error)}") from None


def load(folder: str | Path) -> PreTrainedModel:
    """The model that `save` wrote, in eval mode and without gradients.

    Its parameters are those that were saved, bit for bit, and its attention is transformers' default. What
    a model computes for itself, such as rotary frequencies, is as `from_pretrained` makes it.

    Raises `ModelNotLoaded` for a folder that holds no such model, saying what is wrong.
    """
    path, where = Path(folder), str(folder)
    try:
        there = (path / "config.json").is_file()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise ModelNotLoaded(f"{where}: no config.json there; give a folder that sparsity.save wrote")
    raw = read_json(where, path / "config.json")
    refuse_incomplete(where, path)
    compact = raw.pop(KEY, None)
    try:
        model = _built(where, raw, compact)
    except ModelNotLoaded:
        raise
    except Exception as error:  # whatever a configuration from elsewhere may lead to
        raise ModelNotLoaded(f"{where}: no model can be built from its config.json: {one_line(error)}") from None
    _fill(where, path, model)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]  # transformers leaves it untyped


def stored_masks(folder: str | Path) -> dict[str, torch.Tensor]:
    """The masks saved with a `PrunedModel`, `(out, in)` boolean, by layer; empty when there are none."""
    import torch
    from safetensors.torch import load_file

    path = Path(folder)
    if not (path / MASKS).is_file():
        return {}
    shapes = {layer.name: layer.weight.shape for layer in prunable_layers(load(folder))}
    try:
        packed = load_file(path / MASKS)
    except Exception as error:
        raise ModelNotLoaded(f"{folder}: {MASKS} is not whole: {one_line(error)}") from None
    if surplus := sorted(packed.keys() - shapes.keys()):
        raise ModelNotLoaded(f"{folder}: {MASKS} holds a mask for {surplus[0]}, which is no prunable layer")
    for name, shape in shapes.items():
        found = packed.get(name)
        if found is None or found.dtype != torch.uint8 or found.shape != (-(-shape.numel() // 8),):
            raise ModelNotLoaded(f"{folder}: {MASKS} holds no mask that fits {name}, {tuple(shape)}")
    return {name: _unpacked(packed[name], shape) for name, shape in shapes.items()}


def _built(where: str, raw: dict[str, Any], compact: Any) -> PreTrainedModel:
    """A model of the configuration, brought to its shapes; its weights are filled later."""
    import torch
    import transformers

    kind = _class(where, raw)
    if raw.get("quantization_config") is not None:
        raise ModelNotLoaded(f"{where}: config.json has a quantization_config; save the model unquantised")
    # Attention by name could be code from the hub, so it is not taken from a file.
    plain = {key: value for key, value in raw.items() if "attn_implementation" not in key}
    before, shapes = ({}, None) if compact is None else _checked(where, raw, compact)
    config = transformers.AutoConfig.for_model(plain.pop("model_type"), **{**plain, **before})
    if type(config) is not kind.config_class:
        raise ModelNotLoaded(f"{where}: a {kind.__name__} is of another family than {config.model_type!r}")
    with torch.random.fork_rng(devices=[]):
        model = kind(config)
    if compact is not None:
        try:
            to_shapes(model, shapes)
        except ValueError as error:
            raise ModelNotLoaded(f"{where}: config.json gives shapes that cannot be: {one_line(error)}") from None
        for name in compact["before"]:
            setattr(model.config, name, raw[name])
        setattr(model.config, KEY, compact)
    return model


def _checked(where: str, raw: dict[str, Any], compact: Any) -> tuple[dict[str, int | None], Any]:
    """(the widths that the configuration had before, the shapes), of what follow_config wrote.

    The number of blocks is not among the former: a model of so many is built as there are left.
    """
    if not isinstance(compact, dict) or not isinstance(compact.get("before"), dict) or "shapes" not in compact:
        raise ModelNotLoaded(f"{where}: config.json gives shapes that cannot be: {KEY!r} holds no before and shapes")
    stacks = architecture_of(str(raw.get("model_type"))).stacks or ()
    blocks = {key for stack in stacks for key in stack.config.blocks}
    widths = {key for stack in stacks for keys in stack.config.widths for key in keys}
    before: dict[str, Any] = compact["before"]
    if before.keys() != blocks | widths:
        raise ModelNotLoaded(
            f"{where}: config.json gives shapes that cannot be: {KEY!r} has other keys than the family's"
        )
    for key, value in before.items():
        now = raw.get(key)
        by_default = value is None and key in widths  # GPT-2's n_inner: four times the width, unless said
        if by_default and (now is None or type(now) is int):
            continue
        if type(value) is not int or type(now) is not int or not 0 < now <= value <= LARGEST:
            raise ModelNotLoaded(
                f"{where}: config.json gives shapes that cannot be: {key} was {value!r}, and is {now!r}"
            )
    return {key: before[key] for key in widths}, compact["shapes"]


def _class(where: str, raw: dict[str, Any]) -> type[PreTrainedModel]:
    """The class that the configuration names: a whole model of transformers, nothing else."""
    import transformers

    names = raw.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    kind: Any = getattr(transformers, name, None) if isinstance(name, str) else None
    a_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not a_model or not callable(getattr(kind, "forward", None)):
        raise ModelNotLoaded(f"{where}: config.json names the class {name!r}, which is no model of transformers")
    found: type[PreTrainedModel] = kind
    return found


def _fill(where: str, path: Path, model: PreTrainedModel) -> None:
    """Every tensor from the files, in the dtype that it has there; nothing missing, left over or of another shape."""
    from safetensors.torch import load_file

    one = (path / WEIGHTS).is_file()
    files = [WEIGHTS] if one else sorted(set(read_json(where, path / INDEX)["weight_map"].values()))
    tensors = {name: tensor for file in files for name, tensor in load_file(path / file).items()}
    expected = model.state_dict()
    for name, tensor in tensors.items():
        if name not in expected:
            raise ModelNotLoaded(f"{where}: {WEIGHTS} holds {name}, which its config.json has no place for")
        if tensor.shape != expected[name].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise ModelNotLoaded(f"{where}: {name} is {found} where config.json wants {wanted}; save the model again")
        if tensor.is_floating_point() != expected[name].is_floating_point():
            kinds = f"{tensor.dtype} where the model has {expected[name].dtype}"
            raise ModelNotLoaded(f"{where}: {name} is {kinds}; save the model again")
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
