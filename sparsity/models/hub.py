"""A model by any name: embedded, random, a checkpoint folder, or a hub id.

    bert, gpt2, bart          the embedded demonstration models
    random:NAME               full-size architecture, seeded random weights: latency and memory only.
                              NAME is bert-base, gpt2 or bart-base (no network), or a folder or hub id
                              whose configuration is taken
    ./folder                  a transformers checkpoint on this machine
    owner/name                a checkpoint on the hub

Whatever the name, loading ends at a local folder, and reads safetensors from it: a hub id is first
brought to the hub client's cache. Nothing from outside is run: no pickle, no remote code.

Refuses, each in one line: a hub that cannot be reached, an id that does not exist, a folder that is
not a whole checkpoint, weights in another file format, a family whose blocks are not understood, a
checkpoint that lacks the head a task needs.
"""

from __future__ import annotations

import difflib
import json
import os
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity.errors import ModelNotLoaded, ModelNotUnderstood, Refused
from sparsity.models import embedded
from sparsity.models.architecture import Architecture, architecture_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

RANDOM = "random:"
BUILT_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base": ("BertConfig", {}),
    "gpt2": ("GPT2Config", {}),
    "bart-base": (
        "BartConfig",
        {
            "d_model": 768,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
        },
    ),
}
"""Configuration class and what differs from its defaults, for `random:` without a network."""
WANTED = ("*.json", "*.safetensors", "*.txt", "*.model")
"""The files of a hub repository that a checkpoint consists of."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BY_NAME = [*embedded.NAMES, *(RANDOM + name for name in BUILT_IN)]
"""The names that need no network."""
KNOWN = ", ".join(BY_NAME)


@dataclass(frozen=True)
class Loaded:
    """A model ready to be measured: in eval mode, without gradients, on its device."""

    reference: str
    model: PreTrainedModel
    source: str
    """"embedded", "random" or "checkpoint"."""
    folder: Path | None
    """Where its tokenizer is; None for random weights."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer."""
        from transformers import AutoTokenizer

        if self.folder is None:
            raise Refused(f"{self.reference} has random weights, so there is no quality to measure")
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise ModelNotLoaded(f"{self.reference}: its tokenizer cannot be loaded: {_one_line(error)}") from None
        # Without its files transformers makes up a tokenizer that knows no word, and says nothing.
        if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_ids)):
            raise ModelNotLoaded(f"{self.reference}: no vocabulary there; save its tokenizer beside the weights")
        return tokenizer


def check(reference: str) -> None:
    """Whether the reference leads to a whole model that is understood, without loading weights.

    Raises what `load` would. The weights of a hub id are downloaded, once its configuration is
    understood: that they cannot be had must be known before the first measurement.
    """
    if reference not in embedded.NAMES:
        _config(reference)
        if not reference.startswith(RANDOM):
            _refuse_incomplete(reference, _folder(reference))


def load(reference: str, task: str, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Loaded:
    """The model with the head of a task, "lm" or "classification".

    Raises `ModelNotLoaded` when the reference leads to no usable checkpoint, `ModelNotUnderstood`
    for another family, `Refused` when the checkpoint lacks the head, or random weights are asked to
    classify.
    """
    if reference.startswith(RANDOM):
        if task != "lm":
            raise Refused(f"{reference} has random weights, so there is no quality to measure")
        model, source, folder = _random(reference, dtype, seed), "random", None
    else:
        source = "embedded" if reference in embedded.NAMES else "checkpoint"
        folder = embedded.folder(reference, task) if source == "embedded" else _folder(reference)
        model = _checkpoint(reference, folder, task, dtype)
    model.config.use_cache = False  # a forward pass is measured, not a generation
    model = model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]  # transformers types .to by a Self that mypy loses
    return Loaded(reference, model, source, folder)


def _config(reference: str) -> PreTrainedConfig:
    """The configuration that the reference leads to, of a family that is understood."""
    import transformers

    name = reference.removeprefix(RANDOM)
    if reference.startswith(RANDOM) and name in BUILT_IN:
        kind, changes = BUILT_IN[name]
        config: PreTrainedConfig = getattr(transformers, kind)(**changes)
        return config
    folder = _folder(reference, ("config.json",))
    _family(reference, folder)  # before transformers sees it: its message for an unknown type is a page
    try:
        loaded: PreTrainedConfig = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelNotLoaded(f"{reference}: its config.json is not usable: {_one_line(error)}") from None
    return loaded


def _family(reference: str, folder: Path) -> Architecture:
    try:
        return architecture_of(str(_read_json(reference, folder / "config.json").get("model_type")))
    except ModelNotUnderstood as error:
        raise ModelNotUnderstood(f"{reference}: {error}") from None


