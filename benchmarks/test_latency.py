"""What does a forward pass cost, against dense?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sparsity.measure import latency

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.prune import PrunedModel
    from sparsity.pytest_plugin import Recorder


def test_forward_latency(
    benchmark: BenchmarkFixture, record: Recorder, pruned_model: PrunedModel, forward: Callable[[], object]
) -> None:
    """Seconds for one forward pass, warm."""
    record.pruned = pruned_model.counts
    record.latency = latency.timed(benchmark, forward)
