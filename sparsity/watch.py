"""What layers read, summed while a model runs: hooks in, statistics out.

Layers that read one tensor (query, key, value) share its sums. Padding is masked out: a padded position
says nothing of real inputs.

Refuses: a layer that no batch reaches, or that reads other positions than the batch's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparsity.calibration import FACTOR, HESSIAN, LayerStatistics
from sparsity.errors import Refused
from sparsity.hessian import Factor, factor
from sparsity.tasks.batching import IGNORED, Batch

if TYPE_CHECKING:
    import torch

    from sparsity.models.architecture import PrunableLayer


class Reached(Exception):
    """Ends a forward pass early: no error, the part that was wanted is over."""


TOGETHER = 2048
"""Tokens whose products are summed in one go: large products are fast, and the float64 sum is touched seldom."""
STRIP = 256
"""Rows of a Hessian made at a time; what lies below the diagonal is mirrored, not computed."""


@dataclass
class Sums:
    """Sums over the tokens that one or more layers read."""

    needs: Collection[str]
    """Of `HESSIAN` and `FACTOR`; the squares are summed whatever is needed."""
    tokens: int = 0
    waiting: list[torch.Tensor] = field(default_factory=list)
    total: torch.Tensor | None = None
    """Of the squares, (in,), or the upper half of the Hessian, (in, in); float64."""
    made: tuple[torch.Tensor, torch.Tensor | None, Factor | None] | None = None

    @property
    def with_hessian(self) -> bool:
        """Whether more than squares is summed."""
        return HESSIAN in self.needs or FACTOR in self.needs

    def add(self, x: torch.Tensor) -> None:
        """x: (tokens, in)."""
        self.tokens += len(x)
        self.waiting.append(x)
        if sum(map(len, self.waiting)) >= TOGETHER:
            self._sum_up()

    def _sum_up(self) -> None:
        import torch

        x = torch.cat(self.waiting)
        self.waiting = []
        x = x if x.dtype == torch.float64 else x.float()
        size = x.shape[1]
        if self.total is None:
            self.total = x.new_zeros((size, size) if self.with_hessian else (size,), dtype=torch.float64)
        if not self.with_hessian:
            self.total += x.square().sum(0)
            return
        for start in range(0, size, STRIP):
            rows = slice(start, start + STRIP)
            self.total[rows, start:] += x[:, rows].t() @ x[:, start:]

    def finished(self) -> tuple[torch.Tensor, torch.Tensor | None, Factor | None]:
        """(squares, Hessian, its factor), the latter two where they were asked for; made once."""
        if self.made is None:
            if self.waiting:
                self._sum_up()
            assert self.total is not None  # something was added, or nobody would ask
            whole, self.total = self.total, None
            if not self.with_hessian:
                self.made = whole, None, None
            else:
                _mirror(whole)
                factored = factor(whole, self.tokens) if FACTOR in self.needs else None
                kept = whole if HESSIAN in self.needs else None
                self.made = whole.diagonal().clone(), kept, factored
        return self.made


def _mirror(upper: torch.Tensor) -> None:
    """The lower half becomes what the upper one is, in place: a sum of both would take three times the memory."""
    for start in range(0, len(upper), STRIP):
        stop = min(len(upper), start + STRIP)
        corner = upper[start:stop, start:stop]
        corner.copy_(corner.triu() + corner.triu(1).t())
        upper[stop:, start:stop] = upper[start:stop, stop:].t()


@dataclass
class Watch:
    """Hooks on layers that sum what they read. Layers that read one tensor (query, key, value) share its sums."""

    layers: Sequence[PrunableLayer]
    needs: Collection[str]
    and_stop: bool = False
    """Whether a forward pass is over once every layer has been seen: what the last one makes is not looked at."""
    sums: dict[int, Sums] = field(default_factory=dict)
    masks: dict[str, torch.Tensor] = field(default_factory=dict)
    seen: dict[int, tuple[torch.Tensor, Sums]] = field(default_factory=dict)
    """By layer what it read of this batch."""

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """The hooks, for as long as the block lasts."""
        handles = [
            layer.module.register_forward_pre_hook(lambda _, args, i=i: self._see(i, args[0]))
            for i, layer in enumerate(self.layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def next(self, batch: Batch) -> None:
        """The batch that the following forward pass is of."""
        self.masks, self.seen = token_masks(batch), {}

    def _see(self, index: int, x: torch.Tensor) -> None:
        sums = next((sums for other, sums in self.seen.values() if other is x), None)
        if sums is None:
            sums = self.sums.get(index) or Sums(self.needs)
            sums.add(real_tokens(x, self.masks[self.layers[index].tokens], self.layers[index].name))
        self.sums[index] = sums
        self.seen[index] = x, sums
        if self.and_stop and len(self.seen) == len(self.layers):
            raise Reached

    def statistics(self, seeds: Sequence[tuple[int, int]]) -> Iterator[LayerStatistics]:
        """What was gathered, a value for each layer, made when it is asked for and not held after that."""
        if missing := [layer for i, layer in enumerate(self.layers) if i not in self.sums]:
            raise unreached(missing[0])
        if blank := [layer for i, layer in enumerate(self.layers) if not self.sums[i].tokens]:
            raise Refused(
                f"the calibration batches hold no text for {blank[0].name}, so nothing is known of its inputs"
            )
        self.seen = {}

        def of(index: int) -> LayerStatistics:
            sums = self.sums.pop(index)
            return LayerStatistics(seeds[index], sums.tokens, *sums.finished())

        return map(of, range(len(seeds)))


def unreached(layer: PrunableLayer) -> Refused:
    """The refusal of a layer that was never run."""
    return Refused(f"no calibration batch reaches {layer.name}, so nothing is known of its inputs")


def token_masks(batch: Batch) -> dict[str, torch.Tensor]:
    """Which positions hold text, (B, T) boolean, by `PrunableLayer.tokens`."""
    import torch

    own = batch.inputs.get("attention_mask", torch.ones_like(batch.inputs["input_ids"])).bool()
    decoder = batch.inputs.get("decoder_input_ids")
    shown = own if decoder is None else batch.labels != IGNORED
    return {"own": own, "decoder": shown}


def real_tokens(x: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """The rows of a layer's input that are text: (tokens, in) of (B, T, in) or (B * T, in)."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) != mask.numel():
        raise Refused(f"{name} reads {len(rows)} positions where the batch has {mask.numel()}, so it is not calibrated")
    return rows[mask.reshape(-1)]
