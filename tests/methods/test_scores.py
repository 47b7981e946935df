"""What needs no calibration (l1, l2, random, none): golden choices; and what every method promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsity import pattern
from sparsity.calibration import STATISTICS, LayerStatistics
from sparsity.errors import Refused
from sparsity.hessian import factor
from sparsity.methods import METHODS
from sparsity.methods.protocol import Chosen
from sparsity.methods.scored import Scored
from tests.methods import layers

UNKNOWN = LayerStatistics(seed=(1, 2))
SMALL = torch.tensor([[0.1, -0.9, 0.5, -0.2], [0.0, 0.3, -0.3, 0.7]])
TILES = torch.tensor([[0.6, 0.6, 1.0, 0.1], [-0.6, 0.0, 0.0, -0.5]])
"""As tiles of 1x2: sums of magnitudes 1.2, 1.1 over 0.6, 0.5, sums of squares 0.72, 1.01 over 0.36, 0.25."""
SINGLES = [name for name in METHODS if name != "ziplm"]
"""The methods that choose inside one matrix."""
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PATTERNS = ("unstructured", "2:4", "4x1", "2x2")


def rows(text: str) -> list[list[bool]]:
    """A mask as it is drawn: # stays, . goes."""
    return [[mark == "#" for mark in row] for row in text.split()]


def cases() -> list[Any]:
    """(method, pattern) for all that can go together on one matrix of 8 x 12."""
    found = []
    for name in SINGLES:
        for text in PATTERNS:
            shape = pattern.parse(text)
            whole_blocks = METHODS[name].refuses(pattern.Layers(), "global") is None
            alone = METHODS[name].refuses(shape, shape.scopes[0]) is None
            if alone or (whole_blocks and text == "unstructured"):  # shortgpt says the same of every weight
                found.append(pytest.param(name, text, id=f"{name}-{text}"))
    return found


def prune(name: str, text: str, weight: torch.Tensor, known: LayerStatistics) -> tuple[Chosen, int]:
    """What a method makes of half of a weight, and how many weights must go; none for the control."""
    units = METHODS[name].refuses(pattern.parse(text), "row") is None and text == "2:4"
    if name == "none":
        return METHODS[name].prune_layer(weight, known, layers.target(text, 0)), 0
    if units:
        return METHODS[name].prune_layer(weight, known, layers.target(text, 2, per_row=True)), weight.numel() // 2
    of_a_unit = {"unstructured": 1, "4x1": 4, "2x2": 4}[text]
    remove = weight.numel() // of_a_unit // 2
    return METHODS[name].prune_layer(weight, known, layers.target(text, remove)), remove * of_a_unit


@pytest.mark.parametrize(
    ("name", "text", "per_row", "remove", "weight", "mask"),
    [
        ("l1", "unstructured", False, 4, SMALL, ".##. .#.#"),  # of two 0.3 the earlier stays
        ("l1", "unstructured", False, 1, SMALL, "#### .###"),
        ("l1", "unstructured", False, 7, SMALL, ".#.. ...."),
        ("l1", "unstructured", True, 3, SMALL, ".#.. ...#"),
        ("l1", "2:4", True, 2, SMALL, ".##. .#.#"),
        ("l1", "1x2", False, 2, TILES, "#### ...."),
        ("l1", "1x2", False, 3, TILES, "##.. ...."),
        ("l2", "1x2", False, 3, TILES, "..## ...."),
        ("l1", "1x2", True, 1, TILES, "##.. ##.."),
        ("l2", "1x2", True, 1, TILES, "..## ##.."),
        ("l1", "2x1", False, 3, TILES, "#... #..."),
        ("l2", "2x1", False, 3, TILES, "..#. ..#."),
        ("l1", "2x2", False, 1, TILES, "##.. ##.."),
        ("l2", "2x2", False, 1, TILES, "..## ..##"),
    ],
)
def test_the_choice_on_a_small_matrix(
    name: str, text: str, per_row: bool, remove: int, weight: torch.Tensor, mask: str
) -> None:
    chosen = METHODS[name].prune_layer(weight, UNKNOWN, layers.target(text, remove, per_row=per_row))
    assert chosen.mask.tolist() == rows(mask)
    assert torch.equal(chosen.pruned, torch.where(chosen.mask, weight, 0.0))


