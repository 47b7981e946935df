"""Runs a model on calibration batches and gathers what methods need: batches in, statistics out.

Three ways. `at_once`: one pass over the dense model, small statistics of every layer. `gradients`: one
backward pass for each batch. `in_sequence`: block by block, each block's statistics on what the blocks
before it give *after they were pruned*, as Frantar & Alistarh 2023 and Sun et al. 2024 do; memory is
bounded by one block's statistics and the hidden states of the batches.

Padding is masked out everywhere: a padded position says nothing of real inputs.

Refuses: an encoder-decoder that is not described (whose padding it would have to guess), a layer that
no batch reaches or that reads other positions than the batch's.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparsity.calibration import HESSIAN, INFLUENCE, LayerStatistics
from sparsity.errors import Refused
from sparsity.models.architecture import PrunableLayer, architecture_for, blocks_of
from sparsity.tasks.batching import IGNORED, Batch

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


class _Reached(Exception):
    """Ends a forward pass early: no error, the part that was wanted is over."""


DELAY = 3.0
"""Seconds before a progress bar appears: what is over sooner needs none."""
TOGETHER = 2048
"""Tokens whose products are summed in one go: large products are fast, and the float64 sum is touched seldom."""
STRIP = 512
"""Rows of a Hessian made at a time; what lies below the diagonal is mirrored, not computed."""


@dataclass
class _Sums:
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
class _Watch:
    """Hooks on layers that sum what they read. Layers that read one tensor (query, key, value) share its sums."""

    layers: Sequence[PrunableLayer]
    with_hessian: bool
    and_stop: bool = False
    """Whether a forward pass is over once every layer has been seen: what the last one makes is not looked at."""
    sums: dict[int, _Sums] = field(default_factory=dict)
    masks: dict[str, torch.Tensor] = field(default_factory=dict)
    seen: dict[int, tuple[torch.Tensor, _Sums]] = field(default_factory=dict)
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
            sums = self.sums.get(index) or _Sums(self.with_hessian)
            sums.add(real_tokens(x, self.masks[self.layers[index].tokens], self.layers[index].name))
        self.sums[index] = sums
        self.seen[index] = x, sums
        if self.and_stop and len(self.seen) == len(self.layers):
            raise _Reached

    def statistics(self, seeds: Sequence[tuple[int, int]]) -> list[LayerStatistics]:
        """What was gathered, a value for each layer."""
        if missing := [layer for i, layer in enumerate(self.layers) if i not in self.sums]:
            raise _unreached(missing[0])
        finished = {id(sums): sums.finished() for sums in self.sums.values()}
        return [LayerStatistics(seed, self.sums[i].tokens, *finished[id(self.sums[i])]) for i, seed in enumerate(seeds)]


def _unreached(layer: PrunableLayer) -> Refused:
    return Refused(f"no calibration batch reaches {layer.name}, so nothing is known of its inputs")


def token_masks(batch: Batch) -> dict[str, torch.Tensor]:
    """Which positions hold text, (B, T) boolean, by `PrunableLayer.tokens`."""
    own = batch.inputs["attention_mask"].bool()
    decoder = batch.inputs.get("decoder_input_ids")
    shown = own if decoder is None else batch.labels != IGNORED
    return {"own": own, "decoder": shown}


def real_tokens(x: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """The rows of a layer's input that are text: (tokens, in) of (B, T, in) or (B * T, in)."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) != mask.numel():
        raise Refused(f"{name} reads {len(rows)} positions where the batch has {mask.numel()}, so it is not calibrated")
    return rows[mask.reshape(-1)]


def check(model: PreTrainedModel) -> None:
    """Raises `Refused` for an encoder-decoder whose stacks are not described."""
    if model.config.is_encoder_decoder and architecture_for(model.config).stacks is None:
        raise Refused(
            f"which layers of a {model.config.model_type} model read the encoder is not described, so methods that "
            "look at inputs cannot be used; l1, l2 and random can"
        )


def passes(model: PreTrainedModel, batches: Sequence[Batch]) -> None:
    """Forward passes up to the last block, without gathering anything: what calibration costs at least."""
    import torch

    def stop(*_: Any) -> None:
        raise _Reached

    handle = blocks_of(model)[-1].module.register_forward_hook(stop)
    try:
        with torch.no_grad():
            for batch in batches:
                _run(model, batch)
    finally:
        handle.remove()


