"""Patterns: texts and what they parse to, units and their weights, and that a new one is a single class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity import execution, options, pattern
from sparsity.errors import BadValue, Refused, UnknownName
from sparsity.mask import pruned_count
from sparsity.methods.protocol import Target
from sparsity.prune import SCOPES, PrunedModel, Recipe, prune
from tests import tiny

PARSED = {
    "unstructured": pattern.Unstructured(),
    "2:4": pattern.NM(2, 4),
    "1:4": pattern.NM(1, 4),
    "4x1": pattern.Block(4, 1),
    "16x16": pattern.Block(16, 16),
    "neurons": pattern.Groups(("neurons",)),
    "heads": pattern.Groups(("heads",)),
    "neurons+heads": pattern.Groups(("neurons", "heads")),
    "layers": pattern.Layers(),
}
UNKNOWN = [
    "", " ", "Unstructured", "unstructured ", "2:4\n", "-2:4", "2:4:8", "2/4", "2:", "x4", "2x", "2x4x8", "n:m",
    "rxc", "neuron", "neurons+", "+", "heads+mouths", "neurons heads",
]  # fmt: skip
ELEMENTS: list[pattern.ElementPattern] = [
    pattern.Unstructured(),
    pattern.NM(2, 4),
    pattern.NM(3, 5),
    pattern.Block(4, 1),
    pattern.Block(1, 5),
    pattern.Block(2, 10),
    pattern.Block(8, 20),
]
elements = pytest.mark.parametrize("shape", ELEMENTS, ids=str)
ROWS, COLUMNS = 8, 20  # what all of them fit


def values(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> torch.Tensor:
    """Random whole numbers, whose sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 100, (rows, columns), generator=generator).float()


# Texts


@pytest.mark.parametrize("text", pattern.EXAMPLES)
def test_an_example_parses_and_prints_as_itself(text: str) -> None:
    assert pattern.parse(text) == PARSED[text]
    assert str(PARSED[text]) == text


def test_every_class_has_an_example() -> None:
    assert {type(pattern.parse(text)) for text in pattern.EXAMPLES} == set(pattern.PATTERNS.values())


@settings(deadline=None)
@given(n=st.integers(0, 4200), m=st.integers(0, 4200))
def test_n_of_m_is_parsed_where_something_goes_and_something_stays(n: int, m: int) -> None:
    text = f"{n}:{m}"
    if not 0 < n < m <= pattern.LARGEST:
        with pytest.raises(BadValue, match=rf"pattern '{text}': n of every m weights stay, so 0 < n < m ≤ 4096"):
            pattern.parse(text)
        return
    assert pattern.parse(text) == pattern.NM(n, m)
    assert str(pattern.parse(text)) == text


@settings(deadline=None)
@given(rows=st.integers(0, 4200), columns=st.integers(0, 4200))
def test_tiles_are_parsed_where_they_are_more_than_a_weight(rows: int, columns: int) -> None:
    text = f"{rows}x{columns}"
    if not (0 < rows <= pattern.LARGEST and 0 < columns <= pattern.LARGEST) or rows == columns == 1:
        with pytest.raises(BadValue, match=rf"pattern '{text}': tiles are 1 to 4096 rows x columns"):
            pattern.parse(text)
        return
    assert pattern.parse(text) == pattern.Block(rows, columns)
    assert str(pattern.parse(text)) == text


@settings(deadline=None)
@given(text=st.one_of(st.text(max_size=12), st.from_regex(r"\d{1,5}[:x]\d{1,5}", fullmatch=True)))
def test_what_any_text_parses_to_prints_as_a_text_of_the_same_or_it_is_refused_in_a_line(text: str) -> None:
    try:
        parsed = pattern.parse(text)
    except (BadValue, UnknownName) as error:
        said = str(error)
        assert said.isprintable()
        assert repr(text) in said
    else:
        assert str(parsed) == text
        assert pattern.parse(str(parsed)) == parsed


patterns = st.one_of(
    st.just(pattern.Unstructured()),
    st.builds(pattern.NM, st.integers(1, 4), st.integers(5, 8)),
    st.builds(pattern.Block, st.integers(1, 4), st.integers(2, 4)),
    st.sampled_from([pattern.Groups(("neurons",)), pattern.Groups(("neurons", "heads")), pattern.Layers()]),
)


