"""Break-even: where a speedup crosses 1, by what is certain, and nothing where nothing is."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from reports.break_even import Crossing, crossings, table
from sparsity.record import WITHHELD, Record
from tests.reports import builders


def timed(
    sparsity: float,
    speedup: float,
    workload: str = "8x64",
    fmt: str = "packed",
    model: str = "bert",
    wide: float = 1.01,
) -> Record:
    """A latency with an interval of `wide` to both sides."""
    found = builders.latency(model, sparsity, fmt, speedup=speedup, low=speedup / wide, high=speedup * wide)
    return dataclasses.replace(found, cell=dataclasses.replace(found.cell, workload=workload))


def test_a_time_in_proportion_to_the_kept_weights_breaks_even_where_it_should() -> None:
    # half as fast as dense for each weight: as fast once half of the weights are gone
    records = [timed(s, 0.5 / (1 - s)) for s in (0.1, 0.3, 0.7, 0.9)]
    (found,) = crossings(records)
    assert (found.low, found.high) == (0.3, 0.7)
    assert found.value == pytest.approx(0.5)
    assert found.text() == "0.50 [0.3, 0.7]"
    assert found.text(bracket=False) == "0.50"


@pytest.mark.parametrize(
    ("speedups", "expected"),
    [
        ((1.2, 1.5, 3.0), "< 0.5"),
        ((0.2, 0.5, 0.9), "> 0.9"),
        ((1.0, 1.003, 0.998), "?"),
        ((0.5, 1.0, 1.003), "> 0.5"),
        ((1.0, 1.003, 1.5), "< 0.9"),
        ((0.5, 1.0, 1.5), "0.70 [0.5, 0.9]"),
        ((1.5, 0.5, 1.5), "0.80 [0.7, 0.9]"),  # once it was faster for certain, and then not
    ],
)
def test_what_is_beyond_the_measured_and_what_is_not_told(speedups: tuple[float, ...], expected: str) -> None:
    records = [timed(s, speedup) for s, speedup in zip((0.5, 0.7, 0.9), speedups, strict=True)]
    (found,) = crossings(records)
    assert re.sub(r"^0\.8\d", "0.80", found.text()) == expected


def test_a_break_even_lies_within_its_bracket() -> None:
    for first in (0.2, 0.6, 0.95):
        for last in (1.05, 1.5, 9.0):
            (found,) = crossings([timed(0.5, first), timed(0.9, last)])
            assert found.value is not None
            assert 0.5 < found.value < 0.9
            assert math.isfinite(found.value)


def test_seeds_are_one_point_and_certain_only_together() -> None:
    def seeded(seed: int, sparsity: float, speedup: float) -> Record:
        found = timed(sparsity, speedup)
        return dataclasses.replace(found, cell=dataclasses.replace(found.cell, seed=seed))

    records = [seeded(seed, s, speedup) for s, pair in ((0.5, (0.5, 0.6)), (0.7, (0.9, 1.2)), (0.9, (2.0, 2.2)))
               for seed, speedup in enumerate(pair)]  # fmt: skip
    (found,) = crossings(records)
    assert (found.low, found.high) == (0.5, 0.9)


def test_every_model_format_and_workload_has_its_own_and_the_unpruned_formats_have_none() -> None:
    records = [
        timed(s, 0.5 / (1 - s), workload, fmt, model)
        for model in ("gpt2", "bert")
        for workload in ("32x16", "8x64", "1x16+8", "1x128")
        for fmt in ("dense", "packed", "csr")
        for s in (0.3, 0.9)
    ]
    found = crossings(records)
    assert len(found) == len(set(found)) == 16
    assert [c.model for c in found] == ["gpt2"] * 8 + ["bert"] * 8
    assert {c.label for c in found} == {"packed", "csr"}
    assert table(records).headers == ("model", "format", "1x128", "8x64", "32x16", "1x16+8")
    assert table(records).rows[0][:3] == ("gpt2", "packed", "0.50 [0.3, 0.9]")


def test_what_noise_could_make_is_not_certain() -> None:
    def noisy(sparsity: float, speedup: float, **changes: object) -> Record:
        found = timed(sparsity, speedup)
        assert found.latency is not None
        return dataclasses.replace(found, latency=dataclasses.replace(found.latency, **changes))  # type: ignore[arg-type]  # fields of many types

    for floor, expected in ((0.01, "< 0.5"), (0.04, "< 0.9"), (0.9, "?")):
        records = [noisy(0.5, 1.04, noise_floor=floor), noisy(0.9, 1.5, noise_floor=floor)]
        assert [c.text() for c in crossings(records)] == [expected]
    withheld = [
        noisy(s, 2.0, verdict="inconclusive", reason=f"{WITHHELD}it differs from its own copy") for s in (0.5, 0.9)
    ]
    assert [c.text() for c in crossings(withheld)] == ["?"]


def test_a_single_sparsity_tells_nothing() -> None:
    assert crossings([timed(0.9, 3.0)]) == []
    assert not table([timed(0.9, 3.0)])
    assert not table([])


def test_what_was_not_measured_is_a_dash() -> None:
    records = [timed(s, 2.0, "8x64", "packed") for s in (0.5, 0.9)] + [timed(s, 2.0, "1x64", "csr") for s in (0.5, 0.9)]
    assert [row[1:] for row in table(records).rows] == [("csr", "< 0.5", "\u2013"), ("packed", "\u2013", "< 0.5")]


def test_a_crossing_says_what_it_is() -> None:
    assert Crossing("bert", "packed", "8x64", None, None, None).text() == "?"
