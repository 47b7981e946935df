"""Every execution format computes what the masked dense model computes, and leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsity import workload
from sparsity.errors import Refused, UnknownName
from sparsity.execution import in_format
from sparsity.formats import FORMATS, dense
from sparsity.prune import PrunedModel, Recipe, prune
from tests import tiny


@pytest.fixture(params=tiny.FAMILIES)
def pruned(request: pytest.FixtureRequest) -> PrunedModel:
    return prune(tiny.model(request.param), Recipe("l1", 0.7))


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(**workload.inputs(workload.parse("3x7"), model)).logits
    return result


@pytest.mark.parametrize("name", FORMATS)
def test_computes_what_the_masked_dense_model_computes(pruned: PrunedModel, name: str) -> None:
    expected = logits(pruned.model)
    with in_format(pruned, name) as model:
        torch.testing.assert_close(logits(model), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_afterwards_the_model_is_as_it_was_even_after_an_error(pruned: PrunedModel, name: str) -> None:
    modules, before = list(pruned.model.modules()), tiny.state(pruned.model)
    with pytest.raises(RuntimeError, match="in between"), in_format(pruned, name):
        raise RuntimeError("in between")
    assert list(pruned.model.modules()) == modules
    assert before.keys() == pruned.model.state_dict().keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in pruned.model.state_dict().items())


def test_masked_keeps_weight_and_mask_apart_in_every_prunable_layer(pruned: PrunedModel) -> None:
    with in_format(pruned, "masked") as model:
        for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
            module = model.get_submodule(layer.name)
            assert {"weight_orig", "bias"} == {name for name, _ in module.named_parameters()}
            stored = module.get_buffer("weight_mask").bool()
            assert torch.equal(stored.t() if layer.transposed else stored, mask)


def test_dense_replaces_nothing(pruned: PrunedModel) -> None:
    modules = list(pruned.model.modules())
    with in_format(pruned, "dense") as model:
        assert list(model.modules()) == modules


def test_an_unknown_format_is_refused_with_the_known_ones(pruned: PrunedModel) -> None:
    with pytest.raises(UnknownName, match=r"unknown format 'csc'.*Known: dense, masked"), in_format(pruned, "csc"):
        pass


def test_a_format_that_cannot_run_gives_its_own_reason(pruned: PrunedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []

    class Never(dense.Dense):
        def unsupported(self, pattern: object, dtype: str, device: str) -> str:
            asked.append((str(pattern), dtype, device))
            return "needs a kernel that is not here"

    monkeypatch.setitem(FORMATS, "never", Never())
    with pytest.raises(Refused, match="needs a kernel that is not here"), in_format(pruned, "never"):
        pass
    assert asked == [("unstructured", "float32", "cpu")]