@settings(deadline=None)
@given(patterns)
def test_any_pattern_is_what_its_text_parses_to(shape: pattern.ElementPattern | pattern.GroupPattern) -> None:
    assert pattern.parse(str(shape)) == shape


@settings(max_examples=60, deadline=None)
@given(data=st.data(), shape=patterns.filter(lambda each: hasattr(each, "pool")))
def test_masks_of_any_shape_that_fits_obey_their_pattern(data: st.DataObject, shape: pattern.ElementPattern) -> None:
    units = 1, 1
    if isinstance(shape, pattern.NM):
        units = 1, shape.m
    elif isinstance(shape, pattern.Block):
        units = shape.rows, shape.columns
    rows, columns = (data.draw(st.integers(1, 4)) * side for side in units)
    assert shape.misfit(rows, columns) is None
    assert (shape.misfit(rows, columns + 1) is None) == (units[1] == 1)
    score = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=rows * columns, max_size=rows * columns)))
    pooled = shape.pool(score.view(rows, columns).float())
    if isinstance(shape, pattern.NM):
        remove, per_row = shape.m - shape.n, True
    else:
        remove, per_row = data.draw(st.integers(0, pooled.numel())), False
    mask = Target(shape, remove=remove, per_row=per_row).choose(score.view(rows, columns).float())
    assert mask.shape == (rows, columns)
    if isinstance(shape, pattern.NM):
        assert mask.view(-1, shape.m).sum(1).tolist() == [shape.n] * (rows * columns // shape.m)
    else:
        tiles = mask.view(rows // units[0], units[0], columns // units[1], units[1]).float().mean((1, 3))
        assert set(tiles.unique().tolist()) <= {0.0, 1.0}, "a tile is kept or removed as a whole"
        assert int((tiles == 0).sum()) == remove


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4:2", "n of every m weights stay, so 0 < n < m ≤ 4096, as in 2:4"),
        ("0:4", "n of every m weights stay"),
        ("4:4", "n of every m weights stay"),
        ("0:0", "n of every m weights stay"),
        ("1:4097", "n of every m weights stay"),
        ("1x1", "tiles are 1 to 4096 rows x columns, as in 4x1; 1x1 is unstructured"),
        ("0x4", "tiles are 1 to 4096"),
        ("4x0", "tiles are 1 to 4096"),
        ("4097x1", "tiles are 1 to 4096"),
        ("heads+neurons", r"neurons, heads or neurons\+heads; layers go alone"),
        ("neurons+neurons", r"neurons, heads or neurons\+heads"),
        ("layers+heads", "layers go alone"),
        ("neurons+heads+layers", "layers go alone"),
    ],
)
def test_a_known_form_with_bad_values_is_refused_with_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(BadValue, match=rf"^pattern '{text.replace('+', '[+]')}': .*{message}"):
        pattern.parse(text)


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_is_unknown_is_refused_with_all_examples(text: str) -> None:
    with pytest.raises(UnknownName) as caught:
        pattern.parse(text)
    message = str(caught.value)
    assert message.startswith(f"unknown pattern {text!r}")
    assert message.endswith(
        "Known: unstructured, 2:4, 1:4, 4x1, 16x16, neurons, heads, neurons+heads, layers",
    )


@pytest.mark.parametrize(("text", "meant"), [("2:44:", "2:4"), ("unstructurd", "unstructured"), ("head", "heads")])
def test_a_slip_is_answered_with_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(UnknownName, match=rf"did you mean '{meant}'\?"):
        pattern.parse(text)


# What a pattern says of itself


@pytest.mark.parametrize(
    ("text", "sparsity"), [("2:4", 0.5), ("1:4", 0.75), ("3:4", 0.25), ("1:2", 0.5), ("7:8", 0.125)]
)
def test_n_of_m_has_one_sparsity(text: str, sparsity: float) -> None:
    assert pattern.parse(text).fixed == sparsity


