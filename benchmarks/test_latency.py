"""What does a forward pass cost, against the unpruned model's?

Each cell is timed in turns with the unpruned model, and its ratio judged; the control (method `none`)
is the unpruned model's own copy. See `sparsity/measure/duet.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sparsity.auto import told
from sparsity.limits import unkept_promise

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.bench import Bench, Subject
    from sparsity.cells import Recorder
    from sparsity.prune import PrunedModel


@pytest.mark.timed
def test_forward_latency(
    benchmark: BenchmarkFixture,
    record: Recorder,
    bench: Bench,
    subject: Subject,
    pruned_model: PrunedModel,
    executed_model: Any,
    workload: str,
    time_per_cell: float,
) -> None:
    """Seconds for one forward pass, warm; layers that are stored sparse are multiplied so."""
    record.pruned = told(pruned_model.counts, executed_model)
    record.latency = bench.latency(benchmark, subject, pruned_model, executed_model, workload, time_per_cell)
    if record.latency is not None and record.latency.products is not None:
        unpruned = bench.limits.unpruned[subject.loaded.reference, workload]
        wrong = unkept_promise(executed_model, record.latency.products, unpruned)
        assert wrong is None, f"{wrong} [{record.cell}]"
