"""Saved models come back bit for bit, and a folder that holds none is refused in one line."""

from __future__ import annotations

import functools
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
from sparsity import auto
from sparsity.bypass import is_bypassed
from sparsity.errors import BadValue, ModelNotLoaded, Refused, UnknownName
from sparsity.execution import in_format, relative_error
from sparsity.formats import FORMATS
from sparsity.formats.protocol import LayerWise
from sparsity.models.architecture import blocks_of
from sparsity.pattern import parse
from sparsity.prune import PrunedModel, Recipe, prune
from sparsity.saving import MASKS, disk_bytes, stored_masks
from sparsity.shrink import shapes_of
from sparsity.sparse_storage import KEPT, VALUES, kept, sparse_layers
from tests import sparse_formats, tiny
from tests.models.tiny import edit_json, refusal
from tests.sparse_formats import same_bits

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
    assert len(message.replace(str(folder), "")) < 400
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


PLAIN = ("dense", "masked", "bf16", "fused", "compact")
"""The formats without sparse layers."""
RECIPES = {pattern: Recipe("l1", 0.5, pattern) for pattern in ("2:4",)} | {
    pattern: Recipe("l1", 0.9, pattern) for pattern in ("unstructured", "4x1", "4x4", "16x16", "32x32")
}
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
REAL = [
    pytest.param(family, name, pattern, dtype, device, id=f"{family}-{name}-{pattern}-{dtype}-{device}")
    for name in FORMATS
    if name not in PLAIN
    for pattern in RECIPES
    for dtype in DTYPES
    for device in DEVICES
    if FORMATS[name].unsupported(parse(pattern), dtype, device) is None
    for family in (tiny.FAMILIES if (pattern, dtype) == ("unstructured", "float32") else ("bert",))
]
"""Every sparse format with all that it can run here."""
WIDE: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 256, "intermediate_size": 1024},
    "gpt2": {"n_embd": 256, "n_inner": 1024},
    "bart": {"d_model": 256, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024},
}


def on(device: str, model: Any) -> torch.Tensor:
    inputs = {name: tensor.to(device) for name, tensor in tiny.batches(model, 1)[0].inputs.items()}
    with torch.inference_mode():
        found: torch.Tensor = model(**inputs).logits
    return found


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: layer.dense_weight() for name, layer in sparse_layers(model).items()}  # type: ignore[operator]  # nn.Module types attributes as Tensor | Module


def assert_same_sparse(one: Any, other: Any, device: str = "cpu") -> None:
    """The same model in the same format: weights bit for bit, and outputs but where cuSPARSE adds up as it comes."""
    assert type(one) is type(other)
    assert one.config.sparse == other.config.sparse
    ours, theirs = weights_of(one), weights_of(other)
    assert list(ours) == list(theirs)
    for name, weight in ours.items():
        assert same_bits(weight, theirs[name]), name
    assert [type(part) for part in one.modules()] == [type(part) for part in other.modules()]
    if device == "cuda":
        torch.testing.assert_close(on(device, one), on(device, other))
    else:
        assert torch.equal(on(device, one), on(device, other))


@pytest.mark.parametrize(("family", "name", "pattern", "dtype", "device"), REAL)
def test_every_sparse_format_comes_back(
    family: str, name: str, pattern: str, dtype: str, device: str, tmp_path: Path
) -> None:
    model = tiny.model(family, DTYPES[dtype], **WIDE[family]).to(device)
    pruned = prune(model, RECIPES[pattern])
    sparse = in_format(pruned, name)
    assert sparse_layers(sparse)
    sparsity.save(sparse, tmp_path)
    assert_same_sparse(sparsity.load(tmp_path, device=device), sparse, device)
    assert_same(sparsity.load(tmp_path, format="dense"), model.to("cpu"))
    size = (tmp_path / "sparse.safetensors").stat().st_size
    assert size == disk_bytes(sparse)
    if pruned.recipe.sparsity == 0.9:
        prunable, saved = pruned.prunable_parameters * DTYPES[dtype].itemsize, disk_bytes(model) - size
        assert prunable / (prunable - saved) > 4


STAND_INS = {"kept": sparse_formats.KEPT, "half": sparse_formats.Half(), "joined": sparse_formats.Joined()}


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stand_in in STAND_INS.items():
        monkeypatch.setitem(FORMATS, name, stand_in)


