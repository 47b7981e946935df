"""Prunes a model that is larger than memory: `python -m sparsity.prune_streamed MODEL OUT --method sparsegpt`.

Block by block from disk to disk: at any time one block is in memory, with what its pruning needs. What it writes is a
plain transformers checkpoint in shards, with its tokenizer, for `--models OUT` and for everyone else. The folder is
there when it is whole, not before. MODEL may be `random:` and the name of a model, a folder or a hub id with a
configuration; `--method none --sparsity 0` then writes such a model without ever holding it.

Refuses, each in one line: what `sparsity.streaming.prune` refuses, a folder that holds something, settings that
make no sense.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity import options, pattern, workload
from sparsity.errors import BadValue, SparsityError
from sparsity.measure import gpu, machine
from sparsity.models import embedded, hub
from sparsity.new_folder import refuse_unwritable
from sparsity.own_documents import OwnDocuments
from sparsity.prune import Recipe
from sparsity.streaming import opening
from sparsity.streaming import prune as streaming
from sparsity.tasks import encoding, quality, reviews

if TYPE_CHECKING:
    from sparsity.options import Options
    from sparsity.streaming.opening import Opened
    from sparsity.streaming.prune import Outcome
    from sparsity.tasks.batching import Batch

CALIBRATION, LENGTH = 128, 512
"""Documents, and their tokens at most."""
TOGETHER = 2048
"""Tokens of a batch: what a block makes of them stays small beside its statistics."""
UNITS = {"MB": 10**6, "GB": 10**9}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when the folder is written, 2 after an error line."""
    given = vars(_parser().parse_args(arguments))
    out: Path = given.pop("out")
    try:
        refuse_unwritable(out)
        recipe = _recipe(given)
        streaming.refuse(recipe)
        length, shard = options.whole("length", given.pop("length"), 1), _size(given.pop("shard_size"))
        count = options.whole("calibration", given.pop("calibration"), 1)
        dtype: str = given.pop("dtype")
        asked = options.parse({name.replace("_", "-"): value for name, value in given.items() if name != "model"})
        if dtype:
            options.parse({"dtype": dtype})
        run(given["model"], recipe, asked, out, (dtype, shard), (count, length))
    except SparsityError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m sparsity.prune_streamed", description=summary)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint folder, a hub id, bert, gpt2, or random:NAME")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder that receives the checkpoint")
    parser.add_argument("--method", required=True, help="none, l1, l2, random, wanda, sparsegpt")
    parser.add_argument("--sparsity", default="", help="fraction of the prunable weights, in [0, 1); of 2:4 it is 0.5")
    parser.add_argument("--pattern", default="unstructured", help="unstructured, n:m such as 2:4, rxc such as 4x1")
    parser.add_argument("--scope", default="", help="where scores compete: layer, row (the first that the pattern has)")
    parser.add_argument("--seed", default="0", help="of method random, and of random weights (0)")
    parser.add_argument("--calibration", default=str(CALIBRATION), help=f"documents that methods see ({CALIBRATION})")
    parser.add_argument("--length", default=str(LENGTH), help=f"tokens of each document at most ({LENGTH})")
    for name in ("data", "training-data", "text-column"):
        parser.add_argument(f"--{name}", default="", help=options.SETTINGS[name])
    kinds = ", ".join(options.DTYPES)
    parser.add_argument("--dtype", default="", help=f"of what is written: {kinds} (as stored; random: float32)")
    parser.add_argument("--shard-size", default="5GB", help="of each file of weights, at most, such as 500MB (5GB)")
    for name in ("device", "threads"):
        parser.add_argument(f"--{name}", default="", help=options.SETTINGS[name])
    return parser


