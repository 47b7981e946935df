"""Pruning whole models: the laws of every method, pattern and scope, what is left alone, and what is refused."""

from __future__ import annotations

import copy
import functools
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import transformers
from torch.nn.utils import prune as torch_prune

from sparsity import bypass
from sparsity import pattern as patterns
from sparsity.allocation import erk
from sparsity.calibration import INPUT_NORMS, LayerStatistics
from sparsity.errors import BadValue, Refused, UnknownName
from sparsity.groups import GroupSet, Slices, WholeBlocks, groups_of
from sparsity.mask import pruned_count
from sparsity.methods import METHODS
from sparsity.methods.scored import Scored
from sparsity.models.architecture import blocks_of, prunable_layers
from sparsity.prune import SCOPES, PrunedModel, Recipe, needs, prune, refusal, workspace
from sparsity.tasks.batching import Batch
from tests import tiny

ELEMENTS = ("unstructured", "2:4", "5:8", "4x1")
GROUPS = ("neurons", "heads", "neurons+heads", "layers")
PRUNING = tuple(method for method in METHODS if method != "none")
MENDING = ("sparsegpt", "ziplm")
"""Methods that change weights they keep."""
SHARE = 0.4
"""Of every size here a fraction that must be rounded."""
LIVELY = 16.0
"""By how much weights are raised, so that inputs and gradients are of one order and no layer is emptied by chance."""
HALVES = (torch.float16, torch.bfloat16)

families = pytest.mark.parametrize("family", tiny.FAMILIES)
described = pytest.mark.parametrize("family", tiny.DESCRIBED)
methods = pytest.mark.parametrize("method", PRUNING)


