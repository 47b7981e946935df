"""The fixtures of the benchmarks, each one call into the library, and the cells they span."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import axes
from sparsity import prune
from sparsity.bench import CONTROL, Bench, Subject
from sparsity.tasks import trends

PLUGINS = ("memory", "workers", "plugin", "baseline", "guard", "ray")
pytest_plugins = [*(f"sparsity.pytest_{name}" for name in PLUGINS), "pytester"]


def question_grids(config: pytest.Config, path: Path) -> axes.Grids:
    """The grids of the question that a benchmark file asks."""
    from sparsity.pytest_plugin import run_options  # not above: pytest wants to import its plugins first

    return axes.grids(run_options(config), path.stem.removeprefix("test_"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each cell of the question's grid, over the axes that the test asks for."""
    path = metafunc.definition.path
    if path.parent.name != "benchmarks" or not path.name.startswith("test_"):
        return
    grids = question_grids(metafunc.config, path)
    spans_tasks = any(grid.tasks is not None for grid in grids)
    wanted = [name for name in metafunc.fixturenames if name in axes.NAMES and (name != "task" or spans_tasks)]
    cells = axes.cells(grids, wanted) if wanted else []
    values = [pytest.param(*cell.values(), id=axes.identifier(cell)) for cell in cells]
    if wanted and not cells:
        reason = pytest.mark.skip(reason="the options leave no cell for this question")
        values = [pytest.param(*[None] * len(wanted), id="none", marks=reason)]
    if wanted:
        metafunc.parametrize(wanted, values)


@pytest.fixture
def task(bench: Bench, model: str) -> str:
    """The task whose head the model has, where a question does not span tasks."""
    return bench.main_task(model)


@pytest.fixture
def subject(bench: Bench, model: str, task: str) -> Subject:
    """The dense model, and a workspace that is pruned in place."""
    return bench.subject(model, task)


@pytest.fixture
def recipe(
    bench: Bench, method: str, pattern: str | None, scope: str | None, seed: int | None, sparsity: float
) -> prune.Recipe:
    """What to prune, out of the axes."""
    if method == CONTROL.method:
        return CONTROL
    return bench.recipe(method, sparsity, pattern or "unstructured", scope or "", seed or 0)


@pytest.fixture
def grids(request: pytest.FixtureRequest) -> axes.Grids:
    """The grids of the question that this file asks."""
    return question_grids(request.config, request.node.path)


@pytest.fixture
def curve(
    bench: Bench, grids: axes.Grids, model: str, method: str, pattern: str, scope: str, seed: int | None, task: str
) -> list[trends.Point]:
    """One method's scores at every sparsity of the grids, dense first."""
    asked = axes.sparsities(grids, method, pattern, scope)
    return bench.curve(model, task, [bench.recipe(method, s, pattern, scope, seed or 0) for s in asked])


@pytest.fixture
def pruned_model(bench: Bench, subject: Subject, recipe: prune.Recipe) -> prune.PrunedModel:
    """The masked dense model of the cell."""
    return bench.pruned(subject, recipe)


@pytest.fixture
def expected(bench: Bench, pruned_model: prune.PrunedModel, workload: str) -> Any:
    """What the masked dense model computes, which every format must reproduce."""
    return bench.call(pruned_model.model, workload)()


@pytest.fixture
def time_per_cell(pytestconfig: pytest.Config) -> float:
    """Seconds for each latency."""
    from sparsity.pytest_plugin import run_options

    return axes.time_per_cell(run_options(pytestconfig))


@pytest.fixture
def executed_model(bench: Bench, pruned_model: prune.PrunedModel, format: str, workload: str) -> Any:  # noqa: A002  # the axis's name
    """The pruned model in the cell's execution format."""
    return bench.executed(pruned_model, format, workload)


@pytest.fixture
def forward(bench: Bench, executed_model: Any, workload: str) -> Callable[[], object]:
    """A forward pass on the cell's workload; returns when the device is done."""
    return bench.forward(executed_model, workload)
