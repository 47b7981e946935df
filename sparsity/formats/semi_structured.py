"""Semi-structured: 2:4 zeros on NVIDIA's sparse tensor cores, by core torch (cuSPARSELt, or CUTLASS without it).

Of every four inputs two are stored, with two bits each for their places: 9/16 of a dense layer, and at most half of
its time. Whether it is any faster hangs on the batch: for few tokens it is slower.

Refuses CPUs, for which torch has no such kernels; GPUs before Ampere; other patterns; dtypes but float16 and bfloat16
(int8 has kernels too, but torch no linear layer that scales what it multiplies). A layer whose sides the kernels cannot
do stays dense (`protocol.left_dense`).
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

from sparsity.formats.protocol import LayerWise
from sparsity.pattern import NM

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern, GroupPattern

PATTERN = NM(2, 4)
DTYPES = ("float16", "bfloat16")
OLDEST = (8, 0)
"""Compute capability: the first with sparse tensor cores."""


def reason(pattern: ElementPattern | GroupPattern, dtype: str, device: str) -> str | None:
    """2:4 in half precision on a GPU that has sparse tensor cores."""
    if device != "cuda":
        return f"2:4 kernels run on CUDA only (torch has none for {'CPUs' if device == 'cpu' else device})"
    if pattern != PATTERN:
        return f"semi_structured stores two of every four inputs ({PATTERN}), which {pattern} zeros need not leave"
    if dtype not in DTYPES:
        return f"torch's 2:4 kernels multiply {' and '.join(DTYPES)}, not {dtype}"
    return _gpu_lacks()


def _gpu_lacks() -> str | None:
    """Why the GPU that is here cannot, if there is one."""
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_capability()
    capability = "{}.{}".format(*found)
    if found < OLDEST:
        return "2:4 kernels need compute capability {}.{}, and this GPU has {}".format(*OLDEST, capability)
    if found[0] != OLDEST[0] and not torch.backends.cusparselt.is_available():
        return (
            f"this build of torch is without cuSPARSELt, and its other 2:4 kernels are not for capability {capability}"
        )
    return None


def misfit(rows: int, columns: int, least_rows: int, least_columns: int) -> str | None:
    """Why the kernels cannot multiply a matrix of this shape, or None."""
    if rows % least_rows == columns % least_columns == 0:
        return None
    return f"its {rows}x{columns} weights are no multiple of the {least_rows}x{least_columns} that 2:4 kernels want"


def convert_layer(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module | str:
    """A layer of the two kept weights of every four; the bias is shared."""
    del mask  # its zeros are where the weight's are
    weight, (rows, columns) = layer.weight, layer.weight.shape
    least = _kind()._DTYPE_SHAPE_CONSTRAINTS[weight.dtype]
    if why := misfit(rows, columns, least.sparse_min_rows, least.sparse_min_cols):
        return why
    made: nn.Module = _layer_class()(weight, layer.module.bias)
    return made


def _kind() -> Any:
    """Torch's class of 2:4 tensors here."""
    import torch

    backend = "CUSPARSELT" if torch.backends.cusparselt.is_available() else "CUTLASS"
    return getattr(torch.sparse, f"SparseSemiStructuredTensor{backend}")


@functools.cache
def _layer_class() -> Any:
    """The class, made when it is first needed: a class of torch's cannot be named without importing torch."""
    from torch import nn
    from torch.nn import functional

    class SemiStructuredLinear(nn.Module):
        """A `SparseLayer`. Holds the parts of torch's 2:4 tensor as buffers, which copies and counts of bytes see."""

        weight = None
        """There is no dense one; T5 looks whether there is."""

        def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
            super().__init__()
            self.out_features, self.in_features = weight.shape
            self.bias = bias
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the interface is a prototype
                stored = _kind().from_dense(weight.contiguous())
            self.kind = type(stored)
            self.parts, self.context = stored.__tensor_flatten__()
            for name in self.parts:
                self.register_buffer(name, getattr(stored, name))

        def stored(self) -> torch.Tensor:
            """Torch's 2:4 tensor of the buffers; made at each call, in 3 µs, so that it cannot go stale."""
            parts = {name: self.get_buffer(name) for name in self.parts}
            found: torch.Tensor = self.kind.__tensor_unflatten__(parts, self.context, None, None)
            return found

        def dense_weight(self) -> torch.Tensor:
            """The masked weight; a kept -0 comes back as 0."""
            return self.stored().to_dense()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """`F.linear` with the masked weight."""
            tokens = x.reshape(-1, self.in_features).contiguous()
            return functional.linear(tokens, self.stored(), self.bias).view(*x.shape[:-1], self.out_features)

    return SemiStructuredLinear


FORMAT = LayerWise(convert_layer, reason)
