"""What a forward pass is fed: batch size x sequence length, and the tensors for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.errors import BadValue, Refused

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Workload:
    """Tokens of one forward pass."""

    batch: int
    length: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.length}"


def parse(text: str) -> Workload:
    """`8x64` → batch 8, sequence length 64."""
    match = re.fullmatch(r"([1-9]\d{0,6})x([1-9]\d{0,6})", text)
    if not match:
        raise BadValue(f"workload {text!r} is not BATCHxLENGTH, such as 8x64")
    return Workload(int(match[1]), int(match[2]))


def inputs(workload: Workload, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Seeded random tokens on the model's device, every position real.

    `input_ids` and `attention_mask`, (batch, length) int64; for an encoder-decoder also
    `decoder_input_ids` of the same shape. Raises `Refused` past the model's last position.
    """
    import torch

    config = model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and workload.length > positions:
        raise Refused(f"workload {workload} is longer than the model's {positions} positions; choose a shorter one")
    generator = torch.Generator().manual_seed(0)

    def tokens() -> torch.Tensor:
        shape = (workload.batch, workload.length)
        return torch.randint(config.vocab_size, shape, generator=generator).to(model.device)

    tensors = {"input_ids": tokens()}
    tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
    if config.is_encoder_decoder:
        tensors["decoder_input_ids"] = tokens()
    return tensors
