"""How are the weights distributed, model-wide and layer by layer?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsity.distribution import distribution

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from sparsity.bench import Subject
    from sparsity.cells import Recorder


def test_weight_distribution(benchmark: BenchmarkFixture, record: Recorder, subject: Subject, model: str) -> None:
    """Every parameter is counted once, in one of the bins."""
    dense = subject.loaded.model
    record.weights = weights = benchmark.pedantic(distribution, args=(dense,), rounds=1)
    counted = sum(sum(layer.counts) for layer in weights.layers)
    total = sum(parameter.numel() for parameter in dense.parameters())
    assert counted == total, f"got {counted} values counted, should be {total} [{record.cell}]"
