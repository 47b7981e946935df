"""From a checkpoint to a pruned one, block by block: read, gather statistics, prune, write, let go.

What is pruned is what `sparsity.prune` prunes in memory, bit for bit: the same methods decide, on the statistics of
the same calibration, behind blocks that were pruned already. Every other tensor is copied as it is stored, under the
name that it has there, so what is tied stays tied.

Refuses what `sparsity.prune` refuses; and, since only one block is in memory, what looks at all layers at once:
scopes `global`, `erk` and `owl`, gradients, neurons, heads and layers; statistics of more than one stack of blocks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sparsity import calibration, elements, gather, prune
from sparsity import pattern as patterns
from sparsity.calibration import LayerStatistics
from sparsity.errors import Refused
from sparsity.methods import METHODS
from sparsity.models.architecture import blocks_of
from sparsity.models.checkpoint import INDEX
from sparsity.new_folder import whole_or_nothing
from sparsity.streaming import skeleton
from sparsity.streaming.meter import Meter
from sparsity.streaming.opening import Opened, Settings, opened
from sparsity.streaming.skeleton import Streamed
from sparsity.streaming.source import Entry
from sparsity.streaming.target import Target

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sparsity.methods.protocol import Chosen, PruningMethod
    from sparsity.methods.protocol import Target as Wanted
    from sparsity.prune import Recipe
    from sparsity.streaming.source import Source
    from sparsity.tasks.batching import Batch

BLOCKS, BESIDE = 4, 2**30
"""Resident memory stays below so many times the largest block, and so many bytes."""
BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""Files that are copied with the weights: tokenizer, generation settings."""
SCOPES = ("row", "layer")


@dataclass(frozen=True)
class Outcome:
    """What was done, and what it took."""

    model: PreTrainedModel
    """Without weights."""
    removed: int
    prunable: int
    weights_bytes: int
    """Of everything that was written."""
    block_bytes: int
    """Of the largest block."""
    meter: Meter
    notes: tuple[str, ...] = field(default=())

    @property
    def allowed(self) -> int:
        """The most bytes that it may have held."""
        return BLOCKS * self.block_bytes + BESIDE

    @property
    def within(self) -> bool:
        """Whether neither resident memory nor that of a GPU exceeded it."""
        return max(self.meter.peak, self.meter.allocated or 0) <= self.allowed


def refuse(recipe: Recipe) -> None:
    """Raises `Refused` for what cannot be done, or not block by block."""
    if reason := prune.refusal(recipe.method, recipe.pattern, recipe.scope):
        raise Refused(reason)
    if recipe.scope not in SCOPES:
        raise Refused(f"scope {recipe.scope} looks at all layers at once; block by block there are row and layer")
    if isinstance(patterns.parse(recipe.pattern), patterns.GroupPattern):
        raise Refused(f"pattern {recipe.pattern} is not pruned block by block from disk; single weights and blocks are")
    if calibration.GRADIENTS in prune.needs(recipe):
        raise Refused(f"method {recipe.method} needs gradients through the whole model; choose another")


def prune_streamed(
    reference: str,
    recipe: Recipe,
    out: Path,
    calibrate: Callable[[Opened], Sequence[Batch]],
    settings: Settings | None = None,
) -> Outcome:
    """Write the pruned model into a new folder, which is there when it is whole.

    Args:
        reference: a checkpoint folder, a hub id, an embedded model, or `random:` before one.
        recipe: what to remove; its seed is also that of random weights.
        out: the folder.
        calibrate: gives calibration batches on the device; called while the embeddings are in memory, and only
            for a method that needs them.
        settings: dtype, device and size of shards.

    Raises `SparsityError`, in one line; nothing is left of what was written then.
    """
    settings = settings or Settings()
    refuse(recipe)
    model = opened(reference, settings, recipe.seed)  # imports what it needs, which is no matter of the weights
    _warm(settings.device)
    meter = Meter(settings.device)
    with meter.on():
        residence = Streamed(model.model, model.source, model.names, model.dtype, _device(settings), meter)
        batches = _batches(model, recipe, residence, calibrate)
        with whole_or_nothing(out) as folder:
            target = Target.at(folder, _planned(model.source, settings.dtype), settings.shard_bytes)
            removed, notes = _pruned(model, recipe, residence, batches, target)
            _copied(model.source, target, meter)
            target.finish()
            _beside(model, settings, folder)
            meter.note("all written")
    return Outcome(
        model.model,
        removed,
        sum(layer.weight.numel() for layer in model.layers),
        sum(entry.bytes for entry in target.entries.values()),
        skeleton.largest_block(model.model, model.dtype),
        meter,
        prune.summed_up(notes),
    )


