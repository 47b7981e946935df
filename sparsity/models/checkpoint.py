"""A checkpoint folder, read: safetensors only, whole, and exactly what its configuration says.

A weight that is missing would be random, one that does not fit would be too, and a block that the
configuration leaves out would not be measured: no number from such a model means anything.

Refuses, each in one line: weights in another file format or cut short, a family whose blocks are not
understood, weights that are missing, of another shape or of blocks that the configuration does not
have, and a checkpoint that lacks the head a task needs.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from sparsity.errors import ModelNotLoaded, ModelNotUnderstood, Refused, one_line
from sparsity.models import pickled
from sparsity.models.architecture import architecture_of
from sparsity.models.families import Architecture

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BODY = "body"
"""The task of a model without a head, which is but the start of another."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SPARSE = "sparse.safetensors"
"""The weights of a model in a sparse format (`sparsity.saving`). By this name no one else takes them for dense ones."""


def family_of(reference: str, folder: Path) -> Architecture:
    """The family that the folder's configuration names; raises `ModelNotUnderstood` for another."""
    try:
        return architecture_of(str(read_json(reference, folder / "config.json").get("model_type")))
    except ModelNotUnderstood as error:
        raise ModelNotUnderstood(f"{reference}: {error}") from None


def load(
    reference: str,
    folder: Path,
    task: str,
    dtype: torch.dtype,
    classes: int | None = None,
    device_map: str | None = None,
) -> PreTrainedModel:
    """The folder's model with the head of a task; `classes` of its classifier, where not those of its configuration.

    `device_map`, one of `spread.WAYS`, has accelerate spread it over the GPUs.

    Of task "body" it is the model without any head, whatever the checkpoint has; a pooler is the head's here, and there
    only if the checkpoint has one.

    `reference` begins the message of an error. Raises `ModelNotLoaded`, `ModelNotUnderstood` or, for a
    missing head, `Refused`.
    """
    import transformers

    family = family_of(reference, folder)
    refuse_incomplete(reference, folder)
    by_task = {"lm": family.auto_class, "classification": "AutoModelForSequenceClassification", BODY: "AutoModel"}
    auto = getattr(transformers, by_task[task])
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would print a page on what is refused below in a line
    try:
        model, report = auto.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused below in words
            **({} if classes is None else {"num_labels": classes}),
            **({} if device_map is None else {"device_map": device_map}),
        )
    except Exception as error:
        raise ModelNotLoaded(f"{reference}: its weights cannot be loaded: {one_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)
    if classes is None and (in_weights := _classes(reference, folder, model, report["mismatched_keys"])):
        return load(reference, folder, task, dtype, in_weights, device_map)
    refuse_wrong_shapes(reference, report["mismatched_keys"])
    missing = set(report["missing_keys"])
    if task == BODY and any(name.startswith("pooler.") for name in missing):
        model.pooler, missing = None, {name for name in missing if not name.startswith("pooler.")}
    _refuse_missing_weights(reference, task, model, missing)
    refuse_surplus_blocks(reference, family, model, report["unexpected_keys"])
    if task == "classification" and model.config.pad_token_id is None:
        ends = model.config.eos_token_id  # Llama 3 has several
        model.config.pad_token_id = ends[0] if isinstance(ends, list) else ends
    return model  # type: ignore[no-any-return]  # the class is found by name


def refuse_incomplete(reference: str, folder: Path) -> None:
    """Every file that the weights consist of must be there, and be safetensors."""
    if (folder / WEIGHTS).is_file():
        refuse_cut_short(reference, folder, {WEIGHTS})
        return
    index = folder / INDEX
    if not index.is_file():
        if (folder / SPARSE).is_file():
            way = 'save() it as sparsity.load(folder, format="dense") gives it'
            raise ModelNotLoaded(f"{reference}: no {WEIGHTS} but {SPARSE}, of a sparse format; for dense weights {way}")
        others = sorted(f.name for f in folder.iterdir() if f.suffix in {".bin", ".pt", ".pth", ".h5", ".msgpack"})
        raise ModelNotLoaded(f"{reference}: no {WEIGHTS}{_instead(reference, folder, others)}")
    shards = read_json(reference, index).get("weight_map")
    if not isinstance(shards, dict) or not all(str(name).endswith(".safetensors") for name in shards.values()):
        raise ModelNotLoaded(f"{reference}: {INDEX} lists other files than safetensors, which are not read")
    if not shards:
        raise ModelNotLoaded(f"{reference}: {INDEX} lists no weights; download it again")
    names = set(map(str, shards.values()))
    if outside := sorted(name for name in names if PureWindowsPath(name).name != name):  # "/" is one of its separators
        raise ModelNotLoaded(f"{reference}: {INDEX} lists {outside[0]!r}, and no file outside of the folder is read")
    if missing := sorted(name for name in names if not (folder / name).is_file()):
        count = f"{len(missing)} of {len(names)} shards missing"
        raise ModelNotLoaded(f"{reference}: half downloaded, {count} ({missing[0]} …); download it again")
    refuse_cut_short(reference, folder, names)


def _instead(reference: str, folder: Path, others: list[str]) -> str:
    """What is there in place of safetensors, and the way to them."""
    why = "other formats are not read, because a pickle can run code"
    found = f" but {', '.join(others)}" if others else ""
    if any((folder / name).is_file() for name in pickled.PICKLED):
        trust = "if you trust it, convert it once"
    elif not pickled.is_local(reference):  # of the hub, where such files are not even fetched
        trust = f"if it has a {pickled.PICKLED[0]} that you trust, convert it once"
    else:
        return f"{found}; {why}: save it again with save_pretrained()"
    return f"{found}; {why}: {trust}: {pickled.conversion(reference, folder)}"


def refuse_cut_short(reference: str, folder: Path, names: set[str]) -> None:
    """Opening a safetensors file compares its length with what its header promises."""
    import safetensors

    for name in sorted(names):
        try:
            with safetensors.safe_open(folder / name, framework="numpy"):
                pass
        except Exception as error:
            raise ModelNotLoaded(f"{reference}: {name} is not whole: {one_line(error)}; download it again") from None


def _classes(
    reference: str, folder: Path, model: PreTrainedModel, mismatched: Iterable[tuple[str, Any, Any]]
) -> int | None:
    """How many classes a classifier has by its weights, where only the default of its configuration says otherwise.

    transformers does not write down the labels of a classifier with two classes; BART's default is three.
    """
    if "id2label" in read_json(reference, folder / "config.json"):
        return None
    found = [(name, shape) for name, shape, _ in mismatched]
    if any(name.startswith(f"{model.base_model_prefix}.") for name, _ in found):
        return None
    counts = {shape[0] for _, shape in found}
    return int(counts.pop()) if len(counts) == 1 else None


def refuse_surplus_blocks(
    reference: str, family: Architecture, model: PreTrainedModel, unexpected: Iterable[str]
) -> None:
    """Weights of a block that the configuration does not have: half of the model would be measured."""
    for stack in family.stacks or ():
        blocks = len(list(model.base_model.get_submodule(stack.path).children()))
        place = re.compile(rf"(?:^|\.){re.escape(stack.path)}\.(\d+)\.")
        surplus = {int(found[1]) for name in unexpected if (found := place.search(name)) and int(found[1]) >= blocks}
        if surplus:
            has = f"its weights have {max(surplus) + 1} blocks in {stack.path}, its config.json {blocks}"
            raise ModelNotLoaded(f"{reference}: {has}; mend config.json, or save the model again")


def refuse_wrong_shapes(reference: str, mismatched: Iterable[tuple[str, Any, Any]]) -> None:
    """Weights that do not fit their place would be random there."""
    wrong = sorted(mismatched)
    if wrong:
        name, found, expected = wrong[0]
        more = f", and {len(wrong) - 1} more weights do not fit" if len(wrong) > 1 else ""
        where = f"{name} is {tuple(found)} where config.json wants {tuple(expected)}"
        raise ModelNotLoaded(f"{reference}: {where}{more}; its config.json is not that of its weights")


def _refuse_missing_weights(reference: str, task: str, model: PreTrainedModel, missing: set[str]) -> None:
    """A weight that the file lacks would be random: no number measured on it would mean anything."""
    body = missing if task == BODY else {name for name in missing if name.startswith(model.base_model_prefix + ".")}
    head = sorted(missing - body)
    # A language-modelling head may be tied to the body, and then is missing with it. A classifier's
    # pooler belongs to the body, and is missing with the head.
    if head and not (task == "lm" and body):
        raise Refused(f"{reference} has no {_of_head(reference, task, head)}")
    if missing:
        more = f" and {len(missing) - 1} more weights" if len(missing) > 1 else ""
        raise ModelNotLoaded(f"{reference}: the checkpoint lacks {min(body or missing)}{more}; save or fetch it again")


def _of_head(reference: str, task: str, missing: list[str]) -> str:
    """Which head is not there, and what to do."""
    shown = next((name for name in missing if name.endswith("weight")), missing[0])
    which = f"({shown}{', …' if len(missing) > 1 else ''} missing)"
    if task == "lm":
        return f"language-modelling head {which}; save the model with it, or measure its classifier alone"
    command = f"python -m sparsity.fine_tune {shlex.quote(reference)} --data … --out …"
    return f"classification head {which}; {command} makes one, or --fine-tune 300 does so within the run"


def read_json(reference: str, file: Path) -> dict[str, Any]:
    """The object in a JSON file; raises `ModelNotLoaded` where there is none."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelNotLoaded(f"{reference}: {file.name} is not readable JSON: {one_line(error)}") from None
    if not isinstance(data, dict):
        raise ModelNotLoaded(f"{reference}: {file.name} holds no JSON object")
    return data
