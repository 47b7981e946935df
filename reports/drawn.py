"""What a figure is and what it was drawn from."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """A figure with the cells whose numbers it shows."""

    figure: Figure
    cells: tuple[str, ...]
    """As text, each once."""