def _warm(device: str) -> None:
    """What a GPU's libraries take once and for all is taken before anything is measured."""
    import torch

    if device.startswith("cuda"):
        for dtype in (torch.bfloat16, torch.float32, torch.float64):
            one = torch.eye(8, dtype=dtype, device=device)
            torch.mm(one, one)
        torch.linalg.inv(torch.linalg.cholesky_ex(one).L)
        torch.cuda.synchronize(device)


def _device(settings: Settings) -> torch.device:
    import torch

    return torch.device(settings.device)


def _planned(source: Source, dtype: torch.dtype | None) -> dict[str, Entry]:
    """What will be written: everything, as it is stored or in another dtype."""
    return {
        name: Entry(dtype if dtype is not None and each.dtype.is_floating_point else each.dtype, each.shape)
        for name, each in source.entries.items()
    }


def _batches(
    model: Opened, recipe: Recipe, residence: Streamed, calibrate: Callable[[Opened], Sequence[Batch]]
) -> list[Batch]:
    if not prune.needs(recipe):
        return []
    gather.check(model.model)
    if len({block.stack for block in blocks_of(model.model)}) > 1:
        raise Refused(
            f"{model.reference} has several stacks of blocks, of which the later read what all of the earlier give; "
            f"{recipe.method} cannot calibrate them block by block; l1, l2 and random need no calibration"
        )
    with residence.outside():
        return list(calibrate(model))


class _Timed:
    """A method whose time counts for itself."""

    def __init__(self, method: PruningMethod, meter: Meter) -> None:
        self.method, self.meter = method, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def prune_layer(self, weight: torch.Tensor, statistics: LayerStatistics, target: Wanted) -> Chosen:
        """As the method does it."""
        with self.meter.phase("prune"):
            return self.method.prune_layer(weight, statistics, target)


def _pruned(
    model: Opened, recipe: Recipe, residence: Streamed, batches: list[Batch], target: Target
) -> tuple[int, list[str]]:
    """Prunes and writes every prunable weight; (how many weights went, what is to be said)."""
    prune.check(recipe, batches)
    shape, meter, layers = patterns.parse(recipe.pattern), residence.meter, model.layers
    assert not isinstance(shape, patterns.GroupPattern)  # refused
    method = cast("PruningMethod", _Timed(METHODS[recipe.method], meter))
    job = elements.Job(method, shape, recipe.scope, recipe.sparsity)
    known = [LayerStatistics((recipe.seed, position)) for position in range(len(layers))]
    removed, notes = 0, []
    with meter.phase("statistics"):
        for i, weight, mask, note in elements.decide(job, model.model, layers, layers, known, batches, residence):
            layer = layers[i]
            with meter.phase("prune"):
                prune.refuse_empty_layers([layer], [mask], recipe)
                prune.write(layer, weight, mask)
                removed += mask.numel() - int(mask.count_nonzero())
            with meter.phase("write"):
                stored: Any = layer.module.weight
                target.write(model.names.stored[f"{layer.name}.weight"], [stored])
            residence.pruned.add(layer.block)
            notes += [note] if note else []
            del weight, mask, stored  # before the next are made
    return removed, notes


def _copied(source: Source, target: Target, meter: Meter) -> None:
    """Every tensor that was not pruned."""
    from tqdm import tqdm

    def parts(name: str) -> Iterator[torch.Tensor]:
        chunks = source.chunks(name)
        while True:
            with meter.phase("read"):
                if (chunk := next(chunks, None)) is None:
                    return
            yield chunk

    left = [name for name in target.entries if name not in target.written]
    for name in tqdm(left, desc="copying the rest", delay=gather.DELAY, leave=False):
        with meter.phase("write"):
            target.write(name, parts(name))


def _beside(model: Opened, settings: Settings, folder: Path) -> None:
    """Configuration and tokenizer."""
    name = str(model.dtype).removeprefix("torch.")
    if model.folder is None:
        config = model.model.config
        config.architectures, config.dtype = [type(model.model).__name__], name
        config.save_pretrained(folder)
        return
    for file in sorted({file for each in BESIDE_WEIGHTS for file in model.folder.glob(each)}):
        if file.is_file() and file.name != INDEX and not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    if settings.dtype is not None:
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config |= {key: name for key in ("dtype", "torch_dtype") if key in config or key == "dtype"}
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
