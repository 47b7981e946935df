"""The digest of a checkpoint: the same wherever it lies, another for other weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from sparsity.models import embedded, identity


def test_it_is_of_the_contents_and_not_of_the_place(tmp_path: Path) -> None:
    here = embedded.folder("bert", "lm")
    shutil.copytree(here, tmp_path / "there")
    (tmp_path / "there" / "notes.txt").write_text("of no weight")
    assert identity.digest(tmp_path / "there") == identity.digest(here)
    assert identity.digest(embedded.folder("bert", "classification")) != identity.digest(here)


def test_one_bit_of_weights_or_configuration_makes_it_another(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(embedded.folder("bert", "lm"), folder)
    found = {identity.digest(folder)}
    for name in ("model.safetensors", "config.json"):
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)
        found.add(identity.digest(folder))
    assert len(found) == 3
