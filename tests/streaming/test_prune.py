"""Pruned from disk is what is pruned in memory, bit for bit; one block is in memory; nothing is half written."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparsity import prune, workload
from sparsity.calibration import LayerStatistics
from sparsity.errors import BadValue, ModelNotLoaded, ModelNotUnderstood, Refused
from sparsity.measure import memory
from sparsity.methods import METHODS
from sparsity.methods.protocol import Chosen, Target
from sparsity.models.architecture import prunable_layers
from sparsity.prune import Recipe
from sparsity.streaming import target
from sparsity.streaming.meter import Meter
from sparsity.streaming.opening import Opened, Settings
from sparsity.streaming.prune import Outcome, prune_streamed
from sparsity.streaming.source import Files
from sparsity.tasks.batching import Batch
from tests import tiny
from tests.models.tiny import edit_json, refusal

L1, SPARSEGPT = Recipe("l1", 0.5), Recipe("sparsegpt", 0.5)
EVERY = (L1, Recipe("wanda", 0.5), SPARSEGPT, Recipe("sparsegpt", 0.5, "2:4"), Recipe("random", 0.5, "4x1", seed=3))
MANY = 10
"""Blocks of a model that must not be in memory as a whole."""
COUNTERS = 2**21
"""Bytes by which scores are counted, whatever the model's size."""


def batches(model: Any) -> list[Batch]:
    """Two, the second with padding."""
    first, second = workload.random_batches(model, 8, 12, 4)
    second.inputs["attention_mask"][:, 9:] = 0
    return [first, second]


def streamed(folder: Path, recipe: Recipe, out: Path, settings: Settings | None = None) -> Outcome:
    return prune_streamed(str(folder), recipe, out, lambda opened: batches(opened.model), settings)


def same(left: Any, right: Any) -> bool:
    """Whether two models hold the same, bit for bit."""
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def saved(folder: Path, family: str, shard: str = "20KB", **changes: Any) -> Any:
    """A checkpoint in shards that end in the middle of blocks; the model that it holds."""
    model = tiny.model(family, **changes)
    model.save_pretrained(folder, max_shard_size=shard)
    return model.requires_grad_(False)


@pytest.mark.parametrize("recipe", EVERY, ids=lambda r: f"{r.method}-{r.pattern}")
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_what_is_written_is_what_is_pruned_in_memory(tmp_path: Path, family: str, recipe: Recipe) -> None:
    model = saved(tmp_path / "dense", family)
    assert len(list((tmp_path / "dense").glob("*.safetensors"))) > 1
    expected = prune.prune(model, recipe, batches=batches(model))
    outcome = streamed(tmp_path / "dense", recipe, tmp_path / "out", Settings(shard_bytes=9000))
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    assert same(type(model).from_pretrained(tmp_path / "out"), model)
    assert (outcome.removed, outcome.prunable) == (expected.removed, expected.prunable_parameters)
    assert outcome.notes == expected.notes
    assert outcome.within


@pytest.mark.parametrize("family", ["opt", "mistral", "qwen2", "roberta"])
def test_other_families_in_one_file(tmp_path: Path, family: str) -> None:
    model = saved(tmp_path / "dense", family, "1GB")
    prune.prune(model, SPARSEGPT, batches=batches(model))
    streamed(tmp_path / "dense", SPARSEGPT, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").glob("*.safetensors*")] == ["model.safetensors"]
    assert same(type(model).from_pretrained(tmp_path / "out"), model)


def test_several_stacks_need_no_calibration_or_are_refused(tmp_path: Path) -> None:
    model = saved(tmp_path / "dense", "bart")
    message = refusal(Refused, lambda: streamed(tmp_path / "dense", SPARSEGPT, tmp_path / "out"))
    assert "several stacks of blocks" in message
    prune.prune(model, L1)
    streamed(tmp_path / "dense", L1, tmp_path / "out")
    assert same(type(model).from_pretrained(tmp_path / "out"), model)


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_stays_tied_or_apart(tmp_path: Path, tied: bool) -> None:
    saved(tmp_path / "dense", "llama", tie_word_embeddings=tied)
    streamed(tmp_path / "dense", SPARSEGPT, tmp_path / "out")
    names = {name for file in (tmp_path / "out").glob("*.safetensors") for name in load_file(file)}
    assert ("lm_head.weight" in names) != tied
    found: Any = type(tiny.model("llama")).from_pretrained(tmp_path / "out")
    assert (found.lm_head.weight.data_ptr() == found.model.embed_tokens.weight.data_ptr()) == tied


def test_what_is_tied_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "dense", "gpt2")
    read: list[str] = []
    own = Files.read

    def counted(files: Files, name: str) -> torch.Tensor:
        read.append(name)
        return own(files, name)

    monkeypatch.setattr(Files, "read", counted)
    streamed(tmp_path / "dense", SPARSEGPT, tmp_path / "out")
    assert read.count("transformer.wte.weight") == 2  # the batches are made, the first block is reached
    assert read.count("transformer.h.1.mlp.c_fc.weight") == 1


