"""A model by any name: what loads gives the model that was saved, what does not says why in one line."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sparsity.download import patience
from sparsity.errors import ModelNotLoaded, ModelNotUnderstood, Refused
from sparsity.models import checkpoint, hub
from sparsity.models.families import ARCHITECTURES
from tests.models import tiny
from tests.models.hub_server import HubServer, use_hub

NAME = "owner/name"
DOORS: dict[str, Callable[[str], object]] = {
    "load": lambda reference: hub.load(reference, "lm", torch.float32, tiny.CPU),
    "check": hub.check,
}
PREFIXES = pytest.mark.parametrize("prefix", ["", "random:"])


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Callable[[str], object]:
    """Each way into the hub room: what stops one must stop the other in the same words."""
    return DOORS[request.param]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub on this machine that the client talks to, and an empty cache."""
    with HubServer() as running:
        use_hub(monkeypatch, running.url, tmp_path / "cache")
        yield running


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that cannot be reached, and an empty cache."""
    with HubServer() as gone:
        pass
    use_hub(monkeypatch, gone.url, tmp_path / "cache")


def _load(reference: str | Path, task: str = "lm", dtype: torch.dtype = torch.float32, seed: int = 0) -> hub.Loaded:
    return hub.load(str(reference), task, dtype, tiny.CPU, seed)


def _change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Rewrite the weights of a checkpoint."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


# A checkpoint folder


@pytest.mark.parametrize("task", tiny.TASKS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_saved_checkpoint_answers_as_the_model_did(tmp_path: Path, family: str, task: str) -> None:
    loaded = _load(tiny.save(tmp_path, family, task), task)
    assert torch.equal(tiny.logits(loaded.model), tiny.logits(tiny.model(family, task)))
    assert (loaded.source, loaded.folder, loaded.reference) == ("checkpoint", tmp_path, str(tmp_path))
    assert type(loaded.model).__name__ == tiny.CLASSES[family, task]
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.model.config.use_cache is False


def test_weights_come_in_the_dtype_asked_for(tmp_path: Path) -> None:
    loaded = _load(tiny.save(tmp_path, "bert", "lm"), dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


def test_a_folder_may_be_named_from_here_or_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.save(tmp_path / "owner" / "name", "bert", "lm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for reference in ("./owner/name", "owner/name", "~/owner/name"):  # a folder goes before a hub id
        hub.check(reference)
        assert _load(reference).source == "checkpoint"
        assert _load(f"random:{reference}").source == "random"


def test_a_bert_checkpoint_of_the_first_days_loads(tmp_path: Path) -> None:
    """As bert-base-uncased on the hub: LayerNorms of gamma and beta, tied weights left out, other heads there."""

    def old(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        names = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
        renamed = {}
        for name, weight in weights.items():
            new = name
            for ours, theirs in names.items():
                new = new.replace(ours, theirs)
            renamed[new] = weight
        assert any(name.endswith("gamma") for name in renamed)
        renamed.pop("cls.predictions.decoder.weight", None)
        renamed.pop("cls.predictions.decoder.bias", None)
        return renamed | {"cls.seq_relationship.weight": torch.zeros(2, tiny.HIDDEN)}

    _change_weights(tiny.save(tmp_path, "bert", "lm"), old)
    assert torch.equal(tiny.logits(_load(tmp_path).model), tiny.logits(tiny.model("bert", "lm")))


@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_a_checkpoint_without_head_is_a_language_model_where_the_head_is_tied(tmp_path: Path, family: str) -> None:
    """As gpt2 and bart-base on the hub: only the body was saved, and its names have no prefix."""
    tiny.save(tmp_path, family, "body")
    assert not any(name.startswith(("transformer.", "model.")) for name in load_file(tmp_path / "model.safetensors"))
    assert torch.equal(tiny.logits(_load(tmp_path).model), tiny.logits(tiny.model(family, "lm")))


def test_a_sharded_checkpoint_loads_and_half_of_one_does_not(tmp_path: Path, door: Callable[[str], object]) -> None:
    tiny.model("bert", "lm").save_pretrained(tmp_path, max_shard_size="60KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(tiny.logits(_load(tmp_path).model), tiny.logits(tiny.model("bert", "lm")))
    shards[1].unlink()
    message = tiny.refusal(ModelNotLoaded, lambda: door(str(tmp_path)))
    assert f"{tmp_path}: half downloaded, 1 of {len(shards)} shards missing ({shards[1].name}" in message


def test_whole_weights_go_before_an_index_left_over(tmp_path: Path) -> None:
    """As transformers reads such a folder."""
    tiny.save(tmp_path, "bert", "lm")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1-of-2.safetensors"}}')
    hub.check(str(tmp_path))
    assert torch.equal(tiny.logits(_load(tmp_path).model), tiny.logits(tiny.model("bert", "lm")))


@pytest.mark.parametrize(
    "index", ['{"weight_map": ["a"]}', '{"weight_map": {}}', "{}", "[]", "{", '{"weight_map": {"a": 1}}']
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, door: Callable[[str], object], index: str) -> None:
    (tiny.save(tmp_path, "bert", "lm") / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    message = tiny.refusal(ModelNotLoaded, lambda: door(str(tmp_path)))
    assert message.startswith(f"{tmp_path}: model.safetensors.index.json ")


def test_an_index_cannot_smuggle_a_pickle_in(tmp_path: Path, door: Callable[[str], object]) -> None:
    tiny.save(tmp_path, "bert", "lm")
    weights = load_file(tmp_path / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "pytorch_model.bin")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    message = tiny.refusal(ModelNotLoaded, lambda: door(str(tmp_path)))
    assert str(tmp_path) in message
    assert "lists other files than safetensors" in message


@pytest.mark.parametrize("name", ["../whole/{}", "/{}", "sub/{}", "..\\whole\\{}", "C:{}", "./{}"])
def test_an_index_that_leaves_the_folder_is_refused(tmp_path: Path, door: Callable[[str], object], name: str) -> None:
    weights = tiny.save(tmp_path / "whole", "bert", "lm") / "model.safetensors"
    folder = tiny.save(tmp_path / "folder", "bert", "lm")
    (folder / "model.safetensors").unlink()
    file = str(weights) if name == "/{}" else name.format(weights.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    message = tiny.refusal(ModelNotLoaded, lambda: door(str(folder)))
    expected = f"lists {file!r}, and no file outside of the folder is read"
    assert f"{folder}: model.safetensors.index.json {expected}" in message


def test_a_missing_folder_is_refused(tmp_path: Path, door: Callable[[str], object]) -> None:
    missing = str(tmp_path / "nowhere")
    assert tiny.refusal(ModelNotLoaded, lambda: door(missing)) == f"{missing}: no such folder"


def test_a_folder_without_config_is_refused(tmp_path: Path, door: Callable[[str], object]) -> None:
    (tiny.save(tmp_path, "bert", "lm") / "config.json").unlink()
    assert f"{tmp_path}: no config.json there" in tiny.refusal(ModelNotLoaded, lambda: door(str(tmp_path)))


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff\xfe", b'"bert"', b"[" * 100_000], ids=["cut", "list", "bytes", "string", "deep"]
)
@PREFIXES
def test_a_broken_config_is_refused(tmp_path: Path, door: Callable[[str], object], prefix: str, content: bytes) -> None:
    (tiny.save(tmp_path, "bert", "lm") / "config.json").write_bytes(content)
    message = tiny.refusal(ModelNotLoaded, lambda: door(f"{prefix}{tmp_path}"))
    assert message.startswith(f"{prefix}{tmp_path}: config.json ")


@pytest.mark.parametrize(
    ("key", "value", "reason"), [("hidden_size", "many", "hidden_size"), ("num_attention_heads", 5, "heads (5)")]
)
@PREFIXES
def test_a_config_that_makes_no_model_is_refused(
    tmp_path: Path, prefix: str, key: str, value: Any, reason: str
) -> None:
    tiny.edit_json(tiny.save(tmp_path, "bert", "lm") / "config.json", **{key: value})
    message = tiny.refusal(ModelNotLoaded, lambda: _load(f"{prefix}{tmp_path}"))
    assert message.startswith(f"{prefix}{tmp_path}: ")
    assert reason in message


@PREFIXES
def test_an_unknown_family_is_refused_by_name(tmp_path: Path, door: Callable[[str], object], prefix: str) -> None:
    tiny.edit_json(tiny.save(tmp_path, "bert", "lm") / "config.json", model_type="vit")
    message = tiny.refusal(ModelNotUnderstood, lambda: door(f"{prefix}{tmp_path}"))
    assert message.startswith(f"{prefix}{tmp_path}: models of type 'vit' are not understood")
    assert f"Described are {', '.join(ARCHITECTURES)};" in message


def test_a_config_without_a_family_is_refused(tmp_path: Path, door: Callable[[str], object]) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert str(tmp_path) in tiny.refusal(ModelNotUnderstood, lambda: door(str(tmp_path)))


def test_a_folder_without_weights_is_refused(tmp_path: Path, door: Callable[[str], object]) -> None:
    (tiny.save(tmp_path, "bert", "lm") / "model.safetensors").unlink()
    message = tiny.refusal(ModelNotLoaded, lambda: door(str(tmp_path)))
    assert message.startswith(f"{tmp_path}: no model.safetensors; ")
    assert "save_pretrained()" in message


def test_a_pickle_is_not_read(tmp_path: Path, door: Callable[[str], object]) -> None:
    weights = tiny.save(tmp_path, "bert", "lm") / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    weights.unlink()
    message = tiny.refusal(ModelNotLoaded, lambda: door(str(tmp_path)))
    assert message.startswith(f"{tmp_path}: no model.safetensors but pytorch_model.bin; ")
    assert "not read, because a pickle can run code" in message


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_cut_off_weights_are_refused(tmp_path: Path, keep: float) -> None:
    weights = tiny.save(tmp_path, "bert", "lm") / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: int(len(data) * keep)])
    for said in (
        tiny.refusal(ModelNotLoaded, lambda: _load(tmp_path)),
        tiny.refusal(ModelNotLoaded, lambda: hub.check(str(tmp_path))),
    ):
        assert said.startswith(f"{tmp_path}: model.safetensors is not whole: ")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_blocks_that_the_configuration_leaves_out_are_refused(tmp_path: Path, family: str) -> None:
    name = {"bert": "num_hidden_layers", "gpt2": "n_layer", "bart": "decoder_layers"}[family]
    tiny.edit_json(tiny.save(tmp_path, family, "lm") / "config.json", **{name: 1})
    message = tiny.refusal(ModelNotLoaded, lambda: _load(tmp_path))
    assert message.startswith(f"{tmp_path}: its weights have 2 blocks in ")
    assert "its config.json 1; mend config.json" in message


def test_weights_of_other_heads_are_no_surplus(tmp_path: Path) -> None:
    """As in the original BERT, which was trained on two tasks at once."""
    _change_weights(
        tiny.save(tmp_path, "bert", "lm"), lambda w: w | {"cls.seq_relationship.weight": torch.zeros(2, 32)}
    )
    assert _load(tmp_path).source == "checkpoint"


def test_a_bart_of_two_classes_loads_though_its_config_does_not_say_so(tmp_path: Path) -> None:
    """transformers writes no labels for two classes, and takes BART to have three."""
    saved = tiny.model("bart", "classification", num_labels=2)
    saved.save_pretrained(tmp_path)
    tiny.edit_json(tmp_path / "config.json", id2label=None)  # some versions of transformers do write it
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    loaded = _load(tmp_path, "classification").model
    assert loaded.config.num_labels == 2
    torch.testing.assert_close(tiny.logits(loaded), tiny.logits(saved))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    tiny.edit_json(tiny.save(tmp_path, "bert", "lm") / "config.json", intermediate_size=40)
    message = tiny.refusal(ModelNotLoaded, lambda: _load(tmp_path))
    first = "bert.encoder.layer.0.intermediate.dense.bias is (48,) where config.json wants (40,)"
    assert message.startswith(f"{tmp_path}: {first}, and 5 more weights do not fit;")


@pytest.mark.parametrize(
    ("family", "lost", "said"),
    [
        ("bert", "bert.encoder.layer.1.output.dense.weight", "bert.encoder.layer.1.output.dense.weight"),
        ("gpt2", "transformer.h.0.ln_1.bias", "transformer.h.0.ln_1.bias"),
        ("gpt2", "transformer.wte.weight", "transformer.wte.weight and 1 more weights"),  # the head is tied to it
        ("bart", "model.decoder.layers.1.fc2.weight", "model.decoder.layers.1.fc2.weight"),
        ("bart", "model.shared.weight", "model.decoder.embed_tokens.weight and 3 more weights"),  # all one matrix
    ],
)
def test_a_body_that_lacks_a_weight_is_not_made_up(tmp_path: Path, family: str, lost: str, said: str) -> None:
    saved = tiny.save(tmp_path, family, "lm")
    _change_weights(saved, lambda weights: {name: w for name, w in weights.items() if name != lost})
    message = tiny.refusal(ModelNotLoaded, lambda: _load(tmp_path))
    assert message.startswith(f"{tmp_path}: the checkpoint lacks {said};")


@pytest.mark.parametrize(
    ("family", "head"),
    [("bert", "classifier.weight, …"), ("gpt2", "score.weight"), ("bart", "classification_head.dense.weight, …")],
)
@pytest.mark.parametrize("task", ["lm", "body"])
def test_what_has_no_head_does_not_classify_and_is_told_how_to_get_one(
    tmp_path: Path, task: str, family: str, head: str
) -> None:
    folder = tiny.save(tmp_path / "a model", family, task)
    message = tiny.refusal(Refused, lambda: _load(folder, "classification"))
    assert message == (
        f"{folder} has no classification head ({head} missing); python -m sparsity.fine_tune '{folder}' --data … "
        "--out … makes one, or --fine-tune 300 does so within the run"
    )


@pytest.mark.parametrize("task", ["classification", "body"])
def test_a_bert_without_its_head_models_no_language(tmp_path: Path, task: str) -> None:
    tiny.save(tmp_path, "bert", task)
    message = tiny.refusal(Refused, lambda: _load(tmp_path))
    assert message.startswith(f"{tmp_path} has no language-modelling head (")
    assert "cls.predictions." in message


# The body alone, as the start of another model


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("task", [*tiny.TASKS, "body"])
def test_a_body_is_had_from_whatever_head_its_checkpoint_has(tmp_path: Path, family: str, task: str) -> None:
    saved = tiny.model(family, task)
    saved.save_pretrained(tmp_path)
    body = checkpoint.load("it", tmp_path, "body", torch.float32)
    assert type(body).__name__ == tiny.CLASSES[family, "body"]
    theirs, own = saved.base_model.state_dict(), body.state_dict()
    assert own
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    with_pooler = (family, task) in [("bert", "classification"), ("bert", "body")]
    assert any("pooler" in name for name in own) == with_pooler, "a pooler that is not in the file would be random"


@pytest.mark.parametrize("task", ["lm", "body"])
def test_a_body_that_lacks_a_weight_is_no_start(tmp_path: Path, task: str) -> None:
    lost = "encoder.layer.1.output.dense.weight"
    kept = tiny.save(tmp_path, "bert", task)
    _change_weights(kept, lambda weights: {name: w for name, w in weights.items() if not name.endswith(lost)})
    message = tiny.refusal(ModelNotLoaded, lambda: checkpoint.load("it", tmp_path, "body", torch.float32))
    assert message.startswith(f"it: the checkpoint lacks {lost};")


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    tiny.add_tokenizer(tiny.save(tmp_path / "model", "bert", "lm"), "bert")
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w').close()\n"
    (tmp_path / "model" / "code.py").write_text(code)
    classes = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM")
    tiny.edit_json(tmp_path / "model" / "config.json", auto_map=dict.fromkeys(classes, "code.Own"))
    tiny.edit_json(tmp_path / "model" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Own", "code.Own"]})
    hub.check(str(tmp_path / "model"))
    loaded = _load(tmp_path / "model")
    loaded.tokenizer()
    _load(f"random:{tmp_path / 'model'}")
    assert type(loaded.model) is transformers.BertForMaskedLM
    assert not trace.exists()
    exec(code)  # noqa: S102  # the code does leave a trace when it runs
    assert trace.exists()


# Its tokenizer


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_tokenizer_is_the_one_beside_the_weights(tmp_path: Path, family: str) -> None:
    tiny.add_tokenizer(tiny.save(tmp_path, family, "lm"), family)
    tokenizer = _load(tmp_path).tokenizer()
    assert str(tokenizer.decode(tokenizer("the film")["input_ids"], skip_special_tokens=True)).strip() == "the film"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_checkpoint_without_tokenizer_gets_none_made_up(tmp_path: Path, family: str) -> None:
    loaded = _load(tiny.save(tmp_path, family, "lm"))
    assert f"{tmp_path} has no tokenizer" in tiny.refusal(Refused, loaded.tokenizer)


def test_a_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny.add_tokenizer(tiny.save(tmp_path, "bert", "lm"), "bert")
    (tmp_path / "tokenizer.json").write_text("{")
    loaded = _load(tmp_path)
    assert f"{tmp_path}: its tokenizer cannot be loaded" in tiny.refusal(ModelNotLoaded, loaded.tokenizer)


# A hub id


@pytest.mark.parametrize(("family", "task"), [("bert", "lm"), ("gpt2", "classification"), ("bart", "lm")])
def test_a_hub_id_gives_the_model_of_the_folder_online_and_then_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, task: str
) -> None:
    folder = tiny.save(tmp_path / "served", family, task)
    tiny.add_tokenizer(folder, family)
    for unwanted in ("pytorch_model.bin", "code.py", "onnx/model.safetensors"):
        (folder / unwanted).parent.mkdir(exist_ok=True)
        (folder / unwanted).write_bytes(b"not to be downloaded")
    expected = tiny.logits(_load(folder, task).model)
    with HubServer({NAME: folder}) as server:
        use_hub(monkeypatch, server.url, tmp_path / "cache")
        online = _load(NAME, task)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= server.fetched()
    assert not {"pytorch_model.bin", "code.py", "onnx/model.safetensors"} & server.fetched()
    assert torch.equal(tiny.logits(online.model), expected)
    shutil.rmtree(folder)
    hub.check(NAME)
    offline = _load(NAME, task)
    assert torch.equal(tiny.logits(offline.model), expected)
    assert offline.tokenizer()("the film")["input_ids"] == online.tokenizer()("the film")["input_ids"]
    assert (offline.source, offline.reference) == ("checkpoint", NAME)
    assert offline.folder is not None
    assert offline.folder.is_relative_to(tmp_path / "cache")


def test_checking_brings_the_whole_checkpoint(tmp_path: Path, server: HubServer) -> None:
    server.repositories[NAME] = tiny.save(tmp_path / "served", "bert", "lm")
    hub.check(NAME)
    assert "model.safetensors" in server.fetched()


def test_only_the_config_of_a_model_that_is_not_understood_is_downloaded(tmp_path: Path, server: HubServer) -> None:
    server.repositories[NAME] = tiny.save(tmp_path / "served", "bert", "lm")
    tiny.edit_json(tmp_path / "served" / "config.json", model_type="vit")
    assert tiny.refusal(ModelNotUnderstood, lambda: hub.check(NAME)).startswith(f"{NAME}: ")
    assert server.fetched() == {"config.json"}


def test_random_weights_need_only_the_config_of_a_hub_id(tmp_path: Path, server: HubServer) -> None:
    server.repositories[NAME] = tiny.save(tmp_path / "served", "bert", "lm")
    hub.check(f"random:{NAME}")
    loaded = _load(f"random:{NAME}")
    assert loaded.model.config.intermediate_size == tiny.FEED_FORWARD
    assert server.fetched() == {"config.json"}


@pytest.mark.parametrize("status", [401, 404])
@PREFIXES
def test_an_unknown_id_is_refused(server: HubServer, door: Callable[[str], object], prefix: str, status: int) -> None:
    server.unknown = status
    message = tiny.refusal(ModelNotLoaded, lambda: door(prefix + "owner/nobody"))
    assert message.startswith(f"{prefix}owner/nobody is no folder, and no model on the hub")
    assert "bert, gpt2, bart" in message
    assert server.requests


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_is_refused(
    tmp_path: Path, server: HubServer, door: Callable[[str], object], status: int
) -> None:
    server.repositories[NAME] = tiny.save(tmp_path / "served", "bert", "lm")
    server.gated[NAME] = status
    message = tiny.refusal(ModelNotLoaded, lambda: door(NAME))
    assert message.startswith(f"{NAME} is gated on the hub; ask for access there")
    assert "hf auth login" in message


@pytest.mark.usefixtures("no_hub")
@PREFIXES
def test_a_hub_out_of_reach_is_said_at_once(
    door: Callable[[str], object], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waits {seconds} seconds to try again"))
    message = tiny.refusal(ModelNotLoaded, lambda: door(prefix + NAME))
    assert message.startswith(f"{prefix}{NAME} is not in the local cache, and the hub cannot be reached (")
    assert "random:bert-base" in message


def test_a_hub_that_is_down_is_refused(
    server: HubServer, door: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    server.broken = True
    message = tiny.refusal(ModelNotLoaded, lambda: door(NAME))
    assert message.startswith(f"{NAME} cannot be had from the hub: the hub is in trouble (503) for /api/models/{NAME}")


def test_offline_mode_is_named_as_the_reason(
    server: HubServer, door: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in tiny.refusal(ModelNotLoaded, lambda: door(NAME))
    assert not server.requests


def test_a_repository_without_config_is_refused(
    tmp_path: Path, server: HubServer, door: Callable[[str], object]
) -> None:
    (tiny.save(tmp_path / "served", "bert", "lm") / "config.json").unlink()
    server.repositories[NAME] = tmp_path / "served"
    message = tiny.refusal(ModelNotLoaded, lambda: door(NAME))
    assert message.startswith(f"{NAME}: no config.json in the repository")


def test_a_repository_of_pickled_weights_is_refused_before_anything_is_measured(
    tmp_path: Path, server: HubServer, door: Callable[[str], object]
) -> None:
    folder = tiny.save(tmp_path / "served", "bert", "lm")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    server.repositories[NAME] = folder
    message = tiny.refusal(ModelNotLoaded, lambda: door(NAME))
    assert message.startswith(f"{NAME}: no model.safetensors; ")
    assert "pytorch_model.bin" not in server.fetched()


# Random weights


@pytest.mark.parametrize(
    ("name", "parameters", "auto_class"),
    [
        ("bert-base", 109_514_298, "AutoModelForMaskedLM"),
        ("gpt2", 124_439_808, "AutoModelForCausalLM"),
        ("bart-base", 139_420_416, "AutoModelForSeq2SeqLM"),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_a_built_in_architecture_has_the_size_of_the_published_model(
    name: str, parameters: int, auto_class: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full-size model is built without storage, and a tiny one handed on in its place."""
    built = []
    auto = getattr(transformers, auto_class)
    from_config = auto.from_config

    def without_storage(config: transformers.PreTrainedConfig) -> transformers.PreTrainedModel:
        with torch.device("meta"):
            built.append(from_config(config))
        return tiny.model("bert", "lm")

    monkeypatch.setattr(auto, "from_config", without_storage)
    hub.check(f"random:{name}")
    loaded = _load(f"random:{name}")
    assert (loaded.source, loaded.folder) == ("random", None)
    assert [sum(p.numel() for p in each.parameters()) for each in built] == [parameters]


