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

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity.errors import ModelNotLoaded, Refused, SparsityError
from sparsity.models import embedded
from sparsity.models.architecture import architecture_of

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
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise ModelNotLoaded(f"{self.reference}: its tokenizer cannot be loaded: {_first_line(error)}") from None


def check(reference: str) -> None:
    """Whether the reference leads to a model that is understood, without loading weights."""
    if reference not in embedded.NAMES:
        architecture_of(_config(reference).model_type)


def load(reference: str, task: str, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Loaded:
    """The model with the head of a task, "lm" or "classification".

    Raises `ModelNotLoaded` when the reference leads to no usable checkpoint, `ModelNotUnderstood`
    for another family, `Refused` when the checkpoint lacks the head, or random weights are asked to
    classify.
    """
    if reference.startswith(RANDOM):
        if task != "lm":
            raise Refused(f"{reference} has random weights, so there is no quality to measure")
        model, source, folder = _random(_config(reference), dtype, seed), "random", None
    else:
        source = "embedded" if reference in embedded.NAMES else "checkpoint"
        folder = embedded.folder(reference, task) if source == "embedded" else _folder(reference)
        model = _checkpoint(reference, folder, task, dtype)
    model.config.use_cache = False  # a forward pass is measured, not a generation
    model = model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]  # transformers types .to by a Self that mypy loses
    return Loaded(reference, model, source, folder)


def _config(reference: str) -> PreTrainedConfig:
    import transformers

    name = reference.removeprefix(RANDOM)
    if reference.startswith(RANDOM) and name in BUILT_IN:
        kind, changes = BUILT_IN[name]
        config: PreTrainedConfig = getattr(transformers, kind)(**changes)
        return config
    file = Path(name) / "config.json" if _is_path(name) else _from_hub(name, "config.json")
    if not file.is_file():
        raise ModelNotLoaded(f"{name}: no config.json there, so this is no checkpoint folder")
    data = _read_json(name, file)
    model_type = str(data.get("model_type"))
    architecture_of(model_type)  # before transformers sees it: its message for an unknown type is a page
    try:
        loaded: PreTrainedConfig = transformers.AutoConfig.from_pretrained(file.parent, trust_remote_code=False)
    except Exception as error:
        raise ModelNotLoaded(f"{name}: its config.json is not usable: {_first_line(error)}") from None
    return loaded


def _random(config: PreTrainedConfig, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """Seeded weights; the global random state is left as it was."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        auto = getattr(transformers, architecture_of(config.model_type).auto_class)
        model: PreTrainedModel = auto.from_config(config)
    return model.to(dtype)  # type: ignore[no-any-return, arg-type]  # the class is found by name


def _checkpoint(reference: str, folder: Path, task: str, dtype: torch.dtype) -> PreTrainedModel:
    import transformers

    _refuse_incomplete(reference, folder)
    family = architecture_of(str(_read_json(reference, folder / "config.json").get("model_type")))
    auto = getattr(transformers, family.auto_class if task == "lm" else "AutoModelForSequenceClassification")
    try:
        model, report = auto.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelNotLoaded(f"{reference}: its weights cannot be loaded: {_first_line(error)}") from None
    _refuse_missing_weights(reference, task, model, set(report["missing_keys"]))
    if task == "classification" and model.config.pad_token_id is None:
        model.config.pad_token_id = model.config.eos_token_id
    return model  # type: ignore[no-any-return]  # the class is found by name


def _refuse_incomplete(reference: str, folder: Path) -> None:
    """Every file that the weights consist of must be there."""
    if not (folder / "config.json").is_file():
        raise ModelNotLoaded(f"{reference}: no config.json there, so this is no checkpoint folder")
    index = folder / INDEX
    if index.is_file():
        shards = set(_read_json(reference, index).get("weight_map", {}).values())
        if missing := sorted(name for name in shards if not (folder / Path(name).name).is_file()):
            count = f"{len(missing)} of {len(shards)} shards missing"
            raise ModelNotLoaded(f"{reference}: half downloaded, {count}: {missing[0]} …")
    elif not (folder / WEIGHTS).is_file():
        others = sorted(f.name for f in folder.iterdir() if f.suffix in {".bin", ".pt", ".pth", ".h5", ".msgpack"})
        found = f"only {', '.join(others)}, which is not read because it can run code; " if others else ""
        raise ModelNotLoaded(
            f"{reference}: no {WEIGHTS}; {found}save it again with save_pretrained() to get safetensors"
        )


def _refuse_missing_weights(reference: str, task: str, model: PreTrainedModel, missing: set[str]) -> None:
    """A weight that the file lacks would be random: no number measured on it would mean anything."""
    body = model.base_model_prefix + "."
    head = sorted(name for name in missing if not name.startswith(body))
    if head:
        what = "language-modelling" if task == "lm" else "classification"
        raise Refused(f"{reference} has no {what} head ({', '.join(head)} missing); fine-tune it for the task first")
    if missing:
        raise ModelNotLoaded(f"{reference}: the checkpoint lacks {len(missing)} weights, among them {min(missing)}")


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).expanduser().exists()


def _folder(reference: str) -> Path:
    """The local folder of a checkpoint; a hub id is downloaded to the hub client's cache first."""
    if _is_path(reference):
        folder = Path(reference).expanduser()
        if not folder.is_dir():
            raise ModelNotLoaded(f"{reference}: no such folder")
        return folder
    return _from_hub(reference)


def _from_hub(name: str, file: str | None = None) -> Path:
    """One file of a hub repository, or the folder of all that a checkpoint needs."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        if file is not None:
            return Path(huggingface_hub.hf_hub_download(name, file))
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(WANTED), ignore_patterns=["*/*"]))
    except errors.HFValidationError:
        known = ", ".join([*embedded.NAMES, *(RANDOM + n for n in BUILT_IN)])
        raise ModelNotLoaded(f"{name!r} is no hub id, no folder and no built-in model ({known})") from None
    except errors.GatedRepoError:
        raise ModelNotLoaded(f"{name}: gated on the hub; ask for access there, then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        hint = "if it is private, log in with `hf auth login`"
        raise ModelNotLoaded(f"{name}: no such folder, and no such model on the hub; {hint}") from None
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            why = "the hub cannot be reached, and the model is not in the local cache"
            raise ModelNotLoaded(f"{name}: {why}") from None
        raise ModelNotLoaded(f"{name}: the repository has no {file}, so it is no transformers checkpoint") from None
    except SparsityError:
        raise
    except Exception as error:
        raise ModelNotLoaded(f"{name}: cannot be had from the hub: {_first_line(error)}") from None


def _read_json(reference: str, file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelNotLoaded(f"{reference}: {file.name} is not readable JSON: {_first_line(error)}") from None
    if not isinstance(data, dict):
        raise ModelNotLoaded(f"{reference}: {file.name} holds no JSON object")
    return data


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
