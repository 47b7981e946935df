"""Where tensors come from, one at a time: the files of a checkpoint, or chance.

The files are read, not mapped into memory: what is mapped counts as resident for as long as the system likes. What
the format says is in https://github.com/huggingface/safetensors: eight bytes that count those of a header, the header
in JSON, the tensors.

Refuses, each in one line: a dtype that torch does not have, a file that ends early.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sparsity.errors import ModelNotLoaded, one_line
from sparsity.models.checkpoint import INDEX, WEIGHTS, read_json, refuse_incomplete

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 23
"""Elements that are copied in one go."""
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
"""torch's names by the format's."""
STANDARD_DEVIATION = 0.02
"""Of random weights, where the configuration has no `initializer_range`."""


@dataclass(frozen=True)
class Entry:
    """What is known of a tensor without reading it."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Its elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """What it takes."""
        return self.count * self.dtype.itemsize


class Source(Protocol):
    """Tensors by name."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """In the order in which they are stored."""

    def read(self, name: str) -> torch.Tensor:
        """One whole tensor."""

    def chunks(self, name: str) -> Iterator[torch.Tensor]:
        """Its elements in order, flat, `CHUNK` at a time."""


@dataclass(frozen=True)
class Place:
    """Where a tensor is stored."""

    file: Path
    start: int
    """Of its first byte in the file."""


@dataclass(frozen=True)
class Files:
    """The safetensors of a checkpoint folder."""

    reference: str
    entries: Mapping[str, Entry]
    places: Mapping[str, Place]

    @classmethod
    def of(cls, reference: str, folder: Path) -> Files:
        """Reads headers alone; raises `ModelNotLoaded` for a folder whose weights are not whole, or no safetensors."""
        refuse_incomplete(reference, folder)
        if (folder / WEIGHTS).is_file():
            files, listed = [WEIGHTS], None
        else:
            listed = read_json(reference, folder / INDEX)["weight_map"]
            files = sorted(set(listed.values()))
        entries: dict[str, Entry] = {}
        places: dict[str, Place] = {}
        for file in files:
            for name, (entry, place) in _header(reference, folder / file).items():
                if listed is None or listed.get(name) == file:
                    entries[name], places[name] = entry, place
        if lost := sorted(set(listed or ()) - entries.keys()):
            raise ModelNotLoaded(
                f"{reference}: {INDEX} lists {lost[0]}, which its file does not hold; download it again"
            )
        return cls(reference, entries, places)

    def read(self, name: str) -> torch.Tensor:
        """On the CPU, in memory of its own."""
        entry = self.entries[name]
        return self._elements(name, 0, entry.count).reshape(entry.shape)

    def chunks(self, name: str) -> Iterator[torch.Tensor]:
        """Each read when it is asked for."""
        count = self.entries[name].count
        for first in range(0, count, CHUNK):
            yield self._elements(name, first, min(CHUNK, count - first))

    def _elements(self, name: str, first: int, count: int) -> torch.Tensor:
        import torch

        dtype, place = self.entries[name].dtype, self.places[name]
        found = torch.empty(count * dtype.itemsize, dtype=torch.uint8)
        left = memoryview(found.numpy())  # type: ignore[arg-type]  # numpy does not say that it has a buffer
        try:
            with place.file.open("rb", buffering=0) as file:
                file.seek(place.start + first * dtype.itemsize)
                while left:
                    if not (read := file.readinto(left)):
                        raise ModelNotLoaded(f"{self.reference}: {place.file.name} ends in {name}; download it again")
                    left = left[read:]
        except OSError as error:
            raise ModelNotLoaded(f"{self.reference}: {place.file.name} cannot be read: {one_line(error)}") from None
        return found.view(dtype)


def _header(reference: str, file: Path) -> dict[str, tuple[Entry, Place]]:
    """What a file holds, in the order of its bytes; that it is whole was looked at before."""
    import torch

    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        header = json.loads(content.read(length))
    header.pop("__metadata__", None)
    found = {}
    for name, each in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if each["dtype"] not in DTYPES:
            raise ModelNotLoaded(f"{reference}: {name} holds {each['dtype']}, which is not read; save it unquantised")
        dtype: torch.dtype = getattr(torch, DTYPES[each["dtype"]])
        start = 8 + length + int(each["data_offsets"][0])
        found[name] = Entry(dtype, tuple(each["shape"])), Place(file, start)
    return found


@dataclass(frozen=True)
class Drawn:
    """Seeded random weights: normal matrices as wide as the configuration says, norms of ones, biases of zeros.

    A device has its own chance, so another gives other numbers.
    """

    entries: Mapping[str, Entry]
    seed: int
    deviation: float
    device: torch.device

    def read(self, name: str) -> torch.Tensor:
        """On the device, the same whenever it is asked for."""
        import torch

        entry = self.entries[name]
        found = torch.empty(entry.shape, dtype=entry.dtype, device=self.device)
        if len(entry.shape) < 2:
            return found.fill_(float(not name.endswith("bias")))
        place = list(self.entries).index(name)
        chance = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + place)
        return found.normal_(0.0, self.deviation, generator=chance)

    def chunks(self, name: str) -> Iterator[torch.Tensor]:
        """Of the whole, which is drawn at once."""
        yield from self.read(name).reshape(-1).split(CHUNK)
