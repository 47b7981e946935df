"""Single weights and their units: which of each matrix stay, for every scope.

`row` and `layer` decide matrix by matrix, behind already pruned ones where the method asks for that;
`global` lets all matrices compete; `erk` and `owl` first give each matrix its share, then decide as
`layer` does. The counts are exact in every scope.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity import allocation, gather
from sparsity.calibration import LayerStatistics
from sparsity.errors import Refused
from sparsity.mask import keep_highest, pruned_count
from sparsity.methods.protocol import Target
from sparsity.residence import IN_MEMORY, Residence

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.methods.protocol import PruningMethod
    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import ElementPattern
    from sparsity.tasks.batching import Batch


@dataclass(frozen=True)
class Job:
    """What to do with the single weights of a model."""

    method: PruningMethod
    pattern: ElementPattern
    scope: str
    sparsity: float


def decide(
    job: Job,
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    sources: Sequence[PrunableLayer],
    known: Sequence[LayerStatistics],
    batches: Sequence[Batch],
    residence: Residence = IN_MEMORY,
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, str | None]]:
    """(position of a layer, its new weight, its mask, a note), one layer after the other.

    The weight must be written into the model before the next is asked for: a sequential method's later
    layers see the earlier ones pruned.

    Args:
        job: what to do.
        model: for sequential statistics; holds the dense weights when this begins.
        layers: of the model.
        sources: of the dense model: whose weights are looked at.
        known: one for each layer; the seeds alone where nothing was gathered.
        batches: for sequential statistics.
        residence: where the model's weights are; only with scopes `row` and `layer` may one block be there at a time.
    """
    for source in sources:
        if reason := job.pattern.misfit(*source.weight.shape):
            raise Refused(f"{source.name} cannot be pruned {job.pattern}: {reason}")
    if job.scope == "global":
        for i, mask in enumerate(_global_masks(job, sources, known)):
            yield i, sources[i].weight, mask, None
        return
    targets = _targets(job, sources, known)
    every: Iterator[tuple[int, LayerStatistics]]
    if job.method.sequential:
        steps = gather.in_sequence(model, layers, batches, job.method.needs, [s.seed for s in known], residence)
        every = itertools.chain.from_iterable(steps)
    else:
        every = _block_by_block(layers, known, residence)
    for i, statistics in every:
        weight, mask, note = job.method.prune_layer(sources[i].weight, statistics, targets[i])
        del statistics  # a Hessian must not outlast its layer
        yield i, weight, mask, note
        del weight, mask  # before the next are made


def _block_by_block(
    layers: Sequence[PrunableLayer], known: Sequence[LayerStatistics], residence: Residence
) -> Iterator[tuple[int, LayerStatistics]]:
    for block, members in itertools.groupby(range(len(layers)), key=lambda i: layers[i].block):
        with residence.block(block):
            for i in members:
                yield i, known[i]


def _global_masks(
    job: Job, sources: Sequence[PrunableLayer], known: Sequence[LayerStatistics]
) -> Iterator[torch.Tensor]:
    score, pattern = job.method.score, job.pattern
    assert score is not None  # the method has refused the scope otherwise
    units = [
        lambda source=source, statistics=statistics: pattern.pool(score(source.weight, statistics))
        for source, statistics in zip(sources, known, strict=True)
    ]
    total = sum(_units(job, source) for source in sources)
    for source, kept in zip(sources, keep_highest(units, total - pruned_count(job.sparsity, total)), strict=True):
        yield pattern.spread(kept, *source.weight.shape)


def _units(job: Job, source: PrunableLayer) -> int:
    """How many units a layer has; on the meta device, where nothing is computed."""
    return int(job.pattern.pool(source.weight.to("meta")).numel())


def _targets(job: Job, sources: Sequence[PrunableLayer], known: Sequence[LayerStatistics]) -> list[Target]:
    """How much each layer loses."""
    if job.scope == "row":
        widths = [job.pattern.pool(source.weight.to("meta")).shape[1] for source in sources]
        return [Target(job.pattern, pruned_count(job.sparsity, width), per_row=True) for width in widths]
    sizes = [_units(job, source) for source in sources]
    if job.scope == "layer":
        return [Target(job.pattern, pruned_count(job.sparsity, size)) for size in sizes]
    if job.scope == "erk":
        densities = allocation.erk([(s.weight.shape[0], s.weight.shape[1]) for s in sources], job.sparsity)
    else:
        densities = allocation.owl(_outliers(sources, known), sizes, job.sparsity)
    keep = sum(sizes) - pruned_count(job.sparsity, sum(sizes))
    if keep < len(sizes):
        raise Refused(
            f"sparsity {job.sparsity} keeps {keep} of {sum(sizes)} units for {len(sizes)} layers, not one each"
        )
    kept = allocation.counts(densities, sizes, keep)
    return [Target(job.pattern, size - k) for size, k in zip(sizes, kept, strict=True)]


def _outliers(sources: Sequence[PrunableLayer], known: Sequence[LayerStatistics]) -> list[float]:
    """For each layer the share of outliers among the |w| x input norm of its block."""
    members: dict[int, list[int]] = {}
    for i, source in enumerate(sources):
        members.setdefault(source.block, []).append(i)
    shares = {}
    for block, layers in members.items():
        worth = [sources[i].weight.float().abs() * known[i].input_norms.float() for i in layers]
        total = sum(each.numel() for each in worth)
        mean = sum(float(each.sum()) for each in worth) / total
        shares[block] = sum(int((each > allocation.OUTLIER * mean).sum()) for each in worth) / total
    return [shares[source.block] for source in sources]
