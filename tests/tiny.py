"""Tiny random models of the described families, built in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from sparsity.tasks.batching import IGNORED, Batch

FAMILIES = ("bert", "gpt2", "bart")
"""The three that the benchmarks run on."""
DESCRIBED = (*FAMILIES, "roberta", "distilbert", "opt", "llama", "mistral", "qwen2", "t5", "t5-gated")
"""Every family that the suite describes; T5 without and with a gate."""
VOCABULARY = 60
CLASSES = {
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForMaskedLM",
    "distilbert": "DistilBertForMaskedLM",
    "gpt2": "GPT2LMHeadModel",
    "opt": "OPTForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "bart": "BartForConditionalGeneration",
    "t5": "T5ForConditionalGeneration",
    "t5-gated": "T5ForConditionalGeneration",
}


def config(family: str, **changes: Any) -> Any:
    """A configuration of width 16 with 4 heads and 32 neurons; two blocks in each stack of `FAMILIES`, else 3 or 4."""
    common: dict[str, Any] = {"vocab_size": VOCABULARY}
    own: dict[str, Any]
    bert_like: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
        "max_position_embeddings": 32,
    }  # fmt: skip
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    if family == "bert":
        return transformers.BertConfig(**common | bert_like | changes)
    if family == "roberta":  # its positions begin behind that of padding
        own = {"num_hidden_layers": 3, "max_position_embeddings": 34}
        return transformers.RobertaConfig(**common | bert_like | special | own | changes)
    if family == "distilbert":
        own = {"dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 32, "max_position_embeddings": 32}
        return transformers.DistilBertConfig(**common | own | changes)
    if family == "gpt2":
        own = {
            "n_embd": 16, "n_layer": 2, "n_head": 4, "n_inner": 32, "n_positions": 32,
            "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
        }  # fmt: skip
        return transformers.GPT2Config(**common | own | changes)
    if family == "opt":
        own = {
            "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4, "ffn_dim": 32,
            "max_position_embeddings": 32, "word_embed_proj_dim": 16,
        }  # fmt: skip
        return transformers.OPTConfig(**common | special | own | changes)
    if family in ("llama", "mistral", "qwen2"):  # two query heads share a key-value head
        own = bert_like | {"num_hidden_layers": 4, "num_key_value_heads": 2}
        if family == "llama":
            return transformers.LlamaConfig(**common | own | special | changes)
        if family == "mistral":
            return transformers.MistralConfig(**common | own | special | {"sliding_window": None} | changes)
        return transformers.Qwen2Config(**common | own | special | changes)
    if family == "bart":
        own = {
            "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 32,
            "decoder_start_token_id": 2, "forced_eos_token_id": None,
        }  # fmt: skip
        return transformers.BartConfig(**common | special | own | changes)
    gated = family == "t5-gated"
    own = {
        "d_model": 16, "num_layers": 4 if gated else 3, "num_heads": 4, "d_kv": 4, "d_ff": 32,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
    }  # fmt: skip
    return transformers.T5Config(**common | own | changes)


def model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: Any) -> Any:
    """A language model of the family with seeded random weights, in eval mode; `changes` of its configuration."""
    torch.manual_seed(seed)
    built = getattr(transformers, CLASSES[family])(config(family, **changes))
    built.config.use_cache = False
    if family == "gpt2":  # its output projections begin small, so that a global threshold would empty them
        for name, parameter in built.named_parameters():
            if name.endswith("c_proj.weight"):
                parameter.data.mul_(2.0)
    for parameter in built.parameters():  # as `from_pretrained` does, which leaves tables of rotations in float32
        parameter.data = parameter.data.to(dtype)
    return built.eval().requires_grad_(False)


def batches(model: Any, count: int = 3) -> list[Batch]:
    """Seeded random calibration batches for a model: four documents of up to nine tokens, the first padded."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        tokens = torch.randint(3, VOCABULARY, (4, 9), generator=generator)
        mask = torch.ones_like(tokens)
        mask[0, 6:] = 0
        inputs = {"input_ids": tokens, "attention_mask": mask}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = tokens.clone()
        labels = torch.where(mask.bool(), tokens, IGNORED)
        found.append(Batch(inputs, labels, list(range(len(tokens)))))
    return found


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every tensor of the module's state."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
