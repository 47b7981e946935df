"""A pytest plugin that measures peak tensor memory: `pytest -p sparsity.pytest_memory`.

    def test_forward(peak_memory):
        peak = peak_memory(lambda: model(tokens))
        assert peak.bytes <= 10_000_000

Peak CUDA allocation net of what was resident, or on a CPU the exact peak of tensor allocations (see
`sparsity.measure.memory`), in untimed calls of its own. What was measured goes to the report's
properties (JUnit), to `extra_info["peak_memory"]` where the test uses pytest-benchmark, and with
`--show-peak-memory` into a table. Needs nothing else of this suite, and imports torch only when a
test measures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sparsity.measure.memory import Peak

_measured = pytest.StashKey[list[tuple[str, "Peak"]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option: whether to print the table."""
    group = parser.getgroup("peak memory")
    group.addoption("--show-peak-memory", action="store_true", help="print a table of what peak_memory measured")


def pytest_configure(config: pytest.Config) -> None:
    """Where the measurements of a run are gathered."""
    config.stash[_measured] = []


@pytest.fixture
def peak_memory(request: pytest.FixtureRequest) -> Callable[..., Peak]:
    """`peak_memory(function, device=None, warmups=1)` → `Peak(bytes, source)`.

    The device is CUDA where there is one, else the CPU. The function is called warm, untimed.
    """

    def measure(function: Callable[[], object], device: str | None = None, warmups: int = 1) -> Peak:
        import torch

        from sparsity.measure import memory

        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        peak = memory.peak_memory(function, where, warmups)
        request.config.stash[_measured].append((request.node.nodeid, peak))
        request.node.user_properties.append(("peak_memory_bytes", peak.bytes))
        if "benchmark" in request.fixturenames:
            benchmark = request.getfixturevalue("benchmark")
            benchmark.extra_info["peak_memory"] = {"bytes": peak.bytes, "source": peak.source}
        return peak

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table, largest first."""
    measured = config.stash[_measured]
    if not measured or not config.getoption("--show-peak-memory"):
        return
    terminalreporter.section("peak memory")
    for nodeid, peak in sorted(measured, key=lambda entry: -entry[1].bytes):
        terminalreporter.write_line(f"{peak.bytes:>15,} bytes  {nodeid}  ({peak.source})")