def lively(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    model = tiny.model(family, dtype, **changes)
    for layer in prunable_layers(model):
        layer.weight.mul_(LIVELY)
    return model


def recipe(method: str, pattern: str = "unstructured", scope: str = "", share: float = SHARE) -> Recipe:
    fixed = patterns.parse(pattern).fixed
    return Recipe(method, share if fixed is None else fixed, pattern, scope, seed=3)


def allowed(method: str, among: Sequence[str] = ELEMENTS + GROUPS, scopes: Sequence[str] = SCOPES) -> list[Recipe]:
    pairs = [(pattern, scope) for pattern in among for scope in scopes]
    return [recipe(method, *pair) for pair in pairs if refusal(method, *pair) is None]


@dataclass(frozen=True)
class Cell:
    """A pruned model, which nobody may change, and the state that it had before."""

    pruned: PrunedModel
    before: dict[str, torch.Tensor]


@functools.cache
def cell(family: str, wanted: Recipe, dtype: torch.dtype = torch.float32) -> Cell:
    model = lively(family, dtype)
    before = tiny.state(model)
    return Cell(prune(model, wanted, None, tiny.batches(model)), before)


def units(mask: torch.Tensor, pattern: str) -> torch.Tensor:
    """Which units a mask keeps; those that compete in scope `row` stand along the last dimension."""
    shape, (rows, columns) = patterns.parse(pattern), mask.shape
    if isinstance(shape, patterns.NM):
        return mask.reshape(rows, columns // shape.m, shape.m)
    if isinstance(shape, patterns.Block):
        tiles = mask.reshape(rows // shape.rows, shape.rows, columns // shape.columns, shape.columns)
        assert torch.equal(tiles.amin((1, 3)), tiles.amax((1, 3))), "a tile is cut"
        return tiles.amax((1, 3))
    return mask


def groups_kept(each: GroupSet, masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Which groups stay: those that something reads."""
    if isinstance(each, WholeBlocks):
        return torch.tensor([any(bool(masks[i].any()) for i in layers) for layers in each.layers])
    assert isinstance(each, Slices)
    return masks[each.reader.layer].any(0)[each.reader.index].any(1)


def check_elements(pruned: PrunedModel) -> None:
    """The units of a pattern inside matrices: exactly so many of each row, matrix, or model."""
    wanted = pruned.recipe
    gone = [~units(mask, wanted.pattern) for mask in pruned.masks]
    if wanted.scope == "row":
        for of_layer in gone:
            assert set(of_layer.sum(-1).flatten().tolist()) == {pruned_count(wanted.sparsity, of_layer.shape[-1])}
    elif wanted.scope == "layer":
        assert [int(g.sum()) for g in gone] == [pruned_count(wanted.sparsity, g.numel()) for g in gone]
    else:
        total = sum(g.numel() for g in gone)
        assert sum(int(g.sum()) for g in gone) == pruned_count(wanted.sparsity, total)
    assert pruned.groups == {}


def check_groups(pruned: PrunedModel, kinds: Sequence[str]) -> None:
    """Whole groups and nothing else: exactly so many of each set, or of all sets of a kind."""
    wanted = pruned.recipe
    sets = groups_of(pruned.model, pruned.layers, kinds)
    kept = [groups_kept(each, pruned.masks) for each in sets]
    rebuilt = [torch.ones_like(mask) for mask in pruned.masks]
    for each, stays in zip(sets, kept, strict=True):
        each.write(rebuilt, stays)
    assert all(map(torch.equal, rebuilt, pruned.masks)), "more, or less, than whole groups went"
    assert set(pruned.groups) == set(kinds)
    for kind in kinds:
        of_kind = [
            (int((~stays).sum()), each.count) for each, stays in zip(sets, kept, strict=True) if each.kind == kind
        ]
        gone, total = (sum(numbers) for numbers in zip(*of_kind, strict=True))
        assert pruned.groups[kind] == (gone, total)
        if wanted.scope == "global" and kind != "layers":
            assert gone == pruned_count(wanted.sparsity, total)
        else:
            assert [g for g, _ in of_kind] == [pruned_count(wanted.sparsity, count) for _, count in of_kind]


def check_counts(pruned: PrunedModel) -> None:
    shape = patterns.parse(pruned.recipe.pattern)
    if isinstance(shape, patterns.GroupPattern):
        check_groups(pruned, shape.kinds)
    else:
        check_elements(pruned)
    removed = sum(int((~mask).sum()) for mask in pruned.masks)
    prunable = sum(layer.weight.numel() for layer in pruned.layers)
    assert (pruned.removed, pruned.prunable_parameters) == (removed, prunable)
    assert pruned.counts.prunable_sparsity == removed / prunable


def check_weights(cell: Cell) -> None:
    """Removed weights are +0, everything else is what it was, but what a method has mended."""
    pruned, method = cell.pruned, METHODS[cell.pruned.recipe.method]
    by_name = {f"{layer.name}.weight": (layer, mask) for layer, mask in zip(pruned.layers, pruned.masks, strict=True)}
    readers = set(range(len(pruned.layers)))
    shape = patterns.parse(pruned.recipe.pattern)
    if isinstance(shape, patterns.GroupPattern):
        sets = groups_of(pruned.model, pruned.layers, shape.kinds)
        readers = {each.reader.layer for each in sets if isinstance(each, Slices)}
    mended = {f"{pruned.layers[i].name}.weight" for i in readers} if method.score is None else set()
    for name, now in pruned.model.state_dict().items():
        was = cell.before[name]
        assert now.dtype == was.dtype, name
        if name not in by_name:
            assert torch.equal(now, was), name
            continue
        layer, mask = by_name[name]
        removed = layer.weight[~mask]
        assert not removed.any(), f"{name} holds what was removed"
        assert not torch.signbit(removed).any(), f"{name} holds -0"
        kept, dense = layer.weight[mask], (was.t() if layer.transposed else was)[mask]
        if name in mended:
            assert torch.isfinite(kept).all(), name
        else:
            assert torch.equal(kept, dense), name


def empty_layers(pruned: PrunedModel) -> list[str]:
    return [layer.name for layer, mask in zip(pruned.layers, pruned.masks, strict=True) if not mask.any()]


def same(one: PrunedModel, other: PrunedModel) -> bool:
    """Whether two prunings chose and wrote the same, bit for bit."""
    tensors = other.model.state_dict()
    return (
        all(map(torch.equal, one.masks, other.masks))
        and all(torch.equal(tensor, tensors[name]) for name, tensor in one.model.state_dict().items())
        and bypassed(one) == bypassed(other)
        and (one.groups, one.removed, one.notes) == (other.groups, other.removed, other.notes)
    )


def bypassed(pruned: PrunedModel) -> list[bool]:
    return [bypass.is_bypassed(block.module) for block in blocks_of(pruned.model)]


# The laws, for every method, pattern and scope that go together.


@methods
@families
def test_every_cell_removes_exactly_as_many_units_as_were_asked(family: str, method: str) -> None:
    for wanted in allowed(method):
        check_counts(cell(family, wanted).pruned)


@methods
@families
def test_removed_weights_are_plus_zero_and_all_else_is_bit_equal(family: str, method: str) -> None:
    for wanted in allowed(method):
        check_weights(cell(family, wanted))


@methods
@families
def test_no_layer_is_empty_unless_whole_layers_go(family: str, method: str) -> None:
    for wanted in allowed(method):
        pruned = cell(family, wanted).pruned
        gone = [not any(pruned.masks[i].any() for i in block) for block in layers_by_block(pruned)]
        if wanted.pattern == "layers":
            assert len(empty_layers(pruned)) == sum(
                len(block) for block, went in zip(layers_by_block(pruned), gone, strict=True) if went
            )
            assert any(gone)
        else:
            assert empty_layers(pruned) == []
        assert bypassed(pruned) == gone


def layers_by_block(pruned: PrunedModel) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in blocks_of(pruned.model)]
    for i, layer in enumerate(pruned.layers):
        found[layer.block].append(i)
    return found


@families
def test_a_workspace_pruned_by_all_in_turn_keeps_no_trace_of_the_one_before(family: str) -> None:
    """And choices are those of a fresh model: nothing hangs on when, after what, or by whose chance."""
    dense = lively(family)
    before, space, batches = tiny.state(dense), workspace(dense), tiny.batches(dense)
    some = ("unstructured", "2:4", *GROUPS)
    every = [wanted for method in PRUNING for wanted in allowed(method, some, ("row", "layer", "global"))]
    every += [recipe("l2", "4x1"), recipe("wanda", "4x1"), recipe("wanda", scope="owl"), recipe("taylor", scope="owl")]
    random.Random(1).shuffle(every)
    whole = [recipe(method, "layers") for method in ("l1", "shortgpt")]
    for wanted in [whole[0], *every, whole[1], recipe("sparsegpt"), recipe("taylor", "heads")]:
        assert same(prune(space, wanted, dense, batches), cell(family, wanted).pruned), wanted
        assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items()), wanted
    prune(space, whole[0], dense)
    prune(space, Recipe("none", 0.0), dense)
    assert not any(bypass.is_bypassed(block.module) for block in blocks_of(space))
    with torch.no_grad():
        assert torch.equal(space(**batches[0].inputs).logits, dense(**batches[0].inputs).logits)
    for model in (space, dense):
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


SELECTION = (
    recipe("l1", "layers"),
    recipe("l1", "heads", "global"),
    recipe("l2", "4x1", "global"),
    recipe("random", "unstructured", "erk"),
    recipe("wanda", "2:4"),
    recipe("wanda", "unstructured", "owl"),
    recipe("sparsegpt", "unstructured"),
    recipe("taylor", "2x4", "row"),
    recipe("taylor", "neurons+heads"),
    recipe("ziplm", "neurons"),
    recipe("shortgpt", "layers"),
)
"""Every method, pattern and scope at least once."""


def has_heads(family: str, wanted: Recipe) -> bool:
    return not (family.startswith("t5") and "heads" in wanted.pattern)


@pytest.mark.parametrize("family", [family for family in tiny.DESCRIBED if family not in tiny.FAMILIES])
def test_every_described_family_obeys_the_same_laws(family: str) -> None:
    for wanted in SELECTION:
        if has_heads(family, wanted):
            check_counts(cell(family, wanted).pruned)
            check_weights(cell(family, wanted))
            assert bool(empty_layers(cell(family, wanted).pruned)) == (wanted.pattern == "layers")


@pytest.mark.parametrize("dtype", [*HALVES, torch.float64], ids=str)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_every_precision_obeys_the_same_laws(family: str, dtype: torch.dtype) -> None:
    for wanted in SELECTION:
        check_counts(cell(family, wanted, dtype).pruned)
        check_weights(cell(family, wanted, dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@methods
def test_half_precision_hardly_changes_a_choice(method: str, dtype: torch.dtype) -> None:
    """Scores of tiny gradients or many tokens must not vanish, overflow, or round to ties."""
    for wanted in allowed(method, ("unstructured", "2:4", "neurons", "layers"), scopes=("row", "layer")):
        single, half = cell("bert", wanted).pruned.masks, cell("bert", wanted, dtype).pruned.masks
        differ = sum(int((a ^ b).sum()) for a, b in zip(single, half, strict=True))
        assert differ <= 0.1 * sum(int((~mask).sum()) for mask in single), wanted


@described
def test_ties_are_intact_before_and_after(family: str) -> None:
    def storages(model: Any) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            found.setdefault(parameter.data_ptr(), set()).add(name)
        return found

    model = lively(family)
    before = storages(model)
    assert any(len(names) > 1 for names in before.values()) == bool(model.config.tie_word_embeddings)
    prune(model, recipe("l1", scope="global"))
    assert storages(model) == before
    prune(model, recipe("sparsegpt"), None, tiny.batches(model))
    assert storages(model) == before


# Shapes in detail.


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "5:8", "15:16"])
@methods
def test_n_of_every_m_inputs_stay_also_where_the_storage_is_transposed(method: str, pattern: str) -> None:
    n, m = map(int, pattern.split(":"))
    for family in ("bert", "gpt2") if refusal(method, pattern, "row") is None else ():
        pruned = cell(family, recipe(method, pattern)).pruned
        for layer in pruned.layers:
            stored: Any = layer.module.weight
            weight = stored.T if family == "gpt2" else stored  # Conv1D stores (inputs, outputs)
            runs = [weight[:, start : start + m] for start in range(0, weight.shape[1], m)]
            assert all(bool(((run != 0).sum(1) == n).all()) for run in runs), layer.name


@pytest.mark.parametrize("method", ["l1", "l2", "random", "wanda", "taylor"])
def test_tiles_are_rows_of_outputs_and_columns_of_inputs_also_where_the_storage_is_transposed(method: str) -> None:
    for layer in cell("gpt2", recipe(method, "4x1")).pruned.layers:
        stored: Any = layer.module.weight
        tiles = (stored != 0).reshape(stored.shape[0], -1, 4)  # (inputs, outputs / 4, 4)
        assert torch.equal(tiles.all(2), tiles.any(2)), layer.name
        across = (stored != 0).reshape(-1, 4, stored.shape[1])
        assert not torch.equal(across.all(1), across.any(1)), layer.name


def worth(weight: torch.Tensor, pattern: str) -> torch.Tensor:
    """The sum of magnitudes of each unit, of the shape of `units`."""
    shape, value = patterns.parse(pattern), weight.abs()
    if isinstance(shape, patterns.NM):
        return value.reshape(len(value), -1, shape.m)
    if isinstance(shape, patterns.Block):
        beside = torch.stack([value[:, i :: shape.columns] for i in range(shape.columns)]).sum(0)
        return torch.stack([beside[i :: shape.rows] for i in range(shape.rows)]).sum(0)
    return value


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "5:8", "4x1", "2x4"])
@families
def test_what_stays_is_worth_no_less_than_what_goes_wherever_the_two_compete(family: str, pattern: str) -> None:
    sources = prunable_layers(lively(family))
    for wanted in allowed("l1", [pattern], SCOPES[:3]):
        lowest, highest = [], []
        for source, mask in zip(sources, cell(family, wanted).pruned.masks, strict=True):
            value, stays = worth(source.weight, pattern), units(mask, pattern)
            lowest.append(value.masked_fill(~stays, torch.inf).amin(-1).flatten())
            highest.append(value.masked_fill(stays, -torch.inf).amax(-1).flatten())
        if wanted.scope == "row":
            assert all(bool((low >= high).all()) for low, high in zip(lowest, highest, strict=True))
        elif wanted.scope == "layer":
            assert all(bool(low.min() >= high.max()) for low, high in zip(lowest, highest, strict=True))
        else:
            assert torch.cat(lowest).min() >= torch.cat(highest).max()


@pytest.mark.parametrize("pattern", ["unstructured", "4x1"])
@families
def test_scope_erk_gives_each_layer_its_share(family: str, pattern: str) -> None:
    pruned = cell(family, recipe("l1", pattern, "erk")).pruned
    kept = [units(mask, pattern) for mask in pruned.masks]
    densities = erk([(mask.shape[0], mask.shape[1]) for mask in pruned.masks], SHARE)
    assert len(set(densities)) > 1
    for of_layer, density in zip(kept, densities, strict=True):
        assert abs(int(of_layer.sum()) - density * of_layer.numel()) <= 1


def test_scope_owl_keeps_more_where_outliers_are_whatever_the_method() -> None:
    for method in ("l1", "random", "wanda", "sparsegpt", "taylor"):
        model = lively("llama")
        with_outliers = [layer for layer in prunable_layers(model) if layer.block == 2]
        for layer in with_outliers:
            layer.weight[::7, ::5] *= 30
        pruned = prune(model, recipe(method, scope="owl"), None, tiny.batches(model))
        density = [
            sum(int(pruned.masks[i].sum()) for i in block) / sum(pruned.masks[i].numel() for i in block)
            for block in layers_by_block(pruned)
        ]
        assert max(range(4), key=density.__getitem__) == 2, method
        assert density[2] - min(density) == pytest.approx(0.16, abs=0.02), method


@pytest.mark.parametrize("method", ["l1", "taylor", "ziplm", "wanda"])
@families
def test_multiple_rounds_the_width_of_what_stays_up(family: str, method: str) -> None:
    model = lively(family)
    batches = tiny.batches(model)
    wanted = recipe(method, "neurons+heads")
    plain, rounded = cell(family, wanted).pruned, prune(model, replace(wanted, multiple=8), None, batches)
    for each in groups_of(model, rounded.layers, ("neurons", "heads")):
        stays, fewer = groups_kept(each, rounded.masks), groups_kept(each, plain.masks)
        assert int(stays.sum()) == {"neurons": 24, "heads": 2}[each.kind]  # 19 of 32, and 2 of 4 without it
        if method != "ziplm" or "layer.0" in each.name or "h.0" in each.name:  # whose later blocks see other inputs
            assert not (fewer & ~stays).any()
    assert rounded.groups["neurons"] == (8 * plain.groups["neurons"][1] // 32, plain.groups["neurons"][1])
    assert rounded.removed < plain.removed


def test_multiple_rounds_each_block_up_where_all_compete() -> None:
    model = lively("bart")
    pruned = prune(model, replace(recipe("random", "neurons", "global"), multiple=8))
    widths = [int(groups_kept(each, pruned.masks).sum()) for each in groups_of(model, pruned.layers, ("neurons",))]
    exact = cell("bart", recipe("random", "neurons", "global")).pruned
    unrounded = [
        int(groups_kept(each, exact.masks).sum()) for each in groups_of(exact.model, exact.layers, ("neurons",))
    ]
    assert widths == [-(-width // 8) * 8 for width in unrounded]
    for method in ("random", "ziplm"):
        model = lively("bart")
        with pytest.raises(Refused, match=r"rounded up to a multiple of 50, all of .* neurons stay"):
            prune(model, replace(recipe(method, "neurons"), multiple=50), None, tiny.batches(model))


# The order of choices.


@pytest.mark.parametrize("method", ["l1", "l2"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_magnitude_finds_its_own_zeros_again(family: str, method: str) -> None:
    for wanted in allowed(method):
        if wanted.scope != "owl":  # whose shares hang on inputs, which change
            once = cell(family, wanted).pruned
            assert same(prune(copy.deepcopy(once.model), wanted), once), wanted


@pytest.mark.parametrize("method", [method for method in PRUNING if method != "taylor"])
@families
def test_n_of_m_finds_its_own_zeros_again(family: str, method: str) -> None:
    """But not taylor's: behind a weight whose readers are all pruned there is no gradient, so zero ties with zero."""
    for wanted in allowed(method, ("2:4", "5:8")):
        once = cell(family, wanted).pruned
        again = prune(copy.deepcopy(once.model), wanted, None, tiny.batches(once.model))
        assert same(again, once), wanted


@pytest.mark.parametrize("method", ["l1", "l2", "random", "wanda", "taylor"])
def test_more_sparsity_never_keeps_what_less_removed(method: str) -> None:
    dense = lively("gpt2")
    space, batches = workspace(dense), tiny.batches(dense)
    for wanted in allowed(method, ("unstructured", "4x1", "neurons+heads"), SCOPES[:3]):
        behind = METHODS[method].sequential and wanted.scope != "global" and wanted.pattern not in GROUPS
        masks = [prune(space, replace(wanted, sparsity=share), dense, batches).masks for share in (0.0, 0.2, 0.4)]
        for before, after in itertools.pairwise(masks):
            for layer, more, less in zip(prunable_layers(dense), before, after, strict=True):
                if not behind or layer.block == 0:  # later blocks see inputs that hang on the sparsity
                    assert not (less & ~more).any(), (wanted, layer.name)
        assert not all(map(torch.equal, masks[1], masks[2]))


@pytest.mark.parametrize("method", ["l1", "l2", "random", "taylor", "shortgpt"])
def test_more_sparsity_never_brings_a_layer_back(method: str) -> None:
    model = lively("llama")
    dense = copy.deepcopy(model)
    gone: set[int] = set()
    for count in (1, 2, 3):
        pruned = prune(model, Recipe(method, count / 4, "layers"), dense, tiny.batches(dense))
        now = {i for i, went in enumerate(bypassed(pruned)) if went}
        assert gone < now
        assert len(now) == count
        gone = now


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
@pytest.mark.parametrize(
    ("family", "first_reads"), [("bert", "query"), ("gpt2", "c_attn"), ("bart", "self_attn.q_proj")]
)
def test_sequential_methods_see_what_pruned_blocks_give(family: str, first_reads: str, method: str) -> None:
    """The choice in the matrix that reads a block's input is that of the inputs in the finished model."""
    dense = lively(family, torch.float64)
    space, batches = workspace(dense), tiny.batches(dense)
    pruned = prune(space, recipe(method, scope="layer"), dense, batches)
    norms: dict[str, torch.Tensor] = {}
    handles = []
    for layer in pruned.layers:

        def see(_: Any, args: Any, name: str = layer.name) -> None:
            real = mask_of[0].bool()
            norms[name] = norms.get(name, torch.zeros(())) + args[0][real].T @ args[0][real]

        if layer.name.endswith(first_reads):
            handles.append(layer.module.register_forward_pre_hook(see))
    mask_of: list[torch.Tensor] = []
    for batch in batches:
        mask_of[:] = [batch.inputs["attention_mask"]]
        with torch.no_grad():
            space(**batch.inputs)
    sources = {layer.name: layer.weight for layer in prunable_layers(dense)}
    assert len(norms) == len(handles) == len(blocks_of(dense))
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        if layer.name in norms:
            hessian, weight = norms[layer.name], sources[layer.name]
            if method == "wanda":
                expected = weight.abs() * hessian.diagonal().sqrt()
            else:
                damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
                expected = weight.square() / torch.linalg.cholesky(damped.inverse(), upper=True).diagonal().square()
            limit = expected.flatten().sort().values[pruned_count(SHARE, weight.numel()) - 1]
            assert torch.equal(mask, expected > limit), layer.name


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
@families
def test_layer_masks_are_those_of_torch(family: str, sparsity: float) -> None:
    ours = prune(tiny.model(family), Recipe("l1", sparsity))
    for layer, mask in zip(prunable_layers(tiny.model(family)), ours.masks, strict=True):
        torch_prune.l1_unstructured(layer.module, "weight", amount=sparsity)
        stored: Any = layer.module.weight_mask
        assert torch.equal((stored.t() if layer.transposed else stored).bool(), mask), layer.name


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
@families
def test_global_masks_are_those_of_torch(family: str, sparsity: float) -> None:
    ours = prune(tiny.model(family), Recipe("l1", sparsity, scope="global"))
    layers = prunable_layers(tiny.model(family))
    parameters = [(layer.module, "weight") for layer in layers]
    torch_prune.global_unstructured(parameters, torch_prune.L1Unstructured, amount=sparsity)
    for layer, mask in zip(layers, ours.masks, strict=True):
        stored: Any = layer.module.weight_mask
        assert torch.equal((stored.t() if layer.transposed else stored).bool(), mask), layer.name


# Chance, and what a run leaves alone.


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4x1"])
@families
def test_random_masks_differ_by_seed_and_by_layer(family: str, pattern: str) -> None:
    one = cell(family, recipe("random", pattern)).pruned.masks
    two = prune(lively(family), replace(recipe("random", pattern), seed=4)).masks
    assert not any(map(torch.equal, one, two))
    twins = [mask for mask in one[1:] if mask.shape == one[0].shape]
    assert twins
    assert not any(torch.equal(one[0], twin) for twin in twins)


@methods
def test_the_seed_is_only_heard_by_those_who_say_so(method: str) -> None:
    wanted, model = allowed(method)[0], lively("bert")
    other = prune(model, replace(wanted, seed=4), None, tiny.batches(model))
    assert same(other, cell("bert", wanted).pruned) != METHODS[method].stochastic


def test_the_callers_chance_is_neither_used_nor_moved() -> None:
    for wanted in SELECTION:
        model = lively("bert")
        batches = tiny.batches(model)
        torch.manual_seed(99)
        state = torch.get_rng_state()
        pruned = prune(model, wanted, None, batches)
        assert torch.equal(torch.get_rng_state(), state), wanted
        assert same(pruned, cell("bert", wanted).pruned), wanted


@families
def test_a_workspace_shares_all_but_the_prunable_weights(family: str) -> None:
    dense = tiny.model(family)
    space = workspace(dense)
    prunable = {f"{layer.name}.weight" for layer in prunable_layers(dense)}
    theirs = dict(space.named_parameters())
    for name, parameter in dense.named_parameters():
        assert (theirs[name].data_ptr() == parameter.data_ptr()) == (name not in prunable), name


def test_pruning_a_copy_leaves_the_copied_alone() -> None:
    model = tiny.model("bart")
    before = tiny.state(model)
    prune(copy.deepcopy(model), Recipe("l1", 0.9))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_sparsity_is_told_with_both_denominators_and_ties_count_once() -> None:
    model = tiny.model("gpt2")
    pruned = prune(model, Recipe("l1", 0.5))
    unique = {p.data_ptr(): p.numel() for p in model.parameters()}
    assert pruned.total_parameters == sum(unique.values())
    assert pruned.counts.total_sparsity == pruned.removed / sum(unique.values())
    assert pruned.counts.total_sparsity < pruned.counts.prunable_sparsity


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", *GROUPS])
@methods
def test_sparsity_zero_removes_nothing(method: str, pattern: str) -> None:
    for wanted in allowed(method, [pattern])[:1]:
        model = lively("bert")
        pruned = prune(model, replace(wanted, sparsity=0.0), None, tiny.batches(model))
        assert pruned.removed == 0
        assert all(bool(mask.all()) for mask in pruned.masks)
        assert not any(bypassed(pruned))
        assert all(gone == 0 for gone, _ in pruned.groups.values())
        dense = prunable_layers(lively("bert"))
        assert all(torch.equal(a.weight, b.weight) for a, b in zip(pruned.layers, dense, strict=True))


# Notes.


def few_tokens(model: Any) -> list[Batch]:
    """Fewer than the narrowest matrix has inputs."""
    whole = tiny.batches(model)[0]
    return [Batch({name: tensor[1:2] for name, tensor in whole.inputs.items()}, whole.labels[1:2], [0])]


@pytest.mark.parametrize(
    ("method", "pattern"), [("sparsegpt", "unstructured"), ("sparsegpt", "2:4"), ("ziplm", "neurons")]
)
def test_a_singular_hessian_is_noted_with_how_many_layers_have_one(method: str, pattern: str) -> None:
    model = lively("bert")
    pruned = prune(model, recipe(method, pattern), None, few_tokens(model))
    told = [note for note in pruned.notes if note.startswith("singular Hessian")]
    wide = [note for note in told if "9 tokens for 32 inputs" in note]
    assert [note.endswith("(2 layers)") for note in wide] == [True]
    assert sum(int(note.rpartition("(")[2].split()[0]) for note in told) == (2 if method == "ziplm" else 12)
    assert pruned.counts.notes == list(pruned.notes)


@pytest.mark.parametrize("method", [method for method in PRUNING if method not in MENDING])
def test_methods_without_a_hessian_have_no_note(method: str) -> None:
    model = lively("bert")
    pruned = prune(model, allowed(method)[0], None, few_tokens(model))
    assert not [note for note in pruned.notes if "Hessian" in note]
    exact = prune(model, Recipe("l1", 0.5, "neurons"), tiny.model("bert"))
    assert exact.notes == ()
    assert exact.counts.notes is None


def test_a_share_of_groups_that_is_not_what_was_asked_is_noted() -> None:
    pruned = prune(tiny.model("bert"), Recipe("l1", 0.3, "heads"))  # four heads an attention
    assert pruned.notes == ("of 8 heads 2 go, which is 0.25 and not 0.3",)


# What must not pass for a pruning.


@pytest.mark.parametrize("method", [method for method in PRUNING if METHODS[method].needs])
def test_batches_that_hold_nothing_are_refused(method: str) -> None:
    model = tiny.model("bert")
    blank = []
    for batch in tiny.batches(model):
        inputs = batch.inputs | {"attention_mask": torch.zeros_like(batch.inputs["attention_mask"])}
        blank.append(Batch(inputs, torch.full_like(batch.labels, -100), batch.documents))
    with pytest.raises(Refused, match=r"hold no (text|label)"):
        prune(model, allowed(method)[0], None, blank)


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "taylor", "ziplm", "shortgpt"])
def test_calibration_is_no_matter_of_chance_in_a_model_that_trains(method: str) -> None:
    wanted, masks = allowed(method)[0], []
    for training in (False, True):
        model = lively("bert").train(training)
        masks.append(prune(model, wanted, None, tiny.batches(model)).masks)
        assert model.training == training
    assert all(map(torch.equal, *masks))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_refused_choice_leaves_the_model_as_it_was(scope: str) -> None:
    model = tiny.model("gpt2")
    before = tiny.state(model)
    with pytest.raises(Refused, match="leaves no weight at all"):
        prune(model, Recipe("l1", 0.9999, scope=scope))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_that_lost_layers_is_not_pruned_in_place_again() -> None:
    model = tiny.model("bert")
    prune(model, Recipe("l1", 0.5, "layers"))
    with pytest.raises(Refused, match="was removed from this model already; prune from the dense one"):
        prune(model, Recipe("l1", 0.5))


def test_weights_come_from_a_model_of_the_same_layers() -> None:
    for other in (tiny.model("gpt2"), tiny.model("bert", torch.bfloat16)):
        with pytest.raises(BadValue, match="dense is another model"):
            prune(tiny.model("bert"), Recipe("l1", 0.5), other)


def test_what_a_tokenizer_gives_will_do_for_calibration() -> None:
    model = lively("bert")
    given = [dict(batch.inputs) for batch in tiny.batches(model)]
    wanted = Recipe("sparsegpt", 0.5)
    plain, whole = (prune(lively("bert"), wanted, None, each).masks for each in (given, tiny.batches(model)))
    assert all(map(torch.equal, plain, whole))
    alone = [{"input_ids": batch["input_ids"]} for batch in given]
    assert prune(model, wanted, None, alone).removed == sum(mask.numel() for mask in plain) // 2
    with pytest.raises(Refused, match="taylor needs labels"):
        prune(model, Recipe("taylor", 0.5), None, given)
    with pytest.raises(BadValue, match="a calibration batch is a mapping"):
        prune(model, wanted, None, ["text"])  # type: ignore[list-item]  # what is refused


def test_layers_whose_attention_is_scaled_by_their_number_stay() -> None:
    with pytest.raises(Refused, match="scaled by the number of each block"):
        prune(tiny.model("gpt2", scale_attn_by_inverse_layer_idx=True), Recipe("l1", 0.5, "layers"))


# Refusals.


def test_refusal_says_for_every_combination_why_not_and_prune_says_the_same() -> None:
    model = tiny.model("bert")
    before, batches = tiny.state(model), tiny.batches(model)
    refused = 0
    for method in METHODS:
        for pattern in patterns.EXAMPLES:
            for scope in SCOPES:
                reason = refusal(method, pattern, scope)
                if reason is None:
                    continue
                refused += 1
                assert reason.isprintable()
                assert len(reason.split()) > 4
                assert reason[0].islower()
                assert not reason.endswith(".")
                with pytest.raises(Refused) as caught:
                    prune(model, recipe(method, pattern, scope), None, batches)
                assert str(caught.value) == reason
    assert 0 < refused < len(METHODS) * len(patterns.EXAMPLES) * len(SCOPES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_every_pattern_can_be_pruned_by_some_method_and_every_method_has_a_pattern() -> None:
    for pattern in patterns.EXAMPLES:
        assert any(refusal(method, pattern, patterns.parse(pattern).scopes[0]) is None for method in METHODS), pattern
    for method in PRUNING:
        assert allowed(method), method


@pytest.mark.parametrize(
    ("method", "pattern", "scope", "message"),
    [
        ("l1", "2:4", "global", "pattern 2:4 has no scope global, but row"),
        ("l1", "layers", "layer", "pattern layers has no scope layer, but global"),
        ("l1", "neurons", "erk", "pattern neurons has no scope erk, but layer, global"),
        ("none", "2:4", "row", "method none removes nothing"),
        ("l2", "unstructured", "layer", "l2 orders the single weights of unstructured as l1 does; use l1"),
        ("l2", "2:4", "row", "l2 orders the single weights of 2:4 as l1 does; use l1"),
        ("wanda", "layers", "global", "use shortgpt"),
        ("shortgpt", "neurons", "layer", "shortgpt scores whole layers, and nothing smaller"),
        ("sparsegpt", "4x1", "layer", "sparsegpt sweeps single columns, so it has no 4x1"),
        ("sparsegpt", "unstructured", "global", "layers cannot compete"),
        ("sparsegpt", "unstructured", "row", "use scope layer"),
        ("ziplm", "unstructured", "layer", "ziplm removes neurons and heads, and nothing else"),
        ("ziplm", "heads", "global", "layers cannot compete; use scope layer"),
    ],
)
def test_what_cannot_go_together_says_why(method: str, pattern: str, scope: str, message: str) -> None:
    assert message in str(refusal(method, pattern, scope))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "randm"}, "unknown method 'randm'; did you mean 'random'.*Known: none, l1, l2, random, wanda"),
        ({"scope": "globl"}, "unknown scope 'globl'; did you mean 'global'"),
        ({"pattern": "blobs"}, "unknown pattern 'blobs'.*Known: unstructured, 2:4"),
    ],
    ids=["method", "scope", "pattern"],
)
def test_unknown_names_are_refused_with_the_known_ones(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        prune(tiny.model("bert"), replace(Recipe("l1", 0.5), **changes))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5])
@pytest.mark.parametrize("pattern", ["unstructured", "neurons"])
def test_a_sparsity_that_is_no_fraction_is_refused(pattern: str, sparsity: float) -> None:
    with pytest.raises(BadValue, match="is outside"):
        prune(tiny.model("bert"), Recipe("l1", sparsity, pattern))


