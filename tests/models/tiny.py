"""The smallest models of each family, with random weights: made in milliseconds, saved in kilobytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from sparsity.errors import SparsityError
from sparsity.models import embedded

FAMILIES = ("bert", "gpt2", "bart")
TASKS = ("lm", "classification")
CPU = torch.device("cpu")
HIDDEN, FEED_FORWARD, LAYERS, VOCABULARY = 32, 48, 2, 1024
CLASSES = {
    ("bert", "lm"): "BertForMaskedLM",
    ("bert", "classification"): "BertForSequenceClassification",
    ("bert", "body"): "BertModel",
    ("gpt2", "lm"): "GPT2LMHeadModel",
    ("gpt2", "classification"): "GPT2ForSequenceClassification",
    ("gpt2", "body"): "GPT2Model",
    ("bart", "lm"): "BartForConditionalGeneration",
    ("bart", "classification"): "BartForSequenceClassification",
    ("bart", "body"): "BartModel",
}


def config(family: str, **changes: Any) -> transformers.PreTrainedConfig:
    """A configuration that differs from the family's defaults in nothing but its sizes."""
    if family == "bert":
        sizes = {
            "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD, "num_hidden_layers": LAYERS,
            "num_attention_heads": 2, "max_position_embeddings": 16, "vocab_size": VOCABULARY,
        }  # fmt: skip
        return transformers.BertConfig(**sizes | changes)
    if family == "gpt2":
        sizes = {
            "n_embd": HIDDEN, "n_inner": FEED_FORWARD, "n_layer": LAYERS, "n_head": 2, "n_positions": 16,
            "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0,
        }  # fmt: skip
        return transformers.GPT2Config(**sizes | changes)
    sizes = {
        "d_model": HIDDEN, "encoder_layers": LAYERS, "decoder_layers": LAYERS, "encoder_ffn_dim": FEED_FORWARD,
        "decoder_ffn_dim": FEED_FORWARD, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "max_position_embeddings": 16, "vocab_size": VOCABULARY,
    }  # fmt: skip
    return transformers.BartConfig(**sizes | changes)


def model(family: str, task: str, **changes: Any) -> transformers.PreTrainedModel:
    """A model in eval mode; "body" is the task of a model without a head."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        built: transformers.PreTrainedModel = getattr(transformers, CLASSES[family, task])(config(family, **changes))
    built.eval()
    return built


def save(folder: Path, family: str, task: str, **changes: Any) -> Path:
    """A checkpoint folder without a tokenizer."""
    model(family, task, **changes).save_pretrained(folder)
    return folder


def add_tokenizer(folder: Path, family: str) -> None:
    """Put the tokenizer of the embedded model into a checkpoint folder."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(embedded.FOLDER / family / "lm" / name, folder)


def edit_json(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def logits(of: transformers.PreTrainedModel) -> torch.Tensor:
    """What the model answers to always the same two texts."""
    tokens = torch.arange(4, 20).reshape(2, 8)
    tokens[:, -1] = 2  # BART's classifier reads the last end-of-sequence token
    if of.config.pad_token_id is None:
        of.config.pad_token_id = 0  # GPT-2's classifier wants one for two texts
    with torch.no_grad():
        answer: torch.Tensor = of(input_ids=tokens).logits
    return answer


def refusal(kind: type[SparsityError], call: Callable[[], object]) -> str:
    """The message of the refusal that the call must end in: of this kind, one line, without a past."""
    with pytest.raises(SparsityError) as caught:
        call()
    error, message = caught.value, str(caught.value)
    assert type(error) is kind, message
    assert message.isprintable(), f"more than a line: {message!r}"
    assert error.__suppress_context__ or error.__context__ is None, "another error's traceback shows above it"
    return message
