"""What a latency and a roofline say of themselves, and what none of them can be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparsity.record import Latency, Products, Read, Roofline

ROOFLINE = Roofline(
    {"float32": 100e9, "bfloat16": 400e9}, [Read(1 << 20, 200e9), Read(8 << 20, 50e9), Read(64 << 20, 20e9)]
)
LATENCY = Latency(0.010, 0.009, 0.011, 20, "same", flops=60, dense_flops=100, ideal_seconds=0.002)


@pytest.mark.parametrize(
    ("flops", "size", "seconds"),
    [
        (100e9, 1, 1.0),  # bound by operations
        (0, 1 << 20, (1 << 20) / 200e9),
        (0, 2 << 20, (2 << 20) / 200e9),  # no slower than what was read of less
        (0, 8 << 20, (8 << 20) / 50e9),
        (0, 1 << 30, (1 << 30) / 20e9),
        (0, 1000, 1000 / 200e9),  # less than the smallest
    ],
)
def test_the_longer_of_operations_and_bytes_bounds_the_time(flops: int, size: int, seconds: float) -> None:
    assert ROOFLINE.seconds("float32", flops, size) == pytest.approx(seconds)


def test_each_dtype_has_a_speed_of_its_own() -> None:
    assert ROOFLINE.seconds("bfloat16", 100e9, 1) == pytest.approx(0.25)  # type: ignore[arg-type]  # a whole number


def test_a_small_buffer_that_seems_slower_than_a_large_one_bounds_nothing() -> None:
    launched = replace(ROOFLINE, reads=[Read(1 << 20, 1e9), Read(1 << 30, 30e9)])
    assert launched.seconds("float32", 0, 30) == pytest.approx(1e-9)


def test_a_roofline_is_told_in_a_line() -> None:
    assert (
        str(ROOFLINE)
        == "100 GFLOP/s in float32, 400 GFLOP/s in bfloat16; reads 1 MiB at 200, 8 MiB at 50, 64 MiB at 20 GB/s"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"flops_per_second": {"float32": 1.0, "bfloat16": 0.0}},
        {"flops_per_second": {"float32": -1.0}},
        {"flops_per_second": {}},
        {"reads": []},
        {"reads": [Read(8, 2.0), Read(8, 1.0)]},
    ],
)
def test_what_is_no_roofline_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"is not above 0|must hold at least 1|do not ascend"):
        replace(ROOFLINE, **change)  # type: ignore[arg-type]  # each change is of its field's type
    with pytest.raises(ValueError, match=r"^bytes_per_second 0\.0 is not above 0$"):
        Read(8, 0.0)


def test_what_did_not_run_is_not_listed() -> None:
    assert Products({}, {}).kernels is None
    for broken in ({"dense": {"aten::mm": 0}}, {"sparse": {"aten::mm": -1}}, {"kernels": {"gemm": 0}}):
        with pytest.raises(ValueError, match=r"^(dense|sparse|kernels)\.(aten::mm|gemm) -?\d is not in \[1, inf\]$"):
            Products(**{"dense": {}, "sparse": {}} | broken)


def test_shares_are_of_the_operations_made_and_of_the_time_measured() -> None:
    assert LATENCY.operations == pytest.approx(0.6)
    assert LATENCY.efficiency == pytest.approx(0.2)


@pytest.mark.parametrize("lacking", ["flops", "dense_flops"])
def test_without_both_counts_there_is_no_share_of_operations(lacking: str) -> None:
    assert replace(LATENCY, **{lacking: None}).operations is None  # type: ignore[arg-type]  # both may be None


def test_without_an_ideal_time_there_is_no_efficiency() -> None:
    assert replace(LATENCY, ideal_seconds=None).efficiency is None


@pytest.mark.parametrize("name", ["kept_flops", "read_bytes", "ideal_seconds", "ceiling"])
def test_a_limit_below_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} -1 is not in \[0, "):
        replace(LATENCY, **{name: -1})  # type: ignore[arg-type]  # all are numbers