@pytest.mark.parametrize("method", [method for method in PRUNING if refusal(method, "2:4", "row") is None])
def test_a_pattern_that_fixes_the_sparsity_refuses_another(method: str) -> None:
    model = tiny.model("bert")
    before = tiny.state(model)
    with pytest.raises(Refused, match=r"pattern 2:4 removes 0\.5 of the weights, not 0\.3"):
        prune(model, Recipe(method, 0.3, "2:4"), None, tiny.batches(model))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_control_removes_nothing() -> None:
    pruned = prune(tiny.model("bert"), Recipe("none", 0.0))
    assert (pruned.removed, pruned.notes, pruned.groups) == (0, (), {})
    with pytest.raises(Refused, match="method none removes nothing, so it cannot remove"):
        prune(tiny.model("bert"), Recipe("none", 0.5))


@pytest.mark.parametrize(
    ("family", "changes", "pattern", "message"),
    [
        (
            "bert",
            {"intermediate_size": 30},
            "2:4",
            r"layer\.0\.output\.dense cannot.* 2:4: its 30 inputs are no multiple of 4",
        ),
        ("gpt2", {"n_inner": 30}, "2:4", r"h\.0\.mlp\.c_proj cannot be pruned 2:4: its 30 inputs are no multiple of 4"),
        ("gpt2", {"n_inner": 30}, "4x1", r"h\.0\.mlp\.c_fc cannot be pruned 4x1: its 30x16 weights cannot be cut into"),
        ("bart", {"decoder_ffn_dim": 30}, "1x4", r"decoder\.layers\.0\.fc2 cannot be pruned 1x4: its 16x30 weights"),
    ],
)
@pytest.mark.parametrize("method", ["l1", "wanda"])
def test_a_matrix_that_does_not_fit_is_refused_by_name_before_anything_is_pruned(
    family: str, changes: dict[str, Any], pattern: str, message: str, method: str
) -> None:
    model = tiny.model(family, **changes)
    before = tiny.state(model)
    with pytest.raises(Refused, match=message):
        prune(model, recipe(method, pattern), None, tiny.batches(model))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@methods