@pytest.mark.slow
@pytest.mark.usefixtures("no_hub")
def test_a_full_size_architecture_can_be_built_without_a_network() -> None:
    loaded = _load("random:bert-base", dtype=torch.bfloat16)
    assert loaded.model.num_parameters() == 109_514_298
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_random_weights_depend_on_the_seed_alone(tmp_path: Path, family: str) -> None:
    """The configuration is the folder's; the weights are not, and need not even be there."""
    (tiny.save(tmp_path, family, "lm") / "model.safetensors").unlink()
    reference = f"random:{tmp_path}"
    hub.check(reference)
    first = tiny.logits(_load(reference, seed=3).model)
    torch.rand(5)  # where the global generator stands must not matter
    assert torch.equal(tiny.logits(_load(reference, seed=3).model), first)
    assert not torch.equal(tiny.logits(_load(reference, seed=4).model), first)
    assert not _load(reference).model.training
    assert not any(p.requires_grad for p in _load(reference).model.parameters())


def test_random_weights_leave_the_global_generators_alone(tmp_path: Path) -> None:
    tiny.save(tmp_path, "bert", "lm")
    before, plain = torch.random.get_rng_state(), random.getstate()
    _load(f"random:{tmp_path}", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert random.getstate() == plain


@pytest.mark.parametrize("name", ["bert-base", "gpt2", "owner/name"])
@pytest.mark.usefixtures("no_hub")
def test_random_weights_have_no_quality(name: str) -> None:
    message = tiny.refusal(Refused, lambda: _load(f"random:{name}", "classification"))
    assert message == f"random:{name} has random weights, so there is no quality to measure"


def test_random_weights_have_no_tokenizer(tmp_path: Path) -> None:
    tiny.add_tokenizer(tiny.save(tmp_path, "bert", "lm"), "bert")
    loaded = _load(f"random:{tmp_path}")
    assert tiny.refusal(Refused, loaded.tokenizer).startswith(f"random:{tmp_path} has random weights")


# Names that lead nowhere


@PREFIXES
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "names no model"),
        ("a\nb", "names no model"),
        ("a\0b", "names no model"),
        ("owner/name with spaces", "is no hub id"),
        ("eigentümer/模型", "is no"),  # hub id, says a newer client; an older one asks the hub for it
        ("a/b/c", "is no hub id"),
        ("random:random:gpt2", "is no hub id"),
        ("nonsense", "is not in the local cache"),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_a_value_that_names_no_model_is_answered_with_names_that_do(
    door: Callable[[str], object], value: str, reason: str, prefix: str
) -> None:
    message = tiny.refusal(ModelNotLoaded, lambda: door(prefix + value))
    assert message.startswith((f"{prefix}{value} {reason}", f"{prefix + value!r} {reason}"))
    assert "bert, gpt2, bart, random:bert-base, random:gpt2, random:bart-base" in message


