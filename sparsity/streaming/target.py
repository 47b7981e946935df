"""Where tensors go: shards of safetensors, whose every place is known before the first byte is written.

So a tensor is written when it is ready, in whatever order, and nothing waits in memory for its shard.

Refuses, in one line: a disk without room for it all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity.errors import BadValue
from sparsity.models.checkpoint import INDEX, WEIGHTS
from sparsity.streaming.source import DTYPES, Entry

if TYPE_CHECKING:
    import torch

ALIGNED = 8
"""The header ends at a multiple of so many bytes."""


@dataclass
class Target:
    """The weights of a checkpoint folder that is being written."""

    folder: Path
    entries: Mapping[str, Entry]
    places: dict[str, tuple[Path, int]]
    """The file of each, and where in it the tensor begins."""
    written: dict[str, int] = field(default_factory=dict)
    """Bytes of each tensor so far."""

    @classmethod
    def at(cls, folder: Path, entries: Mapping[str, Entry], shard_bytes: int) -> Target:
        """Files of up to so many bytes of tensors (more where one tensor has more), headers written, and their index.

        Raises `BadValue` where they do not fit on the disk.
        """
        total, free = sum(entry.bytes for entry in entries.values()), shutil.disk_usage(folder).free
        if total > free:
            there = f"{total / 2**30:.1f} GiB of weights do not fit on the disk, where {free / 2**30:.1f} GiB are free"
            raise BadValue(f"{folder.name}: {there}")
        shards = _divided(entries, shard_bytes)
        names = [WEIGHTS]
        if len(shards) > 1:
            names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
            listed = {each: file for file, shard in zip(names, shards, strict=True) for each in shard}
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(listed.items()))}
            (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        places: dict[str, tuple[Path, int]] = {}
        for file, shard in zip(names, shards, strict=True):
            places |= _begun(folder / file, {name: entries[name] for name in shard})
        return cls(folder, entries, places)

    def write(self, name: str, tensors: Iterable[torch.Tensor]) -> None:
        """A whole tensor, in one or several parts, in its order and its dtype."""
        import torch

        path, start = self.places[name]
        assert name not in self.written, f"{name} is written twice"
        done = 0
        with path.open("r+b", buffering=0) as file:
            file.seek(start)
            for tensor in tensors:
                plain = tensor.detach().to("cpu", self.entries[name].dtype).contiguous()
                plain = plain.reshape(-1).view(torch.uint8)
                left = memoryview(plain.numpy())  # type: ignore[arg-type]  # numpy does not say that it has a buffer
                done += len(left)
                while left:
                    left = left[file.write(left) :]
        assert done == self.entries[name].bytes, f"{name} has {done} bytes, not {self.entries[name].bytes}"
        self.written[name] = done

    def finish(self) -> None:
        """Everything must be there."""
        assert self.written.keys() == self.entries.keys(), sorted(self.entries.keys() - self.written.keys())[:3]


def _divided(entries: Mapping[str, Entry], most: int) -> list[list[str]]:
    """Names of the tensors of each shard, in their order."""
    shards: list[list[str]] = []
    size = most
    for name, entry in entries.items():
        if not shards or size + entry.bytes > most:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += entry.bytes
    return shards


def _begun(path: Path, entries: Mapping[str, Entry]) -> dict[str, tuple[Path, int]]:
    """The file with its header and its length, and the place of each tensor."""
    stored = {torchs: code for code, torchs in DTYPES.items()}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset, offsets = 0, {}
    for name, entry in entries.items():
        code = stored[str(entry.dtype).removeprefix("torch.")]
        offsets[name] = offset
        header[name] = {"dtype": code, "shape": list(entry.shape), "data_offsets": [offset, offset + entry.bytes]}
        offset += entry.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    return {name: (path, 8 + len(text) + offset) for name, offset in offsets.items()}
