"""Shards that safetensors reads, whatever the order of writing; what is missing does not pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparsity.streaming.source import Entry
from sparsity.streaming.target import Target

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.arange(3, dtype=torch.int64),
    "c": torch.arange(4.0).bfloat16(),
    "d": torch.tensor(2.5),
}
ENTRIES = {name: Entry(tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()}


@pytest.mark.parametrize(("most", "shards"), [(10**6, 1), (24, 3), (1, 4)])
def test_what_is_written_in_any_order_and_in_parts_is_read(tmp_path: Path, most: int, shards: int) -> None:
    target = Target.at(tmp_path, ENTRIES, most)
    for name in reversed(TENSORS):
        target.write(name, TENSORS[name].reshape(-1).split(2))
    target.finish()
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == shards
    found = {name: (file.name, tensor) for file in files for name, tensor in load_file(file).items()}
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name][1], TENSORS[name]) for name in TENSORS)
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() == (shards > 1)
    if shards > 1:
        said = json.loads(index.read_text())
        assert said["weight_map"] == {name: file for name, (file, _) in found.items()}
        assert said["metadata"]["total_size"] == 24 + 24 + 8 + 4


def test_what_is_not_written_or_not_whole_or_written_twice_does_not_pass(tmp_path: Path) -> None:
    target = Target.at(tmp_path, ENTRIES, 10**6)
    target.write("a", [TENSORS["a"]])
    with pytest.raises(AssertionError, match="a is written twice"):
        target.write("a", [TENSORS["a"]])
    with pytest.raises(AssertionError, match="b has 8 bytes, not 24"):
        target.write("b", [TENSORS["b"][:1]])
    with pytest.raises(AssertionError):
        target.finish()