@pytest.mark.parametrize(
    ("family", "name"), [*((family, "kept") for family in tiny.DESCRIBED), ("gpt2", "half"), ("bert", "joined")]
)
def test_a_model_of_sparse_layers_comes_back_sparse_and_dense(family: str, name: str, tmp_path: Path) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.7))
    sparse = in_format(pruned, name)
    config = sparse.config.to_dict()
    sparsity.save(sparse, tmp_path)
    assert sparse.config.to_dict() == config
    loaded = sparsity.load(tmp_path)
    assert_same_sparse(loaded, sparse)
    assert loaded.config.sparse == {"format": name, "pattern": "unstructured"}
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    dense = sparsity.load(tmp_path, format="dense")
    assert_same(dense, pruned.model)
    assert not hasattr(dense.config, "sparse")
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        assert torch.equal(stored_masks(tmp_path)[layer.name], mask)


def test_at_nine_tenths_the_prunable_weights_are_four_times_smaller_at_least(tmp_path: Path) -> None:
    pruned = prune(tiny.model("bert", **WIDE["bert"]), Recipe("l1", 0.9))
    sparsity.save(pruned.model, tmp_path / "dense")
    sparsity.save(in_format(pruned, "kept"), tmp_path / "sparse")
    dense, sparse = (
        (tmp_path / name).stat().st_size for name in ("dense/model.safetensors", "sparse/sparse.safetensors")
    )
    prunable = 4 * pruned.prunable_parameters
    assert prunable / (prunable - (dense - sparse)) > 7.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_the_size_on_disk_is_that_of_the_file(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.7), dtype)
    models = {
        "dense": pruned.model,
        "sparse": in_format(pruned, "kept"),
        "half": in_format(pruned, "half"),
        "compact": compact(family, "neurons", dtype=dtype),
    }
    for name, model in models.items():
        sparsity.save(model, tmp_path / name)
        files = [file.stat().st_size for file in (tmp_path / name).glob("*.safetensors")]
        assert [disk_bytes(model)] == files, name


def test_the_size_of_what_cannot_be_saved_is_that_of_its_tensors() -> None:
    pruned = pruned_by("bert", Recipe("l1", 0.7))
    dense, masked = (disk_bytes(in_format(pruned, name)) for name in ("dense", "masked"))
    assert 0 < masked - dense - 4 * pruned.prunable_parameters < 200 * len(pruned.layers)
    bypassed = pruned_by("bert", Recipe("l1", 0.5, "layers"))
    assert disk_bytes(bypassed.model) == disk_bytes(tiny.model("bert"))


def test_a_compact_model_with_sparse_layers_comes_back(tmp_path: Path) -> None:
    pruned = prune(compact("llama", "neurons+heads", "layer"), Recipe("l1", 0.7))
    sparse = in_format(pruned, "kept")
    sparsity.save(sparse, tmp_path)
    assert_same_sparse(sparsity.load(tmp_path), sparse)
    assert_same(sparsity.load(tmp_path, format="dense"), pruned.model)


def test_another_sparse_format_reads_the_same_folder(tmp_path: Path) -> None:
    pruned = pruned_by("bert", Recipe("l1", 0.7))
    sparsity.save(in_format(pruned, "kept"), tmp_path)
    assert_same_sparse(sparsity.load(tmp_path, format="joined"), in_format(pruned, "joined"))


