"""Execution formats: how pruned weights are stored and multiplied. `FORMATS` is the list, a plain dict.

A format makes of the masked dense model one that computes the same, layer by layer (`LayerWise`) or as
a whole. A new one is one file with a `FORMAT`, and one line here. Formats know nothing of methods:
they meet at the masked dense model.
"""

from __future__ import annotations

from sparsity.formats import bf16, bsr, compact, csr, dense, fused, masked, packed, semi_structured
from sparsity.formats.protocol import ExecutionFormat

FORMATS: dict[str, ExecutionFormat] = {
    "dense": dense.FORMAT,
    "masked": masked.FORMAT,
    "bf16": bf16.FORMAT,
    "fused": fused.FORMAT,
    "csr": csr.FORMAT,
    "bsr": bsr.FORMAT,
    "packed": packed.FORMAT,
    "semi_structured": semi_structured.FORMAT,
    "compact": compact.FORMAT,
}
AUTO = "auto"
"""No format of its own: the fastest of them for each part of a model, by measurement (`sparsity.auto`)."""
NAMES = (*FORMATS, AUTO)
"""What may be asked for."""
