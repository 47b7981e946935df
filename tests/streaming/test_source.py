"""Tensors from files are those that safetensors reads, whole or in parts; those by chance hang on seed and name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sparsity.errors import ModelNotLoaded
from sparsity.streaming import source
from sparsity.streaming.source import Drawn, Entry, Files
from tests.models.tiny import refusal

TENSORS = {
    "matrix": torch.arange(12.0).reshape(3, 4),
    "half": torch.randn(5, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "flags": torch.tensor([True, False]),
    "scalar": torch.tensor(3, dtype=torch.int64),
    "nothing": torch.zeros(0, 2),
}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    save_file(TENSORS, tmp_path / "model.safetensors")
    return Files.of("it", tmp_path)


def test_what_is_read_is_what_was_saved(files: Files) -> None:
    assert files.entries.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert files.entries[name] == Entry(tensor.dtype, tuple(tensor.shape))
        assert files.entries[name].bytes == tensor.numel() * tensor.dtype.itemsize
        assert torch.equal(files.read(name), tensor)


def test_parts_are_the_whole_in_order(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK", 5)
    parts = list(files.chunks("matrix"))
    assert [len(part) for part in parts] == [5, 5, 2]
    assert torch.equal(torch.cat(parts), TENSORS["matrix"].flatten())


def test_a_file_that_was_cut_meanwhile_is_one_line(files: Files) -> None:
    path = files.places["matrix"].file
    path.write_bytes(path.read_bytes()[: files.places["matrix"].start + 3])
    assert "ends in matrix" in refusal(ModelNotLoaded, lambda: files.read("matrix"))
    path.unlink()
    assert "cannot be read" in refusal(ModelNotLoaded, lambda: files.read("matrix"))


def test_chance_is_the_same_for_the_same_seed_and_another_for_another_tensor() -> None:
    entries = {name: Entry(torch.float32, (40, 30)) for name in "ab"} | {
        "norm.weight": Entry(torch.float32, (3,)),
        "norm.bias": Entry(torch.float32, (3,)),
    }
    one, other = (Drawn(entries, seed, 0.5, torch.device("cpu")) for seed in (1, 2))
    assert torch.equal(one.read("a"), one.read("a"))
    assert torch.equal(torch.cat(list(one.chunks("a"))), one.read("a").flatten())
    assert not torch.equal(one.read("a"), one.read("b"))
    assert not torch.equal(one.read("a"), other.read("a"))
    assert 0.45 < float(one.read("a").std()) < 0.55
    assert one.read("norm.weight").tolist() == [1, 1, 1]
    assert one.read("norm.bias").tolist() == [0, 0, 0]