def at_once(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    batches: Sequence[Batch],
    needs: Collection[str],
    seeds: Sequence[tuple[int, int]],
) -> list[LayerStatistics]:
    """Input norms, and where needed block influences, of every layer in one pass over the model as it is."""
    import dataclasses

    import torch

    blocks = [block.module for block in blocks_of(model)]
    angles = [torch.zeros(2, dtype=torch.float64) for _ in blocks] if INFLUENCE in needs else []
    watch = _Watch(layers, with_hessian=False)
    tokens_of_block = {layer.block: layer.tokens for layer in layers}

    def measure(index: int, args: Any, kwargs: Any, output: Any) -> None:
        if angles:
            mask = watch.masks[tokens_of_block[index]]
            before, after = (real_tokens(x, mask, "a block") for x in (_hidden(args, kwargs), _first(output)))
            cosine = torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1)
            angles[index] += torch.tensor([float(cosine.sum()), len(cosine)], dtype=torch.float64)
        if index == len(blocks) - 1:
            raise _Reached

    handles = [
        block.register_forward_hook(lambda _, args, kwargs, out, i=i: measure(i, args, kwargs, out), with_kwargs=True)
        for i, block in enumerate(blocks)
    ]
    try:
        with watch.on(), torch.no_grad():
            for batch in batches:
                watch.next(batch)
                _run(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    found = watch.statistics(seeds)
    if not angles:
        return found
    influence = [1 - float(total / count) for total, count in angles]
    return [dataclasses.replace(s, influence=influence[layer.block]) for s, layer in zip(found, layers, strict=True)]


def gradients(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    batches: Sequence[Batch],
    seeds: Sequence[tuple[int, int]],
) -> list[LayerStatistics]:
    """Mean squared gradients and saliences of every layer; the loss is that of the batches' labels."""
    import torch
    from torch.nn import functional
    from tqdm import tqdm

    weights: list[Any] = [layer.module.weight for layer in layers]
    wide = torch.promote_types(layers[0].weight.dtype, torch.float32)  # squares of half precision would vanish
    squared = [torch.zeros_like(layer.weight, dtype=wide) for layer in layers]
    saliences: list[list[torch.Tensor]] = [[] for _ in layers]
    asked = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for batch in tqdm(batches, desc="gradients", delay=DELAY, leave=False):
            with torch.enable_grad():
                logits = model(**batch.inputs).logits
                counted = batch.labels != IGNORED
                chosen = logits if logits.dim() == 2 else logits[counted]
                loss = functional.cross_entropy(chosen.to(wide), batch.labels[counted])
                found = torch.autograd.grad(loss, weights, allow_unused=True)
            for layer, gradient, square, salience in zip(layers, found, squared, saliences, strict=True):
                if gradient is None:
                    raise _unreached(layer)
                own = (gradient.t() if layer.transposed else gradient).to(wide)
                square.addcmul_(own, own, value=1 / len(batches))
                salience.append((layer.weight * own).sum(0))
    finally:
        for weight, before in zip(weights, asked, strict=True):
            weight.requires_grad_(before)
    tokens = sum(int((batch.labels != IGNORED).sum()) for batch in batches)
    return [
        LayerStatistics(seed, tokens, squared_gradients=square, saliences=torch.stack(salience))
        for seed, square, salience in zip(seeds, squared, saliences, strict=True)
    ]


def in_sequence(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    batches: Sequence[Batch],
    needs: Collection[str],
    seeds: Sequence[tuple[int, int]],
) -> Iterator[list[tuple[int, LayerStatistics]]]:
    """Block by block: (position of the layer, its statistics) for each of the block's layers.

    The caller prunes the block's layers, in the model, before it asks for the next block.
    """
    import torch
    from tqdm import tqdm

    stacks: dict[int, list[tuple[int, nn.Module]]] = {}
    for position, block in enumerate(blocks_of(model)):
        stacks.setdefault(block.stack, []).append((position, block.module))
    progress = tqdm(total=sum(map(len, stacks.values())), desc="pruning block by block", delay=DELAY, leave=False)
    for members in stacks.values():
        modules = [module for _, module in members]
        with torch.no_grad():
            calls = [_arguments(model, modules, batch) for batch in batches]
        hidden = [_hidden(*each[0]) for each in calls]
        for index, (position, module) in enumerate(members):
            mine = [i for i, layer in enumerate(layers) if layer.block == position]
            watch = _Watch([layers[i] for i in mine], HESSIAN in needs, and_stop=True)
            with watch.on(), torch.no_grad():
                for batch, call, states in zip(batches, calls, hidden, strict=True):
                    watch.next(batch)
                    with contextlib.suppress(_Reached):
                        _replay(module, call[index], states)
            yield list(zip(mine, watch.statistics([seeds[i] for i in mine]), strict=True))
            progress.update()
            if index < len(members) - 1:
                with torch.no_grad():
                    for i, call in enumerate(calls):
                        hidden[i] = _replay(module, call[index], hidden[i])
    progress.close()


Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a block."""


def _arguments(model: PreTrainedModel, blocks: Sequence[nn.Module], batch: Batch) -> list[Call]:
    """What each block of a stack is called with, without running them: only the first computes.

    The others give back what the first gave, so that what a stack hands from block to block (T5's table
    of positions) is what it would be; their hidden states are not, and are replaced on replay.
    """
    calls: list[Call] = []
    first: list[Any] = []

    def recording(index: int, own: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            if index == len(blocks) - 1:
                raise _Reached
            if index == 0:
                first.append(own(*args, **kwargs))
            return first[0]

        return forward

    before = [block.__dict__.get("forward") for block in blocks]  # some libraries set one of their own
    try:
        for index, block in enumerate(blocks):
            block.forward = recording(index, block.forward)
        _run(model, batch)
    finally:
        for block, own in zip(blocks, before, strict=True):
            del block.forward
            if own is not None:
                block.forward = own
    return calls


def _run(model: PreTrainedModel, batch: Batch) -> None:
    """A forward pass up to wherever a hook ends it; without a cache, which replays would fill again and again."""
    cached = "use_cache" in inspect.signature(model.forward).parameters
    with contextlib.suppress(_Reached):
        model(**batch.inputs, **({"use_cache": False} if cached else {}))


def _replay(block: nn.Module, call: Call, hidden: torch.Tensor) -> torch.Tensor:
    args, kwargs = call
    if args:
        return _first(block(hidden, *args[1:], **kwargs))
    return _first(block(**{**kwargs, "hidden_states": hidden}))


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    hidden: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _first(output: Any) -> torch.Tensor:
    """The hidden states of what a block gives."""
    hidden: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
