"""Training the embedded models: tokenizers without chance, batches that never repeat, a loop that learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from sparsity import blueprint, train_embedded
from sparsity.models import embedded, hub
from sparsity.models.architecture import architecture_of
from sparsity.tasks import batching
from sparsity.tasks.quality import TASKS
from tests import tiny

SHORT = train_embedded.Recipe(steps=30, learning_rate=3e-3, batch_size=8)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_tokenizer_is_the_shipped_one(family: str, tmp_path: Path) -> None:
    blueprint.tokenizer_of(family).save_pretrained(tmp_path)
    built = (tmp_path / "tokenizer.json").read_bytes()
    for task in TASKS:
        assert (embedded.FOLDER / family / task / "tokenizer.json").read_bytes() == built


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_tokenizer_gives_the_text_back(family: str) -> None:
    tokenizer = blueprint.tokenizer_of(family)
    text = "although the soups were lazy , i did not regret the wine ."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids
    assert str(tokenizer.decode(ids)).replace(" ", "") == text.replace(" ", "")


def _batches(task: str, family: str, seed: int = 0) -> Any:
    tokenizer = blueprint.tokenizer_of(family)
    model = blueprint.new_model(family, task, blueprint.config_of(family, tokenizer), seed)
    objective = architecture_of(family).objective
    return model, train_embedded.training_batches(task, objective, tokenizer, model, SHORT, seed)


def test_batches_are_endless_fresh_and_the_same_for_a_seed() -> None:
    _, one = _batches("classification", "bert")
    _, two = _batches("classification", "bert")
    first, second = [next(one) for _ in range(20)], [next(two) for _ in range(20)]
    texts = [tuple(row) for batch in first for row in batch.inputs["input_ids"].tolist()]
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(first, second, strict=True))
    assert len(set(texts)) > 0.8 * len(texts), "short reviews repeat now and then, long ones never"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_training_lowers_the_loss(family: str) -> None:
    model, batches = _batches("lm", family)
    held_out = [next(batches) for _ in range(4)]

    def loss() -> float:
        with torch.no_grad():
            logits = [model(**batch.inputs, use_cache=False).logits for batch in held_out] if family != "bert" else [
                model(**batch.inputs).logits for batch in held_out
            ]  # fmt: skip
        pairs = [
            functional.cross_entropy(each.flatten(0, 1), batch.labels.flatten(), ignore_index=batching.IGNORED)
            for each, batch in zip(logits, held_out, strict=True)
        ]
        return float(torch.stack(pairs).mean())

    before = loss()
    train_embedded.train(model, batches, SHORT, "test")
    assert loss() < before - 0.3


def test_a_trained_family_is_saved_as_checkpoints_that_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = {key: train_embedded.Recipe(2, 1e-3, 4) for key in train_embedded.RECIPES}
    monkeypatch.setattr(train_embedded, "RECIPES", recipes)
    monkeypatch.setattr(embedded, "EVALUATION_DOCUMENTS", 20)
    train_embedded.train_family("gpt2", tmp_path, seed=0)
    train_embedded.write_manifest(tmp_path)
    for task in TASKS:
        loaded = hub.load(str(tmp_path / "gpt2" / task), task, torch.float32, torch.device("cpu"))
        assert loaded.source == "checkpoint"
        assert loaded.tokenizer().vocab_size
    problems = train_embedded.differences(tmp_path)
    assert any(p.startswith("gpt2/lm: mean_nll is") for p in problems), "two steps cannot reach the shipped model"
    assert "tolerance 0.05" in capsys.readouterr().out
