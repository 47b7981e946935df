"""Inverted Hessians: the inverse is that of the damped matrix, and whatever had to be done to it is said."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity import hessian
from sparsity.errors import BadValue


def of_inputs(tokens: int, inputs: int, seed: int = 0) -> torch.Tensor:
    """The Hessian of random inputs, as it is gathered."""
    x = torch.randn(tokens, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.t() @ x


def damped(matrix: torch.Tensor, by: float) -> torch.Tensor:
    """With so many means of the diagonal added to it."""
    return matrix + by * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=torch.float64)


def error(inverse: torch.Tensor, of: torch.Tensor) -> float:
    """How far the product lies from the identity."""
    return float((inverse @ of - torch.eye(len(of), dtype=torch.float64)).abs().max())


def test_the_golden_inverse_of_a_diagonal() -> None:
    found = hessian.factor(torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)), tokens=3)
    # the mean of the diagonal is 2, so 0.02 is added
    expected = torch.diag(torch.tensor([1 / 1.02, 1 / 2.02, 1 / 3.02], dtype=torch.float64))
    torch.testing.assert_close(found.inverse, expected, rtol=1e-14, atol=0)
    assert found.note is None
    assert found.dead.tolist() == [False] * 3


@settings(max_examples=40, deadline=None)
@given(inputs=st.integers(1, 20), more=st.integers(0, 30), scale=st.floats(-8, 8), seed=st.integers(0, 99))
def test_equals_the_inverse_of_the_damped_matrix(inputs: int, more: int, scale: float, seed: int) -> None:
    matrix = of_inputs(inputs + more, inputs, seed) * 10**scale
    found = hessian.factor(matrix, inputs + more)
    assert found.inverse.dtype == torch.float64
    assert found.note is None
    assert not found.dead.any()
    assert error(found.inverse, damped(matrix, hessian.DAMPING)) < 1e-9
    torch.testing.assert_close(found.inverse, found.inverse.t())


@pytest.mark.parametrize("inputs", [1, 2, 3, 17])
def test_the_factor_is_upper_and_its_inverse_the_cholesky_factor_of_the_inverse(inputs: int) -> None:
    matrix = of_inputs(40, inputs)
    upper = hessian.factor(matrix, 40).upper
    assert upper.dtype == torch.float64
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(upper @ upper.t(), damped(matrix, hessian.DAMPING), rtol=1e-12, atol=1e-12)
    expected = torch.linalg.cholesky(torch.linalg.inv(damped(matrix, hessian.DAMPING)), upper=True)
    torch.testing.assert_close(torch.linalg.inv(upper), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(slice(0, 3), slice(3, 7)), (slice(2, 9), slice(2, 9))])
def test_a_part_of_the_factor_is_that_part(rows: slice, columns: slice) -> None:
    found = hessian.factor(of_inputs(40, 9), 40)
    assert torch.equal(found.part(rows, columns), found.upper[rows, columns])


def test_dead_inputs_are_named_and_touch_no_other() -> None:
    matrix = of_inputs(30, 5)
    matrix[[0, 3]] = 0
    matrix[:, [0, 3]] = 0
    found = hessian.factor(matrix, 30)
    assert found.dead.tolist() == [True, False, False, True, False]
    assert found.note is not None
    assert re.fullmatch(r"singular Hessian \(2\b.* always zero\), damped by 1% of its mean diagonal", found.note)
    filled = matrix + torch.diag(found.dead.double())
    assert error(found.inverse, damped(filled, hessian.DAMPING)) < 1e-12
    assert not found.inverse[found.dead][:, ~found.dead].any()
    assert not found.inverse[~found.dead][:, found.dead].any()


def test_inputs_that_were_all_zero_are_all_dead() -> None:
    found = hessian.factor(torch.zeros(3, 3, dtype=torch.float64), 9)
    assert found.dead.all()
    torch.testing.assert_close(found.inverse, torch.eye(3, dtype=torch.float64) / 1.01)


def test_fewer_tokens_than_inputs_are_noted_as_singular() -> None:
    matrix = of_inputs(3, 8)
    found = hessian.factor(matrix, 3)
    assert found.note == "singular Hessian (3 tokens for 8 inputs), damped by 1% of its mean diagonal"
    assert error(found.inverse, damped(matrix, hessian.DAMPING)) < 1e-9
    assert hessian.factor(of_inputs(8, 8), 8).note is None  # just as many are enough


@pytest.mark.parametrize(("beyond", "by"), [(0.005, 0.01), (0.05, 0.1), (0.5, 1.0), (2.0, 10.0)])
def test_a_matrix_that_is_not_positive_definite_is_damped_more_and_that_is_said(beyond: float, by: float) -> None:
    matrix = torch.tensor([[1, 1 + beyond], [1 + beyond, 1]], dtype=torch.float64)  # lowest eigenvalue: -beyond
    found = hessian.factor(matrix, 9)
    assert error(found.inverse, damped(matrix, by)) < 1e-12
    said = f"singular Hessian (not positive definite), damped by {by:.0%} of its mean diagonal"
    assert found.note == (said if by > hessian.DAMPING else None)


def test_all_reasons_are_said_together() -> None:
    matrix = torch.tensor([[2, 2.4, 0], [2.4, 2, 0], [0, 0, 0]], dtype=torch.float64)
    found = hessian.factor(matrix, 2)
    assert found.note is not None
    reasons = r"1\b.* always zero, 2 tokens for 3 inputs, not positive definite"
    assert re.fullmatch(rf"singular Hessian \({reasons}\), damped by 100% of its mean diagonal", found.note)


@pytest.mark.parametrize("place", [(1, 1), (0, 2)], ids=["diagonal", "beside it"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(bad: float, place: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[torch.Tensor] = []
    factorise = torch.linalg.cholesky_ex

    def few_times(matrix: torch.Tensor, **out: Any) -> Any:
        attempts.append(matrix)
        assert len(attempts) < 100, "no damping makes it positive definite"  # rather than try forever
        return factorise(matrix, **out)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", few_times)
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[place] = matrix[place[::-1]] = bad
    with pytest.raises(BadValue, match=r"not finite.*look for NaN or overflow"):
        hessian.factor(matrix, 9)


@pytest.mark.parametrize("kind", ["regular", "dead", "not positive definite"])
def test_the_matrix_given_is_not_modified(kind: str) -> None:
    matrix = of_inputs(9, 4)
    if kind == "dead":
        matrix[2] = matrix[:, 2] = 0
    if kind == "not positive definite":
        matrix -= 3 * torch.eye(4, dtype=torch.float64)
    before = matrix.clone()
    hessian.factor(matrix, 9)
    assert torch.equal(matrix, before)
