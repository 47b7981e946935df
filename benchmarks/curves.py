"""The claims that every sparsity-versus-metric curve is held to; each quality question inherits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sparsity import prune
from sparsity.methods import METHODS
from sparsity.tasks import trends

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from benchmarks.axes import Grid
    from sparsity.bench import Bench
    from sparsity.cells import Recorder

COMPARED_AT = 0.5
"""Where l1 is held against random masks: before random pruning has ruined everything."""
LEAST_SEEDS = 3


class CurveClaims:
    """Inherit it in a class whose name begins with `Test`, in a file that spans one task."""

    def test_metric(
        self, benchmark: BenchmarkFixture, record: Recorder, bench: Bench, model: str, task: str, recipe: prune.Recipe
    ) -> None:
        """The metric on the documents, and its paired difference from dense."""
        record.quality = benchmark.pedantic(bench.quality, args=(model, task, recipe), rounds=1)
        record.pruned = bench.counts[model, task, recipe]

    def test_trend(self, request: pytest.FixtureRequest, curve: list[trends.Point], method: str) -> None:
        """Flat at first, never better by more than chance, in ruins at the end; of random masks only the last."""
        broken = trends.broken_rules(curve, informed=not METHODS[method].stochastic)
        assert not broken, f"{'; '.join(broken)} [{request.node.callspec.id}]"

    def test_l1_beats_random(self, bench: Bench, grid: Grid, model: str, task: str) -> None:
        """At sparsity 0.5 choosing by magnitude is better than the mean of three random masks."""
        asked = {"l1", "random"} <= set(grid.methods) and COMPARED_AT in grid.sparsities
        if not asked or len(grid.seeds) < LEAST_SEEDS:
            pytest.skip(f"needs l1 and random at sparsity {COMPARED_AT}, with {LEAST_SEEDS} seeds")
        informed = bench.score(model, task, prune.Recipe("l1", COMPARED_AT))
        random = [bench.score(model, task, prune.Recipe("random", COMPARED_AT, seed=seed)) for seed in grid.seeds]
        broken = trends.beats_random(informed, random)
        assert not broken, f"{'; '.join(broken)} [{model} {task} {COMPARED_AT}]"
