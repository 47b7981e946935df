"""Saved models come back bit for bit, and a folder that holds none is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import sparsity
from sparsity.bypass import is_bypassed
from sparsity.errors import ModelNotLoaded, Refused
from sparsity.execution import in_format, relative_error
from sparsity.models.architecture import blocks_of
from sparsity.prune import PrunedModel, Recipe, prune
from sparsity.saving import MASKS, stored_masks
from sparsity.shrink import shapes_of
from tests import tiny
from tests.models.tiny import edit_json, refusal

GROUPS = {family: ("neurons" if family.startswith("t5") else "neurons+heads") for family in tiny.DESCRIBED}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(**tiny.batches(model, 1)[0].inputs).logits
    return found


def pruned_by(family: str, recipe: Recipe, dtype: torch.dtype = torch.float32, **changes: Any) -> PrunedModel:
    return prune(tiny.model(family, dtype, **changes), recipe)


def compact(family: str, pattern: str, scope: str = "global", dtype: torch.dtype = torch.float32) -> Any:
    return in_format(pruned_by(family, Recipe("l1", 0.5, pattern, scope), dtype), "compact")


def assert_same(one: Any, other: Any) -> None:
    """The same model: class, tensors, dtypes, shapes of blocks and outputs, bit for bit."""
    assert type(one) is type(other)
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name
    assert shapes_of(one) == shapes_of(other)
    assert torch.equal(logits(one), logits(other))


@pytest.mark.parametrize("family", tiny.DESCRIBED)
@pytest.mark.parametrize("pattern", ["groups", "layers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_a_compact_model_comes_back(family: str, pattern: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = compact(family, GROUPS[family] if pattern == "groups" else pattern, dtype=dtype)
    sparsity.save(model, tmp_path)
    loaded = sparsity.load(tmp_path)
    assert_same(loaded, model)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.dtype == dtype
    assert loaded.config.compact == model.config.compact


@pytest.mark.parametrize("family", tiny.DESCRIBED)
@pytest.mark.parametrize("recipe", [Recipe("l1", 0.7), Recipe("l1", 0.5, "2:4"), Recipe("l1", 0.5, "neurons")], ids=str)
def test_a_masked_dense_model_comes_back_with_its_masks(family: str, recipe: Recipe, tmp_path: Path) -> None:
    pruned = pruned_by(family, recipe)
    sparsity.save(pruned, tmp_path)
    assert_same(sparsity.load(tmp_path), pruned.model)
    stored = stored_masks(tmp_path)
    assert list(stored) == [layer.name for layer in pruned.layers]
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        assert stored[layer.name].dtype == torch.bool
        assert torch.equal(stored[layer.name], mask)


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_the_model_alone_is_saved_without_masks(family: str, tmp_path: Path) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.7))
    sparsity.save(pruned.model, tmp_path)
    assert stored_masks(tmp_path) == {}
    assert_same(sparsity.load(tmp_path), pruned.model)


def test_masks_take_a_bit_for_each_weight_and_odd_numbers_of_weights_fit(tmp_path: Path) -> None:
    model = tiny.model("bert", intermediate_size=31, hidden_size=12, num_attention_heads=2)
    model.resize_token_embeddings(61)
    pruned = prune(model, Recipe("random", 0.3))
    sparsity.save(pruned, tmp_path)
    for name, packed in load_file(tmp_path / MASKS).items():
        weights = model.get_submodule(name).weight.numel()
        assert packed.dtype == torch.uint8
        assert len(packed) == -(-weights // 8)
    assert any(layer.weight.numel() % 8 for layer in pruned.layers)
    assert all(map(torch.equal, stored_masks(tmp_path).values(), pruned.masks))


def test_the_first_weight_is_the_lowest_bit_of_the_first_byte(tmp_path: Path) -> None:
    pruned = pruned_by("gpt2", Recipe("l1", 0.5))
    for mask in pruned.masks:
        mask.fill_(False)
    pruned.masks[0][0, 0] = pruned.masks[0][0, 9] = True
    sparsity.save(pruned, tmp_path)
    packed = load_file(tmp_path / MASKS)
    assert packed[pruned.layers[0].name][:3].tolist() == [1, 2, 0]
    assert not packed[pruned.layers[1].name].any()


READ = """
import sys
from pathlib import Path
import torch
import sparsity
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
for folder in sys.argv[1:]:
    model = sparsity.load(folder)
    given = {name: tensor for name, tensor in load_file(Path(folder) / "given").items()}
    with torch.inference_mode():
        save_file({"logits": model(**given).logits.contiguous()}, Path(folder) / "answer")