def test_a_sparse_model_that_was_loaded_is_saved_the_same(tmp_path: Path) -> None:
    sparsity.save(in_format(pruned_by("gpt2", Recipe("l1", 0.7)), "kept"), tmp_path / "first")
    sparsity.save(sparsity.load(tmp_path / "first"), tmp_path / "second")
    for name in ("config.json", "sparse.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_each_saving_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    pruned = pruned_by("bert", Recipe("l1", 0.7))
    sparse = in_format(pruned, "kept")
    weights = {"model.safetensors", "sparse.safetensors", MASKS, "model.safetensors.index.json"}
    for model, expected in (
        (pruned, {"model.safetensors", MASKS}), (sparse, {"sparse.safetensors"}), (pruned.model, {"model.safetensors"})
    ):  # fmt: skip
        sparsity.save(model, tmp_path)
        (tmp_path / "model.safetensors.index.json").write_text("{}") if model is sparse else None
        found = {file.name for file in tmp_path.iterdir()} & weights
        assert found - ({"model.safetensors.index.json"} if model is sparse else set()) == expected
    assert_same(sparsity.load(tmp_path), pruned.model)


def test_transformers_finds_no_weights_rather_than_random_ones(tmp_path: Path) -> None:
    sparsity.save(in_format(pruned_by("bert", Recipe("l1", 0.7)), "kept"), tmp_path)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        transformers.BertForMaskedLM.from_pretrained(tmp_path)


def test_sparse_layers_of_no_said_format_are_refused(tmp_path: Path) -> None:
    pruned = pruned_by("bert", Recipe("l1", 0.7))
    model = FORMATS["kept"].convert(pruned.model, pruned.layers, pruned.masks)
    message = refusal(Refused, lambda: sparsity.save(model, tmp_path / "new"))
    assert message == "which format these sparse layers are in is not said; convert with sparsity.execution.in_format"
    assert not (tmp_path / "new").exists()


@pytest.fixture
def sparse_folder(tmp_path: Path) -> Path:
    """A BERT of sparse layers, to be broken."""
    sparsity.save(in_format(pruned_by("bert", Recipe("l1", 0.7)), "kept"), tmp_path / "sparse")
    return tmp_path / "sparse"


def edit_sparse(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "sparse.safetensors")
    edit(tensors)
    save_file(tensors, folder / "sparse.safetensors", {"format": "pt"})


WAY = 'sparsity.load(folder, format="dense") gives the dense model'


@pytest.mark.parametrize("needed", ["kept", "joined"])
def test_a_format_that_cannot_run_here_is_refused_with_the_way_to_the_dense_model(
    needed: str, sparse_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = sparsity.load(sparse_folder, format="dense")
    monkeypatch.setattr(type(FORMATS[needed]), "unsupported", lambda *_: "needs a kernel that is not here")
    message = refusal(Refused, lambda: sparsity.load(sparse_folder, format=None if needed == "kept" else needed))
    expected = f"{sparse_folder}: format {needed} cannot run here: needs a kernel that is not here; {WAY}"
    assert message == expected
    assert_same(sparsity.load(sparse_folder, format="dense"), dense)


@pytest.mark.parametrize("error", [Refused("no compiler"), RuntimeError("no\ncompiler"), ValueError("no compiler")])
def test_a_format_that_fails_is_refused_in_one_line(
    error: Exception, sparse_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(sparse_formats.Half):
        def convert(self, *args: object) -> Any:
            raise error

    monkeypatch.setitem(FORMATS, "kept", Fails())
    kind = Refused if isinstance(error, Refused) else ModelNotLoaded
    message = refusal(kind, lambda: sparsity.load(sparse_folder))
    assert message.startswith(f"{sparse_folder}: ")
    assert message.endswith(f": no compiler; {WAY}")


@pytest.mark.parametrize("name", ["nothing", "", "Kept", "kept ", "../kept", "auto"])
def test_a_format_that_is_not_known_is_refused_unless_the_dense_model_is_asked_for(
    name: str, sparse_folder: Path
) -> None:
    dense = sparsity.load(sparse_folder, format="dense")
    edit_json(sparse_folder / "config.json", sparse={"format": name, "pattern": "unstructured"})
    known = ", ".join(FORMATS)
    assert not_loaded(sparse_folder) == f"there is no format {name!r} to load it in, known are {known}; {WAY}"
    assert_same(sparsity.load(sparse_folder, format="dense"), dense)


def in_several(pruned: PrunedModel) -> tuple[Any, dict[str, str]]:
    """(a model as `auto` makes it, the formats of its layers)."""
    names = ["half", "dense", "csr", "kept", "csr"]
    formats = {layer.name: names[i % len(names)] for i, layer in enumerate(pruned.layers)}
    model = auto.composed(pruned.model, pruned.layers, pruned.masks, formats)
    model.config.sparse = {"format": "auto", "pattern": pruned.recipe.pattern, "formats": formats}
    return model, formats


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_of_several_formats_comes_back_with_each_layer_in_its_own(family: str, tmp_path: Path) -> None:
    pruned = pruned_by(family, Recipe("l1", 0.7))
    model, _ = in_several(pruned)
    sparsity.save(model, tmp_path)
    assert (tmp_path / "sparse.safetensors").stat().st_size == disk_bytes(model)
    assert_same_sparse(sparsity.load(tmp_path), model)
    assert_same_sparse(sparsity.load(tmp_path, format="auto"), model)
    assert_same_sparse(sparsity.load(tmp_path, format="kept"), in_format(pruned, "kept"))
    assert_same(sparsity.load(tmp_path, format="dense"), pruned.model)


def test_what_auto_chose_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned = pruned_by("bert", Recipe("l1", 0.7))
    names = [layer.name for layer in pruned.layers]
    monkeypatch.setattr(auto._Search, "choose", lambda *_: dict.fromkeys(names, "csr") | {names[0]: "dense"})
    monkeypatch.setattr(auto._Search, "pays", lambda *_: True)
    model = in_format(pruned, "auto", lambda model: lambda: logits(model))
    assert len(sparse_layers(model)) == len(names) - 1
    sparsity.save(model, tmp_path)
    assert_same_sparse(sparsity.load(tmp_path), model)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            lambda formats: formats.pop(LAYER),
            f"config.json names formats of other layers than the model's, as of {LAYER!r}",
        ),
        (
            lambda formats: formats.update(pooler="csr"),
            "config.json names formats of other layers than the model's, as of 'pooler'",
        ),
        (lambda formats: formats.update({LAYER: "csc"}), "there is no format 'csc' to load it in, known are "),
        (lambda formats: formats.update({LAYER: "auto"}), "there is no format 'auto' to load it in, known are "),
        (lambda formats: formats.update({LAYER: "semi_structured"}), "format auto cannot run here: "),
        (lambda formats: formats.update({LAYER: "compact"}), "format auto cannot run here: "),
    ],
)
def test_formats_of_layers_that_cannot_be_are_refused(
    edit: Callable[[dict[str, str]], object], expected: str, tmp_path: Path
) -> None:
    pruned = pruned_by("bert", Recipe("l1", 0.7))
    model, formats = in_several(pruned)
    sparsity.save(model, tmp_path)
    edit(formats)
    edit_json(tmp_path / "config.json", sparse=model.config.sparse | {"formats": formats})
    kind = Refused if "cannot run" in expected else ModelNotLoaded
    message = refusal(kind, lambda: sparsity.load(tmp_path))
    assert message.startswith(f"{tmp_path}: {expected}")
    assert message.endswith(f"; {WAY}")
    assert_same(sparsity.load(tmp_path, format="dense"), pruned.model)


