"""Steps of a composition on one model: what they are called, what is refused, and what each format makes of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from sparsity import answers, composition, recovery, workload
from sparsity.composition import Step
from sparsity.errors import BadValue, Refused, UnknownName
from sparsity.execution import CLOSE, relative_error
from sparsity.kernel.layers import PackedLinear
from sparsity.prune import PrunedModel, Recipe, prune
from sparsity.record import Cell
from sparsity.sparse_storage import KEY
from tests import tiny
from tests.models.tiny import refusal

GROUPS, SINGLE = Recipe("l2", 0.5, "neurons+heads"), Recipe("l1", 0.8)
STEPS = (Step("compact", GROUPS), Step("packed", SINGLE), Step("bf16"))
BY_FAMILY = pytest.mark.parametrize("family", tiny.FAMILIES)


def arrived(family: str, steps: Sequence[Step], dtype: torch.dtype = torch.float32) -> PrunedModel:
    """What the steps leave of a tiny model, without a recovery."""
    model = tiny.model(family, dtype)
    found = [prune(copy.deepcopy(model), each.recipe) for each in steps[:1] if each.recipe]
    for each in steps[1:]:
        if each.recipe:
            found.append(prune(copy.deepcopy(found[-1].model), each.recipe))
            composition.check_still_gone(found[-2], found[-1])
    return found[-1]


def outputs(model: Any) -> torch.Tensor:
    return workload.call(workload.parse("2x7"), model)()


def packed(model: Any) -> list[PackedLinear]:
    return [module for module in model.modules() if isinstance(module, PackedLinear)]


def widths(model: Any) -> list[tuple[int, int]]:
    return [(layer.out_features, layer.in_features) for layer in packed(model)]


# -- what a step is called --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step("compact", Recipe("ziplm", 0.5, "neurons+heads")), "ziplm 0.5 neurons+heads"),
        (Step("packed", Recipe("l1", 0.9), recovery.parse("distill:100")), "l1 0.9 unstructured distill:100"),
        (Step("csr", Recipe("l1", 0.75, scope="global"), recovery.parse("none")), "l1 0.75 unstructured global"),
        (Step("bf16"), "bf16"),
    ],
)
def test_a_step_says_what_is_pruned_and_how_it_is_recovered_or_its_format(step: Step, expected: str) -> None:
    assert str(step) == expected


def test_the_steps_are_said_as_reports_look_for_them() -> None:
    after = recovery.parse("finetune:9")
    steps = (Step("compact", GROUPS, after), Step("packed", SINGLE, after))
    first = Cell("bert", "l2", "neurons+heads", "layer", 0.5, "compact", "finetune:9")
    second = Cell("bert", "l1", "unstructured", "layer", 0.8, "packed", "finetune:9", after=composition.said(steps[:1]))
    assert answers.so_far(first) == second.after
    assert answers.so_far(second) == composition.said(steps)


# -- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "kind", "message"),
    [
        ((), BadValue, "a composition begins with a step that prunes"),
        ((Step("bf16"),), BadValue, "a composition begins with a step that prunes, not with bf16"),
        ((Step("bf16"), Step("packed", SINGLE)), BadValue, "begins with a step that prunes, not with bf16"),
        ((Step("pakced", SINGLE),), UnknownName, "unknown format 'pakced'; did you mean 'packed'?"),
        ((STEPS[0], Step("auto")), UnknownName, "unknown format 'auto'"),
        (
            (Step("compact", GROUPS, recovery.parse("transfer:5")),),
            Refused,
            "recovery transfer:5 begins with a new head, so it is no step of a composition; use finetune",
        ),
        (
            (STEPS[0], Step("packed", SINGLE, recovery.parse("gradual-distill:5"))),
            Refused,
            "recovery gradual-distill:5 begins with all weights, so it cannot follow l2 0.5 neurons+heads; use distill",
        ),
    ],
)
def test_what_is_no_composition_is_refused_in_one_line(
    steps: tuple[Step, ...], kind: type[BadValue], message: str
) -> None:
    assert message in refusal(kind, lambda: composition.check(steps))
    pruned = arrived("bert", STEPS[:1])
    assert message in refusal(kind, lambda: composition.stored(pruned, steps))


def test_a_first_step_may_be_gradual_and_later_ones_may_only_store() -> None:
    gradual = Step("compact", GROUPS, recovery.parse("gradual-distill:5"))
    composition.check((gradual, *STEPS[1:], Step("dense")))


def test_a_format_refuses_with_its_own_reason() -> None:
    pruned = arrived("bert", STEPS[:2], torch.bfloat16)
    message = refusal(Refused, lambda: composition.stored(pruned, STEPS[:2]))
    assert message == "packed computes in float32, not in bfloat16"


# -- what is gone stays gone ------------------------------------------------------------------------------


@BY_FAMILY
def test_single_weights_after_groups_bring_nothing_back(family: str) -> None:
    before = prune(tiny.model(family), GROUPS)
    after = prune(copy.deepcopy(before.model), SINGLE)
    composition.check_still_gone(before, after)
    assert [round(each.counts.prunable_sparsity, 2) for each in (before, after)] == [0.5, 0.8]
    assert before.prunable_parameters == after.prunable_parameters  # of all, also those that are gone
    for old, layer in zip(before.masks, after.layers, strict=True):
        assert not layer.weight[~old].any()


@pytest.mark.parametrize(
    ("first", "second", "layer"),
    [
        (GROUPS, Recipe("l1", 0.2), "bert.encoder.layer.0.attention.self.query"),
        (GROUPS, Recipe("random", 0.8, seed=1), "bert.encoder.layer.0.attention.self.query"),
        (SINGLE, Recipe("l2", 0.5, "neurons"), "bert.encoder.layer.0.attention.self.query"),
        (Recipe("l2", 0.5, "neurons"), Recipe("l1", 0.5, "2:4"), "bert.encoder.layer.0.intermediate.dense"),
        (GROUPS, Recipe("none", 0.0), "bert.encoder.layer.0.attention.self.query"),
    ],
    ids=str,
)
def test_a_step_that_brings_weights_back_is_refused_by_the_layer(first: Recipe, second: Recipe, layer: str) -> None:
    before = prune(tiny.model("bert"), first)
    after = prune(copy.deepcopy(before.model), second)
    message = refusal(Refused, lambda: composition.check_still_gone(before, after))
    assert message == f"{second.method} brings back weights of {layer} that an earlier step removed"


def test_one_weight_that_comes_back_is_enough() -> None:
    before = prune(tiny.model("gpt2"), SINGLE)
    after = prune(copy.deepcopy(before.model), SINGLE)
    composition.check_still_gone(before, after)
    last = after.masks[-1]
    row, column = (~last).nonzero()[0].tolist()
    last[row, column] = True
    with pytest.raises(Refused, match=r"weights of transformer\.h\.1\.mlp\.c_proj that"):
        composition.check_still_gone(before, after)


# -- what the steps are stored in ---------------------------------------------------------------------------


@BY_FAMILY
@pytest.mark.parametrize("groups", ["neurons", "heads", "neurons+heads"])
@pytest.mark.parametrize("last", ["dense", "masked", "bf16", "csr", "bsr", "packed"])
def test_any_format_after_compact_computes_what_the_masked_dense_model_computes(
    family: str, groups: str, last: str
) -> None:
    steps = (Step("compact", Recipe("l2", 0.5, groups)), Step(last, SINGLE))
    pruned = arrived(family, steps)
    expected, before = outputs(pruned.model), tiny.state(pruned.model)
    found = outputs(composition.stored(pruned, steps))
    assert found.dtype is (torch.bfloat16 if last == "bf16" else torch.float32)
    assert relative_error(found, expected) <= CLOSE[str(found.dtype).removeprefix("torch.")]
    assert all(torch.equal(before[name], tensor) for name, tensor in pruned.model.state_dict().items())


@BY_FAMILY
def test_packed_after_compact_has_packed_layers_of_what_is_left(family: str) -> None:
    pruned = arrived(family, STEPS[:2])
    whole, smaller = (composition.stored(pruned, steps) for steps in (STEPS[1:2], STEPS[:2]))
    assert len(packed(smaller)) == len(packed(whole)) == len(pruned.layers)
    assert {widths(whole)[0], *widths(whole)} <= {(16, 16), (48, 16), (32, 16), (16, 32)}
    halved = {(16, 16): {(8, 16), (16, 8)}, (48, 16): {(24, 16)}, (32, 16): {(16, 16)}, (16, 32): {(16, 16)}}
    for wide, narrow in zip(widths(whole), widths(smaller), strict=True):
        assert narrow in halved[wide]
    error = relative_error(outputs(smaller), outputs(whole))
    assert error <= CLOSE["float32"]


@BY_FAMILY
def test_packed_of_groups_alone_takes_them_out_first(family: str) -> None:
    steps = (Step("packed", GROUPS),)
    pruned = arrived(family, steps)
    stored = composition.stored(pruned, steps)
    both = composition.stored(arrived(family, STEPS[:2]), STEPS[:2])
    assert widths(stored) == widths(both)
    assert relative_error(outputs(stored), outputs(pruned.model)) <= CLOSE["float32"]


@BY_FAMILY
def test_fewer_digits_are_of_the_smaller_model_and_halve_its_bytes(family: str) -> None:
    pruned = arrived(family, STEPS)
    compact = composition.stored(pruned, (STEPS[0], Step("compact", SINGLE)))
    halved = composition.stored(pruned, STEPS)
    sizes = [{name: p.numel() for name, p in model.named_parameters()} for model in (compact, halved)]
    assert sizes[0] == sizes[1]
    assert sum(sizes[0].values()) < sum(p.numel() for p in pruned.model.parameters())
    assert {p.dtype for p in halved.parameters()} == {torch.bfloat16}
    assert relative_error(outputs(halved), outputs(pruned.model)) <= CLOSE["bfloat16"]


@BY_FAMILY
def test_without_groups_the_last_format_stores_the_model_as_it_is(family: str) -> None:
    pruned = arrived(family, STEPS[1:2])
    assert composition.stored(pruned, (Step("dense", SINGLE),)) is pruned.model
    shapes = [tuple(layer.weight.shape) for layer in pruned.layers]
    assert widths(composition.stored(pruned, STEPS[1:2])) == shapes


def test_blocks_are_stored_as_blocks_and_n_of_m_as_what_it_is() -> None:
    for recipe, expected in ((Recipe("l2", 0.75, "4x1"), 4), (Recipe("l1", 0.5, "2:4"), 1)):
        steps = (Step("packed", recipe),)
        pruned = arrived("gpt2", steps)
        stored = composition.stored(pruned, steps)
        assert {layer.block_rows for layer in packed(stored)} == {expected}
        assert getattr(stored.config, KEY)["pattern"] == recipe.pattern
        assert relative_error(outputs(stored), outputs(pruned.model)) <= CLOSE["float32"]


@BY_FAMILY
def test_neurons_that_nothing_reads_any_more_go_with_the_heads_and_blocks_are_computed_right_all_the_same(
    family: str,
) -> None:
    steps = (Step("compact", Recipe("l2", 0.25, "heads")), Step("packed", Recipe("l2", 0.75, "4x1")))
    pruned = arrived(family, steps)
    stored = composition.stored(pruned, steps)
    rows = {layer.out_features: layer.block_rows for layer in packed(stored)}
    assert rows[16] == 4
    neurons = [count for count in rows if 16 < count < 32]
    assert any(count % 4 for count in neurons), f"{neurons} should have cut some block of four apart"
    assert relative_error(outputs(stored), outputs(pruned.model)) <= CLOSE["float32"]
