"""What do weights hold, and what does a forward pass peak at?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sparsity import execution
from sparsity.auto import told
from sparsity.bench import is_control
from sparsity.execution import CLOSE, relative_error
from sparsity.formats import AUTO
from sparsity.formats.protocol import left_dense
from sparsity.measure.memory import Peak, described
from sparsity.saving import disk_bytes

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.bench import Bench
    from sparsity.cells import Recorder
    from sparsity.prune import PrunedModel


def _convert_seconds(pruned: PrunedModel, name: str) -> float | None:
    """Bringing the model into a format that changes it; auto says itself what it took."""
    if name in ("dense", AUTO):
        return None
    started = time.perf_counter()
    execution.in_format(pruned, name)
    return time.perf_counter() - started


def _notes(pruned: PrunedModel, executed: Any) -> list[str] | None:
    """What is to be known of the pruned model, and of its layers that the format left dense."""
    left = left_dense(executed)
    some = f"{len(left)} of {len(pruned.layers)} layers stay dense: {next(iter(left.values()))}" if left else None
    return [*pruned.notes, *([some] if some else [])] or None


def test_forward_memory(
    benchmark: BenchmarkFixture,
    record: Recorder,
    bench: Bench,
    pruned_model: PrunedModel,
    expected: Any,
    executed_model: Any,
    forward: Callable[[], Any],
    peak_memory: Callable[..., Peak],
    model: str,
    workload: str,
) -> None:
    """Bytes resident, on disk, and at the peak of a forward pass; zeros in a dense tensor save nothing."""
    seconds = _convert_seconds(pruned_model, str(record.cell.format))
    counts = replace(pruned_model.counts, convert_seconds=seconds, notes=_notes(pruned_model, executed_model))
    record.pruned = told(counts, executed_model)
    output = forward()
    error, close = relative_error(output, expected), CLOSE[str(output.dtype).removeprefix("torch.")]
    del output
    assert error <= close, f"got outputs off by {error:.1e} of their norm, should be at most {close} [{record.cell}]"
    dense = dense_weights, dense_peak = bench.dense_bytes(model, workload)
    peak: Peak = benchmark.pedantic(peak_memory, args=(forward, bench.options.device), rounds=1)
    control = is_control(pruned_model, executed_model)
    record.memory = described(executed_model, peak, disk_bytes(executed_model), dense, control)
    weights = record.memory.weights_bytes
    total, dense_total = weights + peak.bytes, dense_weights + dense_peak
    if record.cell.format == "dense":
        assert weights == dense_weights, f"got {weights} bytes of weights, should be {dense_weights} [{record.cell}]"
    if record.cell.format == "compact":
        assert weights < dense_weights, f"got {weights} bytes of weights, dense has {dense_weights} [{record.cell}]"
    if record.cell.format == "masked":
        assert total > dense_total, f"got {total} bytes, should be more than dense {dense_total} [{record.cell}]"