def test_random_is_the_same_on_every_machine() -> None:
    mask = METHODS["random"].prune_layer(SMALL, UNKNOWN, layers.target("unstructured", 4)).mask
    assert mask.tolist() == rows("...# ##.#")


def test_random_depends_on_seed_and_layer_alone() -> None:
    half = layers.target("unstructured", 4)
    mask = METHODS["random"].prune_layer(SMALL, UNKNOWN, half).mask
    everything_else = layers.known(layers.inputs(6, 4), seed=UNKNOWN.seed)
    assert torch.equal(mask, METHODS["random"].prune_layer(SMALL * -7, everything_else, half).mask)
    for others in ([(1, n) for n in range(3, 30)], [(n, 2) for n in range(2, 30)]):
        masks = [METHODS["random"].prune_layer(SMALL, LayerStatistics(seed=seed), half).mask for seed in others]
        assert any(not torch.equal(mask, other) for other in masks)


@pytest.mark.parametrize(("text", "of_a_unit"), [("unstructured", 1), ("2x2", 4)])
def test_random_is_fair(text: str, of_a_unit: int) -> None:
    weight, draws = torch.zeros(10, 10), 200
    half = layers.target(text, 100 // of_a_unit // 2)
    kept = torch.zeros(10, 10, dtype=torch.float64)
    for n in range(draws):
        kept += METHODS["random"].prune_layer(weight, LayerStatistics(seed=(n, 0)), half).mask
    deviation = (draws / 4) ** 0.5
    assert (kept - kept.mean()).abs().max() < 5 * deviation, "each weight stays equally often"
    assert kept.std() > deviation / 3, "and not because the draws take turns"


def test_none_keeps_everything_and_can_do_nothing_else() -> None:
    none = METHODS["none"]
    weight, mask, note = none.prune_layer(SMALL, UNKNOWN, layers.target("unstructured", 0))
    assert torch.equal(weight, SMALL)
    assert mask.all()
    assert note is None
    with pytest.raises(Refused, match="method none removes nothing, so it cannot remove 1 weights"):
        none.prune_layer(SMALL, UNKNOWN, layers.target("unstructured", 1))


@pytest.mark.parametrize("name", SINGLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("stored", ["out, in", "in, out"])
def test_a_method_leaves_the_weight_it_was_given_alone(name: str, dtype: torch.dtype, stored: str) -> None:
    weight = layers.weight(8, 12, dtype)
    if stored == "in, out":  # as Conv1D has it
        weight = weight.t().contiguous().t()
    before = weight.clone()
    prune(name, "unstructured", weight, layers.known(layers.inputs(40, 12)))
    assert torch.equal(weight, before)


@pytest.mark.parametrize("stored", ["out, in", "in, out"])
def test_ziplm_leaves_the_weight_it_was_given_alone(stored: str) -> None:
    weight = layers.weight(8, 12)
    if stored == "in, out":
        weight = weight.t().contiguous().t()
    before, prune_groups = weight.clone(), METHODS["ziplm"].prune_groups
    assert prune_groups is not None
    prune_groups(weight, layers.known(layers.inputs(40, 12)), torch.arange(12).view(6, 2), 3)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("name", SINGLES)
def test_statistics_are_left_alone(name: str) -> None:
    known, same = (layers.known(layers.inputs(40, 12)) for _ in range(2))
    prune(name, "unstructured", layers.weight(8, 12), known)
    for field in ("squares", "hessian", "squared_gradients", "saliences"):
        assert torch.equal(getattr(known, field), getattr(same, field)), field


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "text"), cases())
def test_the_weight_is_zero_exactly_where_the_mask_says_so(name: str, text: str, dtype: torch.dtype) -> None:
    weight = layers.weight(8, 12, dtype)
    chosen, gone = prune(name, text, weight, layers.known(layers.inputs(40, 12)))
    assert chosen.pruned.dtype == dtype
    assert chosen.mask.dtype == torch.bool
    assert torch.equal(chosen.pruned != 0, chosen.mask)
    assert int((~chosen.mask).sum()) == gone
    if METHODS[name].score is not None or name == "none":
        assert torch.equal(chosen.pruned[chosen.mask], weight[chosen.mask]), "a score changes no weight that stays"