@pytest.mark.parametrize("name", ["bf16", "fused"])
def test_what_has_no_sparse_layers_is_saved_as_the_dense_model_that_it_is(name: str, tmp_path: Path) -> None:
    pruned = pruned_by("gpt2", Recipe("l1", 0.7))
    model = in_format(pruned, name)
    sparsity.save(model, tmp_path)
    loaded = sparsity.load(tmp_path)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(same_bits(tensor, model.state_dict()[key]) for key, tensor in loaded.state_dict().items())
    assert (tmp_path / "model.safetensors").stat().st_size == disk_bytes(model)


@pytest.mark.parametrize("pattern", ["nothing", "", "9:4", "0x0", "2:4\n", "x" * 1000])
def test_a_pattern_that_is_not_known_is_refused(pattern: str, sparse_folder: Path) -> None:
    edit_json(sparse_folder / "config.json", sparse={"format": "kept", "pattern": pattern})
    assert not_loaded(sparse_folder).startswith("its weights do not go into format kept: ")


@pytest.mark.parametrize(
    "sparse", [{}, [], "kept", 3, {"format": "kept"}, {"pattern": "2:4"}, {"format": 3, "pattern": 4}]
)
def test_a_configuration_that_says_no_format_and_pattern_is_refused(sparse: Any, sparse_folder: Path) -> None:
    edit_json(sparse_folder / "config.json", sparse=sparse)
    assert not_loaded(sparse_folder) == "config.json holds no format and pattern under 'sparse'"
    with pytest.raises(ModelNotLoaded):
        sparsity.load(sparse_folder, format="dense")


