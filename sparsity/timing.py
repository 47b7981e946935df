"""The sections of a record that are about time, and what bounds it; `sparsity.record` hands them on.

Refuses what cannot be: a negative time, a verdict that is none, a count below 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from sparsity.rules import Above, Amount, Count, Difference, OneOf, Range, Ruled, Some

LATENCY_VERDICTS = ("faster", "same", "slower", "inconclusive")
WITHHELD = "noisy: "
"""How the reason begins where noise withholds the verdict on a latency."""


Speed = Annotated[float, Above(0)]
"""A machine that reads or multiplies nothing in a second was not measured."""
Times = Annotated[int, Range(1, math.inf)]


@dataclass(frozen=True)
class Read(Ruled):
    """How fast so many bytes are read again and again, from whichever cache or memory they lie in."""

    bytes: Count
    bytes_per_second: Speed


@dataclass(frozen=True)
class Roofline(Ruled):
    """What the machine can do at best on the run's device, with its threads, as measured in the run."""

    flops_per_second: Annotated[dict[str, Speed], Some()]
    """By dtype, of the fastest product of two matrices, two operations for each multiply-add."""
    reads: Annotated[list[Read], Some()]
    """By ascending size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(a.bytes >= b.bytes for a, b in pairwise(self.reads)):
            raise ValueError("the sizes that were read do not ascend")

    def seconds(self, dtype: str, flops: int, size: int) -> float:
        """What so many operations on so many bytes take at least: the longer of the two, one hidden by the other."""
        return max(flops / self.flops_per_second[dtype], size / self._bytes_per_second(size))

    def _bytes_per_second(self, size: int) -> float:
        """No less than so many bytes are read at: the speed of the next smaller size, or of a larger one if faster."""
        smaller = max((read.bytes for read in self.reads if read.bytes <= size), default=0)
        return max(read.bytes_per_second for read in self.reads if read.bytes >= smaller)

    def __str__(self) -> str:
        """`98 GFLOP/s in float32; reads 1 MiB at 200, 64 MiB at 24 GB/s`."""
        products = ", ".join(f"{speed / 1e9:.3g} GFLOP/s in {dtype}" for dtype, speed in self.flops_per_second.items())
        reads = ", ".join(f"{r.bytes / 2**20:.3g} MiB at {r.bytes_per_second / 1e9:.3g}" for r in self.reads)
        return f"{products}; reads {reads} GB/s"


@dataclass(frozen=True)
class Products(Ruled):
    """What multiplied matrices in one forward pass, as torch's profiler saw it: operators, and how often each ran."""

    dense: dict[str, Times]
    """By operator and dtype, such as `aten::addmm float32`."""
    sparse: dict[str, Times]
    """Those that read a sparse layout, or are kernels for one."""
    kernels: dict[str, Times] | None = None
    """What they launched on a GPU."""


@dataclass(frozen=True)
class Latency(Ruled):
    """Seconds for one forward pass. `speedup` is dense / pruned: above 1 is faster."""

    pruned_seconds: Amount
    """Median over calls."""
    pruned_q1: Amount
    pruned_q3: Amount
    calls: Count
    verdict: Annotated[str, OneOf(LATENCY_VERDICTS)]
    """One of `LATENCY_VERDICTS`."""
    reason: str | None = None
    """Why the verdict is inconclusive."""
    dense_seconds: Amount | None = None
    """Median over the reference's calls, made in turns with the pruned model's."""
    speedup: Amount | None = None
    """Exp of minus the median of `block_ratios`; not the quotient of the two medians above."""
    low: Amount | None = None
    high: Amount | None = None
    """Ends of the exact 95 % interval of the speedup."""
    noise_floor: Amount | None = None
    """How far from 1 the interval of dense against its own copy reaches, a fraction."""
    margin: Amount | None = None
    """Ratios within it count as the same, a fraction."""
    blocks: Count | None = None
    more_blocks: Count | None = None
    """About how many more would settle an inconclusive verdict."""
    block_ratios: list[Difference] | None = None
    """log(pruned / dense) of each block, in order."""
    order_effect: Difference | None = None
    """Median of `block_ratios` where dense began, less that where it came second."""
    forward_share: Amount | None = None
    """Of the wall time of the measurement, the part spent inside the two models."""
    flops: Count | None = None
    """Floating-point operations that a pass makes, two for each multiply-add of a matrix product or of attention:
    of dense layers with their zeros, of sparse ones with the weights that are kept."""
    dense_flops: Count | None = None
    kept_flops: Count | None = None
    """Those that a pass cannot do without: of the prunable layers, only those with weights that are kept."""
    read_bytes: Count | None = None
    """Of weights, what a pass reads: those of every module as often as it is called, tables of embeddings left out."""
    ideal_seconds: Amount | None = None
    """What `kept_flops` and `read_bytes` take at the run's roofline."""
    ceiling: Amount | None = None
    """The unpruned model's speedup on this workload if its prunable layers cost nothing at all (Amdahl)."""
    products: Products | None = None
    caches: str | None = None
    """"warm", or "flushed" between calls."""
    device_seconds: Amount | None = None
    """Median over calls, by the CUDA device's own events; the times above are what a caller waits."""
    dense_device_seconds: Amount | None = None
    sm_megahertz_low: Count | None = None
    sm_megahertz_high: Count | None = None
    throttled: str | None = None
    """What held the GPU's clocks down in any block, by NVML."""

    @property
    def operations(self) -> float | None:
        """The share of the unpruned model's operations that a pass makes: the time ratio, if nothing else cost any."""
        return self.flops / self.dense_flops if self.flops and self.dense_flops else None

    @property
    def efficiency(self) -> float | None:
        """The ideal time over the measured one; more than 1 only by what both were measured with."""
        return self.ideal_seconds / self.pruned_seconds if self.ideal_seconds and self.pruned_seconds else None

    @property
    def withheld(self) -> bool:
        """Whether the machine was too noisy for any verdict."""
        return self.reason is not None and self.reason.startswith(WITHHELD)


@dataclass(frozen=True)
class Training(Ruled):
    """What holding the masks costs: a training step with them beside the same step without, in turns."""

    held_seconds: Amount
    """Median of a step that holds masks."""
    free_seconds: Amount
    ratio: Amount
    """held / free; above 1 is slower."""
    low: Amount
    high: Amount
    """Ends of the exact 95 % interval."""
