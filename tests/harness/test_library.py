"""The door to lm-eval: tasks that are loaded without a trace, and those that are not to be had."""

from __future__ import annotations

import importlib.util
import logging
import types
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed; the extra harness brings it")

from sparsity.errors import BadValue
from sparsity.harness import library
from tests.harness import builders


def refusal(names: tuple[str, ...], folder: Path | None) -> str:
    with pytest.raises(BadValue) as error:
        library.Tasks.of(names, None if folder is None else str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """lm-eval's index with what a test puts there; its own takes long to make."""
    index: dict[str, Any] = {}
    monkeypatch.setattr(library, "_library", lambda: types.SimpleNamespace(task_index=index))
    return index


def entry(kind: str, tags: tuple[str, ...] = (), **config: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(kind=types.SimpleNamespace(name=kind), cfg=config, tags=set(tags))


def test_a_task_of_ones_own_is_loaded_and_leaves_nothing_in_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tasks = library.Tasks.of(("topic",), str(builders.lay(tmp_path / "tasks")))
    documents = list(tasks.loaded["topic"].eval_docs)
    assert [row["text"] for row in documents] == [row["text"] for row in builders.rows(40)]
    assert not (tmp_path / "cache").exists()
    assert not documents[0].keys() - {"text", "choices", "label"}


def test_the_fingerprint_knows_the_library_the_version_and_what_is_asked_of_whom(tmp_path: Path) -> None:
    def of(folder: str, count: int, **changes: Any) -> dict[str, str]:
        laid = builders.lay(tmp_path / folder, builders.CHOICE | changes, count=count)
        return library.Tasks.of(("topic",), str(laid)).fingerprint()

    found = of("a", 40)
    assert set(found) == {"lm-eval", "harness:topic"}
    assert found["harness:topic"].startswith("1.5 ")
    assert of("b", 40) == found
    assert of("c", 41) != found
    assert of("d", 40, doc_to_text="{{text}}") != found


def test_a_name_that_nobody_knows_is_told_with_the_nearest(tmp_path: Path, indexed: dict[str, Any]) -> None:
    folder = builders.lay(tmp_path / "tasks")
    assert "unknown harness task 'topik'; did you mean 'topic'?" in refusal(("topik",), folder)
    indexed.update({f"task_{i}": entry("TASK") for i in range(100)} | {"hellaswag": entry("TASK")})
    told = refusal(("helaswag",), None)
    assert told == "unknown harness task 'helaswag'; did you mean 'hellaswag'?"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (entry("GROUP", task=["b", "a"]), "is a group of 2 tasks; name some of them: b, a"),
        (entry("TAG", ("x", "y")), "is a tag of 2 tasks; name some of them: x, y"),
        (entry("TASK", unsafe_code=True), "runs code that a model wrote"),
        (entry("TASK", dataset_kwargs={"trust_remote_code": True}), "has its data set's code run"),
        (entry("TASK", metric_list=[{"metric": "bertscore"}]), "metric 'bertscore' would be fetched and run"),
        (entry("TASK", metric_list=[{"metric": "acc", "hf_evaluate": True}]), "metric 'acc' would be fetched and run"),
    ],
)
def test_groups_and_tasks_that_have_code_run_are_refused(
    indexed: dict[str, Any], found: types.SimpleNamespace, told: str
) -> None:
    indexed["one"] = found
    assert told in refusal(("one",), None)


def test_metrics_that_lm_eval_does_not_have_are_refused_in_ones_own_tasks(tmp_path: Path) -> None:
    path = str(Path(library.__file__).parent)
    for metric in ("bleurt", path):
        folder = builders.lay(tmp_path / "tasks", builders.CHOICE | {"metric_list": [{"metric": metric}]})
        assert "would be fetched and run" in refusal(("topic",), folder)


def test_a_template_has_no_way_out_of_its_sandbox(tmp_path: Path) -> None:
    template = "{{ text.__class__.__mro__[1].__subclasses__() }}"
    folder = builders.lay(tmp_path / "tasks", builders.CHOICE | {"doc_to_text": template})
    assert "cannot be loaded: access to attribute '__class__'" in refusal(("topic",), folder)


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    folder = builders.lay(tmp_path / "tasks", builders.CHOICE | {"test_split": "nowhere"})
    assert "harness task 'topic' cannot be loaded: " in refusal(("topic",), folder)
    assert "has 1 documents" in refusal(("topic",), builders.lay(tmp_path / "one", count=1))


def test_without_lm_eval_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal(("topic",), None).endswith("pip install 'sparsity-bench[harness]'")


def test_warnings_are_noted_once_and_all_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    import evaluate
    from lm_eval import utils

    notes: dict[str, None] = {}
    log, usual = logging.getLogger("lm_eval"), (utils.env, evaluate.load)
    before = log.level, log.propagate, list(log.handlers)
    with library.quiet(notes):
        for number in range(3):
            log.getChild("tasks").warning("document %d is odd", number)
        log.getChild("tasks").info("at work")
        with pytest.raises(BadValue, match="metric 'squad' would be fetched and run"):
            evaluate.load("squad")
    assert list(notes) == ["lm-eval: document 0 is odd"]
    assert (log.level, log.propagate, log.handlers) == before
    assert (utils.env, evaluate.load) == usual
    assert capsys.readouterr() == ("", "")
