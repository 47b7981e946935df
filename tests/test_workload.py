"""Workloads: parsing, and inputs that are the same every time and fit the model."""

from __future__ import annotations

import pytest
import torch

from sparsity import workload
from sparsity.errors import BadValue, Refused
from tests import tiny


def test_what_is_printed_parses_back() -> None:
    assert workload.parse("8x64") == workload.Workload(8, 64)
    assert str(workload.parse("8x64")) == "8x64"


@pytest.mark.parametrize(
    "text", ["", "8", "8x", "x64", "0x64", "8x0", "-1x4", "8X64", "8x64x2", " 8x64", "٨x64", "1e2x4"]
)
def test_what_is_no_workload_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="BATCHxLENGTH, such as 8x64"):
        workload.parse(text)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_inputs_are_real_tokens_of_the_model_and_always_the_same(family: str) -> None:
    model = tiny.model(family)
    one, two = (workload.inputs(workload.parse("3x7"), model) for _ in range(2))
    assert {name: tuple(tensor.shape) for name, tensor in one.items()} == dict.fromkeys(one, (3, 7))
    assert ("decoder_input_ids" in one) == (family == "bart")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["attention_mask"].all()
    assert 0 <= one["input_ids"].min() <= one["input_ids"].max() < tiny.VOCABULARY


def test_more_positions_than_the_model_has_are_refused() -> None:
    with pytest.raises(Refused, match="1x33 is longer than the model's 32 positions"):
        workload.inputs(workload.parse("1x33"), tiny.model("gpt2"))