def test_embeddings_that_are_stored_as_the_head_they_are_tied_to_are_found(tmp_path: Path) -> None:
    model = saved(tmp_path / "dense", "llama", "1GB", tie_word_embeddings=True)
    renamed(tmp_path / "dense", "model.embed_tokens.", "lm_head.")
    prune.prune(model, SPARSEGPT, batches=batches(model))
    streamed(tmp_path / "dense", SPARSEGPT, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    layer = prunable_layers(model)[-1]
    assert torch.equal(written[f"{layer.name}.weight"], layer.weight)


def renamed(folder: Path, old: str, new: str) -> None:
    """The one file of a checkpoint, with other names."""
    tensors = {name.replace(old, new): each for name, each in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("family", "old", "new"), [("gpt2", "transformer.", ""), ("bert", "LayerNorm.weight", "LayerNorm.gamma")]
)
def test_names_are_as_in_the_files_whatever_the_model_calls_them(
    tmp_path: Path, family: str, old: str, new: str
) -> None:
    model = saved(tmp_path / "dense", family, "1GB")
    renamed(tmp_path / "dense", old, new)
    prune.prune(model, SPARSEGPT, batches=batches(model))
    streamed(tmp_path / "dense", SPARSEGPT, tmp_path / "out")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("dense", "out"))
    assert before.keys() == after.keys()
    assert same(type(model).from_pretrained(tmp_path / "out"), model)


def test_another_dtype_is_that_of_all_weights_and_of_the_configuration(tmp_path: Path) -> None:
    saved(tmp_path / "dense", "llama")
    kind: Any = type(tiny.model("llama"))
    model = kind.from_pretrained(tmp_path / "dense", dtype=torch.bfloat16).requires_grad_(False)
    prune.prune(model, SPARSEGPT, batches=batches(model))
    streamed(tmp_path / "dense", SPARSEGPT, tmp_path / "out", Settings(torch.bfloat16))
    found = kind.from_pretrained(tmp_path / "out", dtype="auto")
    assert found.dtype == torch.bfloat16
    assert same(found, model)


@pytest.mark.parametrize("recipe", [L1, SPARSEGPT], ids=lambda r: r.method)
def test_a_block_is_in_memory_and_not_the_model(tmp_path: Path, recipe: Recipe) -> None:
    """By every allocation and release of torch."""
    saved(tmp_path / "dense", "llama", "1MB", num_hidden_layers=MANY, hidden_size=128, intermediate_size=256)
    outcomes: list[Outcome] = []

    def run() -> None:
        outcomes.append(streamed(tmp_path / "dense", recipe, tmp_path / "out"))

    peak = memory.peak_memory(run, warmups=0, replaces=False).bytes
    block, weights = outcomes[0].block_bytes, outcomes[0].weights_bytes
    assert block < peak < 4 * block + COUNTERS < MANY * block <= weights


def test_what_is_known_of_a_block_does_not_outlast_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "dense", "llama")
    known: list[weakref.ref[Any]] = []
    method, note = METHODS["sparsegpt"], Meter.note
    prune_layer = method.prune_layer

    def watched(weight: torch.Tensor, statistics: LayerStatistics, target: Target) -> Chosen:
        assert statistics.factor is not None
        assert statistics.hessian is None
        known.extend((weakref.ref(statistics), weakref.ref(statistics.factor.reversed), weakref.ref(weight)))
        return prune_layer(weight, statistics, target)

    def over(meter: Meter, what: str) -> None:
        assert len(known) >= 3 * 7
        assert not any(each() is not None for each in known)
        note(meter, what)

    monkeypatch.setattr(method, "prune_layer", watched)
    monkeypatch.setattr(Meter, "note", over)
    streamed(tmp_path / "dense", SPARSEGPT, tmp_path / "out")
    assert len(known) == 3 * 7 * 4


def test_random_weights_hang_on_the_seed_and_are_written_block_by_block(tmp_path: Path) -> None:
    tiny.config("llama", architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path / "config")
    reference, found = f"random:{tmp_path / 'config'}", []
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        prune_streamed(reference, Recipe("none", 0.0, seed=seed), tmp_path / name, no_batches)
        found.append(type(tiny.model("llama")).from_pretrained(tmp_path / name))
    assert same(found[0], found[1])
    first, other = (prunable_layers(model)[0].weight for model in found[1:])
    assert not torch.equal(first, other)
    assert 0.015 < float(first.std()) < 0.025
    assert bool((found[0].model.norm.weight == 1).all())


