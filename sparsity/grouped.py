"""Whole neurons, heads and blocks: which of them stay.

Scope `layer`: the groups of one set (the neurons of a block, the heads of an attention) compete;
`global`: all sets of a kind do. What remains of a feed-forward part may be rounded up to a multiple,
since kernels like round widths.

Refuses: a sparsity at which nothing goes, or nothing of a set stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity import gather
from sparsity.calibration import LayerStatistics
from sparsity.errors import Refused
from sparsity.groups import GroupSet, Slices
from sparsity.mask import keep_highest, pruned_count

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.groups import Sums
    from sparsity.methods.protocol import PruningMethod
    from sparsity.models.architecture import PrunableLayer
    from sparsity.pattern import GroupPattern
    from sparsity.tasks.batching import Batch


@dataclass(frozen=True)
class Job:
    """What to do with the groups of a model."""

    method: PruningMethod
    pattern: GroupPattern
    scope: str
    sparsity: float
    multiple: int = 1
    """The neurons that stay in a block are rounded up to a multiple of it."""


def decide(
    job: Job, sets: Sequence[GroupSet], sources: Sequence[PrunableLayer], known: Sequence[LayerStatistics]
) -> list[torch.Tensor]:
    """For each set which groups stay, (groups,) boolean, by the method's scores of the dense model."""
    sums = _sums(job.method, sources, known)
    scores = [_scores(job.method, each, sources, known, sums) for each in sets]
    kept: list[torch.Tensor] = [None] * len(sets)  # type: ignore[list-item]  # every place is filled below
    for kind in dict.fromkeys(each.kind for each in sets):
        places = [i for i, each in enumerate(sets) if each.kind == kind]
        competing = [places] if job.scope == "global" and kind != "layers" else [[i] for i in places]
        for rivals in competing:
            total = sum(sets[i].count for i in rivals)
            remove = _removed(job, kind, total, sets[rivals[0]].name)
            masks = keep_highest([_given(scores[i]) for i in rivals], total - remove)
            for i, mask in zip(rivals, masks, strict=True):
                kept[i] = _rounded(job, sets[i], mask, scores[i])
    _refuse_nothing_left(job, sets, kept)
    for kind in dict.fromkeys(each.kind for each in sets):
        _refuse_nothing_gone(job, kind, [mask for each, mask in zip(sets, kept, strict=True) if each.kind == kind])
    return kept


def decide_in_sequence(
    job: Job,
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    sets: Sequence[GroupSet],
    seeds: Sequence[tuple[int, int]],
    batches: Sequence[Batch],
) -> Iterator[tuple[Slices, torch.Tensor, torch.Tensor, str | None]]:
    """(a set, which groups stay, the new weight of the layer that reads them, a note).

    The weight, and zeros for what went, must be written into the model before the next is asked for.
    """
    prune_groups = job.method.prune_groups
    assert prune_groups is not None  # the caller has asked
    by_reader = {each.reader.layer: each for each in sets if isinstance(each, Slices)}
    for step in gather.in_sequence(model, layers, batches, job.method.needs, seeds):
        for layer, statistics in step:
            if layer not in by_reader:
                continue
            each = by_reader[layer]
            remove = _removed(job, each.kind, each.count, each.name)
            remove = each.count - _up_to_multiple(job, each, each.count - remove)
            weight, kept, note = prune_groups(layers[layer].weight, statistics, each.reader.index, remove)
            if not bool(kept.any()):
                raise _nothing_left(job, each)
            _refuse_nothing_gone(job, each.kind, [kept])
            yield each, kept, weight, note


def _given(scores: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: scores


def _removed(job: Job, kind: str, total: int, name: str) -> int:
    remove = pruned_count(job.sparsity, total)
    if job.sparsity and not remove:
        raise Refused(f"of the {total} {kind} of {name} none goes at sparsity {job.sparsity}; a step is 1/{total}")
    return remove


def _up_to_multiple(job: Job, each: GroupSet, keep: int) -> int:
    """A width, rounded up; heads and blocks are as wide as they are."""
    return min(each.count, math.ceil(keep / job.multiple) * job.multiple) if each.kind == "neurons" else keep


def _rounded(job: Job, each: GroupSet, kept: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    keep = int(kept.sum())
    wanted = _up_to_multiple(job, each, keep)
    return kept if wanted == keep else keep_highest([lambda: scores], wanted)[0]


def _scores(
    method: PruningMethod,
    each: GroupSet,
    sources: Sequence[PrunableLayer],
    known: Sequence[LayerStatistics],
    sums: Sums,
) -> torch.Tensor:
    if method.columns_score is not None and isinstance(each, Slices):
        reader = each.reader
        return method.columns_score(sources[reader.layer].weight, known[reader.layer], reader.index)
    return each.score(sums)


def _sums(method: PruningMethod, sources: Sequence[PrunableLayer], known: Sequence[LayerStatistics]) -> Sums:
    """Sums of each layer's scores over its rows and columns; each layer is scored once."""
    import torch

    found: dict[int, dict[int, torch.Tensor]] = {}
    score: Callable[[torch.Tensor, LayerStatistics], torch.Tensor] | None = method.score

    def sums(layer: int, axis: int) -> torch.Tensor:
        if layer not in found:
            assert score is not None  # a method without a score prunes groups itself
            scores = score(sources[layer].weight, known[layer])
            wide = torch.promote_types(scores.dtype, torch.float32)
            found[layer] = {a: scores.sum(a, dtype=wide) for a in (0, 1)}
        return found[layer][axis]

    return sums


def _refuse_nothing_left(job: Job, sets: Sequence[GroupSet], kept: Sequence[torch.Tensor]) -> None:
    for each, mask in zip(sets, kept, strict=True):
        if not bool(mask.any()):
            raise _nothing_left(job, each)


def _refuse_nothing_gone(job: Job, kind: str, kept: Sequence[torch.Tensor]) -> None:
    """Rounding widths up must not undo the whole pruning."""
    if job.sparsity and all(bool(mask.all()) for mask in kept):
        total = sum(mask.numel() for mask in kept)
        raise Refused(
            f"rounded up to a multiple of {job.multiple}, all of {total} {kind} stay; a smaller one lets some go"
        )


def _nothing_left(job: Job, each: GroupSet) -> Refused:
    return Refused(
        f"{job.pattern} {job.scope} at sparsity {job.sparsity} leaves none of the {each.count} {each.kind} of "
        f"{each.name}; a lower sparsity keeps some"
    )
