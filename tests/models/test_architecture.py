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

from sparsity.errors import ModelNotUnderstood, Refused
from sparsity.models.architecture import (
    architecture_for,
    architecture_of,
    blocks_of,
    described_stacks,
    prunable_layers,
)
from sparsity.models.families import ARCHITECTURES
from tests import tiny as small
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


def _named(path: str, blocks: int, matrices: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {f"{path}.{block}.{name}": shape for block in range(blocks) for name, shape in matrices.items()}


ROBERTA_BLOCK = {
    "attention.self.query": (16, 16),
    "attention.self.key": (16, 16),
    "attention.self.value": (16, 16),
    "attention.output.dense": (16, 16),
    "intermediate.dense": (32, 16),
    "output.dense": (16, 32),
}
DISTILBERT_BLOCK = {
    "attention.q_lin": (16, 16),
    "attention.k_lin": (16, 16),
    "attention.v_lin": (16, 16),
    "attention.out_lin": (16, 16),
    "ffn.lin1": (32, 16),
    "ffn.lin2": (16, 32),
}
OPT_BLOCK = {f"self_attn.{name}_proj": (16, 16) for name in ("q", "k", "v", "out")} | {"fc1": (32, 16), "fc2": (16, 32)}
LLAMA_BLOCK = {
    "self_attn.q_proj": (16, 16),
    "self_attn.k_proj": (8, 16),  # two key-value heads for four query heads
    "self_attn.v_proj": (8, 16),
    "self_attn.o_proj": (16, 16),
    "mlp.gate_proj": (32, 16),
    "mlp.up_proj": (32, 16),
    "mlp.down_proj": (16, 32),
}
T5_SELF = {f"layer.0.SelfAttention.{name}": (16, 16) for name in "qkvo"}
T5_CROSS = {f"layer.1.EncDecAttention.{name}": (16, 16) for name in "qkvo"}


def _t5_feed_forward(part: int, ups: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    path = f"layer.{part}.DenseReluDense"
    return {f"{path}.{up}": (32, 16) for up in ups} | {f"{path}.wo": (16, 32)}


def _t5(blocks: int, *ups: str) -> dict[str, tuple[int, int]]:
    encoder = T5_SELF | _t5_feed_forward(1, ups)
    decoder = T5_SELF | T5_CROSS | _t5_feed_forward(2, ups)
    return _named("encoder.block", blocks, encoder) | _named("decoder.block", blocks, decoder)


LAYERS_OF = {
    "roberta": _named("roberta.encoder.layer", 3, ROBERTA_BLOCK),
    "distilbert": _named("distilbert.transformer.layer", 3, DISTILBERT_BLOCK),
    "opt": _named("model.decoder.layers", 4, OPT_BLOCK),
    "llama": _named("model.layers", 4, LLAMA_BLOCK),
    "mistral": _named("model.layers", 4, LLAMA_BLOCK),
    "qwen2": _named("model.layers", 4, LLAMA_BLOCK),
    "t5": _t5(3, "wi"),
    "t5-gated": _t5(4, "wi_0", "wi_1"),
}
"""Of the described families that `STACKS` does not name: every prunable matrix, in order."""
T5_TABLES = {f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias" for stack in ("encoder", "decoder")}
OTHERS_OF = {
    "roberta": {f"roberta.embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")}
    | {"lm_head.dense"},
    "distilbert": {f"distilbert.embeddings.{kind}_embeddings" for kind in ("word", "position")} | {"vocab_transform"},
    "opt": {"model.decoder.embed_tokens", "model.decoder.embed_positions"},
    "llama": {"model.embed_tokens", "lm_head"},
    "mistral": {"model.embed_tokens", "lm_head"},
    "qwen2": {"model.embed_tokens", "lm_head"},
    "t5": {"shared"} | T5_TABLES,
    "t5-gated": {"shared"} | T5_TABLES,
}
"""Their other matrices, tied ones once."""


def test_every_described_family_is_among_the_tested() -> None:
    tested = {small.config(family).model_type for family in (*STACKS, *LAYERS_OF)}
    assert tested == set(ARCHITECTURES)


@pytest.mark.parametrize("family", LAYERS_OF)
def test_a_described_family_has_exactly_these_layers(family: str) -> None:
    layers = prunable_layers(small.model(family))
    assert [(layer.name, tuple(layer.weight.shape)) for layer in layers] == list(LAYERS_OF[family].items())
    assert not any(layer.transposed for layer in layers)


@pytest.mark.parametrize("family", LAYERS_OF)
def test_every_other_matrix_of_a_described_family_is_left_alone(family: str) -> None:
    model = small.model(family)
    matrices = {name.removesuffix(".weight") for name, p in model.named_parameters() if p.dim() > 1}
    assert matrices - {layer.name for layer in prunable_layers(model)} == OTHERS_OF[family]


@pytest.mark.parametrize("family", small.DESCRIBED)
def test_the_language_model_of_a_described_family_is_what_its_auto_class_makes(family: str) -> None:
    architecture = architecture_for(small.config(family))
    made = getattr(transformers, architecture.auto_class).from_config(small.config(family))
    assert type(made).__name__ == small.CLASSES[family]


@pytest.mark.parametrize("family", small.DESCRIBED)
def test_layers_know_their_block_and_blocks_their_stack(family: str) -> None:
    model = small.model(family)
    blocks = blocks_of(model)
    assert [block.module for block in blocks] == [model.get_submodule(block.name) for block in blocks]
    assert [(block.stack, block.index) for block in blocks] == [
        (stack, index)
        for stack, described in enumerate(described_stacks(model))
        for index in range(len(model.base_model.get_submodule(described.path)))
    ]
    for layer in prunable_layers(model):
        assert layer.name.startswith(f"{blocks[layer.block].name}.")


@pytest.mark.parametrize("family", small.DESCRIBED)
def test_only_what_reads_the_decoder_has_the_decoders_tokens(family: str) -> None:
    """Keys and values of a cross attention read what the encoder gave."""
    for layer in prunable_layers(small.model(family)):
        in_decoder = family in ("bart", "t5", "t5-gated") and re.match(r"(model\.)?decoder\.", layer.name) is not None
        reads_encoder = re.search(r"encoder_attn\.[kv]_proj|EncDecAttention\.[kv]$", layer.name) is not None
        assert layer.tokens == ("decoder" if in_decoder and not reads_encoder else "own"), layer.name


@pytest.mark.parametrize("kind", ["vit", "bertt", "", "None", "BERT", "bert\n"])
def test_a_type_that_transformers_does_not_know_is_refused_with_the_described(kind: str) -> None:
    message = tiny.refusal(ModelNotUnderstood, lambda: architecture_of(kind))
    assert message == (
        f"models of type {kind!r} are not understood: transformers knows no language model of that type. Described "
        "are bert, roberta, distilbert, gpt2, opt, llama, mistral, qwen2, bart, t5; any other type of transformers "
        "is searched for Linear layers"
    )


SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
    "max_position_embeddings": 32, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BART_SIZES: dict[str, Any] = {
    "vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32,
    "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
T5_SIZES: dict[str, Any] = {
    "vocab_size": 60, "d_model": 16, "num_layers": 2, "num_heads": 4, "d_kv": 4, "d_ff": 32,
    "decoder_start_token_id": 0,
}  # fmt: skip
GPTJ_SIZES: dict[str, Any] = {
    "vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 32, "n_positions": 32, "rotary_dim": 4,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
CODEGEN_BLOCK = {"attn.qkv_proj": (48, 16), "attn.out_proj": (16, 16), "mlp.fc_in": (32, 16), "mlp.fc_out": (16, 32)}
NEOX_BLOCK = {
    "attention.query_key_value": (48, 16), "attention.dense": (16, 16),
    "mlp.dense_h_to_4h": (32, 16), "mlp.dense_4h_to_h": (16, 32),
}  # fmt: skip
PHI_BLOCK = {f"self_attn.{name}": (16, 16) for name in ("q_proj", "k_proj", "v_proj", "dense")} | {
    "mlp.fc1": (32, 16), "mlp.fc2": (16, 32),
}  # fmt: skip
MODERNBERT_BLOCK = {"attn.Wqkv": (48, 16), "attn.Wo": (16, 16), "mlp.Wi": (64, 16), "mlp.Wo": (16, 32)}
MT5_BLOCK = T5_SELF | _t5_feed_forward(1, ("wi_0", "wi_1"))
MT5_DECODER_BLOCK = T5_SELF | T5_CROSS | _t5_feed_forward(2, ("wi_0", "wi_1"))
MARIAN_FEED_FORWARD = {"fc1": (32, 16), "fc2": (16, 32)}
MARIAN_SELF = {f"self_attn.{name}_proj": (16, 16) for name in ("q", "k", "v", "out")}
MARIAN_CROSS = {f"encoder_attn.{name}_proj": (16, 16) for name in ("q", "k", "v", "out")}
SEARCHED: dict[str, tuple[str, str, dict[str, Any], dict[str, tuple[int, int]]]] = {
    "gpt_neox": ("GPTNeoX", "ForCausalLM", SIZES, _named("gpt_neox.layers", 2, NEOX_BLOCK)),
    "phi": ("Phi", "ForCausalLM", SIZES, _named("model.layers", 2, PHI_BLOCK)),
    "codegen": ("CodeGen", "ForCausalLM", GPTJ_SIZES, _named("transformer.h", 2, CODEGEN_BLOCK)),
    "electra": (
        "Electra", "ForMaskedLM", SIZES | {"embedding_size": 16}, _named("electra.encoder.layer", 2, ROBERTA_BLOCK),
    ),
    "modernbert": (
        "ModernBert", "ForMaskedLM", SIZES | {"cls_token_id": 0, "sep_token_id": 2},
        _named("model.layers", 2, MODERNBERT_BLOCK),
    ),
    "xlm-roberta": ("XLMRoberta", "ForMaskedLM", SIZES, _named("roberta.encoder.layer", 2, ROBERTA_BLOCK)),
    "marian": (
        "Marian", "MTModel", BART_SIZES,
        _named("model.encoder.layers", 2, MARIAN_SELF | MARIAN_FEED_FORWARD)
        | _named("model.decoder.layers", 2, MARIAN_SELF | MARIAN_CROSS | MARIAN_FEED_FORWARD),
    ),
    "mt5": (  # its tables of positions are embeddings inside a block
        "MT5", "ForConditionalGeneration", T5_SIZES,
        _named("encoder.block", 2, MT5_BLOCK) | _named("decoder.block", 2, MT5_DECODER_BLOCK),
    ),
}  # fmt: skip
"""Families that are not described: name of their classes, the language model's ending, sizes, every matrix."""


def _searched(kind: str) -> transformers.PreTrainedModel:
    name, ending, sizes, _ = SEARCHED[kind]
    built: transformers.PreTrainedModel = getattr(transformers, name + ending)(
        getattr(transformers, f"{name}Config")(**sizes)
    )
    assert built.config.model_type == kind
    return built


@pytest.mark.parametrize("kind", SEARCHED)
def test_the_blocks_of_any_other_family_are_searched_for_linear_layers(kind: str) -> None:
    layers = prunable_layers(_searched(kind))
    assert {layer.name: tuple(layer.weight.shape) for layer in layers} == SEARCHED[kind][3]
    assert [layer.block for layer in layers] == sorted(layer.block for layer in layers)
    assert {layer.tokens for layer in layers} == {"own"}


@pytest.mark.parametrize("kind", SEARCHED)
def test_a_family_that_is_searched_has_an_auto_class(kind: str) -> None:
    model = _searched(kind)
    made = getattr(transformers, architecture_for(model.config).auto_class).from_config(model.config)
    assert type(made) is type(model)


@pytest.mark.parametrize("kind", SEARCHED)
def test_where_a_searched_family_keeps_its_heads_is_not_known(kind: str) -> None:
    message = tiny.refusal(Refused, lambda: described_stacks(_searched(kind)))
    assert message == (
        f"where {kind} models keep their heads and neurons is not described, so none can be removed; described are "
        "bert, roberta, distilbert, gpt2, opt, llama, mistral, qwen2, bart, t5"
    )


def test_the_experts_of_a_mixture_are_refused_by_name() -> None:
    """A router and 3-D parameters that hold all experts at once."""
    sizes = SIZES | {"num_key_value_heads": 2}
    mixtral = transformers.MixtralForCausalLM(transformers.MixtralConfig(num_local_experts=2, **sizes))
    assert re.fullmatch(r"(block )?model\.layers\.0\.?.*mlp\.(gate|experts).*", _refusal(mixtral))
    layers = mixtral.get_submodule("model.layers")
    for block in layers.children():  # and without the router it is the experts
        block.get_submodule("mlp").gate = nn.Identity()
    message = _refusal(mixtral)
    assert message.startswith("block model.layers.0 holds matrices that are not understood: ")
    assert "mlp.experts." in message


def test_parameters_that_no_linear_layer_holds_are_refused_by_name() -> None:
    sizes: dict[str, Any] = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
    mamba = transformers.MambaForCausalLM(transformers.MambaConfig(bos_token_id=0, eos_token_id=0, **sizes))
    assert _refusal(mamba) == "block backbone.layers.0 holds matrices that are not understood: mixer.A_log"
    xlnet = transformers.XLNetLMHeadModel(
        transformers.XLNetConfig(vocab_size=60, d_model=16, n_layer=2, n_head=4, d_inner=32)
    )
    assert _refusal(xlnet) == "block transformer.layer.0 holds matrices that are not understood: rel_attn.q"


def _mix_the_blocks(model: nn.Module) -> None:
    """Two kinds of block, as hybrid models have them, each with a list of small layers inside."""

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Sequential(nn.Linear(16, 16)), nn.Sequential(nn.Linear(16, 16))])
            self.dense = nn.Linear(16, 16)

    blocks = model.get_submodule("gpt_neox.layers")
    assert isinstance(blocks, nn.ModuleList)
    blocks[1] = Other()


def test_blocks_of_two_kinds_are_refused_rather_than_half_pruned() -> None:
    model = _searched("gpt_neox")
    _mix_the_blocks(model)
    layers: list[str] = []
    with pytest.raises(ModelNotUnderstood):
        layers += [layer.name for layer in prunable_layers(model)]
    assert not layers


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
