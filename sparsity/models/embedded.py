"""The models that come with the suite: tiny, really trained, here for when no hub is.

`bert`, `gpt2` and `bart` are real transformers checkpoints of about 0.3 to 0.7 million parameters,
each as language model and as classifier, trained on generated reviews by
`python -m sparsity.train_embedded`. They are a demonstration: where their curves bend says nothing
about full-size models.

Refuses: a checkpoint whose files are not byte for byte the shipped ones.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sparsity.errors import ModelNotLoaded

NAMES = ("bert", "gpt2", "bart")
FOLDER = Path(__file__).parent / "checkpoints"
MANIFEST = FOLDER / "manifest.json"
"""SHA-256 of every file, and what each checkpoint reached when it was shipped."""
EVALUATION_SEED = 7
"""Seed of the evaluation documents; training never draws from it."""
EVALUATION_DOCUMENTS = 1000
CALIBRATION_SEED = 8
"""Seed of the documents that pruning methods see; neither trained on nor evaluated."""


def manifest() -> dict[str, Any]:
    """The manifest, parsed."""
    try:
        data: dict[str, Any] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelNotLoaded(
            f"embedded models: {MANIFEST.name} cannot be read ({type(error).__name__}); reinstall"
        ) from None
    return data


def folder(name: str, task: str) -> Path:
    """The checkpoint folder of one model and task ("lm" or "classification"), its hashes checked."""
    path = FOLDER / name / task
    expected = {f: h for f, h in manifest()["sha256"].items() if f.startswith(f"{name}/{task}/")}
    if not expected:
        raise ModelNotLoaded(f"embedded model {name}: the manifest lists no file for {task}; reinstall")
    for file, digest in expected.items():
        try:
            actual = hashlib.sha256((FOLDER / file).read_bytes()).hexdigest()
        except OSError as error:
            raise ModelNotLoaded(f"embedded model {name}: cannot read {file} ({error.strerror}); reinstall") from None
        if actual != digest:
            raise ModelNotLoaded(f"embedded model {name}: {file} is not the shipped file (SHA-256 differs); reinstall")
    return path
