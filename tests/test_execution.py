"""Every execution format computes what the masked dense model computes, and leaves no trace in it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers

from sparsity import pattern as patterns
from sparsity import workload
from sparsity.errors import Refused, UnknownName
from sparsity.execution import CLOSE, in_format, relative_error
from sparsity.formats import FORMATS, NAMES, dense
from sparsity.formats.protocol import skeleton
from sparsity.prune import PrunedModel, Recipe, prune
from tests import tiny
from tests.models.tiny import refusal

RECIPES = {
    "single weights": Recipe("l1", 0.7),
    "2:4": Recipe("l1", 0.5, "2:4"),
    "neurons": Recipe("l1", 0.5, "neurons"),
    "layers": Recipe("l1", 0.5, "layers"),
}


def pruned_by(family: str, recipe: str = "single weights", dtype: torch.dtype = torch.float32) -> PrunedModel:
    return prune(tiny.model(family, dtype), RECIPES[recipe])


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(**workload.inputs(workload.parse("3x7"), model)).logits
    return result


def runs(name: str, recipe: str) -> bool:
    return FORMATS[name].unsupported(patterns.parse(RECIPES[recipe].pattern), "float32", "cpu") is None


CELLS = [
    pytest.param((family, recipe, name), id=f"{family}-{recipe}-{name}")
    for family in tiny.FAMILIES
    for recipe in RECIPES
    for name in FORMATS
    if runs(name, recipe)
]
"""Every format with every kind of pattern that it runs."""


@dataclass
class Converted:
    """A pruned model in a format, and what the pruned model was before it was brought into it."""

    name: str
    pruned: PrunedModel
    modules: list[torch.nn.Module]
    state: dict[str, torch.Tensor]
    masks: list[torch.Tensor]
    config: dict[str, Any]
    logits: torch.Tensor
    model: Any


@pytest.fixture(scope="module", params=CELLS)
def cell(request: pytest.FixtureRequest) -> Converted:
    """One format with one pattern, converted once for all that is said of it."""
    family, recipe, name = request.param
    pruned = pruned_by(family, recipe)
    model = pruned.model
    modules, state, masks = list(model.modules()), tiny.state(model), [mask.clone() for mask in pruned.masks]
    config, expected = model.config.to_dict(), logits(model)
    return Converted(name, pruned, modules, state, masks, config, expected, in_format(pruned, name))


def test_computes_what_the_masked_dense_model_computes(cell: Converted) -> None:
    expected, found = cell.logits, logits(cell.model)
    close = 1e-5 if found.dtype is expected.dtype else CLOSE[str(found.dtype).removeprefix("torch.")]
    assert relative_error(found, expected) < close


def test_a_copy_computes_the_same(cell: Converted) -> None:
    assert torch.equal(logits(copy.deepcopy(cell.model)), logits(cell.model))


def test_gradients_need_not_be_off(cell: Converted) -> None:
    model = cell.model
    inputs = workload.inputs(workload.parse("3x7"), model)
    with torch.no_grad():
        without = model(**inputs).logits
    with torch.enable_grad():
        assert torch.equal(model(**inputs).logits, without)
    assert torch.equal(logits(model), without)


def test_the_pruned_model_stays_as_it_is(cell: Converted) -> None:
    model = cell.pruned.model
    assert isinstance(cell.model, transformers.PreTrainedModel)
    logits(cell.model)
    assert list(model.modules()) == cell.modules
    assert cell.state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, cell.state[key]) for key, tensor in model.state_dict().items())
    assert all(map(torch.equal, cell.pruned.masks, cell.masks))
    assert model.config.to_dict() == cell.config
    assert torch.equal(logits(model), cell.logits)


def test_what_no_format_needs_to_change_is_not_there_twice(cell: Converted) -> None:
    if cell.name == "bf16":
        pytest.skip("its tensors are all of another type")
    prunable = tuple(f"{layer.name}." for layer in cell.pruned.layers)
    own = {tensor.data_ptr() for tensor in cell.pruned.model.state_dict().values()}
    state = cell.model.state_dict()
    others = {key: tensor for key, tensor in state.items() if not key.startswith(prunable)}
    assert others
    assert [key for key, tensor in others.items() if tensor.data_ptr() not in own] == []


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_masked_keeps_weight_and_mask_apart_in_every_prunable_layer(family: str) -> None:
    pruned = pruned_by(family)
    model = in_format(pruned, "masked")
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        module = model.get_submodule(layer.name)
        assert module is not layer.module
        assert {"weight_orig", "bias"} == {name for name, _ in module.named_parameters()}
        stored = module.get_buffer("weight_mask").bool()
        assert torch.equal(stored.t() if layer.transposed else stored, mask)


def test_dense_is_the_masked_dense_model_itself() -> None:
    pruned = pruned_by("bert")
    assert in_format(pruned, "dense") is pruned.model


@pytest.mark.parametrize("name", ["csc", "", "Dense", "dense\n"])
def test_an_unknown_format_is_refused_with_the_known_ones(name: str) -> None:
    message = refusal(UnknownName, lambda: in_format(pruned_by("bert"), name))
    assert message.startswith(f"unknown format {name!r}")
    assert message.endswith("Known: " + ", ".join(NAMES))


@pytest.mark.parametrize(
    ("recipe", "dtype", "asked"),
    [
        ("single weights", torch.float32, ("unstructured", "float32", "cpu")),
        ("2:4", torch.bfloat16, ("2:4", "bfloat16", "cpu")),
        ("neurons", torch.float64, ("neurons", "float64", "cpu")),
    ],
)
def test_a_format_that_cannot_run_gives_its_own_reason(
    recipe: str, dtype: torch.dtype, asked: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, str]] = []

    class Never(dense.Dense):
        def unsupported(self, pattern: object, dtype: str, device: str) -> str:
            seen.append((str(pattern), dtype, device))
            return "needs a kernel that is not here"

        def convert(self, *args: object) -> Any:
            raise AssertionError("it has said that it cannot")

    monkeypatch.setitem(FORMATS, "never", Never())
    pruned = pruned_by("bert", recipe, dtype)
    assert refusal(Refused, lambda: in_format(pruned, "never")) == "needs a kernel that is not here"
    assert seen == [asked]


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_a_skeleton_has_its_own_modules_and_the_same_tensors(family: str) -> None:
    model = tiny.model(family)
    other = skeleton(model)
    assert not set(map(id, model.modules())) & set(map(id, other.modules()))
    mine, its = ([*m.named_parameters(), *m.named_buffers()] for m in (model, other))
    assert [name for name, _ in mine] == [name for name, _ in its]
    assert all(a is b for (_, a), (_, b) in zip(mine, its, strict=True))
    assert other.config is not model.config
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize(
    ("output", "expected", "error"),
    [([3.0, 4.0], [3.0, 4.0], 0.0), ([3.0, 4.5], [3.0, 4.0], 0.1), ([0.0, 0.0], [3.0, 4.0], 1.0)],
)
def test_the_relative_error_is_that_of_the_l2_norm(output: list[float], expected: list[float], error: float) -> None:
    assert relative_error(torch.tensor(output), torch.tensor(expected)) == pytest.approx(error)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_error_is_near_where_an_output_is_no_number(bad: float) -> None:
    for output, expected in (([bad, 1.0], [1.0, 1.0]), ([1.0, 1.0], [bad, 1.0]), ([bad, 1.0], [bad, 1.0])):
        error = relative_error(torch.tensor(output), torch.tensor(expected))
        assert not any(error < close for close in CLOSE.values())
