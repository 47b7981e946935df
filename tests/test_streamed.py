"""The benchmark of pruning from disk: a small one passes, and what is wrong in its files or too large is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from benchmarks import streamed
from sparsity.streaming import prune as streaming

pytestmark = pytest.mark.usefixtures("threads_restored")
SMALL = ("--hidden", "64", "--layers", "2", "--intermediate", "96", "--vocabulary", "50", "--length", "16")


def test_a_small_one_passes_and_says_what_it_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert streamed.main(["--out", str(tmp_path / "new"), *SMALL, "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "block 1" in said
    assert "block 2" in said
    assert "of random weights in" in said
    assert "bound     within 1.00 GiB" in said
    assert "checked   exactly the zeros that were asked for, all else byte for byte as it was" in said
    assert streamed.main(["--out", str(tmp_path / "new"), *SMALL]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_what_is_wrong_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = streamed.pruned

    def harmed(folder: Path, *given: object) -> object:
        outcome = own(folder, *given)  # type: ignore[arg-type]  # handed on
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"][0] = 2
        tensors["model.layers.0.mlp.up_proj.weight"][0] = 0
        save_file(tensors, folder / "model.safetensors")
        return outcome

    monkeypatch.setattr(streamed, "pruned", harmed)
    monkeypatch.setattr(streaming, "BESIDE", -(2**40))
    assert streamed.main(["--out", str(tmp_path / "new"), *SMALL, "--threads", "1"]) == 1
    said = capsys.readouterr().out
    assert "model.norm.weight was not to be changed" in said
    assert "model.layers.0.mlp.up_proj.weight has " in said
    assert "bound     BEYOND" in said
