"""How many tokens a model can read at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def positions_of(model: PreTrainedModel) -> int | None:
    """The longest sequence by the model's own positions; None where they have no end.

    RoBERTa and its relatives number positions from one after the padding token's, so the first few
    places of their table are never read.
    """
    most: int | None = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if most is not None and name.endswith("position_embeddings") and padding is not None:
            return most - int(padding) - 1
    return most
