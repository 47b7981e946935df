"""The grid of every question: which cells there are, what they are called, and how many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import axes
from benchmarks.axes import Grid
from sparsity.errors import UnknownName
from sparsity.formats import FORMATS
from sparsity.methods import METHODS
from sparsity.options import Options, parse

PRUNED = ("model", "method", "pattern", "scope", "seed", "sparsity")
ASKED: dict[str, list[tuple[str, ...]]] = {
    "weights": [("model",)],
    "pruning": [PRUNED],
    "latency": [(*PRUNED, "format", "workload")],
    "memory": [(*PRUNED, "format", "workload")],
    "perplexity": [(*PRUNED, "task"), ("model", "method", "pattern", "scope", "seed", "task"), ("model", "task")],
    "classification": [(*PRUNED, "task"), ("model", "method", "pattern", "scope", "seed", "task"), ("model", "task")],
}
"""The axes that the tests of each question ask for."""
EVERY_QUESTION = [(profile, question) for profile in axes.PROFILES for question in axes.PROFILES[profile]]

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


def identifiers(grid: Grid, *wanted: str) -> list[str]:
    return [axes.identifier(cell) for cell in axes.cells(grid, wanted)]


def test_identifiers_of_a_small_grid_are_what_they_have_always_been() -> None:
    expected = [f"{model}-{line}" for model in ("bert", "gpt2") for line in GOLDEN.split()]
    assert identifiers(SMALL, *(name for name in axes.NAMES if name != "task")) == expected


def test_the_control_is_there_once_a_model_and_has_nothing_to_choose() -> None:
    cells = axes.cells(replace(SMALL, tasks=("lm",)), axes.NAMES)
    control = {"method": "none", "pattern": None, "scope": None, "sparsity": 0.0, "seed": None, "format": "dense"}
    assert [cell for cell in cells if cell["method"] == "none"] == [
        {"model": model, **control, "workload": "1x8", "task": "lm"} for model in ("bert", "gpt2")
    ]


@pytest.mark.parametrize("methods", [(), ("none",), ("none", "l1"), ("l1", "none", "random")])
def test_the_control_is_there_once_whatever_methods_are_asked_for(methods: tuple[str, ...]) -> None:
    cells = axes.cells(replace(SMALL, models=("bert",), methods=methods), PRUNED)
    assert [cell["method"] for cell in cells].count("none") == 1
    assert cells[0]["method"] == "none"
    assert {cell["method"] for cell in cells} == {"none", *methods}


def test_sparsity_0_is_the_controls_alone() -> None:
    cells = axes.cells(SMALL, PRUNED)
    assert {cell["method"] for cell in cells if not cell["sparsity"]} == {"none"}
    assert {cell["sparsity"] for cell in cells if cell["method"] != "none"} == {0.5}


def test_only_a_stochastic_method_has_seeds() -> None:
    seeds: dict[object, set[object]] = {}
    for cell in axes.cells(SMALL, PRUNED):
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


def test_a_profile_has_all_questions_and_known_values() -> None:
    assert set(axes.PROFILES) == {"smoke", "default", "study", "full"}
    for questions in axes.PROFILES.values():
        assert set(questions) == set(ASKED)
        for grid in questions.values():
            assert set(grid.methods) <= set(METHODS)
            assert set(grid.formats) <= set(FORMATS)
            assert all(0 < sparsity < 1 for sparsity in grid.sparsities)
            assert list(grid.sparsities) == sorted(set(grid.sparsities))


@pytest.mark.parametrize(("profile", "question"), EVERY_QUESTION)
def test_identifiers_are_unique_in_every_question_of_every_profile(profile: str, question: str) -> None:
    grid = axes.grid(Options(profile=profile), question)
    for wanted in ASKED[question]:
        found = identifiers(grid, *wanted)
        assert found
        assert len(found) == len(set(found))


@pytest.mark.parametrize("question", ASKED)
def test_smoke_has_at_most_40_cells_a_test_and_every_embedded_model(question: str) -> None:
    grid = axes.grid(Options(profile="smoke"), question)
    assert grid.models == ("bert", "gpt2", "bart")
    for wanted in ASKED[question]:
        assert len(axes.cells(grid, wanted)) <= 40


def test_study_is_the_originals_models_sparsities_and_workload() -> None:
    for question in ASKED:
        grid = axes.grid(Options(profile="study"), question)
        assert [model.split("/")[1] for model in grid.models] == ["bert-base-uncased", "gpt2", "bart-base"]
        assert {0.0, *grid.sparsities} == {0.0, 0.1, 0.5, 0.9, 0.95, 0.99}
        assert grid.workloads == ("128x64",)


@pytest.mark.parametrize("question", ASKED)
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
    grid = axes.grid(parse(texts), question)
    found = axes.cells(grid, (*PRUNED, "format", "workload"))
    assert [tuple(cell.values()) for cell in found] == [
        ("gpt2", "none", None, None, None, 0.0, "dense", "3x7"),
        ("gpt2", "random", "unstructured", "layer", 5, 0.25, "masked", "3x7"),
    ]


def test_what_the_command_line_leaves_alone_is_the_profiles() -> None:
    default = axes.grid(Options(), "latency")
    assert axes.grid(parse({"models": "bert"}), "latency") == replace(default, models=("bert",))
    assert axes.grid(parse({"profile": "smoke"}), "latency") != default


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
    assert axes.grid(parse({"tasks": tasks}), question).tasks == expected


def test_a_question_of_whose_tasks_none_is_left_has_no_cell() -> None:
    assert [axes.cells(replace(SMALL, tasks=()), wanted) for wanted in ASKED["perplexity"]] == [[], [], []]
    assert axes.cells(replace(SMALL, tasks=None), ASKED["latency"][0])


def test_an_unknown_profile_is_refused_with_the_known_and_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'smoke'\? Known: smoke, default, study, full"):
        axes.grid(parse({"profile": "smok"}), "latency")
