"""The activations against torch's own in float64, as a layer of one weight of 1 applies them."""

from __future__ import annotations

import math

import pytest
import torch

from sparsity.kernel.activations import ACTIVATIONS
from sparsity.kernel.build import using
from tests.kernel.weights import BUILDS, FUNCTIONS, Sample

ERRORS = {"none": 0.0, "gelu": 2e-7, "gelu_tanh": 2e-7, "silu": 2e-7, "relu": 0.0}
"""Relative to the input, or absolute where that is below 1."""
RANGE = torch.linspace(-20, 20, 4001)


def applied(name: str, x: torch.Tensor) -> torch.Tensor:
    one = torch.ones(1, 1)
    layer = Sample(one, one.bool(), None).packed(name)
    tokens = torch.nn.functional.pad(x, (0, -len(x) % 64))[:, None]  # whole tiles: one variant of the kernel for all
    with torch.inference_mode():
        found: torch.Tensor = layer(tokens)[: len(x), 0]
    return found


def test_every_activation_is_tested() -> None:
    assert ERRORS.keys() == FUNCTIONS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", ERRORS)
def test_is_what_torch_computes_in_float64(name: str, build: str) -> None:
    with using(build):
        found = applied(name, RANGE).double()
    error = (found - FUNCTIONS[name](RANGE.double())).abs() / RANGE.abs().double().clamp(min=1)
    assert error.max() <= ERRORS[name]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu"])
def test_loses_nothing_near_0(name: str, build: str) -> None:
    x = torch.cat([torch.logspace(-30, -2, 200), -torch.logspace(-30, -2, 200)])
    with using(build):
        found = applied(name, x).double()
    assert ((found / FUNCTIONS[name](x.double())) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", ERRORS)
def test_what_is_not_a_number_stays_so(name: str, build: str) -> None:
    numbers = torch.tensor([0x7FC00000, 0x7F800001, 0x7FC00001, -0x400000, -0x1], dtype=torch.int32)
    with using(build):
        assert applied(name, numbers.view(torch.float32)).isnan().all()


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", ERRORS)
def test_far_from_0_it_is_the_input_or_nothing(name: str, build: str) -> None:
    far, near_enough = torch.tensor([50.0, 1e3, 1e10, 1e30, 3e38, math.inf]), 4
    with using(build):
        above, below = applied(name, far), applied(name, -far)
    assert torch.equal(above, far)
    if name == "none":
        assert torch.equal(below, -far)
    else:
        assert below[:near_enough].abs().max() < 1e-7
    if name != "relu":
        assert not below[-1].isfinite()  # torch has no number for it either
