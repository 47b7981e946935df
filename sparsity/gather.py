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
from typing import TYPE_CHECKING, Any

from sparsity.calibration import INFLUENCE, LayerStatistics
from sparsity.errors import Refused
from sparsity.models.architecture import PrunableLayer, architecture_for, blocks_of
from sparsity.residence import IN_MEMORY, Residence
from sparsity.tasks.batching import IGNORED, Batch, counted
from sparsity.watch import Reached, Watch, real_tokens, unreached

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


DELAY = 3.0
"""Seconds before a progress bar appears: what is over sooner needs none."""


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
        raise Reached

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
    watch = Watch(layers, needs=())
    tokens_of_block = {layer.block: layer.tokens for layer in layers}

    def measure(index: int, args: Any, kwargs: Any, output: Any) -> None:
        if angles:
            mask = watch.masks[tokens_of_block[index]]
            before, after = (real_tokens(x, mask, "a block") for x in (_hidden(args, kwargs), _first(output)))
            cosine = torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1)
            angles[index] += torch.tensor([float(cosine.sum()), len(cosine)], dtype=torch.float64)
        if index == len(blocks) - 1:
            raise Reached

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
    found = list(watch.statistics(seeds))
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

    tokens = sum(int((batch.labels != IGNORED).sum()) for batch in batches)
    if not tokens:
        raise Refused("the calibration batches hold no label, so there is no loss to take gradients of")
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
                chosen, labels = counted(model(**batch.inputs).logits, batch.labels)
                loss = functional.cross_entropy(chosen.to(wide), labels)
                found = torch.autograd.grad(loss, weights, allow_unused=True)
            for layer, gradient, square, salience in zip(layers, found, squared, saliences, strict=True):
                if gradient is None:
                    raise unreached(layer)
                own = (gradient.t() if layer.transposed else gradient).to(wide)
                square.addcmul_(own, own, value=1 / len(batches))
                salience.append((layer.weight * own).sum(0))
    finally:
        for weight, before in zip(weights, asked, strict=True):
            weight.requires_grad_(before)
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
    residence: Residence = IN_MEMORY,
) -> Iterator[Iterator[tuple[int, LayerStatistics]]]:
    """Block by block: (position of the layer, its statistics) for each of the block's layers, made one by one.

    The caller prunes the block's layers, in the model, before it asks for the next block. Only one block need be
    in memory at a time; `residence` sees to that.
    """
    import torch
    from tqdm import tqdm

    stacks: dict[int, list[tuple[int, nn.Module]]] = {}
    for position, block in enumerate(blocks_of(model)):
        stacks.setdefault(block.stack, []).append((position, block.module))
    progress = tqdm(total=sum(map(len, stacks.values())), desc="pruning block by block", delay=DELAY, leave=False)
    for members in stacks.values():
        modules = [module for _, module in members]
        with torch.no_grad(), residence.outside(), residence.block(members[0][0]):
            calls: list[list[Call]] = []
            alone = False
            for batch in batches:
                found, alone = _arguments(model, modules, batch, alone)
                calls.append(found)
            hidden = [residence.parked(_hidden(*each[0])) for each in calls]
        calls = [[_without_hidden(*call) for call in each] for each in calls]
        for index, (position, module) in enumerate(members):
            mine = [i for i, layer in enumerate(layers) if layer.block == position]
            watch = Watch([layers[i] for i in mine], needs, and_stop=True)
            with residence.block(position):
                with watch.on(), torch.no_grad():
                    for batch, call, states in zip(batches, calls, hidden, strict=True):
                        watch.next(batch)
                        with contextlib.suppress(Reached):
                            _replay(module, call[index], residence.fetched(states))
                # Not by zip, which holds on to what it gave last.
                yield map(_pair, mine, watch.statistics([seeds[i] for i in mine]))
                progress.update()
                if index < len(members) - 1:
                    with torch.no_grad():
                        for i, call in enumerate(calls):
                            hidden[i] = residence.parked(_replay(module, call[index], residence.fetched(hidden[i])))
    progress.close()


def _pair(position: int, statistics: LayerStatistics) -> tuple[int, LayerStatistics]:
    return position, statistics


Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a block."""


def _arguments(
    model: PreTrainedModel, blocks: Sequence[nn.Module], batch: Batch, alone: bool
) -> tuple[list[Call], bool]:
    """What each block of a stack is called with, without running them; and whether they hand on hidden states alone.

    Only the first computes, and not even that one where blocks are known to hand on hidden states `alone`.
    The others give back what the first gave, so that what a stack hands from block to block (T5's table
    of positions) is what it would be; their hidden states are not, and are replaced on replay.
    """
    import torch

    calls: list[Call] = []
    first: list[Any] = []

    def recording(index: int, own: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            calls.append((args, kwargs))
            if index == len(blocks) - 1:
                raise Reached
            if index == 0:
                first.append(_hidden(args, kwargs) if alone else own(*args, **kwargs))
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
    return calls, alone or (bool(first) and isinstance(first[0], torch.Tensor))


def _run(model: PreTrainedModel, batch: Batch) -> None:
    """A forward pass up to wherever a hook ends it; without a cache, which replays would fill again and again."""
    cached = "use_cache" in inspect.signature(model.forward).parameters
    with contextlib.suppress(Reached):
        model(**batch.inputs, **({"use_cache": False} if cached else {}))


def _replay(block: nn.Module, call: Call, hidden: torch.Tensor) -> torch.Tensor:
    args, kwargs = call
    if args:
        return _first(block(hidden, *args[1:], **kwargs))
    return _first(block(**{**kwargs, "hidden_states": hidden}))


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    hidden: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _without_hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """A call whose hidden states are to be replaced, which need not be held until then."""
    return (None, *args[1:]) if args else args, {name: each for name, each in kwargs.items() if name != "hidden_states"}


def _first(output: Any) -> torch.Tensor:
    """The hidden states of what a block gives."""
    hidden: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
