"""A model by any name: embedded, random, a checkpoint folder, or a hub id.

    bert, gpt2, bart          the embedded demonstration models
    random:NAME               full-size architecture, seeded random weights: latency and memory only.
                              NAME is bert-base, gpt2 or bart-base (no network), or a folder or hub id
                              whose configuration is taken
    ./folder                  a transformers checkpoint on this machine
    owner/name                a checkpoint on the hub

Whatever the name, loading ends at a local folder, and reads safetensors from it: a hub id is first
brought to the hub client's cache. Nothing from outside is run: no pickle, no remote code.

Refuses, each in one line: a hub that cannot be reached, an id that does not exist, a folder that holds
no checkpoint, and whatever `checkpoint` refuses.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity.download.snapshot import Kind, NotHad, snapshot
from sparsity.errors import ModelNotLoaded, Refused, one_line, shown
from sparsity.models import checkpoint, embedded, spread
from sparsity.models.architecture import architecture_of
from sparsity.models.checkpoint import family_of

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
TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "merges.txt")
"""One of them at least makes a tokenizer."""
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

    @property
    def objective(self) -> str:
        """How its family's language model is trained: "causal", "masked" or "infilling"."""
        return architecture_of(self.model.config.model_type).objective

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer."""
        from transformers import AutoTokenizer

        if self.folder is None:
            raise Refused(f"{self.reference} has random weights, so there is no quality to measure")
        if not any(self.folder.glob(pattern) for pattern in TOKENIZER_FILES):
            raise Refused(f"{self.reference} has no tokenizer, so no quality is measured; save it beside the weights")
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            raise ModelNotLoaded(f"{self.reference}: its tokenizer cannot be loaded: {one_line(error)}") from None
        # Without its files transformers makes up a tokenizer that knows no word, and says nothing.
        if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_ids)):
            raise Refused(f"{self.reference} has no tokenizer, so no quality is measured; save it beside the weights")
        _refuse_foreign(self.reference, tokenizer.vocab_size, self.model.config.vocab_size)
        return tokenizer


def _refuse_foreign(reference: str, tokens: int, known: int) -> None:
    """A tokenizer of another model; one with fewer tokens than the model has room for is usual."""
    if tokens > known:
        what = f"its tokenizer has {tokens} tokens, its config.json says {known}"
        raise ModelNotLoaded(f"{reference}: {what}; they are not of one model, so save the two together")


def check(reference: str) -> None:
    """Whether the reference leads to a whole model that is understood, without loading weights.

    Raises what `load` would. The weights of a hub id are downloaded, once its configuration is
    understood: that they cannot be had must be known before the first measurement.
    """
    if reference not in embedded.NAMES:
        config_of(reference)
        if not reference.startswith(RANDOM):
            checkpoint.refuse_incomplete(reference, folder_of(reference))


def load(
    reference: str, task: str, dtype: torch.dtype, device: torch.device, seed: int = 0, device_map: str | None = None
) -> Loaded:
    """The model with the head of a task, "lm" or "classification"; on a device, or spread over all GPUs.

    Raises `ModelNotLoaded` when the reference leads to no usable checkpoint, `ModelNotUnderstood`
    for another family, `Refused` when the checkpoint lacks the head, or random weights are asked to
    classify.
    """
    if reference.startswith(RANDOM):
        if task != "lm":
            raise Refused(f"{reference} has random weights, so there is no quality to measure")
        if device_map is not None:
            raise Refused(f"{reference} has random weights, and only a checkpoint is spread; leave out --device-map")
        model, source, folder = _random(reference, dtype, seed), "random", None
    else:
        source = "embedded" if reference in embedded.NAMES else "checkpoint"
        folder = embedded.folder(reference, task) if source == "embedded" else folder_of(reference)
        model = checkpoint.load(reference, folder, task, dtype, device_map=device_map)
    model.config.use_cache = False  # a forward pass is measured, not a generation
    model = spread.settled(reference, model) if device_map else model.to(device)  # type: ignore[arg-type]  # as .to is
    model = model.eval().requires_grad_(False)
    return Loaded(reference, model, source, folder)


def config_of(reference: str) -> PreTrainedConfig:
    """The configuration that the reference leads to, of a family that is understood."""
    import transformers

    name = reference.removeprefix(RANDOM)
    if reference.startswith(RANDOM) and name in BUILT_IN:
        kind, changes = BUILT_IN[name]
        config: PreTrainedConfig = getattr(transformers, kind)(**changes)
        return config
    folder = folder_of(reference, ("config.json",))
    family_of(reference, folder)  # before transformers sees it: its message for an unknown type is a page
    try:
        loaded: PreTrainedConfig = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelNotLoaded(f"{reference}: its config.json is not usable: {one_line(error)}") from None
    return loaded


def _random(reference: str, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """Seeded weights; the global random state is left as it was."""
    import torch
    import transformers

    config = config_of(reference)
    auto = getattr(transformers, architecture_of(config.model_type).auto_class)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` seeds every GPU as well
            model: PreTrainedModel = auto.from_config(config)
    except Exception as error:
        raise ModelNotLoaded(f"{reference}: no model can be built from its config: {one_line(error)}") from None
    return model.to(dtype)  # type: ignore[no-any-return, arg-type]  # the class is found by name


def folder_of(reference: str, files: tuple[str, ...] = WANTED) -> Path:
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
            raise ModelNotLoaded(f"{shown(reference)}: {what}")
        if not os.access(path, os.R_OK | os.X_OK):
            raise ModelNotLoaded(f"{reference}: the folder may not be read; mend its permissions")
        where = "there"
    else:
        path, where = _from_hub(reference, name, files), "in the repository"
    if not (path / "config.json").is_file():
        raise ModelNotLoaded(f"{reference}: no config.json {where}, so this is no transformers checkpoint")
    return path


def _from_hub(reference: str, name: str, files: tuple[str, ...]) -> Path:
    """The folder in the hub client's cache that holds these files of a repository."""
    try:
        return snapshot(name, files)
    except NotHad as error:
        why = str(error)
        if error.kind is Kind.NO_ID:
            why += f", no folder and no built-in model ({KNOWN})"
        if error.kind is Kind.UNKNOWN:
            why = f"is no folder, and no model on the hub or a private one (`hf auth login`); built in: {KNOWN}"
        if error.kind is Kind.UNREACHABLE:
            why += f"; no network needed: {KNOWN}"
    nearest = difflib.get_close_matches(reference, BY_NAME, n=1, cutoff=0.75)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ModelNotLoaded(f"{shown(reference)} {why}{hint}")
