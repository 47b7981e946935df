"""What a forward pass is fed: batch size x sequence length, and the tensors for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity.errors import BadValue, Refused
from sparsity.positions import positions_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.tasks.batching import Batch


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
    positions = positions_of(model)
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
