"""A saved folder read back: a dense model of transformers, built to its configuration and filled from its files.

Nothing in a folder is trusted. Refuses, each in one line: weights that are not those of the configuration,
a class that is not transformers' own, shapes that cannot be, quantised weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity.errors import ModelNotLoaded, ModelNotUnderstood, one_line
from sparsity.models.architecture import architecture_of, prunable_layers
from sparsity.models.checkpoint import INDEX, SPARSE, WEIGHTS, read_json, refuse_cut_short, refuse_incomplete
from sparsity.shrink import KEY, to_shapes
from sparsity.sparse_storage import KEY as SPARSE_KEY
from sparsity.sparse_storage import Recorded, kept, recorded, whole

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LARGEST = 1 << 24
"""No width or number of blocks is larger."""


@dataclass(frozen=True)
class Rebuilt:
    """What a folder holds."""

    model: PreTrainedModel
    """Dense, with zeros in place where it was saved in a sparse format."""
    sparse: Recorded | None
    """That format."""
    masks: dict[str, torch.Tensor]
    """By layer, where it was."""


def rebuild(folder: str | Path) -> Rebuilt:
    """The model of a folder; raises `ModelNotLoaded` where there is none, saying what is wrong."""
    path, where = Path(folder), str(folder)
    try:
        there = (path / "config.json").is_file()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise ModelNotLoaded(f"{where}: no config.json there; give a folder that sparsity.save wrote")
    raw = read_json(where, path / "config.json")
    sparse = recorded(where, raw.pop(SPARSE_KEY, None))
    files = _files(where, path, sparse is not None)
    compact = raw.pop(KEY, None)
    try:
        model = _built(where, raw, compact)
    except ModelNotLoaded:
        raise
    except Exception as error:  # whatever a configuration from elsewhere may lead to
        raise ModelNotLoaded(f"{where}: no model can be built from its config.json: {one_line(error)}") from None
    tensors = _tensors(path, files)
    if sparse is None:
        _fill(where, WEIGHTS, tensors, model)
        return Rebuilt(model, None, {})
    try:
        layers = prunable_layers(model)
    except ModelNotUnderstood as error:
        raise ModelNotLoaded(f"{where}: its config.json is of no model that has a sparse format: {error}") from None
    tensors, masks = whole(where, tensors, layers)
    _fill(where, SPARSE, tensors, model)
    return Rebuilt(
        model,
        sparse,
        {layer.name: masks[layer.name] if layer.name in masks else kept(layer.weight) for layer in layers},
    )


def _files(where: str, path: Path, sparse: bool) -> list[str]:
    """Those that the weights consist of, each there and whole."""
    if sparse:
        if not (path / SPARSE).is_file():
            raise ModelNotLoaded(f"{where}: no {SPARSE}, where its config.json has the weights; save the model again")
        refuse_cut_short(where, path, {SPARSE})
        return [SPARSE]
    refuse_incomplete(where, path)
    one = (path / WEIGHTS).is_file()
    return [WEIGHTS] if one else sorted(set(read_json(where, path / INDEX)["weight_map"].values()))


def _tensors(path: Path, files: list[str]) -> dict[str, torch.Tensor]:
    """Cloned: a file's tensors lie where they lie, and products of unaligned ones may round otherwise."""
    from safetensors.torch import load_file

    return {name: tensor.clone() for file in files for name, tensor in load_file(path / file).items()}


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


def _fill(where: str, file: str, tensors: dict[str, torch.Tensor], model: PreTrainedModel) -> None:
    """Every tensor in the dtype that it has in the file; nothing missing, left over or of another shape."""
    expected = model.state_dict()
    for name, tensor in tensors.items():
        if name not in expected:
            raise ModelNotLoaded(f"{where}: {file} holds {name}, which its config.json has no place for")
        if tensor.shape != expected[name].shape:
            found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
            raise ModelNotLoaded(f"{where}: {name} is {found} where config.json wants {wanted}; save the model again")
        if tensor.is_floating_point() != expected[name].is_floating_point():
            kinds = f"{tensor.dtype} where the model has {expected[name].dtype}"
            raise ModelNotLoaded(f"{where}: {name} is {kinds}; save the model again")
    tied = _tied(model)
    if missing := [name for name in expected if name not in tensors and not tied.get(name, set()) & tensors.keys()]:
        raise ModelNotLoaded(f"{where}: {file} lacks {missing[0]}; save the model again")
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()


def _tied(model: PreTrainedModel) -> dict[str, set[str]]:
    """For each tensor the names that share its storage."""
    names: dict[int, set[str]] = {}
    for name, tensor in model.state_dict().items():
        names.setdefault(tensor.data_ptr(), set()).add(name)
    return {name: shared for shared in names.values() for name in shared}
