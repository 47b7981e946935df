"""Makes a classifier out of any checkpoint: `python -m sparsity.fine_tune MODEL --data DATA --out FOLDER`.

The model's body, with a new head for the classes of the data, is trained on the documents to learn from and judged
on those that are evaluated, before and after. What it writes is a plain transformers checkpoint with its tokenizer,
for `--models FOLDER` and for everyone else. The folder is there when it is whole, not before.

Refuses, each in one line: a folder that holds something, data without classes or of one class, a model whose body
cannot be had.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity import classifier, options, training
from sparsity.data import reading
from sparsity.errors import SparsityError
from sparsity.measure import gpu, machine
from sparsity.new_folder import refuse_unwritable, whole_or_nothing

if TYPE_CHECKING:
    from sparsity.models.hub import Loaded
    from sparsity.options import Options
    from sparsity.tasks.quality import Scores

STEPS = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when the folder is written, 2 after an error line."""
    parser = argparse.ArgumentParser(prog="python -m sparsity.fine_tune", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="a checkpoint folder, a hub id, or bert, gpt2, bart")
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the checkpoint")
    parser.add_argument("--steps", default=str(STEPS), help=f"training steps ({STEPS})")
    parser.add_argument("--seed", default="0", help="of the new head, of the order of documents, and of dropout (0)")
    for name in ("data", "training-data", "text-column", "label-column"):
        parser.add_argument(f"--{name}", default="", help=options.SETTINGS[name], required=name == "data")
    parser.add_argument("--learning-rate", default="", help="5e-5, of the embedded models 1e-3, unless given")
    for name in ("training-batch", "accumulate", "device", "threads"):
        parser.add_argument(f"--{name}", default="", help=options.SETTINGS[name].replace(" of recoveries", ""))
    given = {name.replace("_", "-"): value for name, value in vars(parser.parse_args(arguments)).items()}
    out: Path = given.pop("out")
    try:
        steps, seed = options.whole("steps", given.pop("steps"), 1), options.whole("seed", given.pop("seed"), 0)
        refuse_unwritable(out)
        run(given.pop("model"), options.parse(given), steps, seed, out)
    except SparsityError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(reference: str, asked: Options, steps: int, seed: int, out: Path) -> None:
    """Reads, trains, says what came of it, and writes."""
    import torch

    assert asked.data is not None  # the command line requires it
    data = reading.read(asked.data, asked.training_data, asked.text_column, asked.label_column)
    classes = classifier.classes_in(data.evaluated, data.training)
    gpu.check(asked.device)
    torch.set_num_threads(asked.threads or machine.physical_cores())
    loaded = classifier.started(reference, classes, seed, torch.device(asked.device))
    settings = training.Settings(
        asked.learning_rate or classifier.default_rate(loaded), steps, accumulate=asked.accumulate, seed=seed
    )
    _say(f"model     {_described(loaded, classes)}")
    _say(f"data      {len(data.training)} documents to learn from, {len(data.evaluated)} evaluated")
    judge = classifier.task(loaded, data.evaluated)
    for note in (*data.notes, *judge.notes):
        _say(f"          {note}")
    before = judge.evaluate(loaded.model)
    guessed = "" if before.chance is None else f"; naming the most frequent class alone: {before.chance:.3f}"
    _say(f"before    accuracy {_said(before)}{guessed}")
    reached = classifier.train(loaded, data.training, settings, asked.training_batch)
    passes = f"{reached.documents / len(data.training):.1f} times through the documents"
    rate = f"learning rate {settings.learning_rate:g}"
    _say(f"training  {reached.steps} steps in {reached.seconds:.0f} s, {passes}, {rate}")
    _say(f"after     accuracy {_said(judge.evaluate(loaded.model))}")
    write(loaded, out)
    _say(f"written   {out}")


def write(loaded: Loaded, out: Path) -> None:
    """Weights as safetensors, configuration and tokenizer; all of it, or nothing."""
    with whole_or_nothing(out) as folder:
        loaded.model.save_pretrained(folder)
        loaded.tokenizer().save_pretrained(folder)  # anew: encoding leaves traces in the used one
        for file in folder.iterdir():
            file.chmod(0o644)  # save_pretrained writes some files readable by their owner alone


def _described(loaded: Loaded, classes: int | Sequence[str]) -> str:
    """Its class, its size, and what it shall tell apart."""
    count = classes if isinstance(classes, int) else len(classes)
    size = sum(parameter.numel() for parameter in loaded.model.parameters())
    return f"{loaded.reference}, {type(loaded.model).__name__}, {size / 1e6:.1f} M parameters, {count} classes"


def _said(found: Scores) -> str:
    return f"{found.estimate.value:.3f} ± {found.estimate.stderr:.3f} (standard error)"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
