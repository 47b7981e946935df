"""From encoded documents to padded batches, each knowing which documents it holds.

Documents of like length share a batch, so little is spent on padding; the batch keeps the
documents' indices, so results go back to the document they belong to and stay comparable pair by
pair, whatever the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sparsity.errors import BadValue

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""The label of a position that counts for nothing, as transformers has it."""


class Example(NamedTuple):
    """One encoded document."""

    input_ids: list[int]
    labels: list[int]
    """Language modelling: one label per predicted position, `IGNORED` elsewhere. Classification: the class alone."""
    decoder_input_ids: list[int] | None = None
    """Encoder-decoder models only; as long as `labels`."""
    token_types: list[int] | None = None
    """Of pairs, for models that tell the two texts apart by it; as long as `input_ids`."""


@dataclass(frozen=True)
class Batch:
    """Padded tensors; `B` documents, `T` input positions, `L` label positions."""

    inputs: dict[str, torch.Tensor]
    """Keyword arguments of the model: `input_ids` and `attention_mask`, (B, T); for encoder-decoders also
    `decoder_input_ids`, (B, L); of pairs perhaps `token_type_ids`, (B, T)."""
    labels: torch.Tensor
    """(B, L), or (B, 1) for classification."""
    documents: list[int]
    """Index of each row's document; a long document may have several rows."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        moved = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(moved, self.labels.to(device), self.documents)


def as_batch(given: Batch | Mapping[str, torch.Tensor]) -> Batch:
    """A batch as it is, or out of what a tokenizer gives: `input_ids` and, where there is padding, `attention_mask`.

    Raises `BadValue` for anything else. Such a batch has no labels of its own: every position counts.
    """
    import torch

    if isinstance(given, Batch):
        return given
    if not isinstance(given, Mapping) or not isinstance(given.get("input_ids"), torch.Tensor):
        raise BadValue(
            f"a calibration batch is a mapping with a tensor input_ids, (B, T), not a {type(given).__name__}"
        )
    inputs = {name: tensor for name, tensor in given.items() if name != "labels"}
    inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
    read = inputs.get("decoder_input_ids", inputs["input_ids"])
    return Batch(inputs, torch.zeros_like(read), list(range(len(read))))


def counted(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits that count, (N, classes), and their labels, (N,): of a batch's positions, or of its documents."""
    chosen = labels != IGNORED
    return (logits if logits.dim() == 2 else logits[chosen]), labels[chosen]


def pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """(rows, longest row), int64, padded on the right."""
    import torch

    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def collate(
    examples: Sequence[Example], rows: Sequence[int], pad_id: int, documents: Sequence[int] | None = None
) -> Batch:
    """One batch out of the examples in these rows; `documents` says whose each example is, its own unless given."""
    chosen = [examples[i] for i in rows]
    input_ids = pad([e.input_ids for e in chosen], pad_id)
    lengths = [len(e.input_ids) for e in chosen]
    inputs = {"input_ids": input_ids, "attention_mask": pad([[1] * n for n in lengths], 0)}
    decoder_rows = [e.decoder_input_ids for e in chosen if e.decoder_input_ids is not None]
    if decoder_rows:
        inputs["decoder_input_ids"] = pad(decoder_rows, pad_id)
    if any(e.token_types is not None for e in chosen):
        inputs["token_type_ids"] = pad([e.token_types or [0] * len(e.input_ids) for e in chosen], 0)
    owners = list(rows) if documents is None else [documents[i] for i in rows]
    return Batch(inputs, pad([e.labels for e in chosen], IGNORED), owners)


def batches(
    examples: Sequence[Example],
    pad_id: int,
    batch_size: int,
    documents: Sequence[int] | None = None,
    most: int | None = None,
) -> list[Batch]:
    """All examples once, shortest first, ties by index.

    A batch has up to `batch_size` rows, and fewer where they would have more than `most` positions, padding included;
    one at least. `documents` says whose each example is, its own unless given.
    """
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i].input_ids), i))
    groups: list[list[int]] = []
    widest = 0
    for row in order:
        width = max(len(examples[row].input_ids), len(examples[row].labels))
        full = not groups or len(groups[-1]) == batch_size
        if full or (most is not None and (len(groups[-1]) + 1) * max(widest, width) > most):
            groups.append([])
            widest = 0
        groups[-1].append(row)
        widest = max(widest, width)
    return [collate(examples, group, pad_id, documents) for group in groups]