def test_a_format_that_holds_other_weights_is_refused(sparse_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that relies on a pattern which the zeros do not have."""

    class Loses(sparse_formats.Kept):
        def dense_weight(self) -> torch.Tensor:
            weight = super().dense_weight()
            weight[-1, -1] = 7.0
            return weight

    monkeypatch.setitem(FORMATS, "kept", LayerWise(Loses))
    first = "bert.encoder.layer.0.attention.self.query"
    expected = f"the zeros of {first} are not those of pattern 'unstructured', which format kept relies on; {WAY}"
    assert not_loaded(sparse_folder) == expected


def test_a_format_may_lose_the_sign_of_a_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsigned(sparse_formats.Kept):
        def dense_weight(self) -> torch.Tensor:
            return super().dense_weight() + 0.0

    pruned = pruned_by("bert", Recipe("l1", 0.7))
    weight: Any = pruned.model.get_submodule(LAYER).weight
    weight[0, 0], weight[0, 1] = -0.0, float("nan")
    for mask in pruned.masks:
        mask.fill_(True)
    sparsity.save(in_format(pruned, "kept"), tmp_path / "sparse")
    monkeypatch.setitem(FORMATS, "kept", LayerWise(Unsigned))
    assert len(weights_of(sparsity.load(tmp_path / "sparse"))) == len(pruned.layers)
    loaded: Any = sparsity.load(tmp_path / "sparse", format="dense").get_submodule(LAYER).weight
    assert same_bits(loaded, weight)


def test_sparse_weights_that_are_not_there_are_refused(sparse_folder: Path) -> None:
    (sparse_folder / "sparse.safetensors").rename(sparse_folder / "model.safetensors")
    expected = "no sparse.safetensors, where its config.json has the weights; save the model again"
    assert not_loaded(sparse_folder) == expected


@pytest.mark.parametrize("size", [0, 4, 100, -10])
def test_sparse_weights_that_were_cut_short_are_refused(sparse_folder: Path, size: int) -> None:
    file = sparse_folder / "sparse.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert not_loaded(sparse_folder).startswith("sparse.safetensors is not whole: ")


def test_a_sparse_folder_that_lost_its_key_is_refused_with_the_way(sparse_folder: Path) -> None:
    edit_json(sparse_folder / "config.json", sparse=None)
    expected = 'for dense weights save() it as sparsity.load(folder, format="dense") gives it'
    assert not_loaded(sparse_folder) == f"no model.safetensors but sparse.safetensors, of a sparse format; {expected}"


def test_tensors_of_a_sparse_file_are_held_to_the_configuration(sparse_folder: Path, tmp_path: Path) -> None:
    def after(edit: Callable[[dict[str, torch.Tensor]], object]) -> str:
        folder = shutil.copytree(sparse_folder, tmp_path / "copy", dirs_exist_ok=True)
        edit_sparse(folder, edit)
        return not_loaded(folder)

    def without(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[LAYER + KEPT], tensors[LAYER + VALUES]

    lacks = "sparse.safetensors lacks {}; save the model again"
    assert after(without) == lacks.format(f"{LAYER}.weight")
    assert after(lambda tensors: tensors.pop(f"{LAYER}.bias")) == lacks.format(f"{LAYER}.bias")
    surplus = "sparse.safetensors holds {}, which its config.json has no place for"
    assert after(lambda tensors: tensors.update(adapter=torch.zeros(2))) == surplus.format("adapter")
    message = after(lambda tensors: tensors.update({LAYER + VALUES: tensors[LAYER + VALUES][:-1].clone()}))
    assert message.startswith(f"sparse.safetensors holds no 154 values for {LAYER}, but torch.float32 of shape (153,)")
    message = after(lambda tensors: tensors.update({f"pooler{KEPT}": torch.zeros(2, dtype=torch.uint8)}))
    assert message == "sparse.safetensors holds a sparse weight of pooler, which is no prunable layer"


def test_another_mask_than_the_zeros_is_taken_from_the_file(sparse_folder: Path) -> None:
    """A weight that was kept and is zero may be said so by whoever writes the file."""

    def zero(tensors: dict[str, torch.Tensor]) -> None:
        tensors[LAYER + VALUES][0] = 0.0

    before = stored_masks(sparse_folder)
    edit_sparse(sparse_folder, zero)
    after = stored_masks(sparse_folder)
    assert all(torch.equal(mask, after[name]) for name, mask in before.items())
    weight: Any = sparsity.load(sparse_folder, format="dense").get_submodule(LAYER).weight
    assert int((kept(weight) != after[LAYER]).sum()) == 1


def test_what_was_not_saved_sparse_comes_in_no_sparse_format(saved: Path) -> None:
    for name in ("masked", "bert"):
        assert_same(sparsity.load(saved / name, format="dense"), sparsity.load(saved / name))
        message = refusal(Refused, functools.partial(sparsity.load, saved / name, format="kept"))
        expected = "was not saved in a sparse format; prune it, and sparsity.execution.in_format converts"
        assert message == f"{saved / name} {expected}"


def test_a_format_that_does_not_exist_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    message = refusal(UnknownName, lambda: sparsity.load(tmp_path, format="csc"))
    assert message.startswith("unknown format 'csc'")


@pytest.mark.parametrize("device", ["nothing", "", "cuda:99", "meta:x"])
def test_a_device_that_is_not_here_is_refused(device: str, saved: Path) -> None:
    message = refusal(BadValue, lambda: sparsity.load(saved / "bert", device=device))
    assert message.startswith(f"device {device!r} is not here: ")
