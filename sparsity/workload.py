"""What a model is fed: batch size x sequence length, and the tensors for it.

`8x64` is a forward pass over 8 sequences of 64 tokens, `1x16+64` the generation of 64 tokens, one after the
other, after prompts of 16.

Refuses: more tokens than the model has positions; generation by a model that cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.errors import BadValue, Refused
from sparsity.positions import positions_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from sparsity.tasks.batching import Batch


@dataclass(frozen=True)
class Workload:
    """Tokens of one forward pass, or of one generation."""

    batch: int
    length: int
    generated: int = 0
    """Tokens that are generated for each sequence; 0 for a mere forward pass."""

    def __str__(self) -> str:
        return f"{self.batch}x{self.length}" + (f"+{self.generated}" if self.generated else "")


def parse(text: str) -> Workload:
    """`8x64` → batch 8, sequence length 64; `1x16+64` → 64 more tokens are generated."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})x([1-9][0-9]{0,6})(?:\+([1-9][0-9]{0,6}))?", text)
    if not match:
        raise BadValue(
            f"workload {text!r} is not BATCHxLENGTH, such as 8x64, or BATCHxLENGTH+GENERATED, such as 1x16+64"
        )
    return Workload(int(match[1]), int(match[2]), int(match[3] or 0))


def inputs(workload: Workload, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Seeded random tokens on the model's device, every position real.

    `input_ids` and `attention_mask`, (batch, length) int64; for an encoder-decoder also
    `decoder_input_ids` of the same shape. Raises `Refused` past the model's last position.
    """
    import torch

    config = model.config
    positions = positions_of(model)
    decoded = 1 if config.is_encoder_decoder else workload.length
    if positions is not None and max(workload.length, workload.generated and decoded + workload.generated) > positions:
        raise Refused(f"workload {workload} is longer than the model's {positions} positions; choose a shorter one")
    generator = torch.Generator().manual_seed(0)

    def tokens() -> torch.Tensor:
        shape = (workload.batch, workload.length)
        return torch.randint(config.vocab_size, shape, generator=generator).to(model.device)

    tensors = {"input_ids": ended(tokens(), config) if config.is_encoder_decoder else tokens()}
    tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
    if config.is_encoder_decoder:
        tensors["decoder_input_ids"] = tokens()
    return tensors


def ended(tokens: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """The tokens with one end each, at the end: an encoder-decoder's classifier reads what it finds there."""
    end = config.eos_token_id
    if not isinstance(end, int) or config.vocab_size < 2:
        return tokens
    tokens[tokens == end] = (end + 1) % config.vocab_size
    tokens[:, -1] = end
    return tokens


def call(workload: Workload, model: PreTrainedModel, head: bool = True) -> Callable[[], torch.Tensor]:
    """What runs the model on a workload, its inputs already on the device, and returns what it computed.

    A forward pass returns the logits, without the head the last hidden states; a generation the tokens, prompt
    included, each the likeliest. Raises `Refused` where a model cannot generate, or would have to without its head.
    """
    import torch

    tensors = inputs(workload, model)
    if workload.generated:
        return _generation(workload, model, tensors, head)
    run = model if head else model.base_model

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            found = run(**tensors)
            return found.logits if head else found[0]  # type: ignore[no-any-return]  # transformers leaves outputs untyped

    return forward


def _generation(
    workload: Workload, model: PreTrainedModel, tensors: dict[str, torch.Tensor], head: bool
) -> Callable[[], torch.Tensor]:
    import torch

    if not model.can_generate():
        raise Refused(f"workload {workload}: a {type(model).__name__} cannot generate; choose one such as 8x64")
    if not head:
        raise Refused(f"workload {workload}: nothing is generated without the head; leave --head at full")
    prompt = {name: tensors[name] for name in ("input_ids", "attention_mask")}
    settings = {"do_sample": False, "num_beams": 1, "pad_token_id": 0}
    count = {"min_new_tokens": workload.generated, "max_new_tokens": workload.generated}

    def generate() -> torch.Tensor:
        with torch.inference_mode():
            return model.generate(**prompt, **count, **settings)  # type: ignore[no-any-return,operator]  # as above

    return generate


def random_batches(model: PreTrainedModel, documents: int, length: int, batch: int) -> list[Batch]:
    """Seeded random documents with random labels, as calibration of a model whose weights are random too.

    Each `length` tokens long, or as long as the model's positions allow.
    """
    import torch

    from sparsity.tasks.batching import Batch

    config = model.config
    shape = (documents, min(length, positions_of(model) or length))
    generator = torch.Generator().manual_seed(1)
    tokens, decoded, labels = (torch.randint(config.vocab_size, shape, generator=generator) for _ in range(3))
    found = []
    for start in range(0, documents, batch):
        part = slice(start, start + batch)
        given = {"input_ids": tokens[part], "attention_mask": torch.ones_like(tokens[part])}
        if config.is_encoder_decoder:
            given["decoder_input_ids"] = decoded[part]
        rows = list(range(*part.indices(documents)))
        found.append(Batch(given, labels[part], rows).to(model.device))
    return found