def test_missing_calibration_is_refused_and_only_where_it_is_needed(method: str) -> None:
    for wanted in allowed(method):
        statistics = needs(wanted)
        assert statistics == METHODS[method].needs | ({INPUT_NORMS} if wanted.scope == "owl" else set())
        if not statistics:
            prune(lively("gpt2"), wanted)
            continue
        who = f"method {method}" if METHODS[method].needs else "scope owl"
        with pytest.raises(Refused, match=rf"{who} needs calibration batches \(.*\), and none were given") as caught:
            prune(lively("gpt2"), wanted)
        assert all(name in str(caught.value) for name in statistics)


@pytest.mark.parametrize("method", ["l1", "taylor", "ziplm", "shortgpt"])
@pytest.mark.parametrize(
    ("pattern", "sparsity", "message"),
    [
        ("heads", 0.1, r"of the 4 heads of .*layer\.0\.attention\.self none goes at sparsity 0\.1; a step is 1/4"),
        ("neurons", 0.01, r"of the 32 neurons of .*layer\.0, feed-forward none goes at sparsity 0\.01; a step is 1/32"),
        ("layers", 0.2, r"of the 2 layers of encoder\.layer none goes at sparsity 0\.2; a step is 1/2"),
        ("heads", 0.9, r"leaves none of the 4 heads of .*layer\.0\.attention\.self; a lower sparsity keeps some"),
        ("neurons", 0.99, r"leaves none of the 32 neurons of .*layer\.0, feed-forward; a lower sparsity keeps some"),
        ("layers", 0.8, r"leaves none of the 2 layers of encoder\.layer; a lower sparsity keeps some"),
    ],
)
def test_a_sparsity_at_which_no_group_goes_or_none_stays_is_refused(
    method: str, pattern: str, sparsity: float, message: str
) -> None:
    for wanted in allowed(method, [pattern], ("layer",) if pattern != "layers" else ("global",)):
        model = lively("bert")
        with pytest.raises(Refused, match=message):
            prune(model, replace(wanted, sparsity=sparsity), None, tiny.batches(model))