def _recipe(given: dict[str, str]) -> Recipe:
    """Out of texts, which are taken out; raises `SparsityError`."""
    texts = {name: given.pop(name) for name in ("method", "pattern", "scope", "sparsity", "seed")}
    plurals = {"sparsity": "sparsities"}
    parsed = {n: options.AXES[plurals.get(n, f"{n}s")].parse(text) for n, text in texts.items() if text}
    fixed = pattern.parse(texts["pattern"]).fixed
    if "sparsity" not in parsed:
        if fixed is None:
            raise BadValue("--sparsity is not given: a fraction of the prunable weights, in [0, 1)")
        parsed["sparsity"] = fixed
    return Recipe(
        str(parsed["method"]),
        float(parsed["sparsity"]),
        str(parsed["pattern"]),
        str(parsed.get("scope", "")),
        int(parsed["seed"]),
    )


def _size(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,5})(MB|GB)", text)
    if found is None:
        raise BadValue(f"shard-size {text!r} is not a number of MB or GB, such as 500MB or 5GB")
    return int(found[1]) * UNITS[found[2]]


def run(
    reference: str, recipe: Recipe, asked: Options, out: Path, stored: tuple[str, int], calibration: tuple[int, int]
) -> None:
    """Prunes, and says what it took; `stored` is the dtype and the size of shards, `calibration` documents x tokens."""
    import torch

    gpu.check(asked.device)
    torch.set_num_threads(asked.threads or machine.physical_cores())
    own = None if asked.data is None else OwnDocuments.of(asked)
    dtype: torch.dtype | None = getattr(torch, stored[0]) if stored[0] else None
    settings = opening.Settings(dtype, asked.device, stored[1])
    _say(f"model     {reference}")
    count, length = calibration

    def calibrate(model: Opened) -> list[Batch]:
        found = batches(model, own, count, length)
        tokens = sum(int(batch.inputs["attention_mask"].sum()) for batch in found)
        read = sum(len(batch.labels) for batch in found)
        _say(f"seen      {read} documents, {tokens} tokens; hidden states wait on the CPU")
        return found

    outcome = streaming.prune_streamed(reference, recipe, out, calibrate, settings)
    for line in told(outcome, recipe):
        _say(line)
    _say(f"written   {out}")


def batches(model: Opened, own: OwnDocuments | None, count: int, length: int) -> list[Batch]:
    """Calibration: the user's documents, generated reviews, or random tokens for random weights."""
    batch = max(1, TOGETHER // length)
    if model.folder is None:
        return workload.random_batches(model.model, count, length, batch)
    loaded = hub.Loaded(model.reference, model.model, "checkpoint", model.folder)
    tokenizer = loaded.tokenizer()
    tokenizer.model_max_length = max(encoding.LEAST_POSITIONS, min(length, tokenizer.model_max_length))
    documents = reviews.documents(count + count % 2, embedded.CALIBRATION_SEED) if own is None else own.to_learn_from()
    return quality.calibration(
        "lm", model.model, tokenizer, loaded.objective, documents, count, embedded.CALIBRATION_SEED, batch
    )


def told(outcome: Outcome, recipe: Recipe) -> list[str]:
    """What came of it, and what it took."""
    meter = outcome.meter
    removed = f"{outcome.removed} of {outcome.prunable} prunable weights ({outcome.removed / outcome.prunable:.4g})"
    lines = [
        f"pruned    {recipe.method} {recipe.pattern} {recipe.scope}: {removed}",
        *(f"          {note}" for note in outcome.notes),
        f"weights   {size(outcome.weights_bytes)} in all, {size(outcome.block_bytes)} in the largest block",
        f"resident  {size(meter.peak)} at most above the {size(meter.base)} after imports",
    ]
    if meter.allocated is not None:
        lines.append(f"gpu       {size(meter.allocated)} allocated at most")
    verdict = "within" if outcome.within else "BEYOND"
    lines.append(f"bound     {verdict} {size(outcome.allowed)}, 4 times the largest block and 1 GiB")
    seconds = ", ".join(f"{name} {seconds:.1f}" for name, seconds in meter.seconds.items())
    return [*lines, f"seconds   {seconds}"]


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
