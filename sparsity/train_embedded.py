"""Trains the embedded checkpoints on generated reviews: `python -m sparsity.train_embedded --out DIR`.

Six models: BERT, GPT-2 and BART, each as a language model and as a classifier that starts from the
language model's body. Every document is fresh (one epoch over an unlimited source), so nothing can
be memorised. `sparsity/blueprint.py` says what the models are before training.

Training is not bit-reproducible across thread counts and processors; `TOLERANCE` says how far a
retrained model may land from the shipped one, and the command ends by comparing the two. The seed
that draws the training documents is never used to evaluate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity import losses, training
from sparsity.blueprint import config_of, new_model, tokenizer_of
from sparsity.models import embedded, hub
from sparsity.models.architecture import architecture_of
from sparsity.tasks import quality
from sparsity.tasks import training as training_documents
from sparsity.tasks.batching import Batch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TRAINING_SEED = 20_000
"""Seed of the training documents; evaluation uses `embedded.EVALUATION_SEED`."""


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is trained."""

    steps: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True)
class Tolerance:
    """How far a retrained checkpoint may land from the shipped one."""

    mean_nll: float = 0.05
    """nats per token"""
    accuracy: float = 0.015
    """as a fraction"""


TOLERANCE = Tolerance()
RECIPES: dict[tuple[str, str], Recipe] = {
    ("bert", "lm"): Recipe(3000, 3e-3, 32),
    ("gpt2", "lm"): Recipe(2000, 4e-3, 32),
    ("bart", "lm"): Recipe(2500, 3e-3, 32),
    ("bert", "classification"): Recipe(2500, 1.5e-3, 64),
    ("gpt2", "classification"): Recipe(1200, 1.2e-3, 64),
    ("bart", "classification"): Recipe(2500, 1.0e-3, 64),
}


def training_batches(
    task: str, objective: str, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel, recipe: Recipe, seed: int
) -> Iterator[Batch]:
    """Endless fresh batches."""
    fresh = training_documents.fresh_reviews(TRAINING_SEED + seed)
    return training_documents.of_model(task, model, tokenizer, objective, fresh, recipe.batch_size, seed)


def train(model: PreTrainedModel, batches: Iterator[Batch], recipe: Recipe, title: str) -> None:
    """As the recipe says."""
    training.train(model, batches, losses.task_loss, training.Settings(recipe.learning_rate, recipe.steps), title)


def train_family(family: str, out: Path, seed: int) -> None:
    """Both checkpoints of a family, written as fp16 safetensors with their tokenizer."""
    objective = architecture_of(family).objective
    body: dict[str, torch.Tensor] = {}
    for task in ("lm", "classification"):
        tokenizer, recipe = tokenizer_of(family), RECIPES[family, task]
        model = new_model(family, task, config_of(family, tokenizer), seed)
        model.config.use_cache = False
        if body:
            model.base_model.load_state_dict(body, strict=False)
        batches = training_batches(task, objective, tokenizer, model, recipe, seed)
        started = time.perf_counter()
        train(model, batches, recipe, f"{family} {task}")
        print(f"{family} {task}: {recipe.steps} steps in {time.perf_counter() - started:.0f} s", flush=True)
        body = {name: tensor.clone() for name, tensor in model.base_model.state_dict().items()}
        save(model, tokenizer_of(family), out / family / task)  # encoding leaves traces in the used one


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """A plain transformers checkpoint folder, readable by everyone, weights as fp16."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder)  # type: ignore[arg-type]  # transformers types .to by a Self that mypy loses
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # save_pretrained writes some files readable by their owner alone


def reached(root: Path, name: str, task: str) -> dict[str, float]:
    """What a checkpoint under `root` reaches on the evaluation documents."""
    import torch

    path = str((root / name / task).resolve())
    loaded = hub.load(path, task, torch.float32, torch.device("cpu"))
    objective = architecture_of(name).objective
    data = quality.build(
        task, loaded.model, loaded.tokenizer(), objective, embedded.EVALUATION_DOCUMENTS, embedded.EVALUATION_SEED
    )
    scores = data.evaluate(loaded.model)
    found = {scores.metric: scores.estimate.value, "stderr": scores.estimate.stderr}
    floor = data.floor(scores)
    return found if floor is None else {**found, "floor": floor}


def write_manifest(root: Path) -> None:
    """`manifest.json` beside the checkpoints: a hash for every file, and what each model reaches."""
    files = sorted(f for f in root.glob("*/*/*") if f.is_file())
    content = {
        "training_seed": TRAINING_SEED,
        "evaluation": {"seed": embedded.EVALUATION_SEED, "documents": embedded.EVALUATION_DOCUMENTS},
        "reached": {
            d.relative_to(root).as_posix(): reached(root, d.parent.name, d.name) for d in sorted(root.glob("*/*"))
        },
        "sha256": {f.relative_to(root).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files},
    }
    (root / "manifest.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def differences(root: Path) -> list[str]:
    """One line for each checkpoint under `root` that lands outside `TOLERANCE` of the shipped one."""
    lines = []
    shipped = embedded.manifest()["reached"]
    found = json.loads((root / "manifest.json").read_text(encoding="utf-8"))["reached"]
    for name, values in found.items():
        metric = "mean_nll" if "mean_nll" in values else "accuracy"
        gap = abs(values[metric] - shipped[name][metric])
        allowed = getattr(TOLERANCE, metric)
        print(f"{name:20s} {metric} {values[metric]:.4f}, shipped {shipped[name][metric]:.4f}, tolerance {allowed}")
        if gap > allowed:
            lines.append(f"{name}: {metric} is {gap:.4f} away from the shipped model, more than {allowed}")
    return lines


def main() -> int:
    """The command line; 1 when `--check` finds a checkpoint outside the tolerance."""
    parser = argparse.ArgumentParser(prog="python -m sparsity.train_embedded", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that receives FAMILY/TASK checkpoints")
    parser.add_argument("--families", default="bert,gpt2,bart", help="comma list (default: all three)")
    parser.add_argument("--seed", type=int, default=0, help="seed of initial weights and documents")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; the shipped models used 1")
    parser.add_argument("--check", action="store_true", help="train nothing, compare --out with the shipped models")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    if not options.check:
        for family in options.families.split(","):
            train_family(family, options.out, options.seed)
        write_manifest(options.out)
    problems = differences(options.out) if embedded.MANIFEST.is_file() else []
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