@pytest.mark.parametrize(
    ("pattern", "scope", "sparsity", "message"),
    [
        ("unstructured", "layer", 0.999, r"leaves no weight at all in bert\..*query and 7 more layers; a lower"),
        ("unstructured", "row", 0.99, r"leaves no weight at all in bert\..*query and 11 more layers; a lower"),
        ("4x1", "layer", 0.995, r"leaves no weight at all in bert\..*query and 7 more layers; a lower"),
        ("unstructured", "erk", 0.998, r"sparsity 0\.998 keeps 8 of 4096 units for 12 layers, not one each"),
        ("unstructured", "owl", 0.998, r"sparsity 0\.998 keeps 8 of 4096 units for 12 layers, not one each"),
    ],
)
def test_a_sparsity_at_which_no_weight_of_a_layer_stays_is_refused(
    pattern: str, scope: str, sparsity: float, message: str
) -> None:
    for method in ("l1", "random", "wanda"):
        model = lively("bert")
        with pytest.raises(Refused, match=message):
            prune(model, Recipe(method, sparsity, pattern, scope), None, tiny.batches(model))


def test_a_layer_left_without_any_weight_is_refused_by_name() -> None:
    model = tiny.model("gpt2")
    layer = prunable_layers(model)[2]
    layer.weight.mul_(1e-6)
    with pytest.raises(Refused, match=r"l1 global at sparsity 0.5 leaves no weight at all in transformer\.h\.0\.mlp"):
        prune(model, Recipe("l1", 0.5, scope="global"))


