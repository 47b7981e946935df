"""What do structured pruning, single weights and fewer digits add up to, step by step, on one model?

Each step goes on from where the one before arrived, and leaves a whole record of its own: what the very model costs,
holds and still knows. See `sparsity/composition.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from benchmarks import axes
from sparsity import compositions
from sparsity.execution import CLOSE, relative_error
from sparsity.measure.memory import Peak, described
from sparsity.saving import disk_bytes

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.bench import Bench
    from sparsity.cells import Recorder
    from sparsity.compositions import Compositions

SEED = 0


@pytest.mark.timed
@pytest.mark.parametrize("steps", range(1, 1 + len(axes.COMPOSED)))
def test_step(
    benchmark: BenchmarkFixture,
    record: Recorder,
    bench: Bench,
    composed: Compositions,
    model: str,
    task: str,
    workload: str,
    recovery: str,
    steps: int,
    peak_memory: Callable[..., Peak],
    time_per_cell: float,
) -> None:
    """The same outputs as with zeros in place, and fewer bytes than the unpruned model."""
    done = axes.composed(recovery, steps)
    record.cell = compositions.cell_of(record.cell, done)
    subject = bench.subject(model, task)
    arrived = composed.after(model, task, done, SEED)
    executed = composed.stored(model, task, done, SEED)
    record.pruned = arrived.pruned.counts
    output, expected = bench.call(executed, workload)(), bench.call(arrived.pruned.model, workload)()
    error, close = relative_error(output, expected), CLOSE[str(output.dtype).removeprefix("torch.")]
    assert error <= close, f"got outputs off by {error:.1e} of their norm, should be at most {close} [{record.cell}]"
    record.quality, record.recovered = composed.judged(model, task, done, SEED, executed)
    dense = bench.dense_bytes(model, workload, task)
    peak = peak_memory(bench.forward(executed, workload), bench.options.device)
    record.memory = described(executed, peak, disk_bytes(executed), dense)
    record.latency = bench.latency(benchmark, subject, arrived.pruned, executed, workload, time_per_cell)
    weights = record.memory.weights_bytes
    assert weights < dense[0], f"got {weights} bytes of weights, unpruned {dense[0]} [{record.cell}]"
