"""The shipped models: whole, unchanged, small, and loadable as any other checkpoint."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparsity.errors import ModelNotLoaded
from sparsity.models import embedded, hub
from sparsity.tasks.reviews import ReviewGrammar
from tests.models import tiny

SIZE_LIMIT = 8 * 2**20


def _files() -> dict[str, Path]:
    found = (file for file in embedded.FOLDER.rglob("*") if file.is_file() and file != embedded.MANIFEST)
    return {file.relative_to(embedded.FOLDER).as_posix(): file for file in found}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped BERT language model that stands in for the shipped models."""
    shutil.copytree(embedded.FOLDER / "bert" / "lm", tmp_path / "bert" / "lm")
    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    return tmp_path / "bert" / "lm"


@pytest.mark.parametrize("task", tiny.TASKS)
@pytest.mark.parametrize("name", embedded.NAMES)
def test_every_shipped_checkpoint_loads(name: str, task: str) -> None:
    hub.check(name)
    loaded = hub.load(name, task, torch.float32, tiny.CPU)
    folder = embedded.FOLDER / name / task
    assert (loaded.source, loaded.reference, loaded.folder) == ("embedded", name, folder)
    assert type(loaded.model).__name__ == tiny.CLASSES[name, task]
    assert not loaded.model.training
    stored = load_file(folder / "model.safetensors")
    parameters = dict(loaded.model.named_parameters())
    assert parameters
    for key, parameter in parameters.items():
        assert parameter.dtype == torch.float32
        assert not parameter.requires_grad
        assert torch.equal(parameter, stored[key].float()), f"{key} is not the shipped weight"


@pytest.mark.parametrize("task", tiny.TASKS)
@pytest.mark.parametrize("name", embedded.NAMES)
def test_every_shipped_checkpoint_has_its_tokenizer(name: str, task: str) -> None:
    loaded = hub.load(name, task, torch.float32, tiny.CPU)
    tokenizer = loaded.tokenizer()
    text = ReviewGrammar().review(random.Random(0)).text
    tokens = tokenizer(text)["input_ids"]
    decoded = str(tokenizer.decode(tokens, skip_special_tokens=True))
    assert decoded.replace(" ", "") == text.replace(" ", "")  # BERT's decoder moves full stops to their words
    assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in tokens
    assert len(tokenizer) <= loaded.model.config.vocab_size
    assert loaded.model.config.pad_token_id is not None


def test_the_manifest_lists_every_file_and_nothing_else() -> None:
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in _files().items()}
    assert embedded.manifest()["sha256"] == hashes


def test_the_manifest_says_what_every_checkpoint_reached() -> None:
    assert set(embedded.manifest()["reached"]) == {f"{name}/{task}" for name in embedded.NAMES for task in tiny.TASKS}


def test_the_shipped_models_are_small() -> None:
    assert sum(file.stat().st_size for file in _files().values()) <= SIZE_LIMIT


def test_nothing_shipped_is_a_pickle_or_code() -> None:
    assert {file.suffix for file in _files().values()} == {".json", ".safetensors"}


def test_an_unchanged_copy_is_accepted(copy: Path) -> None:
    assert embedded.folder("bert", "lm") == copy


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_file_is_refused(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(bytes(data))
    message = tiny.refusal(ModelNotLoaded, lambda: hub.load("bert", "lm", torch.float32, tiny.CPU))
    assert message == f"embedded model bert: bert/lm/{name} is not the shipped file (SHA-256 differs); reinstall"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer_config.json"])
def test_a_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    message = tiny.refusal(ModelNotLoaded, lambda: hub.load("bert", "lm", torch.float32, tiny.CPU))
    assert message.startswith(f"embedded model bert: cannot read bert/lm/{name} (")
    assert "reinstall" in message


def test_a_manifest_that_is_gone_broken_or_silent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "manifest.json"
    monkeypatch.setattr(embedded, "MANIFEST", manifest)
    for content in (None, "{", '{"sha256": {}}'):
        if content is not None:
            manifest.write_text(content, encoding="utf-8")
        message = tiny.refusal(ModelNotLoaded, lambda: embedded.folder("bert", "lm"))
        assert message.endswith("; reinstall")
