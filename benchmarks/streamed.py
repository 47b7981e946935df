"""Does pruning from disk stay within its memory? Prunes a random model that is larger than the memory it may take.

    python -m benchmarks.streamed --out streamed
    python -m benchmarks.streamed --out streamed --device cuda --hidden 4096 --layers 32 --intermediate 11008 \
        --dtype bfloat16 --documents 32 --length 512

Writes a Llama-like checkpoint of random weights, block by block, prunes half of it by SparseGPT from disk to disk, and
prints what the process held after each block. Then it looks at what was written: exactly so many zeros in every
prunable matrix, every other tensor byte for byte what it was. Exit status 0 where both are so and neither resident
memory nor a GPU's exceeded four times the largest block and 1 GiB.

Not among the benchmarks: it measures the suite, not a model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from benchmarks.alternate import empty, positive
from reports.command import Parser, guarded
from sparsity import options, workload
from sparsity.mask import pruned_count
from sparsity.measure import gpu, machine
from sparsity.models.architecture import prunable_layers
from sparsity.prune import Recipe
from sparsity.prune_streamed import TOGETHER, size, told
from sparsity.streaming import opening
from sparsity.streaming import prune as streaming
from sparsity.streaming.source import Files

if TYPE_CHECKING:
    import torch

    from sparsity.streaming.opening import Opened
    from sparsity.streaming.prune import Outcome
    from sparsity.tasks.batching import Batch

HEAD_SIZE = 64
SHAPE = {"hidden": 2048, "layers": 10, "intermediate": 5504, "vocabulary": 32000}
"""2.55 GB of float32, of which a block is 0.2."""


def configure(folder: Path, given: argparse.Namespace) -> None:
    """A configuration without weights."""
    import transformers

    transformers.LlamaConfig(
        hidden_size=given.hidden,
        num_hidden_layers=given.layers,
        intermediate_size=given.intermediate,
        vocab_size=given.vocabulary,
        num_attention_heads=max(1, given.hidden // HEAD_SIZE),
        max_position_embeddings=2048,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)


def made(folder: Path, config: Path, settings: opening.Settings) -> str:
    """Writes the checkpoint of random weights; what it took."""
    began = time.perf_counter()
    outcome = streaming.prune_streamed(f"random:{config}", Recipe("none", 0.0), folder, lambda _: [], settings)
    took = f"in {time.perf_counter() - began:.1f} s, {size(outcome.meter.peak)} resident at most"
    return f"made      {size(outcome.weights_bytes)} of random weights {took}"


def pruned(folder: Path, dense: Path, recipe: Recipe, settings: opening.Settings, shape: tuple[int, int]) -> Outcome:
    """The checkpoint, pruned by statistics of random documents x tokens."""

    def calibrate(model: Opened) -> list[Batch]:
        return workload.random_batches(model.model, *shape, max(1, TOGETHER // shape[1]))

    return streaming.prune_streamed(str(dense), recipe, folder, calibrate, settings)


def faults(dense: Path, folder: Path, outcome: Outcome, recipe: Recipe, device: str) -> list[str]:
    """What is not as it must be in the folder."""
    import torch

    before, after = Files.of(str(dense), dense), Files.of(str(folder), folder)
    found = [] if before.entries.keys() == after.entries.keys() else ["other tensors than before"]
    prunable = {f"{layer.name}.weight" for layer in prunable_layers(outcome.model)}
    for name, entry in after.entries.items():
        if name in prunable:
            zeros = sum(_zeros(chunk.to(device)) for chunk in after.chunks(name))
            wanted = pruned_count(recipe.sparsity, entry.count)
            found += [] if zeros == wanted else [f"{name} has {zeros} zeros, not {wanted}"]
        else:
            pairs = zip(before.chunks(name), after.chunks(name), strict=True)
            same = all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in pairs)
            found += [] if same else [f"{name} was not to be changed"]
    return found


def _zeros(chunk: torch.Tensor) -> int:
    return chunk.numel() - int(chunk.count_nonzero())


def report(outcome: Outcome, recipe: Recipe, wrong: Sequence[str]) -> str:
    """The curve, what it took, and the verdict."""
    rows = [[what, size(now), size(peak)] for what, now, peak in outcome.meter.curve]
    table = tabulate(rows, ("after", "resident", "peak"), colalign=("left", "right", "right"))
    checked = "; ".join(wrong[:3]) or "exactly the zeros that were asked for, all else byte for byte as it was"
    return "\n".join([table, "", *told(outcome, recipe), f"checked   {checked}"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes, prunes, checks; 0 where all is as it must be, 1 where not, 2 after an error line."""
    given = _parser().parse_args(arguments)

    def all_of_it() -> int:
        import torch

        gpu.check(given.device)
        torch.set_num_threads(given.threads or machine.physical_cores())
        empty(given.out)
        settings = opening.Settings(getattr(torch, given.dtype), given.device)
        recipe = Recipe("sparsegpt", 0.5, "unstructured")
        dense, folder = given.out / "dense", given.out / "pruned"
        configure(given.out / "config", given)
        print(made(dense, given.out / "config", settings), flush=True)
        as_stored = opening.Settings(None, given.device)
        outcome = pruned(folder, dense, recipe, as_stored, (given.documents, given.length))
        began = time.perf_counter()
        wrong = faults(dense, folder, outcome, recipe, given.device)
        print(f"{report(outcome, recipe, wrong)}, in {time.perf_counter() - began:.1f} s")
        return int(bool(wrong) or not outcome.within)

    return guarded(all_of_it)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.streamed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder, for both checkpoints")
    for name, usual in SHAPE.items():
        parser.add_argument(f"--{name}", type=positive, default=usual, help=f"of the model ({usual})")
    parser.add_argument("--dtype", choices=options.DTYPES, default="float32", help="of its weights (float32)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--threads", type=positive, help=options.SETTINGS["threads"])
    parser.add_argument("--documents", type=positive, default=8, help="for calibration (8)")
    parser.add_argument("--length", type=positive, default=256, help="tokens of each (256)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
