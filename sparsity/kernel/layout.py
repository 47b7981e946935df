"""How the kernel holds a sparse weight: one buffer of bytes, in the order in which it is multiplied.

The weight `(out_features, in_features)` is cut into panels of `PANEL_ROWS` rows by `PANEL_COLUMNS` columns,
so that the part of the input that a panel reads stays in the first-level cache. Within a panel, rows
are sorted by how many weights they keep, and bundled by eight: one *step* of a bundle holds, for each
of its rows, the next kept weight as fp32 and its column within the panel as one byte. Sorted, eight
neighbours keep nearly equally many, so little is filled up with zeros. Where r rows always keep the
same columns (`rx1` blocks, r = 2, 4 or 8), they share one column byte.

    header     11 x int64     rows, columns, block rows, panel rows, panel columns, then where each section begins
    starts     uint32         for each panel, its first step
    lengths    uint8          for each bundle of each panel, its number of steps
    order      uint16         for each row (or first row of a block) of each bundle, which row of the panel it is
    columns    uint8          for each step, one for each row or block of its bundle
    values     fp32           for each step, eight
    bias       fp32           for each row of each panel

About 5.3 bytes for a kept weight at sparsity 0.9, against 40 of a dense fp32 matrix.

Refuses: a weight that is not fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUNDLE = 8
"""Rows that advance together."""
PANEL_ROWS = 384
"""A panel's rows times a tile of tokens stay in the second-level cache."""
PANEL_COLUMNS = 128
"""A panel's columns times a tile of tokens stay in the first-level cache. Divides `PANEL_ROWS`, so that the second
matrix of a pair can follow the first by panels; at most 256, so that a column fits a byte."""
HEADER = 11
ALIGN = 64
LARGEST = 1 << 31
"""No buffer is larger, in steps."""