@pytest.mark.parametrize(("name", "text"), cases())
def test_the_same_is_chosen_again(name: str, text: str) -> None:
    known = layers.known(layers.inputs(40, 12))
    first, again = (prune(name, text, layers.weight(8, 12, torch.float32), known)[0] for _ in range(2))
    assert torch.equal(first.mask, again.mask)
    assert torch.equal(first.weight, again.weight)


@pytest.mark.parametrize("name", SINGLES)
def test_what_is_said_to_draw_lots_does_and_the_rest_does_not(name: str) -> None:
    weight, x = layers.weight(8, 12), layers.inputs(40, 12)
    masks = [prune(name, "unstructured", weight, layers.known(x, seed=(n, 0)))[0].mask for n in range(4)]
    assert METHODS[name].stochastic == any(not torch.equal(masks[0], other) for other in masks[1:])


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_needs_can_be_gathered_and_is_enough(name: str) -> None:
    assert METHODS[name].needs <= set(STATISTICS)
    fields = {"input norms": "squares", "hessian": "hessian", "block influence": "influence"}
    full = layers.known(layers.inputs(40, 12))
    given = {fields[need]: getattr(full, fields[need]) for need in METHODS[name].needs if need in fields}
    if "factored hessian" in METHODS[name].needs:
        assert full.hessian is not None
        given["factor"] = factor(full.hessian, 40)
    if "gradients" in METHODS[name].needs:
        given |= {"squared_gradients": full.squared_gradients, "saliences": full.saliences}
    only = LayerStatistics(tokens=40, **given)
    if (prune_groups := METHODS[name].prune_groups) is not None:
        kept = prune_groups(layers.weight(8, 12), only, torch.arange(12)[:, None], 6).kept
        assert int(kept.sum()) == 6
    else:
        chosen, gone = prune(name, "unstructured", layers.weight(8, 12), only)
        assert int((~chosen.mask).sum()) == gone


@pytest.mark.parametrize(
    ("name", "dtype", "little"),
    [
        ("l1", torch.float16, 2.0**-12),
        ("l1", torch.bfloat16, 2.0**-9),
        ("l2", torch.float16, 2.0**-8),
        ("l2", torch.bfloat16, 2.0**-8),
    ],
    ids=str,
)
def test_a_tile_of_half_precision_weights_is_summed_without_rounding(
    name: str, dtype: torch.dtype, little: float
) -> None:
    weight = torch.tensor([[1.0, 0.0, 1.0, little, 1.0, 0.0]], dtype=dtype)  # the dtype has no 1 + little
    mask = METHODS[name].prune_layer(weight, UNKNOWN, layers.target("1x2", 2)).mask
    assert mask.tolist() == rows("..##..")


def test_a_score_is_all_that_a_method_needs() -> None:
    method = Scored(lambda weight, statistics: -weight)
    chosen = method.prune_layer(SMALL, UNKNOWN, layers.target("unstructured", 6))
    assert chosen.mask.tolist() == rows(".#.. ..#.")
    assert not method.needs
    assert not method.stochastic
    assert not method.sequential
    assert method.refuses(pattern.Layers(), "global") is None