@settings(deadline=None)
@given(data=st.data(), m=st.integers(2, pattern.LARGEST))
def test_the_one_sparsity_of_n_of_m_removes_all_but_n(data: st.DataObject, m: int) -> None:
    n = data.draw(st.integers(1, m - 1))
    fixed = pattern.NM(n, m).fixed
    assert fixed is not None
    assert pruned_count(fixed, m) == m - n


@pytest.mark.parametrize("text", [text for text in pattern.EXAMPLES if ":" not in text])
def test_all_others_have_any_sparsity(text: str) -> None:
    assert pattern.parse(text).fixed is None


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("unstructured", ("layer", "row", "global", "erk", "owl")),
        ("4x1", ("layer", "row", "global", "erk", "owl")),
        ("2:4", ("row",)),
        ("neurons", ("layer", "global")),
        ("neurons+heads", ("layer", "global")),
        ("layers", ("global",)),
    ],
)
def test_scopes_are_known_and_the_first_is_what_nothing_said_means(text: str, scopes: tuple[str, ...]) -> None:
    assert pattern.parse(text).scopes == scopes
    assert set(scopes) <= set(SCOPES)
    assert Recipe("l1", 0.5, text).scope == scopes[0]
    assert Recipe("l1", 0.5, text) == Recipe("l1", 0.5, text, scopes[0])


# Units and their weights


@elements
def test_a_unit_is_worth_the_sum_of_the_weights_that_it_keeps(shape: pattern.ElementPattern) -> None:
    score = values()
    units = shape.pool(score)
    assert units.dim() == 2
    times_kept = torch.zeros(ROWS, COLUMNS)
    for place in range(units.numel()):
        alone = torch.zeros(units.numel(), dtype=torch.bool)
        alone[place] = True
        mask = shape.spread(alone.view(units.shape), ROWS, COLUMNS)
        assert mask.dtype == torch.bool
        assert mask.shape == (ROWS, COLUMNS)
        assert score[mask].sum() == units.reshape(-1)[place]
        times_kept += mask
    assert (times_kept == 1).all()  # no weight is in two units, or in none


