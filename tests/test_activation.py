"""Activations are told by their values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from sparsity.activation import activation_of, known


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("gelu", "gelu"),
        ("gelu_python", "gelu"),
        ("gelu_new", "gelu_tanh"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
        ("relu", "relu"),
        ("silu", "silu"),
        ("quick_gelu", None),
        ("tanh", None),
        ("relu2", None),
    ],
)
def test_what_transformers_names_is_known_by_its_values(theirs: str, name: str | None) -> None:
    assert activation_of(ACT2FN[theirs]) == name


@pytest.mark.parametrize("name", known())
def test_each_known_activation_is_itself(name: str) -> None:
    assert activation_of(known()[name]()) == name


def test_the_identity_is_no_activation() -> None:
    assert activation_of(nn.Identity()) is None


def test_nothing_is_recorded_for_a_gradient() -> None:
    weight = nn.Parameter(torch.ones(()))
    assert activation_of(lambda x: torch.relu(x * weight)) == "relu"
