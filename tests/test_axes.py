"""The grid of every question: which cells there are, what they are called, and how many."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import axes
from benchmarks.axes import Grid
from sparsity import pattern as patterns
from sparsity import prune
from sparsity.errors import UnknownName
from sparsity.formats import AUTO, FORMATS, NAMES
from sparsity.methods import METHODS
from sparsity.options import Options, parse

PRUNED = ("model", "method", "pattern", "scope", "seed", "sparsity")
ACROSS = ("model", "method", "pattern", "scope", "seed", "task")
"""What a question across sparsities asks for."""
ASKED: dict[str, list[tuple[str, ...]]] = {
    "weights": [("model",)],
    "pruning": [PRUNED],
    "latency": [(*PRUNED, "format", "workload")],
    "memory": [(*PRUNED, "format", "workload")],
    "perplexity": [(*PRUNED, "task"), ACROSS, ("model", "task")],
    "classification": [(*PRUNED, "task"), ACROSS, ("model", "task")],
    "recovery": [(*PRUNED[:4], "sparsity", "recovery", "task"), ("model",)],
    "composition": [("model", "task", "workload", "recovery")],
}
"""The axes that the tests of each question ask for."""
EVERY_QUESTION = [(profile, name) for profile, found in axes.PROFILES.items() for name in found if found[name]]

SMALL = Grid(
    models=("bert", "gpt2"),
    methods=("l1", "random"),
    scopes=("layer", "global"),
    sparsities=(0.0, 0.5),
    formats=("dense", "masked"),
    workloads=("1x8",),
    seeds=(0, 1),
)
GOLDEN = """
none-0.0-dense-1x8
l1-unstructured-layer-0.5-dense-1x8
l1-unstructured-layer-0.5-masked-1x8
l1-unstructured-global-0.5-dense-1x8
l1-unstructured-global-0.5-masked-1x8
random-unstructured-layer-0.5-0-dense-1x8
random-unstructured-layer-0.5-0-masked-1x8
random-unstructured-layer-0.5-1-dense-1x8
random-unstructured-layer-0.5-1-masked-1x8
"""


def identifiers(grids: Grid | axes.Grids, *wanted: str) -> list[str]:
    several = (grids,) if isinstance(grids, Grid) else grids
    return [axes.identifier(cell) for cell in axes.cells(several, wanted)]


def asked(question: str, **texts: str) -> list[str]:
    """The cells of a question on BERT for these options, by the first axes that its tests ask for."""
    grids = axes.grids(parse({"models": "bert"} | texts), question)
    return [name.removeprefix("bert-") for name in identifiers(grids, *ASKED[question][0])]


def test_identifiers_of_a_small_grid_are_what_they_have_always_been() -> None:
    expected = [f"{model}-{line}" for model in ("bert", "gpt2") for line in GOLDEN.split()]
    assert identifiers(SMALL, *(name for name in axes.NAMES if name != "task")) == expected


def test_the_control_is_there_once_a_model_and_has_nothing_to_choose() -> None:
    cells = axes.cells([replace(SMALL, tasks=("lm",))], axes.NAMES)
    axes_of_it = {"pattern": None, "scope": None, "sparsity": 0.0, "seed": None, "recovery": None, "format": "dense"}
    control = {"method": "none", **axes_of_it}
    assert [cell for cell in cells if cell["method"] == "none"] == [
        {"model": model, **control, "workload": "1x8", "task": "lm"} for model in ("bert", "gpt2")
    ]


@pytest.mark.parametrize("methods", [(), ("none",), ("none", "l1"), ("l1", "none", "random")])
def test_the_control_is_there_once_whatever_methods_are_asked_for(methods: tuple[str, ...]) -> None:
    cells = axes.cells([replace(SMALL, models=("bert",), methods=methods)], PRUNED)
    assert [cell["method"] for cell in cells].count("none") == 1
    assert cells[0]["method"] == "none"
    assert {cell["method"] for cell in cells} == {"none", *methods}


@pytest.mark.parametrize("formats", [("bf16", "dense", "masked"), ("dense", "masked", "bf16"), ("masked", "bf16")])
def test_bf16_is_the_unpruned_models_alone(formats: tuple[str, ...]) -> None:
    grid = replace(SMALL, models=("bert",), methods=("l1",), scopes=("layer",), formats=formats)
    assert identifiers(grid, "method", "sparsity", "format") == [
        "none-0.0-dense",
        "none-0.0-bf16",
        *(f"l1-0.5-{name}" for name in formats if name != "bf16"),
    ]
    assert identifiers(grid, *PRUNED) == ["bert-none-0.0", "bert-l1-unstructured-layer-0.5"]


def test_who_asks_for_bf16_alone_gets_pruned_models_as_they_are() -> None:
    assert asked("latency", formats="bf16", methods="none") == ["none-0.0-dense-8x64", "none-0.0-bf16-8x64"]
    found = asked("latency", formats="bf16", methods="l1", patterns="unstructured", sparsities="0.5")
    assert found == ["none-0.0-dense-8x64", "none-0.0-bf16-8x64", "l1-unstructured-layer-0.5-dense-8x64"]
    texts = {"methods": "l1", "patterns": "unstructured", "sparsities": "0.5"}
    assert asked("perplexity", formats="bf16", **texts) == asked("perplexity", **texts)


def test_sparsity_0_is_the_controls_alone() -> None:
    cells = axes.cells([SMALL], PRUNED)
    assert {cell["method"] for cell in cells if not cell["sparsity"]} == {"none"}
    assert {cell["sparsity"] for cell in cells if cell["method"] != "none"} == {0.5}


def test_only_a_stochastic_method_has_seeds() -> None:
    seeds: dict[object, set[object]] = {}
    for cell in axes.cells([SMALL], PRUNED):
        seeds.setdefault(cell["method"], set()).add(cell["seed"])
    assert seeds == {"none": {None}, "l1": {None}, "random": {0, 1}}


def test_an_axis_that_is_not_asked_for_multiplies_nothing() -> None:
    assert identifiers(SMALL, "model") == ["bert", "gpt2"]
    assert identifiers(SMALL, "workload", "model") == ["1x8-bert", "1x8-gpt2"]


def test_a_question_across_sparsities_has_no_control() -> None:
    one = replace(SMALL, models=("bert",), sparsities=(0.1, 0.5, 0.9))
    assert identifiers(one, "model", "method", "scope", "seed") == [
        "bert-l1-layer",
        "bert-l1-global",
        "bert-random-layer-0",
        "bert-random-layer-1",
    ]


def test_every_task_and_workload_has_its_own_cells() -> None:
    one = replace(SMALL, models=("bert",), methods=(), workloads=("1x8", "2x8"), tasks=("lm", "classification"))
    assert identifiers(one, "workload", "task") == ["1x8-lm", "1x8-classification", "2x8-lm", "2x8-classification"]


# -- what goes together ---------------------------------------------------------------------------------


def test_cells_of_several_grids_are_their_union_each_once_and_the_control_first() -> None:
    one = replace(SMALL, models=("bert",), methods=("l1",), scopes=("layer",), sparsities=(0.5, 0.9))
    other = replace(one, scopes=("layer", "global"), sparsities=(0.5,))
    assert identifiers((one, other), "method", "scope", "sparsity") == [
        "none-0.0",
        "l1-layer-0.5",
        "l1-layer-0.9",
        "l1-global-0.5",
    ]


GOLDEN_PATTERNS = """
none-0.0
l1-unstructured-layer-0.25
l1-unstructured-layer-0.75
l1-unstructured-global-0.25
l1-unstructured-global-0.75
l1-unstructured-erk-0.25
l1-unstructured-erk-0.75
l1-2:4-row-0.5
l1-1:4-row-0.75
l1-4x1-layer-0.25
l1-4x1-layer-0.75
l1-4x1-global-0.25
l1-4x1-global-0.75
l1-4x1-erk-0.25
l1-4x1-erk-0.75
l1-neurons-layer-0.25
l1-neurons-layer-0.75
l1-neurons-global-0.25
l1-neurons-global-0.75
l1-layers-global-0.25
l1-layers-global-0.75
"""


def test_a_pattern_has_its_own_scopes_and_n_of_m_its_own_sparsity() -> None:
    grid = replace(
        SMALL,
        models=("bert",),
        methods=("l1",),
        patterns=("unstructured", "2:4", "1:4", "4x1", "neurons", "layers"),
        scopes=("layer", "global", "erk"),
        sparsities=(0.25, 0.75),
    )
    assert identifiers(grid, "method", "pattern", "scope", "sparsity") == GOLDEN_PATTERNS.split()


@pytest.mark.parametrize("text", patterns.EXAMPLES)
@pytest.mark.parametrize("scope", prune.SCOPES)
def test_a_scope_that_the_pattern_lacks_gives_way_to_the_one_that_is_meant_when_nothing_is_said(
    text: str, scope: str
) -> None:
    shape = patterns.parse(text)
    grid = replace(SMALL, models=("bert",), methods=("l1",), patterns=(text,), scopes=(scope,), sparsities=(0.5,))
    expected = scope if scope in shape.scopes else shape.scopes[0]
    sparsity = shape.fixed or 0.5
    assert identifiers(grid, "method", "scope", "sparsity") == ["none-0.0", f"l1-{expected}-{sparsity}"]


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (("layer", "global", "row"), ["layer", "row"]),  # chance treats all layers alike
        (("row", "global"), ["row", "global"]),
        (("global",), ["global"]),
    ],
)
def test_chance_is_not_asked_globally_beside_layer_by_layer(scopes: tuple[str, ...], expected: list[str]) -> None:
    grid = replace(SMALL, models=("bert",), methods=("random",), scopes=scopes, seeds=(0,))
    assert identifiers(grid, "method", "scope") == [f"random-{scope}" for scope in expected]


def test_what_a_method_refuses_is_left_out() -> None:
    texts = ("unstructured", "2:4", "4x1", "neurons", "layers")
    grid = replace(SMALL, methods=tuple(METHODS), patterns=texts, scopes=prune.SCOPES)
    cells = axes.cells([grid], ("method", "pattern", "scope", "sparsity"))
    pruned = {(str(c["method"]), str(c["pattern"]), str(c["scope"])) for c in cells if c["method"] != "none"}
    assert [cell for cell in pruned if prune.refusal(*cell)] == []
    possible = {
        (method, text, scope)
        for method, text in itertools.product(METHODS, texts)
        for scope in patterns.parse(text).scopes
        if not prune.refusal(method, text, scope)
    }
    chance = {("random", text, "global") for text in ("unstructured", "4x1", "neurons")}
    assert possible - pruned == chance | {("none", "unstructured", "layer")}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"methods": "ziplm,l2"}, []),
        ({"patterns": "2:4,heads"}, []),
        ({"methods": "ziplm,l2", "patterns": "2:4,heads", "scopes": "layer"}, ["l2-2:4-row-0.5", "ziplm-2:4-row-0.5"]),
        ({"methods": "ziplm", "patterns": "heads", "scopes": "layer,global"}, []),  # of its scopes one is left
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_what_a_method_refuses_is_a_cell_only_where_method_and_pattern_were_both_asked_for(
    texts: dict[str, str], expected: list[str]
) -> None:
    cells = axes.cells(axes.grids(parse({"models": "bert"} | texts), "pruning"), PRUNED)
    pruned = [cell for cell in cells if cell["method"] != "none"]
    assert pruned
    triples = [(cell, prune.refusal(*(str(cell[name]) for name in ("method", "pattern", "scope")))) for cell in pruned]
    assert sorted(axes.identifier(cell).removeprefix("bert-") for cell, reason in triples if reason) == expected


def test_what_was_asked_for_is_not_left_out_without_a_word() -> None:
    options = parse({"profile": "study", "models": "bert", "methods": "ziplm", "sparsities": "0.5"})
    cells = axes.cells(axes.grids(options, "perplexity"), PRUNED)  # single weights alone in this profile
    assert [cell["method"] for cell in cells] == ["none", "ziplm"]
    options = parse({"profile": "study", "models": "bert", "formats": "compact", "sparsities": "0.5"})
    found = axes.cells(axes.grids(options, "latency"), (*PRUNED, "format"))
    assert [cell["format"] for cell in found] == ["dense", "compact", "compact"]  # of two patterns


def test_a_format_that_cannot_run_a_pattern_is_left_out_unless_both_were_asked_for() -> None:
    def formats(**texts: str) -> set[tuple[object, object]]:
        cells = axes.cells(axes.grids(parse({"models": "bert"} | texts), "latency"), (*PRUNED, "format"))
        return {(cell["pattern"], cell["format"]) for cell in cells if cell["pattern"]}

    assert formats(formats="dense,compact") == {
        ("unstructured", "dense"), ("neurons+heads", "dense"), ("neurons+heads", "compact"),
        ("layers", "dense"), ("layers", "compact"),
    }  # fmt: skip
    assert formats(formats="compact", patterns="unstructured") == {("unstructured", "compact")}


def test_a_format_is_left_out_only_where_it_would_run_neither_here_nor_usually(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpus:
        def unsupported(self, pattern: object, dtype: str, device: str) -> str | None:
            return None if (str(pattern), dtype, device) == ("2:4", "float16", "cuda") else "elsewhere"

    monkeypatch.setitem(FORMATS, "semi_structured", OnGpus())

    def formats(**texts: str) -> set[object]:
        cells = axes.cells(axes.grids(parse({"profile": "study"} | texts), "latency"), (*PRUNED, "format"))
        return {cell["format"] for cell in cells if cell["pattern"] == "2:4"}

    assert formats() == {"dense", "packed", "auto"}
    assert formats(dtype="float16") == {"dense", "packed", "auto"}
    assert formats(dtype="float16", device="cuda:1") == {"dense", "packed", "auto", "semi_structured"}


def test_a_question_across_sparsities_leaves_out_a_pattern_with_one() -> None:
    one = replace(SMALL, models=("bert",), patterns=("unstructured", "2:4", "layers"), tasks=("lm",), seeds=(0,))
    assert identifiers(one, *ACROSS) == [
        "bert-l1-unstructured-layer-lm",
        "bert-l1-unstructured-global-lm",
        "bert-l1-layers-global-lm",
        "bert-random-unstructured-layer-0-lm",
        "bert-random-layers-global-0-lm",
    ]
    assert "bert-l1-2:4-row-0.5-lm" in identifiers(one, *PRUNED, "task")


def test_sparsities_are_those_of_all_grids_that_have_the_method_pattern_and_scope() -> None:
    one = replace(SMALL, methods=("l1",), scopes=("layer",), sparsities=(0.9, 0.0, 0.5))
    grids = (one, replace(one, scopes=("layer", "global"), sparsities=(0.1, 0.5)), replace(one, patterns=("2:4",)))
    assert axes.sparsities(grids, "l1", "unstructured", "layer") == (0.1, 0.5, 0.9)
    assert axes.sparsities(grids, "l1", "unstructured", "global") == (0.1, 0.5)
    assert axes.sparsities(grids, "l1", "2:4", "row") == (0.5,)
    assert axes.sparsities(grids, "l1", "unstructured", "row") == ()
    assert axes.sparsities(grids, "random", "unstructured", "layer") == ()


# -- the profiles ---------------------------------------------------------------------------------------


def test_tasks_of_lm_eval_are_asked_over_the_grid_of_perplexity_and_only_where_some_are_named() -> None:
    for profile in axes.PROFILES:
        assert axes.grids(Options(profile=profile), "harness") == ()
    options = Options(profile="smoke", axes={"tasks": ("classification",)}, harness=("a", "b"))
    found = axes.cells(axes.grids(options, "harness"), (*PRUNED, "task"))
    lm = axes.cells(axes.grids(Options(profile="smoke"), "perplexity"), (*PRUNED, "task"))
    assert found == [cell | {"task": f"harness:{name}"} for cell in lm for name in ("a", "b")]


def test_a_profile_has_all_questions_and_known_values() -> None:
    assert (
        set(axes.PROFILES)
        == set(axes.TIME_PER_CELL)
        == {
            *("smoke", "default", "frontier", "study", "full", "break-even"),
        }
    )
    for questions in axes.PROFILES.values():
        assert set(questions) == set(ASKED)
        for grid in itertools.chain(*questions.values()):
            assert set(grid.methods) <= set(METHODS)
            assert set(grid.formats) <= set(NAMES)
            assert set(grid.scopes) <= set(prune.SCOPES)
            assert [str(patterns.parse(text)) for text in grid.patterns] == list(grid.patterns)
            assert all(0 < sparsity < 1 for sparsity in grid.sparsities)
            assert list(grid.sparsities) == sorted(set(grid.sparsities))
            assert not grid.asked


@pytest.mark.parametrize(("profile", "question"), EVERY_QUESTION)
def test_identifiers_are_unique_in_every_question_of_every_profile(profile: str, question: str) -> None:
    grids = axes.grids(Options(profile=profile), question)
    for wanted in ASKED[question]:
        found = identifiers(grids, *wanted)
        assert found
        assert len(found) == len(set(found))


@pytest.mark.parametrize(("profile", "question"), EVERY_QUESTION)
def test_no_profile_asks_for_a_format_that_cannot_run_its_pattern(profile: str, question: str) -> None:
    for grid in axes.PROFILES[profile][question] if "format" in ASKED[question][0] else ():
        reasons = [
            FORMATS[name].unsupported(patterns.parse(text), "float32", "cpu")
            for name, text in itertools.product(set(grid.formats) - {AUTO, "semi_structured"}, grid.patterns)
        ]
        assert reasons == [None] * len(reasons)


@pytest.mark.parametrize("profile", ["smoke", "default"])
def test_every_method_pattern_and_scope_is_among_the_pruned_cells(profile: str) -> None:
    cells = axes.cells(axes.grids(Options(profile=profile), "pruning"), PRUNED)
    assert {cell["method"] for cell in cells} == set(METHODS)
    shapes = {patterns.parse(str(cell["pattern"])) for cell in cells if cell["pattern"]}
    assert {type(shape) for shape in shapes} == {type(patterns.parse(text)) for text in patterns.EXAMPLES}
    assert {cell["scope"] for cell in cells} == {None, *prune.SCOPES}


@pytest.mark.parametrize("question", ASKED)
def test_smoke_has_at_most_40_cells_a_test_and_model_and_every_embedded_model(question: str) -> None:
    grids = axes.grids(Options(profile="smoke"), question)
    for wanted in ASKED[question]:
        cells = axes.cells(grids, wanted)
        models = (
            axes.EMBEDDED if question not in ("recovery", "composition") else axes.EMBEDDED[:1]
        )  # training takes long
        assert all(1 <= sum(cell["model"] == model for cell in cells) <= 40 for model in models)


def test_study_is_the_originals_models_sparsities_and_workload() -> None:
    for question in set(ASKED) - {"composition"}:
        grid, *halves = axes.grids(Options(profile="study"), question)
        assert [model.split("/")[1] for model in grid.models] == ["bert-base-uncased", "gpt2", "bart-base"]
        assert {0.0, *grid.sparsities} == {0.0, 0.1, 0.5, 0.9, 0.95, 0.99}
        assert grid.workloads == ("128x64",)
        assert (grid.methods, grid.patterns) == (("l1",), ("unstructured",))
        assert [each.patterns for each in halves] == [("2:4",)] * (question in ("latency", "memory"))


def test_the_map_of_break_even_begins_with_what_tells_most_and_is_of_latency_alone() -> None:
    grids = axes.grids(parse({"profile": "break-even"}), "latency")
    cells = [cell for cell in axes.cells(grids, ASKED["latency"][0]) if cell["method"] != "none"]
    sparsities = list(dict.fromkeys(cell["sparsity"] for cell in cells))
    assert sparsities[0] == 0.7
    assert {cell["format"] for cell in cells} == {"packed", "csr", "bsr"}
    assert len(cells) == len(sparsities) * 3 * len(axes.MAPPED)
    assert [name for name, found in axes.PROFILES["break-even"].items() if found] == ["latency"]
    full = axes.cells(axes.grids(parse({"profile": "full"}), "latency"), ("sparsity", "format", "workload"))
    assert {(cell["format"], cell["workload"]) for cell in full} >= {("packed", each) for each in axes.MAPPED}


def test_the_ladder_of_formats_is_measured_where_single_weights_go() -> None:
    for profile in ("smoke", "default", "study", "full"):
        cells = axes.cells(axes.grids(parse({"profile": profile}), "latency"), ASKED["latency"][0])
        assert {cell["format"] for cell in cells} >= set(axes.LADDER)


@pytest.mark.parametrize(("profile", "seconds"), axes.TIME_PER_CELL.items())
def test_a_latency_takes_the_profiles_time_unless_the_command_line_says_otherwise(profile: str, seconds: float) -> None:
    assert axes.time_per_cell(Options(profile=profile)) == seconds > 0
    assert axes.time_per_cell(Options(profile=profile, time_per_cell=7.5)) == 7.5


# -- the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize("question", [question for question, found in axes.PROFILES["default"].items() if found])
def test_the_command_line_replaces_an_axis_in_every_question(question: str) -> None:
    texts = {
        "models": "gpt2",
        "methods": "random",
        "scopes": "layer",
        "sparsities": "0.25",
        "formats": "masked",
        "workloads": "3x7",
        "seeds": "5",
        "patterns": "unstructured",
    }
    found = axes.cells(axes.grids(parse(texts), question), (*PRUNED, "format", "workload"))
    assert [tuple(cell.values()) for cell in found] == [
        ("gpt2", "none", None, None, None, 0.0, "dense", "3x7"),
        ("gpt2", "random", "unstructured", "layer", 5, 0.25, "masked", "3x7"),
    ]


@pytest.mark.parametrize("method", axes.EVERY_METHOD)
def test_a_method_alone_on_the_command_line_is_measured_in_the_default_profile(method: str) -> None:
    for question in ("pruning", "latency", "memory", "perplexity", "classification"):
        found = asked(question, methods=method)
        assert found[0].startswith("none-0.0")
        assert len(found) > 1
        pruned = [name for name in found if not name.startswith("none-0.0")]
        assert pruned
        assert all(name.startswith(f"{method}-") for name in pruned)


def test_a_method_for_groups_is_measured_in_the_patterns_of_the_profile_that_it_can_do() -> None:
    assert asked("pruning", methods="l2")[1:] == [
        "l2-neurons+heads-layer-0.5",
        "l2-4x1-layer-0.5",
        "l2-layers-global-0.5",
    ]
    assert asked("latency", methods="shortgpt") == [
        "none-0.0-dense-8x64",
        "none-0.0-bf16-8x64",
        "shortgpt-layers-global-0.5-compact-8x64",
    ]
    assert asked("perplexity", methods="ziplm") == [
        "none-0.0-lm",
        "ziplm-neurons+heads-layer-0.25-lm",
        "ziplm-neurons+heads-layer-0.5-lm",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2:4", {"l1", "random", "wanda", "sparsegpt", "taylor"}),
        ("4x1", {"l1", "l2", "random", "wanda", "taylor"}),
        ("heads", {"l1", "l2", "random", "wanda", "taylor", "ziplm"}),
        ("layers", {"l1", "l2", "random", "taylor", "shortgpt"}),
    ],
)
def test_a_pattern_alone_on_the_command_line_is_measured_with_every_method_that_can_do_it(
    text: str, expected: set[str]
) -> None:
    found = asked("pruning", patterns=text)
    assert found[0] == "none-0.0"
    assert {name.split("-")[0] for name in found[1:]} == expected
    assert {name.split("-")[1] for name in found[1:]} == {text}


def test_cells_of_n_of_m_alone_are_one_a_method_and_seed() -> None:
    assert asked("pruning", patterns="2:4") == [
        "none-0.0",
        "l1-2:4-row-0.5",
        "random-2:4-row-0-0.5",
        "wanda-2:4-row-0.5",
        "sparsegpt-2:4-row-0.5",
        "taylor-2:4-row-0.5",
    ]
    grids = axes.grids(parse({"patterns": "2:4"}), "perplexity")
    assert axes.cells(grids, ACROSS) == []  # one sparsity is no curve


def test_a_scope_alone_on_the_command_line_is_that_of_every_pattern_that_has_it() -> None:
    grids = axes.grids(parse({"scopes": "row"}), "pruning")
    found: dict[object, set[object]] = {}
    for cell in axes.cells(grids, PRUNED):
        found.setdefault(cell["pattern"], set()).add(cell["scope"])
    assert found == {
        None: {None},
        "unstructured": {"row"},
        "4x1": {"row"},
        "2:4": {"row"},
        "neurons+heads": {"layer"},
        "layers": {"global"},
    }
    assert "sparsegpt-unstructured" not in " ".join(asked("pruning", scopes="row"))


def test_what_the_command_line_leaves_alone_is_the_profiles() -> None:
    default = axes.grids(Options(), "latency")
    assert axes.grids(parse({"models": "bert"}), "latency") == tuple(
        replace(grid, models=("bert",)) for grid in default
    )
    assert axes.grids(parse({"profile": "smoke"}), "latency") != default


def test_grids_that_the_command_line_makes_equal_are_one() -> None:
    texts = {"patterns": "unstructured", "methods": "l1", "sparsities": "0.5", "formats": "dense"}
    assert len(axes.grids(Options(), "latency")) == 4
    assert len(axes.grids(parse(texts), "latency")) == 1


@pytest.mark.parametrize(
    ("tasks", "question", "expected"),
    [
        ("lm", "perplexity", ("lm",)),
        ("lm", "classification", ()),
        ("classification,lm", "classification", ("classification",)),
        ("lm", "latency", None),
    ],
)
def test_tasks_narrow_a_question_to_its_own(tasks: str, question: str, expected: tuple[str, ...] | None) -> None:
    assert {grid.tasks for grid in axes.grids(parse({"tasks": tasks}), question)} == {expected}


def test_a_question_of_whose_tasks_none_is_left_has_no_cell() -> None:
    assert [axes.cells([replace(SMALL, tasks=())], wanted) for wanted in ASKED["perplexity"]] == [[], [], []]
    assert axes.cells([replace(SMALL, tasks=None)], ASKED["latency"][0])


def test_an_unknown_profile_is_refused_with_the_known_and_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'smoke'\? Known: smoke, default, study, full, frontier"):
        axes.grids(parse({"profile": "smok"}), "latency")


# -- recoveries -----------------------------------------------------------------------------------------

RECOVERED = ("model", "method", "pattern", "scope", "sparsity", "recovery", "task")


def recovered(**changes: Any) -> list[str]:
    grid = replace(SMALL, models=("bert",), methods=("l1",), scopes=("layer",), tasks=("classification",), **changes)
    return [name.removeprefix("bert-") for name in identifiers(grid, *RECOVERED)]


def test_the_unpruned_model_is_trained_as_long_once_for_each_budget() -> None:
    assert recovered(recoveries=("reconstruct", "finetune:9", "distill:9", "gradual-distill:5", "transfer:5")) == [
        *(f"none-0.0-{control}-classification" for control in ("finetune:9", "finetune:5", "transfer:5")),
        *(
            f"l1-unstructured-layer-0.5-{each}-classification"
            for each in ("reconstruct", "finetune:9", "distill:9", "gradual-distill:5", "transfer:5")
        ),
    ]


def test_one_shot_is_no_cell_of_the_question_of_recovery() -> None:
    assert recovered(recoveries=("none",)) == []
    assert recovered(recoveries=("none", "reconstruct")) == ["l1-unstructured-layer-0.5-reconstruct-classification"]


def test_a_recovery_that_is_refused_is_left_out_unless_it_was_asked_for() -> None:
    grid = replace(SMALL, models=("bert",), methods=("random",), scopes=("layer",), recoveries=("gradual-distill:5",))
    assert identifiers(grid, "method", "recovery") == ["none-finetune:5"]
    named = replace(grid, asked=frozenset({"gradual-distill:5"}))
    assert identifiers(named, "method", "recovery") == ["none-finetune:5", "random-gradual-distill:5"]


def test_a_transfer_ends_in_a_classifier() -> None:
    grid = replace(SMALL, models=("bert",), methods=("l1",), scopes=("layer",), recoveries=("transfer:5",))
    assert identifiers(replace(grid, tasks=("lm",)), "method", "recovery") == []


def test_only_a_question_that_spans_recoveries_is_asked_with_those_of_the_command_line() -> None:
    options = parse({"recoveries": "finetune:7", "profile": "smoke"})
    assert {grid.recoveries for grid in axes.grids(options, "recovery")} == {("finetune:7",)}
    assert {grid.recoveries for grid in axes.grids(options, "latency")} == {None}


def test_a_composition_goes_on_from_step_to_step() -> None:
    steps = axes.composed("distill:9", 3)
    assert [str(step) for step in steps] == ["ziplm 0.8 neurons distill:9", "l1 0.9 unstructured distill:9", "bf16"]
    assert [step.format for step in steps] == ["compact", "packed", "bf16"]
    assert axes.composed("distill:9", 1) == steps[:1]
    sparsities = [step.recipe.sparsity for step in steps if step.recipe]
    assert sparsities == sorted(sparsities), "sparsity is of all prunable weights, so no step may ask for less"
