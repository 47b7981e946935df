"""What layers read, summed while a model runs: hooks in, statistics out.

Layers that read one tensor (query, key, value) share its sums. Padding is masked out: a padded position
says nothing of real inputs.

Refuses: a layer that no batch reaches, or that reads other positions than the batch's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparsity.calibration import LayerStatistics
from sparsity.errors import Refused
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

    with_hessian: bool
    tokens: int = 0
    waiting: list[torch.Tensor] = field(default_factory=list)
    total: torch.Tensor | None = None
    """Of the squares, (in,), or the upper half of the Hessian, (in, in); float64."""

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

    def finished(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(squares, Hessian where it was asked for)."""
        if self.waiting:
            self._sum_up()
        assert self.total is not None  # something was added, or nobody would ask
        if not self.with_hessian:
            return self.total, None
        whole = self.total.triu() + self.total.triu(1).t()
        return whole.diagonal(), whole


@dataclass
class Watch:
    """Hooks on layers that sum what they read. Layers that read one tensor (query, key, value) share its sums."""

    layers: Sequence[PrunableLayer]
    with_hessian: bool
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
            sums = self.sums.get(index) or Sums(self.with_hessian)
            sums.add(real_tokens(x, self.masks[self.layers[index].tokens], self.layers[index].name))
        self.sums[index] = sums
        self.seen[index] = x, sums
        if self.and_stop and len(self.seen) == len(self.layers):
            raise Reached

    def statistics(self, seeds: Sequence[tuple[int, int]]) -> list[LayerStatistics]:
        """What was gathered, a value for each layer."""
        if missing := [layer for i, layer in enumerate(self.layers) if i not in self.sums]:
            raise unreached(missing[0])
        if blank := [layer for i, layer in enumerate(self.layers) if not self.sums[i].tokens]:
            raise Refused(
                f"the calibration batches hold no text for {blank[0].name}, so nothing is known of its inputs"
            )
        finished = {id(sums): sums.finished() for sums in self.sums.values()}
        return [LayerStatistics(seed, self.sums[i].tokens, *finished[id(self.sums[i])]) for i, seed in enumerate(seeds)]


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