"""


def test_another_process_computes_the_same(tmp_path: Path) -> None:
    models = {}
    for family in tiny.DESCRIBED:
        models[family] = compact(family, GROUPS[family])
        sparsity.save(models[family], tmp_path / family)
        save_file(tiny.batches(models[family], 1)[0].inputs, tmp_path / family / "given")
    command = [sys.executable, "-W", "error", "-c", READ, *(str(tmp_path / family) for family in models)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for family, model in models.items():
        assert torch.equal(load_file(tmp_path / family / "answer")["logits"], logits(model)), family


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_nothing_but_safetensors_and_json_is_written(family: str, tmp_path: Path) -> None:
    sparsity.save(pruned_by(family, Recipe("l1", 0.5)), tmp_path / "pruned")
    sparsity.save(compact(family, "layers"), tmp_path / "compact")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".safetensors", ".json"}
    for file in files:
        if file.suffix == ".json":
            json.loads(file.read_text())
        else:
            load_file(file)


def test_widths_differ_from_block_to_block_and_come_back(tmp_path: Path) -> None:
    model = compact("opt", "neurons+heads")
    widths = [block["neurons"] for block in shapes_of(model)[0]]
    assert len(set(widths)) > 1
    sparsity.save(model, tmp_path)
    loaded: Any = sparsity.load(tmp_path)
    assert [block.fc1.out_features for block in loaded.model.decoder.layers] == widths


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2", "opt", "bart", "t5"])
def test_tied_weights_stay_tied(family: str, tmp_path: Path) -> None:
    model = compact(family, "neurons")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    sparsity.save(model, tmp_path)
    loaded = sparsity.load(tmp_path)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    count = sum(parameter.numel() for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in loaded.parameters()) == count


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_weights_that_are_not_tied_stay_apart(family: str, tmp_path: Path) -> None:
    model = compact(family, "neurons")
    assert not torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight)
    sparsity.save(model, tmp_path)
    assert_same(sparsity.load(tmp_path), model)


SLIDING = {"use_sliding_window": True, "max_window_layers": 2, "sliding_window": 3}


@pytest.mark.parametrize("gone", [(0, 1), (1, 2), (0, 3), (2, 3), (3,), (0,)], ids=str)
def test_a_block_with_a_window_keeps_it(gone: tuple[int, ...], tmp_path: Path) -> None:
    """The last two of four blocks see a window: which of them stay is said by no count."""
    pruned = pruned_by("qwen2", Recipe("l1", 0.0, "layers"), torch.float64, **SLIDING)
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        mask.fill_(layer.block not in gone)
    model: Any = in_format(pruned, "compact")
    sparsity.save(model, tmp_path)
    loaded: Any = sparsity.load(tmp_path)
    types = [kind for block, kind in enumerate(["full", "full", "sliding", "sliding"]) if block not in gone]
    assert loaded.config.layer_types == model.config.layer_types == [f"{kind}_attention" for kind in types]
    windows, expected = ([block.self_attn.sliding_window for block in m.model.layers] for m in (loaded, model))
    assert windows == expected
    inputs = {"input_ids": tiny.batches(model, 1)[0].inputs["input_ids"]}  # padding would leave some windows empty
    with torch.inference_mode():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_a_loaded_compact_model_can_be_pruned_and_saved_again(tmp_path: Path) -> None:
    sparsity.save(compact("llama", "neurons+heads", "layer"), tmp_path / "first")
    sparsity.save(compact("llama", "layers"), tmp_path / "fewer")
    for folder in ("first", "fewer"):
        pruned = prune(sparsity.load(tmp_path / folder), Recipe("l1", 0.25, "neurons", "global"))
        again = in_format(pruned, "compact")
        assert relative_error(logits(again), logits(pruned.model)) < 1e-5
        sparsity.save(again, tmp_path / "second")
        assert_same(sparsity.load(tmp_path / "second"), again)


def test_the_loaded_model_generates_with_a_cache(tmp_path: Path) -> None:
    model = compact("gpt2", "layers")
    sparsity.save(model, tmp_path)
    loaded: Any = sparsity.load(tmp_path)
    tokens = torch.arange(5, 10)[None]
    a, b = (
        m.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=6, do_sample=False, use_cache=True)
        for m in (model, loaded)
    )
    assert torch.equal(a, b)


def test_saving_anew_leaves_no_masks_of_another_model(tmp_path: Path) -> None:
    sparsity.save(pruned_by("bert", Recipe("l1", 0.7)), tmp_path)
    sparsity.save(compact("bert", "neurons"), tmp_path)
    assert stored_masks(tmp_path) == {}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_with_torchs_masks_on_is_refused(family: str, tmp_path: Path) -> None:
    model = in_format(pruned_by(family, Recipe("l1", 0.5)), "masked")
    message = refusal(Refused, lambda: sparsity.save(model, tmp_path / "new"))
    assert message == "torch's pruning masks are still on; fold them in (format dense) before saving"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_blocks_that_are_only_bypassed_are_refused(family: str, whole: bool, tmp_path: Path) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.5, "layers"))
    assert any(is_bypassed(block.module) for block in blocks_of(pruned.model))
    message = refusal(Refused, lambda: sparsity.save(pruned if whole else pruned.model, tmp_path / "new"))
    assert message.startswith("removed layers are only bypassed in this model, which a file cannot say; save its")
    assert not (tmp_path / "new").exists()
    sparsity.save(in_format(pruned, "compact"), tmp_path / "new")
    assert len(blocks_of(sparsity.load(tmp_path / "new"))) < len(blocks_of(pruned.model))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a compact BERT, a compact BART and a masked dense BERT."""
    folder = tmp_path_factory.mktemp("saved")
    sparsity.save(compact("bert", "neurons+heads", "layer"), folder / "bert")
    sparsity.save(compact("bart", "layers"), folder / "bart")
    sparsity.save(compact("t5", "neurons", "layer"), folder / "t5")
    sparsity.save(pruned_by("bert", Recipe("l1", 0.5)), folder / "masked")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the compact BERT, to be broken."""
    return shutil.copytree(saved / "bert", tmp_path / "broken")


def not_loaded(folder: Path) -> str:
    """The one line in which the folder is refused, without the folder."""
    message = refusal(ModelNotLoaded, lambda: sparsity.load(folder))
    assert message.startswith(f"{folder}: ")
    assert len(message) < len(str(folder)) + 400
    return message.removeprefix(f"{folder}: ")


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


QUERY = "bert.encoder.layer.1.attention.self.query.weight"


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({QUERY: torch.zeros(16, 16)}))
    expected = f"{QUERY} is (16, 16) where config.json wants (8, 16); save the model again"
    assert not_loaded(folder) == expected


@pytest.mark.parametrize("name", [QUERY, "cls.predictions.bias", "bert.embeddings.word_embeddings.weight"])
def test_a_missing_tensor_is_refused_by_name(folder: Path, name: str) -> None:
    edit_weights(folder, lambda tensors: tensors.pop(name))
    assert "model.safetensors lacks " in (message := not_loaded(folder))
    assert name in message


@pytest.mark.parametrize("name", ["bert.encoder.layer.2.output.dense.weight", "adapter.weight", ""])
def test_a_surplus_tensor_is_refused_by_name(folder: Path, name: str) -> None:
    edit_weights(folder, lambda tensors: tensors.update({name: torch.zeros(2)}))
    assert not_loaded(folder) == f"model.safetensors holds {name}, which its config.json has no place for"


def test_no_weight_is_made_up_where_the_file_has_none(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.clear())
    assert "model.safetensors lacks " in not_loaded(folder)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(folder: Path, dtype: torch.dtype) -> None:
    edit_weights(folder, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(dtype)}))
    assert QUERY in not_loaded(folder)


@pytest.mark.parametrize("size", [0, 4, 100, -10])
def test_weights_that_were_cut_short_are_refused(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert not_loaded(folder).startswith("model.safetensors is not whole: ")


def test_a_folder_without_weights_is_refused_and_no_pickle_is_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert not_loaded(folder).startswith("no model.safetensors but pytorch_model.bin; ")


def test_other_files_beside_the_weights_are_not_read(folder: Path) -> None:
    before = logits(sparsity.load(folder))
    tensors = load_file(folder / "model.safetensors")
    save_file({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, folder / "model_old.safetensors")
    assert torch.equal(logits(sparsity.load(folder)), before)


def test_weights_in_several_files_are_read(tmp_path: Path) -> None:
    model = compact("bert", "neurons+heads")
    model.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same(sparsity.load(tmp_path), model)
    next(tmp_path.glob("model-00002-*")).unlink()
    assert not_loaded(tmp_path).startswith("half downloaded, ")


@pytest.mark.parametrize("what", ["nothing", "a file", "no folder"])
def test_a_folder_without_a_configuration_is_refused(folder: Path, what: str) -> None:
    if what == "nothing":
        (folder / "config.json").unlink()
    elif what == "a file":
        shutil.rmtree(folder)
        folder.write_text("{}")
    else:
        shutil.rmtree(folder)
    assert not_loaded(folder) == "no config.json there; give a folder that sparsity.save wrote"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, "\xff"])
def test_a_configuration_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    message = not_loaded(folder)
    assert message.startswith(("config.json is not readable JSON: ", "config.json holds no JSON object"))


@pytest.mark.parametrize(
    "architectures",
    [
        ["BertForNothing"], ["AutoModel"], ["AutoModelForMaskedLM"], ["BertConfig"], ["BertTokenizer"], ["pipeline"],
        ["logging"], ["PreTrainedConfig"], ["__name__"], ["os"], ["BertForMaskedLM.__init__"], ["set_seed"], [7],
        [None], [], "BertForMaskedLM", None, {"0": "BertForMaskedLM"}, [["BertForMaskedLM"]], [""],
    ],
    ids=repr,
)  # fmt: skip
def test_a_class_that_is_no_model_of_transformers_is_refused(folder: Path, architectures: Any) -> None:
    edit_json(folder / "config.json", architectures=architectures)
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    assert not_loaded(folder) == f"config.json names the class {name!r}, which is no model of transformers"


@pytest.mark.parametrize("name", ["PreTrainedModel", "BertPreTrainedModel", "BertModel", "GPT2LMHeadModel"])
def test_another_class_of_transformers_is_refused_too(folder: Path, name: str) -> None:
    edit_json(folder / "config.json", architectures=[name])
    not_loaded(folder)


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "electra", "vit", "nothing", "", 3, None, ["bert"], {}], ids=repr)
def test_a_type_of_another_class_is_refused(folder: Path, kind: Any) -> None:
    edit_json(folder / "config.json", model_type=kind)
    not_loaded(folder)


def test_a_configuration_without_a_type_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    not_loaded(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": -16}, {"hidden_size": "wide"}, {"vocab_size": 0}, {"vocab_size": 61}, {"hidden_size": 17},
        {"hidden_size": None}, {"hidden_act": "nothing"}, {"layer_norm_eps": "small"},
    ],
    ids=repr,
)  # fmt: skip
def test_sizes_that_are_not_those_of_the_weights_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    edit_json(folder / "config.json", **changes)
    not_loaded(folder)


@pytest.mark.parametrize("config", [{"quant_method": "bitsandbytes", "load_in_8bit": True}, {}, "int8"])
def test_quantised_weights_are_refused_by_name(folder: Path, config: Any) -> None:
    edit_json(folder / "config.json", quantization_config=config)
    assert not_loaded(folder) == "config.json has a quantization_config; save the model unquantised"
    edit_json(folder / "config.json", quantization_config=None)
    sparsity.load(folder)


def test_an_index_that_leaves_the_folder_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved / "masked", tmp_path / "broken")
    weights = (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    for name in ("../model.safetensors", str(weights)):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {QUERY: name}}))
        expected = f"lists {name!r}, and no file outside of the folder is read"
        assert not_loaded(folder) == f"model.safetensors.index.json {expected}"


BLOCK = {"heads": [2], "neurons": 16}
BEFORE = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}


def test_the_shapes_below_are_near_to_the_right_ones(folder: Path) -> None:
    edit_json(folder / "config.json", compact={"before": BEFORE, "shapes": [[BLOCK, BLOCK]]})
    assert_same(sparsity.load(folder), compact("bert", "neurons+heads", "layer"))


WRONG_HEADS: list[Any] = [
    2,
    None,
    [],
    [0],
    [-2],
    [5],
    [2, 2],
    ["2"],
    ["two"],
    [2.5],
    [None],
    [10**30],
    [True],
    {"2": 2},
]
WRONG_NEURONS: list[Any] = [0, -16, 33, "16", "many", 16.5, None, [16], 10**30, 1e400, float("nan"), True, {}]
WRONG_BEFORE: list[Any] = [None, 7, "before", [], [[1, 2]], {}]
WRONG_SHAPES: list[Any] = [
    [],
    {},
    None,
    "shapes",
    7,
    [[]],
    [[BLOCK]],
    [[BLOCK] * 3],
    [[BLOCK, BLOCK], [BLOCK]],
    [BLOCK, BLOCK],
    [[1, 2]],
    [["heads", "neurons"]],
    [[None, None]],
    [[[], []]],
    [[BLOCK, {}]],
    [[BLOCK, {"heads": [2]}]],
    [[BLOCK, {"neurons": 16}]],
    *([[BLOCK, {"heads": heads, "neurons": 16}]] for heads in WRONG_HEADS),
    *([[BLOCK, {"heads": [2], "neurons": neurons}]] for neurons in WRONG_NEURONS),
]


@pytest.mark.parametrize("shapes", WRONG_SHAPES, ids=lambda shapes: repr(shapes).replace(repr(BLOCK), "BLOCK"))
def test_shapes_that_cannot_be_are_refused(folder: Path, shapes: Any) -> None:
    edit_json(folder / "config.json", compact={"before": BEFORE, "shapes": shapes})
    assert not_loaded(folder)


@pytest.mark.parametrize(
    "compact",
    [
        [], "compact", 7, True, {}, {"before": BEFORE}, {"shapes": [[BLOCK, BLOCK]]},
        *({"before": before, "shapes": [[BLOCK, BLOCK]]} for before in WRONG_BEFORE),
        *(
            {"before": BEFORE | changes, "shapes": [[BLOCK, BLOCK]]}
            for changes in (
                {"num_hidden_layers": 1}, {"num_hidden_layers": -1}, {"num_hidden_layers": "two"},
                {"num_hidden_layers": None}, {"num_attention_heads": 3}, {"intermediate_size": 8},
                {"intermediate_size": -32}, {"intermediate_size": "32"}, {"hidden_size": 32},
                {"model_type": "gpt2"}, {"intermediate_size": 10**15},
            )
        ),
    ],
    ids=lambda compact: repr(compact).replace(repr([[BLOCK, BLOCK]]), "SHAPES"),
)  # fmt: skip
def test_what_was_before_must_have_been_possible(folder: Path, compact: Any) -> None:
    edit_json(folder / "config.json", compact=compact)
    assert not_loaded(folder)


def test_shapes_that_a_second_stack_lacks_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved / "bart", tmp_path / "broken")
    right = json.loads((folder / "config.json").read_text())["compact"]
    for shapes in (right["shapes"][:1], right["shapes"][::-1], [*right["shapes"], []]):
        edit_json(folder / "config.json", compact=right | {"shapes": shapes})
        assert "shapes that cannot be" in not_loaded(folder)


@pytest.mark.parametrize("heads", [[], [1], [4, 4], ["many"], None, 4])
def test_heads_that_t5_cannot_have_lost_are_refused(heads: Any, saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved / "t5", tmp_path / "broken")
    right = json.loads((folder / "config.json").read_text())["compact"]
    right["shapes"][0][0]["heads"] = heads
    edit_json(folder / "config.json", compact=right)
    assert "shapes that cannot be" in not_loaded(folder)


def test_a_width_that_the_configuration_leaves_to_its_default_comes_back(tmp_path: Path) -> None:
    model = tiny.model("gpt2", n_inner=None)
    smaller = in_format(prune(model, Recipe("l1", 0.5, "neurons")), "compact")
    assert smaller.config.compact["before"]["n_inner"] is None
    sparsity.save(smaller, tmp_path / "saved")
    assert shapes_of(sparsity.load(tmp_path / "saved")) == shapes_of(smaller)


def test_shapes_of_a_family_that_is_not_described_are_refused(tmp_path: Path) -> None:
    model = transformers.ElectraForMaskedLM(
        transformers.ElectraConfig(
            vocab_size=60, embedding_size=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=32, max_position_embeddings=32,
        )
    )  # fmt: skip
    sparsity.save(model.eval(), tmp_path)
    assert torch.equal(logits(sparsity.load(tmp_path)), logits(model))
    edit_json(tmp_path / "config.json", compact={"before": {}, "shapes": [[BLOCK, BLOCK]]})
    assert not_loaded(tmp_path)


@pytest.fixture
def masked(saved: Path, tmp_path: Path) -> Path:
    """A copy of the masked dense BERT, to be broken."""
    return shutil.copytree(saved / "masked", tmp_path / "broken")


def masks_not_loaded(folder: Path) -> str:
    message = refusal(ModelNotLoaded, lambda: stored_masks(folder))
    assert message.startswith(f"{folder}: ")
    return message.removeprefix(f"{folder}: ")


LAYER = "bert.encoder.layer.0.intermediate.dense"


@pytest.mark.parametrize("bits", [63, 65, 0, 512])
def test_a_mask_of_another_size_is_refused(masked: Path, bits: int) -> None:
    packed = load_file(masked / MASKS)
    assert len(packed[LAYER]) == 64
    save_file(packed | {LAYER: torch.zeros(bits, dtype=torch.uint8)}, masked / MASKS)
    assert masks_not_loaded(masked) == f"masks.safetensors holds no mask that fits {LAYER}, (32, 16)"


@pytest.mark.parametrize(("shape", "dtype"), [((64,), torch.float32), ((64,), torch.int64), ((8, 8), torch.uint8)])
def test_a_mask_that_is_no_row_of_bytes_is_refused(masked: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    save_file(load_file(masked / MASKS) | {LAYER: torch.zeros(shape, dtype=dtype)}, masked / MASKS)
    assert masks_not_loaded(masked) == f"masks.safetensors holds no mask that fits {LAYER}, (32, 16)"


def test_a_mask_that_is_not_there_is_refused(masked: Path) -> None:
    packed = load_file(masked / MASKS)
    del packed[LAYER]
    save_file(packed, masked / MASKS)
    assert masks_not_loaded(masked) == f"masks.safetensors holds no mask that fits {LAYER}, (32, 16)"


def test_a_mask_of_no_layer_is_refused(masked: Path) -> None:
    save_file(load_file(masked / MASKS) | {"pooler": torch.zeros(2, dtype=torch.uint8)}, masked / MASKS)
    assert "pooler" in masks_not_loaded(masked)


@pytest.mark.parametrize("size", [0, 5, 200, -1])
def test_masks_that_were_cut_short_are_refused(masked: Path, size: int) -> None:
    file = masked / MASKS
    file.write_bytes(file.read_bytes()[:size])
    assert masks_not_loaded(masked).startswith("masks.safetensors is not whole: ")


def test_masks_of_a_folder_that_is_no_model_are_refused(masked: Path) -> None:
    (masked / "config.json").unlink()
    assert masks_not_loaded(masked) == "no config.json there; give a folder that sparsity.save wrote"
