"""The claims that every sparsity-versus-metric curve is held to; each quality question inherits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import axes
from sparsity import pattern as patterns
from sparsity import prune
from sparsity.methods import METHODS
from sparsity.tasks import trends

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from benchmarks.axes import Grids
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

    def test_trend(self, request: pytest.FixtureRequest, curve: list[trends.Point], method: str, pattern: str) -> None:
        """Flat at first, never better by more than chance, in ruins at the end.

        Of random masks, and of whole neurons, heads and layers, only what holds however one chooses. On the user's
        own documents only what holds on any, by the measure of what the unpruned model knows; see `trends`.
        """
        in_groups = isinstance(patterns.parse(pattern), patterns.GroupPattern)
        broken = trends.broken_rules(curve, informed=not METHODS[method].stochastic and not in_groups)
        assert not broken, f"{'; '.join(broken)} [{request.node.callspec.id}]"

    def test_l1_beats_random(self, bench: Bench, grids: Grids, model: str, task: str) -> None:
        """At sparsity 0.5 choosing by magnitude beats the mean of three random masks; on own data it is not worse."""
        where = ("unstructured", "layer")
        asked = all(COMPARED_AT in axes.sparsities(grids, method, *where) for method in ("l1", "random"))
        seeds = {seed for grid in grids if "random" in grid.methods for seed in grid.seeds}
        if not asked or len(seeds) < LEAST_SEEDS:
            pytest.skip(f"needs l1 and random at sparsity {COMPARED_AT}, with {LEAST_SEEDS} seeds")
        informed = bench.score(model, task, prune.Recipe("l1", COMPARED_AT))
        random = [bench.score(model, task, prune.Recipe("random", COMPARED_AT, seed=seed)) for seed in sorted(seeds)]
        broken = trends.beats_random(informed, random)
        assert not broken, f"{'; '.join(broken)} [{model} {task} {COMPARED_AT}]"
