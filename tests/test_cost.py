"""The cost model: what it adds up, and laws of it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sparsity.cost import Costs, Estimate, Sweep, estimate

COSTS = Costs(start=5.0, load=10.0, prune=2.0, evaluate=3.0, timed=7.0, checkpoint=1e9, record=1000.0)


def test_a_plain_sweep_by_hand() -> None:
    found = estimate(COSTS, Sweep(groups=4, cells=20))
    assert found == Estimate(5 + 4 * 10 + 20 * (2 + 3), 5 + 4 * 10 + 20 * (2 + 3), 4e9, 20_000)


def test_timed_cells_have_a_node_to_themselves_by_hand() -> None:
    found = estimate(COSTS, Sweep(groups=4, cells=20, timed=5, nodes=2, devices=8))
    timed, others = 0.25 * 40 + 5 * 9, 0.75 * 40 + 15 * 5
    assert found.device_seconds == 8 * 5 + timed + others
    assert found.seconds == 5 + timed / 2 + others / 8


def test_no_cells_cost_a_start() -> None:
    assert estimate(COSTS, Sweep(0, 0)) == Estimate(5.0, 5.0, 0.0, 0.0)


@given(cells=st.integers(1, 1000), timed=st.integers(0, 1000), nodes=st.integers(1, 9), per_node=st.integers(1, 8))
def test_more_devices_never_take_longer_and_no_clock_beats_all_of_them(
    cells: int, timed: int, nodes: int, per_node: int
) -> None:
    sweep = Sweep(3, cells, min(timed, cells), nodes, nodes * per_node)
    found = estimate(COSTS, sweep)
    more = estimate(COSTS, replace(sweep, nodes=nodes + 1, devices=(nodes + 1) * per_node))
    assert more.seconds <= found.seconds
    assert found.seconds * sweep.devices >= found.device_seconds * (1 - 1e-12)
