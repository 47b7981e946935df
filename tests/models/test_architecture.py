"""Which matrices of a model are prunable: exactly these, and a model that holds others is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from sparsity.errors import ModelNotUnderstood
from sparsity.models.architecture import ARCHITECTURES, architecture_of, prunable_layers
from tests.models import tiny

H, F, V = tiny.HIDDEN, tiny.FEED_FORWARD, tiny.VOCABULARY
BERT_BLOCK = {
    "attention.self.query": (H, H),
    "attention.self.key": (H, H),
    "attention.self.value": (H, H),
    "attention.output.dense": (H, H),
    "intermediate.dense": (F, H),
    "output.dense": (H, F),
}
GPT2_BLOCK = {"attn.c_attn": (3 * H, H), "attn.c_proj": (H, H), "mlp.c_fc": (F, H), "mlp.c_proj": (H, F)}
BART_SELF = {f"self_attn.{name}_proj": (H, H) for name in ("q", "k", "v", "out")}
BART_CROSS = {f"encoder_attn.{name}_proj": (H, H) for name in ("q", "k", "v", "out")}
BART_FEED_FORWARD = {"fc1": (F, H), "fc2": (H, F)}
STACKS: dict[str, list[tuple[str, dict[str, tuple[int, int]]]]] = {
    "bert": [("bert.encoder.layer", BERT_BLOCK)],
    "gpt2": [("transformer.h", GPT2_BLOCK)],
    "bart": [
        ("model.encoder.layers", BART_SELF | BART_FEED_FORWARD),
        ("model.decoder.layers", BART_SELF | BART_CROSS | BART_FEED_FORWARD),
    ],
}
"""Every prunable matrix and its (out_features, in_features), in order."""
COUNTS = {"bert": 12, "gpt2": 8, "bart": 32}
BERT_EMBEDDINGS = {f"bert.embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")}
BART_EMBEDDINGS = {"model.shared", "model.encoder.embed_positions", "model.decoder.embed_positions"}
OTHERS = {
    ("bert", "lm"): BERT_EMBEDDINGS | {"cls.predictions.transform.dense"},
    ("bert", "classification"): BERT_EMBEDDINGS | {"bert.pooler.dense", "classifier"},
    ("gpt2", "lm"): {"transformer.wte", "transformer.wpe"},
    ("gpt2", "classification"): {"transformer.wte", "transformer.wpe", "score"},
    ("bart", "lm"): BART_EMBEDDINGS,
    ("bart", "classification"): BART_EMBEDDINGS | {"classification_head.dense", "classification_head.out_proj"},
}
"""Every other matrix of a model, tied ones once: embeddings, poolers and heads, never prunable."""
EVERY = pytest.mark.parametrize(("family", "task"), OTHERS)


def _expected(family: str) -> dict[str, tuple[int, int]]:
    return {
        f"{path}.{block}.{name}": shape
        for path, matrices in STACKS[family]
        for block in range(tiny.LAYERS)
        for name, shape in matrices.items()
    }


def _refusal(model: transformers.PreTrainedModel) -> str:
    return tiny.refusal(ModelNotUnderstood, lambda: prunable_layers(model))


def _parent(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return model.get_submodule(parent), name


@EVERY
def test_the_prunable_layers_are_the_matrices_of_the_blocks(family: str, task: str) -> None:
    layers = prunable_layers(tiny.model(family, task))
    assert [(layer.name, tuple(layer.weight.shape)) for layer in layers] == list(_expected(family).items())
    assert len(layers) == COUNTS[family]


@EVERY
def test_every_other_matrix_is_an_embedding_a_pooler_or_a_head(family: str, task: str) -> None:
    model = tiny.model(family, task)
    prunable = {layer.name for layer in prunable_layers(model)}
    matrices = {name.removesuffix(".weight") for name, p in model.named_parameters() if p.dim() > 1}
    assert matrices - prunable == OTHERS[family, task]


@EVERY
def test_the_view_of_a_weight_computes_what_its_layer_does(family: str, task: str) -> None:
    for layer in prunable_layers(tiny.model(family, task)):
        x = torch.randn(3, layer.weight.shape[1], generator=torch.Generator().manual_seed(0))
        bias = layer.module.bias
        assert isinstance(bias, torch.Tensor)
        torch.testing.assert_close(x @ layer.weight.t() + bias.detach(), layer.module(x).detach())
        assert layer.transposed == isinstance(layer.module, Conv1D) == (family == "gpt2")
        assert not layer.weight.requires_grad


@EVERY
def test_writing_to_the_view_writes_the_model(family: str, task: str) -> None:
    model = tiny.model(family, task)
    before = tiny.logits(model)
    for layer in prunable_layers(model):
        layer.weight[1, 2] = 7.0
        stored = dict(model.named_parameters())[f"{layer.name}.weight"]
        assert stored[(2, 1) if layer.transposed else (1, 2)] == 7.0
        assert stored.eq(7.0).sum() == 1
    assert not torch.equal(tiny.logits(model), before)


def test_a_body_alone_has_the_same_layers() -> None:
    names = [layer.name for layer in prunable_layers(tiny.model("bert", "body"))]
    assert names == [name.removeprefix("bert.") for name in _expected("bert")]


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_known_family_is_among_the_tested(family: str) -> None:
    assert family in STACKS
    model_class = getattr(transformers, tiny.CLASSES[family, "lm"])
    config = tiny.config(family)
    assert type(getattr(transformers, architecture_of(family).auto_class).from_config(config)) is model_class


@pytest.mark.parametrize("kind", ["roberta", "opt", "", "None", "BERT"])
def test_an_unknown_family_is_refused_with_the_known_ones(kind: str) -> None:
    message = tiny.refusal(ModelNotUnderstood, lambda: architecture_of(kind))
    assert message.startswith(f"models of type {kind!r} are not understood; known types: bert, gpt2, bart.")


def test_models_of_unknown_families_are_refused_by_name() -> None:
    sizes: dict[str, Any] = {
        "hidden_size": H, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 32,
        "max_position_embeddings": 16,
    }  # fmt: skip
    roberta = transformers.RobertaForMaskedLM(transformers.RobertaConfig(intermediate_size=F, **sizes))
    assert "'roberta'" in _refusal(roberta)
    opt = transformers.OPTForCausalLM(transformers.OPTConfig(ffn_dim=F, word_embed_proj_dim=H, **sizes))
    assert "'opt'" in _refusal(opt)


def test_cross_attention_where_none_is_expected_is_refused() -> None:
    message = _refusal(tiny.model("gpt2", "lm", add_cross_attention=True))
    assert message.startswith("block transformer.h.0 holds matrices that are not understood: ")
    assert "crossattention.c_attn, crossattention.c_proj, crossattention.q_attn" in message
    bert = transformers.BertLMHeadModel(tiny.config("bert", is_decoder=True, add_cross_attention=True))  # type: ignore[arg-type]  # tiny.config is typed by the base class
    message = _refusal(bert)
    assert message.startswith("block bert.encoder.layer.0 holds matrices that are not understood: ")
    assert "crossattention.self.query" in message


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_block_without_one_of_its_matrices_is_refused(family: str) -> None:
    for name in _expected(family):
        model = tiny.model(family, "lm")
        parent, attribute = _parent(model, name)
        setattr(parent, attribute, nn.Identity())
        block = re.match(r".*?\.\d+", name)
        assert block is not None
        assert _refusal(model) == f"block {block[0]} lacks the matrices {name.removeprefix(block[0] + '.')}"


@pytest.mark.parametrize(("family", "block"), [("bert", "bert.encoder.layer.1"), ("gpt2", "transformer.h.0")])
def test_an_extra_matrix_in_a_block_is_refused(family: str, block: str) -> None:
    model = tiny.model(family, "lm")
    model.get_submodule(block).add_module("adapter", nn.Linear(H, 4))
    assert _refusal(model) == f"block {block} holds matrices that are not understood: adapter"


def test_a_matrix_of_another_kind_is_refused() -> None:
    model = tiny.model("bert", "lm")
    parent, attribute = _parent(model, "bert.encoder.layer.0.output.dense")
    setattr(parent, attribute, nn.Embedding(H, F))
    assert _refusal(model) == "bert.encoder.layer.0.output.dense is a Embedding, neither Linear nor Conv1D"


def _tie_feed_forwards(model: nn.Module) -> None:
    blocks = model.get_submodule("bert.encoder.layer")
    first, second = (blocks.get_submodule(f"{i}.output.dense") for i in (0, 1))
    second.weight = first.weight


def _share_a_block(model: nn.Module) -> None:
    blocks = model.get_submodule("bert.encoder.layer")
    assert isinstance(blocks, nn.ModuleList)
    blocks[1] = blocks[0]


def _tie_to_the_head(model: nn.Module) -> None:
    head = model.get_submodule("cls.predictions.transform.dense")
    model.get_submodule("bert.encoder.layer.0.attention.self.key").weight = head.weight


@pytest.mark.parametrize(
    ("tie", "layer", "other"),
    [
        (_tie_feed_forwards, "bert.encoder.layer.0.output.dense", "bert.encoder.layer.1.output.dense.weight"),
        (_share_a_block, "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.attention.self.query"),
        (_tie_to_the_head, "bert.encoder.layer.0.attention.self.key", "cls.predictions.transform.dense.weight"),
    ],
)
def test_a_tied_matrix_is_refused(tie: Callable[[nn.Module], None], layer: str, other: str) -> None:
    model = tiny.model("bert", "lm")
    prunable_layers(model)
    tie(model)
    message = _refusal(model)
    assert message.startswith(f"{layer} is tied: ")
    assert other in message


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_quantised_weights_are_refused(dtype: torch.dtype) -> None:
    model = tiny.model("gpt2", "lm")
    layer = model.get_submodule("transformer.h.1.mlp.c_fc")
    layer.weight = nn.Parameter(torch.zeros(H, F, dtype=dtype), requires_grad=False)
    assert _refusal(model) == f"transformer.h.1.mlp.c_fc holds {dtype} weights; load it unquantised"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_not_mistaken_for_quantised(dtype: torch.dtype) -> None:
    layers = prunable_layers(tiny.model("gpt2", "lm").to(dtype))  # type: ignore[arg-type]  # transformers types .to by a Self that mypy loses
    assert {layer.weight.dtype for layer in layers} == {dtype}
    assert len(layers) == COUNTS["gpt2"]


def test_a_model_without_its_blocks_is_refused() -> None:
    model = tiny.model("bert", "lm")
    model.get_submodule("bert").add_module("encoder", nn.Identity())
    assert _refusal(model) == "BertForMaskedLM has no 'encoder.layer', where a bert model keeps its blocks"


def test_a_model_of_no_blocks_is_refused() -> None:
    assert "has no transformer blocks" in _refusal(tiny.model("bert", "lm", num_hidden_layers=0))


def test_a_matrix_that_no_listed_layer_owns_is_refused_by_its_name() -> None:
    model = tiny.model("bert", "lm")
    model.get_submodule("bert.encoder.layer.1").register_parameter("gate", nn.Parameter(torch.zeros(2, 2)))
    assert _refusal(model) == "block bert.encoder.layer.1 holds matrices that are not understood: gate"
    model = tiny.model("bert", "lm")
    query = model.get_submodule("bert.encoder.layer.1.attention.self.query")
    query.register_parameter("lora", nn.Parameter(torch.zeros(2, 2)))
    assert _refusal(model).endswith("not understood: attention.self.query.lora")
