"""The families that are described: where each keeps its attention and feed-forward matrices, by `model_type`.

A description is what structured pruning needs beyond the names: which matrices belong to one
attention, which attributes of its module count heads, and which keys of the configuration follow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Attention:
    """One attention of a block. Paths are from the block."""

    path: str
    """The module that computes with the heads, and holds the attributes below."""
    query: str
    key: str
    value: str
    output: str
    """Where query, key and value are one packed matrix (GPT-2), all three name it."""
    head_size: str = "head_dim"
    """Attribute with the width of a head."""
    heads: str | None = None
    """Attribute with the number of heads, which must follow; None where the module keeps none."""
    width: str | None = None
    """Attribute with heads x head size, which must follow."""
    cross: bool = False
    """Whether key and value read the encoder's output."""
    fixed: str | None = None
    """Why its heads cannot be removed, where they cannot."""

    @property
    def packed(self) -> bool:
        """Whether query, key and value are one matrix, one below the other."""
        return self.query == self.key

    @property
    def matrices(self) -> tuple[str, ...]:
        """The paths of its matrices, each once."""
        return tuple(dict.fromkeys((self.query, self.key, self.value, self.output)))


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward part of a block. Paths are from the block."""

    up: tuple[str, ...]
    """One matrix, or gate and up: row i of each makes neuron i."""
    down: str
    """Column i reads neuron i."""
    activation: str
    """The module between them; of a gate, what it applies to the first."""

    @property
    def matrices(self) -> tuple[str, ...]:
        """The paths of its matrices."""
        return (*self.up, self.down)


@dataclass(frozen=True)
class ConfigKeys:
    """The configuration's own names for the shape of a stack."""

    blocks: tuple[str, ...]
    heads: tuple[str, ...]
    neurons: tuple[str, ...]
    key_value_heads: tuple[str, ...] = ()

    @property
    def widths(self) -> tuple[tuple[str, ...], ...]:
        """All but the number of blocks."""
        return self.heads, self.neurons, self.key_value_heads


@dataclass(frozen=True)
class Stack:
    """A run of equal blocks inside the base model."""

    path: str
    """Path of the `ModuleList` of blocks, from the base model."""
    attentions: tuple[Attention, ...]
    feed_forward: FeedForward
    config: ConfigKeys
    decoder: bool = False
    """Whether it reads the decoder's tokens of an encoder-decoder."""
    first_stays: str | None = None
    """Why the first block cannot be removed, where it cannot."""
    others: tuple[str, ...] = ()
    """Paths of matrices in a block that are not prunable, such as a table of relative positions."""


@dataclass(frozen=True)
class Architecture:
    """One family: its stacks, and how its language model is trained and loaded."""

    stacks: tuple[Stack, ...] | None
    """None for a family that is not described: its blocks are searched for, and only single matrices are pruned."""
    objective: str
    """Language-modelling objective, a key of `sparsity.tasks.language_modeling.OBJECTIVES`."""

    @property
    def auto_class(self) -> str:
        """The auto class of transformers for the language model."""
        return AUTO_CLASSES[self.objective]


AUTO_CLASSES = {
    "masked": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
    "infilling": "AutoModelForSeq2SeqLM",
}

_BERT = Architecture(
    stacks=(
        Stack(
            "encoder.layer",
            attentions=(
                Attention(
                    "attention.self",
                    query="attention.self.query",
                    key="attention.self.key",
                    value="attention.self.value",
                    output="attention.output.dense",
                    head_size="attention_head_size",
                    heads="num_attention_heads",
                    width="all_head_size",
                ),
            ),
            feed_forward=FeedForward(("intermediate.dense",), "output.dense", "intermediate.intermediate_act_fn"),
            config=ConfigKeys(("num_hidden_layers",), ("num_attention_heads",), ("intermediate_size",)),
        ),
    ),
    objective="masked",
)

_DISTILBERT = Architecture(
    stacks=(
        Stack(
            "transformer.layer",
            attentions=(
                Attention(
                    "attention",
                    query="attention.q_lin",
                    key="attention.k_lin",
                    value="attention.v_lin",
                    output="attention.out_lin",
                    head_size="attention_head_size",
                    heads="n_heads",
                    width="dim",
                ),
            ),
            feed_forward=FeedForward(("ffn.lin1",), "ffn.lin2", "ffn.activation"),
            config=ConfigKeys(("n_layers",), ("n_heads",), ("hidden_dim",)),
        ),
    ),
    objective="masked",
)