@dataclass(frozen=True)
class Geometry:
    """The sizes that follow from a weight's shape."""

    rows: int
    columns: int
    block_rows: int
    panel_rows: int
    panel_columns: int

    @property
    def row_panels(self) -> int:
        """Panels, one below the other."""
        return -(-self.rows // self.panel_rows)

    @property
    def column_panels(self) -> int:
        """Panels, side by side."""
        return -(-self.columns // self.panel_columns)

    @property
    def bundles(self) -> int:
        """Bundles of a panel."""
        return self.panel_rows // BUNDLE

    @property
    def slots(self) -> int:
        """Rows, or blocks of rows, of a bundle."""
        return BUNDLE // self.block_rows


def geometry(rows: int, columns: int, block_rows: int) -> Geometry:
    """The panels of a weight of this shape."""
    return Geometry(rows, columns, block_rows, min(PANEL_ROWS, -(-rows // BUNDLE) * BUNDLE), PANEL_COLUMNS)


def pack(
    weight: NDArray[np.float32], mask: NDArray[np.bool_], bias: NDArray[np.float32] | None = None, block_rows: int = 1
) -> NDArray[np.uint8]:
    """The buffer of a weight `(rows, columns)`, of which the mask tells what is kept.

    Args:
        weight: fp32; what the mask does not keep is not read.
        mask: of the same shape; where `block_rows` > 1, alike within each block of so many rows.
        bias: fp32, one for each row; None for zeros.
        block_rows: 1, 2, 4 or 8 rows that share their columns.
    """
    for given in (weight, bias):
        if given is not None and given.dtype != np.float32:
            raise TypeError(f"weights and biases must be fp32, not {given.dtype}")
    rows, columns = weight.shape
    kept = np.flatnonzero(_by_block(mask, block_rows))
    shape = geometry(rows, columns, block_rows)
    counts = _counts(kept, shape)  # (row panels, column panels, slots of a panel)
    order = np.argsort(counts, axis=2, kind="stable")
    ranked = np.take_along_axis(counts, order, 2).reshape(*counts.shape[:2], shape.bundles, shape.slots)
    lengths = ranked.max(3)
    first = np.concatenate([[0], lengths.reshape(-1).cumsum()])  # step at which each bundle begins
    if first[-1] >= LARGEST:
        raise ValueError(f"a weight of {rows} x {columns} keeps too many weights for one buffer")
    place = np.empty_like(order)  # of each row: bundle x slots + slot
    np.put_along_axis(place, order, np.arange(order.shape[2])[None, None], 2)
    begins = first[:-1].reshape(lengths.shape)
    begins = np.take_along_axis(begins, place // shape.slots, 2) * shape.slots + place % shape.slots
    runs = _runs(counts)  # kept weights are in runs: one for each row and column panel, row by row
    ends = runs.cumsum()
    rank = np.arange(len(kept)) - np.repeat(ends - runs, runs)
    target = np.repeat(_runs(begins), runs) + rank * shape.slots
    column_bytes = np.zeros(first[-1] * shape.slots, np.uint8)
    column_bytes[target] = kept % columns % shape.panel_columns
    values = np.zeros((first[-1] * shape.slots, block_rows), np.float32)
    values[target] = _values(weight, kept, block_rows)
    sections = [
        first[:-1].reshape(lengths.shape)[:, :, 0].astype(np.uint32),
        lengths.astype(np.uint8),
        (order * block_rows).astype(np.uint16),
        column_bytes,
        values,
        np.zeros(shape.row_panels * shape.panel_rows, np.float32),
    ]
    if bias is not None:
        sections[-1][:rows] = bias
    return _joined(shape, sections)


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The weight with its zeros in place, `(rows, columns)`."""
    shape, header = _read_header(packed)
    panels = (shape.row_panels, shape.column_panels)
    lengths = _section(packed, header[6], np.uint8, shape.bundles * panels[0] * panels[1])
    order = _section(packed, header[7], np.uint16, len(lengths) * shape.slots).reshape(-1, shape.slots)
    steps = int(lengths.sum(dtype=np.int64))
    columns = _section(packed, header[8], np.uint8, steps * shape.slots).reshape(steps, shape.slots)
    values = _section(packed, header[9], np.float32, steps * BUNDLE).reshape(steps, shape.slots, shape.block_rows)
    bundle = np.repeat(np.arange(len(lengths)), lengths)
    panel = bundle // shape.bundles
    first_row = (panel // panels[1] * shape.panel_rows)[:, None] + order[bundle]
    row = first_row[:, :, None] + np.arange(shape.block_rows)
    column = (panel % panels[1] * shape.panel_columns)[:, None] + columns
    dense = np.zeros((shape.row_panels * shape.panel_rows, shape.columns), np.float32)
    filled = values.view(np.uint32) != 0  # what fills a bundle up is +0, and so are the zeros to be
    dense[row[filled], np.broadcast_to(column[:, :, None], row.shape)[filled]] = values[filled]
    return dense[: shape.rows]


def bias_of(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A view of the bias, one number for each row."""
    shape, header = _read_header(packed)
    return _section(packed, header[10], np.float32, shape.rows)


def _read_header(packed: NDArray[np.uint8]) -> tuple[Geometry, list[int]]:
    """(the sizes, the whole header with where each section begins)."""
    header = [int(number) for number in packed[: HEADER * 8].view(np.int64)]
    return Geometry(*header[:5]), header


def _by_block(mask: NDArray[np.bool_], block_rows: int) -> NDArray[np.bool_]:
    """One row for each block of rows."""
    if block_rows == 1:
        return mask
    padded = np.pad(mask, ((0, -len(mask) % block_rows), (0, 0)))
    found: NDArray[np.bool_] = np.logical_or.reduce(padded.reshape(-1, block_rows, mask.shape[1]), axis=1)
    return found


def _counts(kept: NDArray[np.int64], shape: Geometry) -> NDArray[np.int64]:
    """How many are kept, `(row panels, column panels, slots of a panel)`."""
    slots = shape.panel_rows // shape.block_rows
    run = kept // shape.columns * shape.column_panels + kept % shape.columns // shape.panel_columns
    size = shape.row_panels * slots * shape.column_panels
    return np.bincount(run, minlength=size).reshape(shape.row_panels, slots, -1).swapaxes(1, 2)


def _runs(by_panel: NDArray[Any]) -> NDArray[Any]:
    """`(row panels, column panels, slots)` as the kept weights lie: row by row, then panel by panel."""
    return by_panel.swapaxes(1, 2).reshape(-1)


def _values(weight: NDArray[np.float32], kept: NDArray[np.int64], block_rows: int) -> NDArray[np.float32]:
    """The kept weights, `(kept, block rows)`; rows beyond the last are zeros."""
    columns = weight.shape[1]
    padded = np.pad(weight, ((0, -len(weight) % block_rows), (0, 0))) if len(weight) % block_rows else weight
    if block_rows == 1:
        return padded.reshape(-1)[kept][:, None]
    blocks = padded.reshape(-1, block_rows, columns)
    return blocks[kept // columns, :, kept % columns]


def _joined(shape: Geometry, sections: list[NDArray[Any]]) -> NDArray[np.uint8]:
    """The header and the sections, each aligned."""
    offsets, end = [], HEADER * 8
    for section in sections:
        end = -(-end // ALIGN) * ALIGN
        offsets.append(end)
        end += section.nbytes
    packed = np.zeros(end, np.uint8)
    sizes = [shape.rows, shape.columns, shape.block_rows, shape.panel_rows, shape.panel_columns]
    packed[: HEADER * 8].view(np.int64)[:] = [*sizes, *offsets]
    for offset, section in zip(offsets, sections, strict=True):
        packed[offset : offset + section.nbytes] = section.reshape(-1).view(np.uint8)
    return packed


def _section(packed: NDArray[np.uint8], offset: int, kind: type, count: int) -> NDArray[Any]:
    size = count * np.dtype(kind).itemsize
    return packed[offset : offset + size].view(kind)