def _random(reference: str, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """Seeded weights; the global random state is left as it was."""
    import torch
    import transformers

    config = _config(reference)
    auto = getattr(transformers, architecture_of(config.model_type).auto_class)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: PreTrainedModel = auto.from_config(config)
    except Exception as error:
        raise ModelNotLoaded(f"{reference}: no model can be built from its config: {_one_line(error)}") from None
    return model.to(dtype)  # type: ignore[no-any-return, arg-type]  # the class is found by name


def _checkpoint(reference: str, folder: Path, task: str, dtype: torch.dtype) -> PreTrainedModel:
    import transformers

    family = _family(reference, folder)
    _refuse_incomplete(reference, folder)
    auto = getattr(transformers, family.auto_class if task == "lm" else "AutoModelForSequenceClassification")
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
        )
    except Exception as error:
        raise ModelNotLoaded(f"{reference}: its weights cannot be loaded: {_one_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)
    _refuse_wrong_shapes(reference, report["mismatched_keys"])
    _refuse_missing_weights(reference, task, model, set(report["missing_keys"]))
    if task == "classification" and model.config.pad_token_id is None:
        model.config.pad_token_id = model.config.eos_token_id
    return model  # type: ignore[no-any-return]  # the class is found by name


def _refuse_incomplete(reference: str, folder: Path) -> None:
    """Every file that the weights consist of must be there, and be safetensors."""
    if (folder / WEIGHTS).is_file():
        return
    index = folder / INDEX
    if not index.is_file():
        others = sorted(f.name for f in folder.iterdir() if f.suffix in {".bin", ".pt", ".pth", ".h5", ".msgpack"})
        found = f" but {', '.join(others)}" if others else ""
        why = "other formats are not read, because a pickle can run code"
        raise ModelNotLoaded(f"{reference}: no {WEIGHTS}{found}; {why}: save it again with save_pretrained()")
    shards = _read_json(reference, index).get("weight_map")
    if not isinstance(shards, dict) or not all(str(name).endswith(".safetensors") for name in shards.values()):
        raise ModelNotLoaded(f"{reference}: {INDEX} lists other files than safetensors, which are not read")
    names = set(shards.values())
    if missing := sorted(name for name in names if not (folder / name).is_file()):
        count = f"{len(missing)} of {len(names)} shards missing"
        raise ModelNotLoaded(f"{reference}: half downloaded, {count} ({missing[0]} …); download it again")


def _refuse_wrong_shapes(reference: str, mismatched: Iterable[tuple[str, Any, Any]]) -> None:
    """Weights that do not fit their place would be random there."""
    wrong = sorted(mismatched)
    if wrong:
        name, found, expected = wrong[0]
        more = f", and {len(wrong) - 1} more weights do not fit" if len(wrong) > 1 else ""
        where = f"{name} is {tuple(found)} where config.json wants {tuple(expected)}"
        raise ModelNotLoaded(f"{reference}: {where}{more}; its config.json is not that of its weights")


def _refuse_missing_weights(reference: str, task: str, model: PreTrainedModel, missing: set[str]) -> None:
    """A weight that the file lacks would be random: no number measured on it would mean anything."""
    body = {name for name in missing if name.startswith(model.base_model_prefix + ".")}
    head = sorted(missing - body)
    # A language-modelling head may be tied to the body, and then is missing with it. A classifier's
    # pooler belongs to the body, and is missing with the head.
    if head and not (task == "lm" and body):
        what = "language-modelling" if task == "lm" else "classification"
        raise Refused(f"{reference} has no {what} head ({', '.join(head)} missing); fine-tune it for the task first")
    if missing:
        more = f" and {len(missing) - 1} more weights" if len(missing) > 1 else ""
        raise ModelNotLoaded(f"{reference}: the checkpoint lacks {min(body or missing)}{more}; save or fetch it again")


def _folder(reference: str, files: tuple[str, ...] = WANTED) -> Path:
    """The local folder of a checkpoint; of a hub id, some files are first brought to the hub client's cache."""
    name = reference.removeprefix(RANDOM)
    if not name or not name.isprintable():
        raise ModelNotLoaded(f"{reference!r} names no model; give a hub id, a folder, or one of {KNOWN}")
    try:
        path = Path(name).expanduser()
        there, is_folder = path.exists(), path.is_dir()
    except (OSError, RuntimeError):  # a name too long for a file, a folder behind a closed one, a home of nobody
        there = is_folder = False
    if there or name.startswith((".", "/", "~")):
        if not is_folder:
            what = "is a file; give the folder that it is in" if there else "no such folder"
            raise ModelNotLoaded(f"{_shown(reference)}: {what}")
        if not os.access(path, os.R_OK | os.X_OK):
            raise ModelNotLoaded(f"{reference}: the folder may not be read; mend its permissions")
        where = "there"
    else:
        path, where = _from_hub(reference, name, files), "in the repository"
    if not (path / "config.json").is_file():
        raise ModelNotLoaded(f"{reference}: no config.json {where}, so this is no transformers checkpoint")
    return path


def _from_hub(reference: str, name: str, files: tuple[str, ...]) -> Path:
    """The folder in the hub client's cache that holds these files of a repository.

    One file is asked for as a whole snapshot would be: for a single one the client retries an
    unreachable hub for 23 seconds before it gives up.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(files), ignore_patterns=["*/*"]))
    except errors.HFValidationError:
        why = f"is no hub id, no folder and no built-in model ({KNOWN})"
    except errors.GatedRepoError:
        why = "is gated on the hub; ask for access there, then `hf auth login`"
    except errors.RepositoryNotFoundError:
        why = f"is no folder, and no model on the hub or a private one (`hf auth login`); built in: {KNOWN}"
    except errors.LocalEntryNotFoundError as error:
        cause = f" ({_one_line(error.__cause__)})" if error.__cause__ else ""
        why = f"is not in the local cache, and the hub cannot be reached{cause}; no network needed: {KNOWN}"
    except Exception as error:
        why = f"cannot be had from the hub: {_one_line(error)}"
    nearest = difflib.get_close_matches(reference, BY_NAME, n=1, cutoff=0.75)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ModelNotLoaded(f"{_shown(reference)} {why}{hint}")


def _read_json(reference: str, file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelNotLoaded(f"{reference}: {file.name} is not readable JSON: {_one_line(error)}") from None
    if not isinstance(data, dict):
        raise ModelNotLoaded(f"{reference}: {file.name} holds no JSON object")
    return data


def _shown(reference: str) -> str:
    """A path may be long; what no path is, is cut."""
    return reference if len(reference) <= 200 else f"{reference[:100]}… ({len(reference)} characters)"


def _one_line(error: BaseException) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(error))  # some colour what they say
    return textwrap.shorten(text, 200, placeholder=" …") or type(error).__name__