@PREFIXES
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (".", "no config.json there"),
        ("..", "no config.json there"),
        ("folder", "no config.json there"),
        ("~nobody-of-this-name/model", "no such folder"),
        ("./nothing", "no such folder"),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_a_path_that_leads_to_no_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Callable[[str], object], value: str, reason: str, prefix: str
) -> None:
    (tmp_path / "here" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    message = tiny.refusal(ModelNotLoaded, lambda: door(prefix + value))
    assert message.startswith(f"{prefix}{value}: {reason}")


@PREFIXES
def test_a_file_is_no_folder(tmp_path: Path, door: Callable[[str], object], prefix: str) -> None:
    file = tiny.save(tmp_path, "bert", "lm") / "model.safetensors"
    message = tiny.refusal(ModelNotLoaded, lambda: door(f"{prefix}{file}"))
    assert message == f"{prefix}{file}: is a file; give the folder that it is in"


@pytest.mark.parametrize("start", ["", "/", "./", "owner/", "random:", "random:/"])
@pytest.mark.usefixtures("no_hub")
def test_a_very_long_value_is_cut(door: Callable[[str], object], start: str) -> None:
    message = tiny.refusal(ModelNotLoaded, lambda: door(start + "x" * 5000))
    assert message.startswith(start + "xxx")
    assert f"({len(start) + 5000} characters)" in message
    assert len(message) < 400


def test_a_folder_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Callable[[str], object]
) -> None:
    tiny.save(tmp_path, "bert", "lm")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)  # root may read everything
    assert tiny.refusal(ModelNotLoaded, lambda: door(str(tmp_path))).startswith(f"{tmp_path}: the folder may not")