@elements
def test_a_choice_is_found_again_in_its_mask(shape: pattern.ElementPattern) -> None:
    weights_of_a_unit = shape.pool(torch.ones(ROWS, COLUMNS))
    kept = torch.rand(weights_of_a_unit.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    mask = shape.spread(kept, ROWS, COLUMNS)
    assert torch.equal(shape.pool(mask.float()), kept * weights_of_a_unit)


@elements
def test_units_need_no_values_to_be_counted(shape: pattern.ElementPattern) -> None:
    nothing = torch.empty(ROWS, COLUMNS, device="meta")
    assert shape.pool(nothing).shape == shape.pool(values()).shape


@elements
def test_scores_of_a_transposed_matrix_are_pooled_the_same(shape: pattern.ElementPattern) -> None:
    score = values()
    turned = score.t().contiguous().t()
    assert not turned.is_contiguous()
    assert torch.equal(shape.pool(turned), shape.pool(score))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_block_keeps_whole_tiles(data: st.DataObject) -> None:
    tall, wide = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    down, across = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    choices = data.draw(st.lists(st.booleans(), min_size=down * across, max_size=down * across))
    kept = torch.tensor(choices).view(down, across)
    mask = pattern.Block(tall, wide).spread(kept, down * tall, across * wide)
    expected = [[bool(kept[i // tall, j // wide]) for j in range(across * wide)] for i in range(down * tall)]
    assert mask.tolist() == expected


def test_a_tile_is_worth_its_sum() -> None:
    score = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    assert pattern.Block(2, 1).pool(score).tolist() == [[6, 8, 10, 12]]
    assert pattern.Block(1, 2).pool(score).tolist() == [[3, 7], [11, 15]]
    assert pattern.Block(2, 2).pool(score).tolist() == [[14, 22]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_tiles_of_half_precision_are_told_apart_by_what_their_sum_would_round_away(dtype: torch.dtype) -> None:
    score = torch.full((16, 32), 16.0, dtype=dtype)
    score[3, 20] += 1  # 4097 against 4096: neither half precision has a 4097
    mask = Target(pattern.Block(16, 16), remove=1).choose(score)
    assert not mask[:, :16].any()
    assert mask[:, 16:].all()


def test_finite_weights_of_half_precision_have_finite_tiles() -> None:
    score = torch.full((16, 16), 300.0, dtype=torch.float16)  # 76800 in sum, above the highest float16
    assert pattern.Block(16, 16).pool(score).item() == 76800


def test_competitors_of_n_of_m_lie_side_by_side_along_the_inputs() -> None:
    score = torch.arange(16.0).view(2, 8)
    assert pattern.NM(2, 4).pool(score).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert pattern.NM(1, 8).pool(score).tolist() == score.tolist()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 5), (9, 10), (1, 20), (19, 20)])
def test_of_every_m_weights_n_stay(n: int, m: int) -> None:
    shape = pattern.NM(n, m)
    score = values()
    mask = Target(shape, remove=m - n, per_row=True).choose(score)
    for row, kept in zip(score.split(1), mask.split(1), strict=True):
        for start in range(0, COLUMNS, m):
            here, stays = row[0, start : start + m], kept[0, start : start + m]
            assert int(stays.sum()) == n
            assert here[stays].min() >= here[~stays].max()


# Shapes that do not fit


@elements
def test_a_matrix_of_whole_units_fits(shape: pattern.ElementPattern) -> None:
    assert shape.misfit(ROWS, COLUMNS) is None


@pytest.mark.parametrize(
    ("shape", "rows", "columns", "reason"),
    [
        (pattern.NM(2, 4), 8, 18, "its 18 inputs are no multiple of 4"),
        (pattern.NM(2, 4), 7, 20, None),  # outputs may be as many as they like
        (pattern.NM(1, 32), 32, 16, "its 16 inputs are no multiple of 32"),
        (pattern.Block(4, 1), 6, 20, "its 6x20 weights cannot be cut into tiles of 4x1"),
        (pattern.Block(4, 1), 8, 7, None),
        (pattern.Block(1, 4), 8, 6, "its 8x6 weights cannot be cut into tiles of 1x4"),
        (pattern.Block(16, 16), 8, 20, "its 8x20 weights cannot be cut into tiles of 16x16"),
        (pattern.Unstructured(), 7, 13, None),
    ],
    ids=str,
)
def test_a_misfit_is_said_with_both_shapes(
    shape: pattern.ElementPattern, rows: int, columns: int, reason: str | None
) -> None:
    assert shape.misfit(rows, columns) == reason


@pytest.mark.parametrize(
    ("text", "sparsity", "message"),
    [
        ("3x1", 0.5, "weights cannot be cut into tiles of 3x1"),
        ("1:5", 0.8, "its 16 inputs are no multiple of 5"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_by_the_name_of_the_layer(
    text: str, sparsity: float, message: str
) -> None:
    model = tiny.model("bert")
    before = tiny.state(model)
    query = r"bert\.encoder\.layer\.0\.attention\.self\.query"
    with pytest.raises(Refused, match=rf"^{query} cannot be pruned {text}: .*{message}"):
        prune(model, Recipe("l1", sparsity, text))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# A new pattern is one class


@dataclass(frozen=True)
class Checker:
    """The two weights on a diagonal of a 2x2 tile go together: every tile has a unit of each colour."""

    scopes: ClassVar[tuple[str, ...]] = ("layer", "row", "global", "erk")
    fixed: ClassVar[float | None] = None

    @classmethod
    def parse(cls, text: str) -> Checker | None:
        return cls() if text == str(cls()) else None

    def __str__(self) -> str:
        return "checker"

    def misfit(self, rows: int, columns: int) -> str | None:
        return "it has an odd side" if rows % 2 or columns % 2 else None

    def pool(self, score: torch.Tensor) -> torch.Tensor:
        return score[::2] + swapped(score[1::2])

    def spread(self, kept: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        return torch.stack([kept, swapped(kept)], dim=1).view(rows, columns)


@dataclass(frozen=True)
class OneColour(Checker):
    """In every tile one colour stays: a pattern with a single sparsity."""

    scopes: ClassVar[tuple[str, ...]] = ("row",)
    fixed: ClassVar[float | None] = 0.5

    def __str__(self) -> str:
        return "one colour"

    def pool(self, score: torch.Tensor) -> torch.Tensor:
        return super().pool(score).reshape(-1, 2)

    def spread(self, kept: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        return super().spread(kept.reshape(rows // 2, columns), rows, columns)


def swapped(rows: torch.Tensor) -> torch.Tensor:
    """The two of every pair of columns in each other's place."""
    return rows.reshape(len(rows), -1, 2).flip(2).reshape(rows.shape)


@pytest.fixture
def _two_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pattern.PATTERNS, "checker", Checker)
    monkeypatch.setitem(pattern.PATTERNS, "one colour", OneColour)


def removed_by_layer(pruned: PrunedModel, dense: Any) -> list[int]:
    """How many weights of each layer are zero; all of a unit, or none, and the lowest of what competed in a layer."""
    found = []
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        upper, lower = mask[::2], swapped(mask[1::2])
        assert torch.equal(upper, lower), f"{layer.name} has half a unit"
        weight = dense.get_submodule(layer.name).weight
        assert torch.equal(layer.weight, (weight.t() if layer.transposed else weight) * mask)
        found.append(int((layer.weight == 0).sum()))
    assert sum(found) == pruned.removed
    return found


@pytest.mark.parametrize("scope", Checker.scopes)
@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.usefixtures("_two_more")
def test_a_new_pattern_prunes_exactly_in_every_scope_that_it_has(family: str, scope: str) -> None:
    dense = tiny.model(family)
    pruned = prune(tiny.model(family), Recipe("l1", 0.3, "checker", scope))
    removed = removed_by_layer(pruned, dense)
    sizes = [mask.shape for mask in pruned.masks]
    units = [rows * columns // 2 for rows, columns in sizes]
    if scope == "layer":
        assert removed == [2 * pruned_count(0.3, count) for count in units]
    elif scope == "row":  # of tiles, each as many units long as there are columns
        assert removed == [rows * pruned_count(0.3, columns) for rows, columns in sizes]
    else:
        assert sum(removed) == 2 * pruned_count(0.3, sum(units))
        assert removed != [2 * pruned_count(0.3, count) for count in units]  # not all lose the same


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.usefixtures("_two_more")
def test_a_new_pattern_with_one_sparsity_has_that_and_no_other(family: str) -> None:
    dense = tiny.model(family)
    pruned = prune(tiny.model(family), Recipe("l1", 0.5, "one colour"))
    assert removed_by_layer(pruned, dense) == [mask.numel() // 2 for mask in pruned.masks]
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        weight = dense.get_submodule(layer.name).weight.abs()
        worth = Checker().pool(weight.t() if layer.transposed else weight).reshape(-1, 2)
        kept = mask[::2].reshape(-1, 2)
        assert (kept.sum(1) == 1).all()
        assert (worth[kept] >= worth[~kept]).all()
    with pytest.raises(Refused, match=r"pattern one colour removes 0\.5 of the weights, not 0\.3"):
        prune(tiny.model(family), Recipe("l1", 0.3, "one colour"))


@pytest.mark.usefixtures("_two_more")
def test_a_new_pattern_is_known_to_recipes_options_and_formats() -> None:
    assert Recipe("l1", 0.5, "checker").scope == "layer"
    assert options.parse({"patterns": "checker,2:4"}).axes["patterns"] == ("checker", "2:4")
    with pytest.raises(Refused, match="pattern checker has no scope owl, but layer, row, global, erk"):
        prune(tiny.model("bert"), Recipe("l1", 0.5, "checker", "owl"))
    pruned = prune(tiny.model("bert"), Recipe("random", 0.5, "checker"))
    for name in ("dense", "masked"):
        assert execution.in_format(pruned, name) is not None
    with pytest.raises(Refused, match="checker zeros are single weights"):
        execution.in_format(pruned, "compact")


@pytest.mark.usefixtures("_two_more")
def test_a_new_pattern_refuses_a_shape_in_its_own_words() -> None:
    model = tiny.model("bert")
    intermediate = model.bert.encoder.layer[1].intermediate.dense
    intermediate.weight = torch.nn.Parameter(torch.ones(31, 16), requires_grad=False)
    with pytest.raises(Refused, match=r"layer\.1\.intermediate\.dense cannot be pruned checker: it has an odd side"):
        prune(model, Recipe("l1", 0.5, "checker"))