_GPT2 = Architecture(
    stacks=(
        Stack(
            "h",
            attentions=(
                Attention(
                    "attn",
                    query="attn.c_attn",
                    key="attn.c_attn",
                    value="attn.c_attn",
                    output="attn.c_proj",
                    heads="num_heads",
                    width="split_size",
                ),
            ),
            feed_forward=FeedForward(("mlp.c_fc",), "mlp.c_proj", "mlp.act"),
            config=ConfigKeys(("n_layer",), ("n_head",), ("n_inner",)),
        ),
    ),
    objective="causal",
)


def _projections(
    path: str, output: str = "out_proj", heads: str | None = "num_heads", cross: bool = False
) -> Attention:
    """Four matrices inside the attention module itself."""
    q, k, v = (f"{path}.{name}_proj" for name in "qkv")
    return Attention(path, q, k, v, f"{path}.{output}", heads=heads, cross=cross)


_OPT = Architecture(
    stacks=(
        Stack(
            "decoder.layers",
            attentions=(_projections("self_attn"),),
            feed_forward=FeedForward(("fc1",), "fc2", "activation_fn"),
            config=ConfigKeys(("num_hidden_layers",), ("num_attention_heads",), ("ffn_dim",)),
        ),
    ),
    objective="causal",
)

_LLAMA = Architecture(
    stacks=(
        Stack(
            "layers",
            attentions=(_projections("self_attn", "o_proj", heads=None),),
            feed_forward=FeedForward(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "mlp.act_fn"),
            config=ConfigKeys(
                ("num_hidden_layers",), ("num_attention_heads",), ("intermediate_size",), ("num_key_value_heads",)
            ),
        ),
    ),
    objective="causal",
)

_BART = Architecture(
    stacks=(
        Stack(
            "encoder.layers",
            attentions=(_projections("self_attn"),),
            feed_forward=FeedForward(("fc1",), "fc2", "activation_fn"),
            config=ConfigKeys(("encoder_layers",), ("encoder_attention_heads",), ("encoder_ffn_dim",)),
        ),
        Stack(
            "decoder.layers",
            attentions=(_projections("self_attn"), _projections("encoder_attn", cross=True)),
            feed_forward=FeedForward(("fc1",), "fc2", "activation_fn"),
            config=ConfigKeys(("decoder_layers",), ("decoder_attention_heads",), ("decoder_ffn_dim",)),
            decoder=True,
        ),
    ),
    objective="infilling",
)

_T5_FIXED = "its heads share one table of relative positions with those of all other blocks"


def _t5_attention(path: str, cross: bool = False) -> Attention:
    q, k, v, o = (f"{path}.{name}" for name in "qkvo")
    return Attention(path, q, k, v, o, head_size="key_value_proj_dim", heads="n_heads", cross=cross, fixed=_T5_FIXED)


def _t5_feed_forward(path: str) -> FeedForward:
    part = f"{path}.DenseReluDense"
    return FeedForward((f"{part}.wi",), f"{part}.wo", f"{part}.act")


_T5_ENCODER = Stack(
    "encoder.block",
    attentions=(_t5_attention("layer.0.SelfAttention"),),
    feed_forward=_t5_feed_forward("layer.1"),
    config=ConfigKeys(("num_layers",), ("num_heads",), ("d_ff",)),
    first_stays="it holds the table of relative positions for all",
    others=("layer.0.SelfAttention.relative_attention_bias",),
)
_T5 = Architecture(
    stacks=(
        _T5_ENCODER,
        replace(
            _T5_ENCODER,
            path="decoder.block",
            attentions=(
                _t5_attention("layer.0.SelfAttention"),
                _t5_attention("layer.1.EncDecAttention", cross=True),
            ),
            feed_forward=_t5_feed_forward("layer.2"),
            config=ConfigKeys(("num_decoder_layers",), ("num_heads",), ("d_ff",)),
            decoder=True,
        ),
    ),
    objective="infilling",
)


def gated_t5(architecture: Architecture) -> Architecture:
    """T5 1.1 and its like, whose feed-forward parts have a gate."""
    stacks = []
    for stack in architecture.stacks or ():
        (up,) = stack.feed_forward.up
        stacks.append(replace(stack, feed_forward=replace(stack.feed_forward, up=(f"{up}_0", f"{up}_1"))))
    return replace(architecture, stacks=tuple(stacks))


ARCHITECTURES: dict[str, Architecture] = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": _DISTILBERT,
    "gpt2": _GPT2,
    "opt": _OPT,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "bart": _BART,
    "t5": _T5,
}
