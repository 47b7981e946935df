"""A folder of tasks is data: what would have code run is refused before anything of it is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity.errors import BadValue
from sparsity.harness import own_tasks
from tests.harness import builders

pytest.importorskip("yaml", reason="PyYAML is not installed; the extra harness brings it")


def refusal(folder: Path) -> str:
    with pytest.raises(BadValue) as error:
        own_tasks.read(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_task_is_what_its_file_says_with_data_found_from_there(tmp_path: Path) -> None:
    own = own_tasks.read(builders.lay(tmp_path / "tasks"))
    there = {"data_files": {"test": str(tmp_path / "tasks" / "topics.jsonl")}}
    assert own == {"topic": builders.CHOICE | {"dataset_kwargs": there}}


def test_what_is_included_is_overridden_by_what_includes_it(tmp_path: Path) -> None:
    folder = builders.lay(tmp_path / "tasks")
    (folder / "second.yaml").write_text("include: topic.yaml\ntask: second\ndoc_to_text: '{{text}}'\n")
    own = own_tasks.read(folder)
    assert own["second"] == own["topic"] | {"task": "second", "doc_to_text": "{{text}}"}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("process_docs: !function utils.process", "!function"),
        ("doc_to_text: !!python/object/apply:os.system [ls]", "would have code run"),
        ("class: thing.Task", "'class' would have code run"),
        ("unsafe_code: true", "'unsafe_code' would have code run"),
        ("use_prompt: promptsource:all", "'use_prompt' would have code run"),
        ("metric_list: [{metric: bleurt, hf_evaluate: true}]", "'hf_evaluate' would have code run"),
        ("dataset_kwargs: {trust_remote_code: true}", "'trust_remote_code' would have code run"),
        ("doc_to_image: picture", "more than text"),
        ("dataset_path: pandas", "dataset_path 'pandas' is none of csv"),
        ("dataset_kwargs: {data_files: {test: gone.jsonl}}", "'gone.jsonl' is not there"),
        ("include: ../outside.yaml", "lies outside"),
        ("include: bad.yaml", "includes itself"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_what_would_run_code_or_cannot_be_read_is_refused_in_one_line(tmp_path: Path, lines: str, told: str) -> None:
    (tmp_path / "outside.yaml").write_text("a: 1")
    folder = builders.lay(tmp_path / "tasks")
    (folder / "bad.yaml").write_text(f"include: topic.yaml\ntask: bad\n{lines}\n" if "include" not in lines else lines)
    said = refusal(folder)
    assert told in said
    assert "bad.yaml" in said or "outside.yaml" in said


def test_what_is_forbidden_is_found_in_what_is_included_too(tmp_path: Path) -> None:
    folder = builders.lay(tmp_path / "tasks")
    (folder / "base").mkdir()
    (folder / "base" / "part.yaml").write_text("nested: [{deep: {class: x}}]")
    assert "part.yaml: 'class'" in refusal(folder)


def test_folders_without_a_task_and_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "is no folder" in refusal(tmp_path / "nowhere")
    assert "0 YAML files and no task" in refusal(tmp_path)
    folder = builders.lay(tmp_path / "tasks")
    (folder / "again.yaml").write_text((folder / "topic.yaml").read_text())
    assert "another file of the folder holds a task 'topic'" in refusal(folder)


def test_a_table_that_refers_to_itself_again_and_again_is_read_once(tmp_path: Path) -> None:
    folder = builders.lay(tmp_path / "tasks")
    bomb = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    (folder / "bomb.yaml").write_text("\n".join(bomb))
    assert list(own_tasks.read(folder)) == ["topic"]
