"""What do the tasks of lm-evaluation-harness lose?

Only of tasks that `--harness` names, and of causal language models. Each task has its own metric, so compare along a
curve, never across tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.bench import Bench
    from sparsity.cells import Recorder
    from sparsity.prune import Recipe


class TestHarness:
    """A task's own metric against sparsity."""

    def test_task(
        self, benchmark: BenchmarkFixture, record: Recorder, bench: Bench, model: str, task: str, recipe: Recipe
    ) -> None:
        """The metric on the task's documents, and its paired difference from dense."""
        record.harness = benchmark.pedantic(bench.harness, args=(model, task, recipe), rounds=1)
        record.pruned = bench.counts[model, task, recipe]