def test_a_set_left_without_any_group_is_refused_by_name() -> None:
    model = lively("gpt2")
    prunable_layers(model)[1].weight.mul_(1e-6)
    prunable_layers(model)[0].weight.mul_(1e-6)
    with pytest.raises(
        Refused, match=r"heads global at sparsity 0.5 leaves none of the 4 heads of transformer\.h\.0\.attn"
    ):
        prune(model, Recipe("l1", 0.5, "heads", "global"))


@pytest.mark.parametrize("method", ["l1", "l2", "wanda", "sparsegpt", "taylor", "ziplm"])
def test_a_weight_that_is_not_finite_is_refused(method: str) -> None:
    wanted = allowed(method)[0]
    model = lively("bert")
    prunable_layers(model)[0].weight[0, 0] = float("nan")
    with pytest.raises(BadValue, match="NaN"):
        prune(model, wanted, None, tiny.batches(model))


@pytest.mark.parametrize("family", ["t5", "t5-gated"])
@pytest.mark.parametrize("method", ["l1", "ziplm"])
def test_heads_that_share_a_table_of_positions_are_refused_by_name(family: str, method: str) -> None:
    model = tiny.model(family)
    for pattern in ("heads", "neurons+heads"):
        with pytest.raises(Refused, match=r"no head of encoder\.block\.0\.layer\.0\.SelfAttention can be removed"):
            prune(model, recipe(method, pattern), None, tiny.batches(model))


