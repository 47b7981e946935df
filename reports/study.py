"""The original study's own numbers, as it published them, and which of our models stands for which of its.

Source: the study's table "Memory and time" (pruned with PyTorch's L1 unstructured pruning; measured by
Hugging Face's benchmark tool at batch size 128 and sequence length 64 on one GPU that it does not name).
It gives no spread, no repeat and no control. Its quality figures are not published as numbers.

About the tool, from its source (transformers, src/transformers/benchmark/benchmark.py): memory is all
that is in use on the GPU, in units of 2^20 bytes; time is the fastest of its repeats; and each model is
built from its configuration with fresh weights.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = (
    "the original study's table of memory and time: L1 unstructured pruning, Hugging Face's benchmark tool, "
    "batch size 128, sequence length 64, one GPU that it does not name, no spread and no repeat given"
)
CAVEAT = (
    "The tool counted all memory in use on the GPU and took the fastest repeat, where this suite counts the "
    "weights and the peak of a forward pass and takes the median: compare the ratios, not the sizes. In its "
    "source the tool builds each model anew from its configuration, so it is open whether pruned weights were "
    "ever measured."
)
WORKLOAD = "128x64"
METHOD = "l1"
PATTERN = "unstructured"


@dataclass(frozen=True)
class Published:
    """One cell of the study's table."""

    megabytes: int
    """Units of 2^20 bytes, as the tool counts."""
    seconds: float
    """Per forward pass."""


TABLE: dict[str, dict[float, Published]] = {
    "BART": {
        0.0: Published(2388, 0.4828),
        0.1: Published(2388, 0.4962),
        0.5: Published(2388, 0.5252),
        0.9: Published(2388, 0.5252),
        0.95: Published(2388, 0.5399),
        0.99: Published(2388, 0.5439),
    },
    "GPT-2": {
        0.0: Published(4584, 0.434),
        0.1: Published(4584, 0.5484),
        0.5: Published(4584, 0.4636),
        0.9: Published(4584, 0.4636),
        0.95: Published(4584, 0.4744),
        0.99: Published(4584, 0.4722),
    },
    "BERT": {
        0.0: Published(2624, 0.6581),
        0.1: Published(2624, 0.6698),
        0.5: Published(2624, 0.72),
        0.9: Published(2624, 0.72),
        0.95: Published(2624, 0.7134),
        0.99: Published(2624, 0.7159),
    },
}
"""The study's name for a model, then sparsity (0 is dense)."""

_BEGINNINGS = {"bart": "BART", "gpt2": "GPT-2", "bert": "BERT"}


def counterpart(model: str, class_name: str | None) -> str | None:
    """The study's model of the same family, by the class of ours or, unknown, by the end of its id."""
    text = class_name or model.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return next((name for start, name in _BEGINNINGS.items() if text.lower().startswith(start)), None)
