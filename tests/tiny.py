"""Tiny random models of the three families, built in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
import transformers

FAMILIES = ("bert", "gpt2", "bart")
VOCABULARY = 60


def config(family: str) -> Any:
    """A configuration of width 16 with two blocks in each stack."""
    if family == "bert":
        return transformers.BertConfig(
            vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=32, max_position_embeddings=32,
        )  # fmt: skip
    if family == "gpt2":
        return transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_inner=32, n_positions=32,
            bos_token_id=0, eos_token_id=0, pad_token_id=1,
        )  # fmt: skip
    return transformers.BartConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip


def model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A language model of the family with seeded random weights, in eval mode."""
    torch.manual_seed(seed)
    kinds = {"bert": "BertForMaskedLM", "gpt2": "GPT2LMHeadModel", "bart": "BartForConditionalGeneration"}
    built = getattr(transformers, kinds[family])(config(family))
    built.config.use_cache = False
    if family == "gpt2":  # its output projections begin small, so that a global threshold would empty them
        for name, parameter in built.named_parameters():
            if name.endswith("c_proj.weight"):
                parameter.data.mul_(2.0)
    return built.to(dtype).eval().requires_grad_(False)


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every tensor of the module's state."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