@pytest.mark.parametrize("pattern", GROUPS)
def test_groups_of_a_family_that_is_not_described_are_refused_and_single_weights_are_not(pattern: str) -> None:
    config = transformers.GPTNeoXConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = transformers.GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    with pytest.raises(Refused, match=r"where gpt_neox models keep their heads and neurons is not described"):
        prune(model, recipe("l1", pattern))
    for wanted in (recipe("l1"), recipe("wanda", "2:4"), recipe("sparsegpt"), recipe("taylor", "4x1")):
        check_counts(prune(model, wanted, None, tiny.batches(model)))


def test_an_encoder_decoder_that_is_not_described_is_refused_where_inputs_are_looked_at() -> None:
    config = transformers.PegasusConfig(
        vocab_size=tiny.VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = transformers.PegasusForConditionalGeneration(config).eval().requires_grad_(False)
    with pytest.raises(Refused, match="l1, l2 and random can"):
        prune(model, recipe("wanda"), None, tiny.batches(model))
    for wanted in (recipe("l1"), recipe("l2", "4x1"), recipe("random")):
        check_counts(prune(model, wanted))


def test_a_stack_of_one_block_keeps_it() -> None:
    with pytest.raises(Refused, match=r"encoder\.layer has one block, so none can be removed"):
        prune(tiny.model("bert", num_hidden_layers=1), Recipe("l1", 0.5, "layers"))


# A method of one's own.


@pytest.mark.parametrize("kind", ["weights alone", "inputs", "inputs behind pruned blocks"])
def test_a_new_method_is_a_score_and_a_name(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here those that keep the smallest weights, of every pattern and scope."""
    needed = frozenset() if kind == "weights alone" else frozenset({INPUT_NORMS})

    def score(weight: torch.Tensor, statistics: LayerStatistics) -> torch.Tensor:
        return -weight.abs() * (statistics.input_norms if needed else 1)

    monkeypatch.setitem(METHODS, "smallest", Scored(score, needed, sequential=kind.endswith("blocks")))
    every = allowed("smallest")
    assert len(every) == sum(len(patterns.parse(pattern).scopes) for pattern in ELEMENTS + GROUPS)
    for wanted in every:
        model = lively("gpt2")
        before = tiny.state(model)
        pruned = prune(model, wanted, None, tiny.batches(model))
        check_counts(pruned)
        check_weights(Cell(pruned, before))
    if needed:
        return
    largest = prune(lively("gpt2"), recipe("smallest"))
    for layer, mask in zip(prunable_layers(lively("gpt2")), largest.masks, strict=True):
        assert layer.weight[~mask].abs().min() >= layer.weight[mask].abs().max()
