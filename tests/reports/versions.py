"""Result files of the same cells under several versions of torch; numbers are invented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports import across
from reports.across_tables import Side
from sparsity.record import Record
from tests.reports import builders

TORCH = [{**builders.FINGERPRINT, "torch": version} for version in ("2.11.0", "2.13.0", "2.14.0")]
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9)


def timed(sparsity: float, speedup: float, fmt: str = "packed", spread: float = 0.01, **more: Any) -> Record:
    """A forward pass, with an interval of so wide a fraction on each side."""
    values = {"verdict": "faster", "reason": None, "noise_floor": 0.0, "low": speedup * (1 - spread)}
    return builders.latency(
        "bert", sparsity, fmt, **{**values, "speedup": speedup, "high": speedup * (1 + spread), **more}
    )


def sides(tmp_path: Path, *runs: Sequence[Record], **ours: Any) -> list[Side]:
    """The runs side by side, named by their torch."""
    return across.side_by_side(files(tmp_path, *runs, **ours))


def files(tmp_path: Path, *runs: Sequence[Record], **ours: Any) -> list[Path]:
    """A file for each run, each with a torch of its own."""
    paths = []
    for i, records in enumerate(runs):
        data = builders.run_json([(f"t{n}", r) for n, r in enumerate(records)], **{"fingerprint": TORCH[i], **ours})
        paths.append(builders.write(tmp_path / f"run{i}.json", data))
    return paths