def no_batches(opened: Opened) -> Sequence[Batch]:
    raise AssertionError(f"{opened.reference} is not to be calibrated")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe("l1", 0.5, scope="global"), "scope global looks at all layers at once"),
        (Recipe("l1", 0.5, scope="erk"), "scope erk looks at all layers at once"),
        (Recipe("wanda", 0.5, scope="owl"), "scope owl looks at all layers at once"),
        (Recipe("taylor", 0.5), "needs gradients"),
        (Recipe("l1", 0.5, "neurons"), "not pruned block by block from disk"),
        (Recipe("sparsegpt", 0.5, "4x1"), "sweeps single columns"),
        (Recipe("l1", 0.4, "2:4"), "removes 0.5 of the weights, not 0.4"),
        (Recipe("l1", 0.5, "5x1"), "cannot be cut into tiles of 5x1"),
        (Recipe("l1", 0.9999), "leaves no weight at all"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_and_nothing_is_left(tmp_path: Path, recipe: Recipe, said: str) -> None:
    saved(tmp_path / "dense", "llama")
    assert said in refusal(Refused, lambda: streamed(tmp_path / "dense", recipe, tmp_path / "out"))
    assert [file.name for file in tmp_path.iterdir()] == ["dense"]


def first_shard(folder: Path) -> Path:
    return min(folder.glob("*.safetensors"))


def pickled(folder: Path) -> None:
    for file in folder.glob("model*"):
        file.unlink()
    (folder / "pytorch_model.bin").touch()


def listed_elsewhere(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    name, file = next(iter(data["weight_map"].items()))
    data["weight_map"][name] = next(each for each in data["weight_map"].values() if each != file)
    edit_json(index, weight_map=data["weight_map"])


def without(folder: Path, part: str) -> None:
    """No tensor with this in its name."""
    model = tiny.model("llama")
    shutil.rmtree(folder)
    model.save_pretrained(folder, state_dict={n: t for n, t in model.state_dict().items() if part not in n})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: first_shard(folder).unlink(), "shards missing"),
        (lambda folder: first_shard(folder).write_bytes(first_shard(folder).read_bytes()[:-9]), "is not whole"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{"), "is not readable JSON"),
        (listed_elsewhere, "which its file does not hold"),
        (pickled, "a pickle can run code"),
        (lambda folder: without(folder, "layers.1.mlp.up_proj"), "the checkpoint lacks model.layers.1.mlp.up_proj"),
        (lambda folder: without(folder, "embed_tokens"), "the checkpoint lacks model.embed_tokens.weight"),
        (lambda folder: edit_json(folder / "config.json", intermediate_size=48), "where config.json wants"),
        (lambda folder: edit_json(folder / "config.json", num_hidden_layers=3), "its weights have 4 blocks"),
        (lambda folder: edit_json(folder / "config.json", quantization_config={"bits": 4}), "unquantised"),
    ],
    ids=["shard", "short", "index", "listed", "pickle", "weight", "embeddings", "shape", "blocks", "quantised"],
)
def test_a_checkpoint_that_is_not_whole_is_one_line(tmp_path: Path, harm: Any, said: str) -> None:
    saved(tmp_path / "dense", "llama")
    harm(tmp_path / "dense")
    assert said in refusal(ModelNotLoaded, lambda: streamed(tmp_path / "dense", L1, tmp_path / "out"))
    assert [file.name for file in tmp_path.iterdir()] == ["dense"]


def test_blocks_that_are_not_wholly_known_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "dense", "llama")
    kind: Any = type(tiny.model("llama").get_submodule("model.layers.0"))
    own = kind.__init__

    def with_more(block: Any, *given: Any) -> None:
        own(block, *given)
        block.gate = torch.nn.Linear(16, 16)

    monkeypatch.setattr(kind, "__init__", with_more)
    message = refusal(ModelNotUnderstood, lambda: streamed(tmp_path / "dense", L1, tmp_path / "out"))
    assert "block model.layers.0 holds matrices that are not understood: gate" in message
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    saved(tmp_path / "dense", "llama")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    assert "is there already" in refusal(BadValue, lambda: streamed(tmp_path / "dense", L1, tmp_path / "out"))
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["precious"]


@pytest.mark.parametrize("early", [True, False], ids=["no room", "fills up"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, early: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "dense", "llama")

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    if early:
        monkeypatch.setattr(target.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 5))  # type: ignore[attr-defined]  # what it gives
    else:
        monkeypatch.setattr(target.Target, "finish", full)
    message = refusal(BadValue, lambda: streamed(tmp_path / "dense", L1, tmp_path / "out"))
    assert ("do not fit on the disk" if early else "No space left") in message
    assert [file.name for file in tmp_path.iterdir()] == ["dense"]
