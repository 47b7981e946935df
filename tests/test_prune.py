"""Pruning whole models: counts, ties, what is left alone, and torch's own masks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn.utils import prune as torch_prune

from sparsity.errors import Refused, UnknownName
from sparsity.mask import pruned_count
from sparsity.methods import METHODS
from sparsity.models.architecture import prunable_layers
from sparsity.prune import SCOPES, Recipe, prune, workspace
from tests import tiny

EVERY_RECIPE = [
    Recipe(method, sparsity, scope=scope, seed=3)
    for method in METHODS
    if method != "none"
    for scope in SCOPES
    for sparsity in (0.0, 0.1, 0.5, 0.9)
]
ids = str


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("recipe", EVERY_RECIPE, ids=ids)
def test_removes_exactly_what_was_asked(family: str, recipe: Recipe) -> None:
    model = tiny.model(family)
    pruned = prune(model, recipe)
    sizes = [layer.weight.numel() for layer in pruned.layers]
    groups = [sum(sizes)] if recipe.scope == "global" else sizes
    expected = sum(pruned_count(recipe.sparsity, size) for size in groups)
    assert pruned.removed == expected
    assert sum(int((layer.weight == 0).sum()) for layer in pruned.layers) == expected
    assert pruned.prunable_parameters == sum(sizes)
    assert pruned.counts.prunable_sparsity == expected / sum(sizes)


@pytest.mark.parametrize("recipe", EVERY_RECIPE, ids=ids)
def test_kept_weights_and_everything_else_are_bit_equal(family: str, recipe: Recipe) -> None:
    model = tiny.model(family)
    before = tiny.state(model)
    pruned = prune(model, recipe)
    prunable = {f"{layer.name}.weight": (layer, mask) for layer, mask in zip(pruned.layers, pruned.masks, strict=True)}
    for name, now in model.state_dict().items():
        if name not in prunable:
            assert torch.equal(now, before[name]), name
            continue
        layer, mask = prunable[name]
        was = before[name].t() if layer.transposed else before[name]
        assert torch.equal(layer.weight[mask], was[mask]), name
        removed = layer.weight[~mask]
        assert not removed.any(), name
        assert not torch.signbit(removed).any(), f"{name} holds -0"


@pytest.mark.parametrize("recipe", EVERY_RECIPE, ids=ids)
def test_pruning_again_changes_nothing(family: str, recipe: Recipe) -> None:
    model = tiny.model(family)
    first = prune(model, recipe)
    once = tiny.state(model)
    if recipe.method == "l1":  # magnitude finds its own zeros again
        again = prune(model, recipe)
        assert all(map(torch.equal, first.masks, again.masks))
        assert all(torch.equal(tensor, once[name]) for name, tensor in model.state_dict().items())
    same = prune(tiny.model(family), recipe)  # and the same seed chooses the same, from the start
    assert all(map(torch.equal, first.masks, same.masks))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("method", ["l1", "random"])
def test_more_sparsity_never_keeps_what_less_removed(family: str, method: str, scope: str) -> None:
    dense = tiny.model(family)
    space = workspace(dense)
    before = prune(space, Recipe(method, 0.0, scope=scope), dense).masks
    for sparsity in (0.2, 0.5, 0.8):
        after = prune(space, Recipe(method, sparsity, scope=scope), dense).masks
        assert not any((a & ~b).any() for a, b in zip(after, before, strict=True))
        before = after


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_layer_masks_are_those_of_torch(family: str, sparsity: float) -> None:
    ours = prune(tiny.model(family), Recipe("l1", sparsity))
    for layer, mask in zip(prunable_layers(tiny.model(family)), ours.masks, strict=True):
        torch_prune.l1_unstructured(layer.module, "weight", amount=sparsity)
        stored: Any = layer.module.weight_mask
        assert torch.equal((stored.t() if layer.transposed else stored).bool(), mask), layer.name


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_global_masks_are_those_of_torch(family: str, sparsity: float) -> None:
    ours = prune(tiny.model(family), Recipe("l1", sparsity, scope="global"))
    layers = prunable_layers(tiny.model(family))
    parameters = [(layer.module, "weight") for layer in layers]
    torch_prune.global_unstructured(parameters, torch_prune.L1Unstructured, amount=sparsity)
    for layer, mask in zip(layers, ours.masks, strict=True):
        stored: Any = layer.module.weight_mask
        assert torch.equal((stored.t() if layer.transposed else stored).bool(), mask), layer.name


def test_random_masks_differ_by_seed_and_by_layer(family: str) -> None:
    model = tiny.model(family)
    one = prune(model, Recipe("random", 0.5, seed=0)).masks
    two = prune(model, Recipe("random", 0.5, seed=1)).masks
    assert not torch.equal(one[0], two[0])
    twins = [m for m in one[1:] if m.shape == one[0].shape]
    assert twins
    assert not any(torch.equal(one[0], twin) for twin in twins)


def test_a_workspace_is_pruned_from_dense_weights_every_time(family: str) -> None:
    dense = tiny.model(family)
    before = tiny.state(dense)
    space = workspace(dense)
    prune(space, Recipe("l1", 0.9), dense)
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    prune(space, Recipe("none", 0.0), dense)
    assert all(torch.equal(tensor, before[name]) for name, tensor in space.state_dict().items())


def test_a_workspace_shares_all_but_the_prunable_weights(family: str) -> None:
    dense = tiny.model(family)
    space = workspace(dense)
    prunable = {f"{layer.name}.weight" for layer in prunable_layers(dense)}
    theirs = dict(space.named_parameters())
    for name, parameter in dense.named_parameters():
        assert (theirs[name].data_ptr() == parameter.data_ptr()) == (name not in prunable), name


def test_ties_are_intact_before_and_after(family: str) -> None:
    model = tiny.model(family)
    tied = [model.get_input_embeddings().weight.data_ptr(), model.get_output_embeddings().weight.data_ptr()]
    prune(model, Recipe("l1", 0.9, scope="global"))
    after = [model.get_input_embeddings().weight.data_ptr(), model.get_output_embeddings().weight.data_ptr()]
    assert tied == after
    assert tied[0] == tied[1]


def test_sparsity_is_told_with_both_denominators_and_ties_count_once() -> None:
    model = tiny.model("gpt2")
    pruned = prune(model, Recipe("l1", 0.5))
    unique = {p.data_ptr(): p.numel() for p in model.parameters()}
    assert pruned.total_parameters == sum(unique.values())
    assert pruned.counts.total_sparsity == pruned.removed / sum(unique.values())
    assert pruned.counts.total_sparsity < pruned.counts.prunable_sparsity


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_dtypes(family: str, dtype: torch.dtype) -> None:
    pruned = prune(tiny.model(family, dtype), Recipe("l1", 0.75, scope="global"))
    assert pruned.counts.prunable_sparsity == 0.75


def test_a_layer_left_without_any_weight_is_refused_by_name() -> None:
    model = tiny.model("gpt2")
    layer = prunable_layers(model)[2]
    layer.weight.mul_(1e-6)
    with pytest.raises(Refused, match=r"l1 global at sparsity 0.5 leaves no weight at all in transformer\.h\.0\.mlp"):
        prune(model, Recipe("l1", 0.5, scope="global"))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("l2", 0.5), "unknown method 'l2'.*Known: none, l1, random"),
        (Recipe("l1", 0.5, scope="globl"), "unknown scope 'globl'; did you mean 'global'"),
        (Recipe("l1", 0.5, pattern="3:4"), "unknown pattern '3:4'"),
    ],
    ids=ids,
)
def test_unknown_names_are_refused_with_the_known_ones(recipe: Recipe, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        prune(tiny.model("bert"), recipe)


def test_the_control_removes_nothing_and_has_no_score() -> None:
    with pytest.raises(Refused, match=r"cannot reach sparsity 0\.5"):
        prune(tiny.model("bert"), Recipe("none", 0.5))
    with pytest.raises(Refused, match="no score by which layers could compete"):
        prune(tiny.model("bert"), Recipe("none", 0.0, scope="global"))


def test_a_weight_that_is_not_finite_is_refused() -> None:
    model = tiny.model("bert")
    prunable_layers(model)[0].weight[0, 0] = float("nan")
    with pytest.raises(Exception, match="NaN or infinite"):
        prune(model, Recipe("l1", 0.5))


def test_pruning_a_copy_leaves_the_copied_alone() -> None:
    model = tiny.model("bart")
    before = tiny.state(model)
    prune(copy.deepcopy(model), Recipe("l1", 0.9))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
