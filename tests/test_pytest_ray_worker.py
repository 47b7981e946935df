"""A process that runs tests for a sweep counts the budget of the whole run, and not its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sparsity.cells import STATE
from sparsity.progress import Progress
from sparsity.pytest_ray_worker import Worker


def test_what_is_left_of_a_budget_leaves_the_budget_as_it_was_asked_for() -> None:
    state = SimpleNamespace(options=SimpleNamespace(budget=30.0), progress=Progress(1, clock=lambda: 100.0))
    config: Any = SimpleNamespace(stash={STATE: state})
    Worker(config, {"node": "n", "hears": 0, "tells": 0})._allow(12.0)
    assert state.options.budget - state.progress.seconds == 12.0
    assert state.options.budget == 30.0  # what a cell that is not begun any more says was spent
