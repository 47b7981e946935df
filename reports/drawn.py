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
    nodes: tuple[str, ...] = ()
    """Of a figure of one machine of several, its nodes; empty where it is of the whole run."""
