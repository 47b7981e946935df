"""The published schema of result files: it is what the classes say, and holds for what was ever published."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sparsity.errors import ResultNotReadable
from sparsity.record import KEY, Record, RunPart, to_json
from sparsity.result_file import load
from sparsity.validation import FILE, validator
from tests.reports import builders
from tests.test_record import FULL, RUN, broken, records

ROOT = Path(__file__).parent.parent
PUBLISHED = sorted((ROOT / "reports" / "published").glob("*.json"))
SCHEMA: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
ONLY_THE_READER = re.compile(
    r"the bin edges do not ascend|counts for \d+ bins|the sizes that were read do not ascend"
    r"|\d+ seeds, \d+ values, \d+ differences|expected int, got float"
    r"|was measured on node '.*', and the file describes "
)
"""What the reader refuses and no schema can: what ties two lists together, or a record and its node, and 2.0 where a
whole number must stand."""


def whole_file() -> dict[str, Any]:
    """A small file with a value in every section and field of a record and a run."""
    data = builders.run_json([("a.py::t", FULL), ("a.py::u", builders.accuracy("bert", "l1", "layer", 0.5))])
    data["benchmarks"].append({"fullname": "theirs", "extra_info": {}})
    data[KEY] = to_json(RUN)
    return data


def test_the_packaged_file_is_fresh() -> None:
    command = [sys.executable, "-m", "sparsity.schema"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == FILE.read_text(encoding="utf-8"), (
        "run python -m sparsity.schema > sparsity/result-file.schema.json"
    )


def test_it_is_a_schema_of_the_draft_that_it_names() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["properties"][KEY] == {"$ref": "#/$defs/RunPart"}
    sparsity = SCHEMA["$defs"]["Cell"]["properties"]["sparsity"]
    assert sparsity == {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
    assert SCHEMA["$defs"]["Pruned"]["properties"]["seconds"]["description"].startswith("What pruning cost")


def test_every_field_of_every_class_stands_in_it() -> None:
    assert {"schema", *Record.__dataclass_fields__} == SCHEMA["$defs"]["Record"]["properties"].keys()
    assert {"schema", *RunPart.__dataclass_fields__} == SCHEMA["$defs"]["RunPart"]["properties"].keys()
    assert SCHEMA["$defs"]["Record"]["required"] == ["schema", "cell"]
    sections = {"Cell", "Pruned", "Latency", "Memory", "Quality", "Recovered", "Training", "Weights", "Roofline"}
    assert sections < SCHEMA["$defs"].keys()


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_every_published_file_obeys_it_and_is_read(path: Path) -> None:
    assert load(path).entries
    data = json.loads(path.read_text(encoding="utf-8"))
    record = next(e["extra_info"][KEY] for e in data["benchmarks"] if KEY in e["extra_info"])
    record["cell"]["sparsity"] = 1.0
    assert not validator().is_valid(data)


def test_a_whole_file_obeys_it_and_unknown_fields_are_allowed_everywhere() -> None:
    data = whole_file()
    assert validator().is_valid(data)
    for known in ([], ["benchmarks", 0, "extra_info", KEY], ["benchmarks", 0, "extra_info", KEY, "latency"], [KEY]):
        place = data
        for key in known:
            place = place[key]  # type: ignore[index]  # lists by number, objects by name
        place["of a later version"] = [None, {"x": 1}]
    assert validator().is_valid(data)


@settings(max_examples=50, deadline=None)
@given(records)
def test_whatever_is_written_obeys_it(record: Record) -> None:
    data = builders.run_json([("t", record)])
    assert next(validator().iter_errors(data), None) is None


def test_what_no_accuracy_can_be_is_refused() -> None:
    data = whole_file()
    place = ("benchmarks", 1, "extra_info", KEY, "quality", "value")
    assert validator().is_valid(broken(data, place, 1.0))
    assert not validator().is_valid(broken(data, place, 1.5))
    trained = builders.run_json([("t", builders.recovered())])
    for inner in (("one_shot",), ("control",), ("values", 0)):
        path = ("benchmarks", 0, "extra_info", KEY, "recovered", *inner)
        assert not validator().is_valid(broken(trained, path, 1.5)), inner


# -- files that were changed at random -------------------------------------------------------------------

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([-1, 0, 1, 2, -0.5, 0.5, 1.0, 1e101, "", "faster", "accuracy", "passed"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    if isinstance(value, dict | list):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from nodes(item)


@st.composite
def changed_files(draw: st.DrawFn) -> dict[str, Any]:
    """A valid file in which one to three nodes were deleted, replaced, or put twice."""
    data = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        found = list(nodes(data))
        place, key = found[draw(st.integers(0, len(found) - 1))]
        change = draw(st.sampled_from(["delete", "replace", "replace", "duplicate"]))
        if change == "delete":
            del place[key]
        elif change == "replace":
            place[key] = draw(anything)
        elif isinstance(place, list):
            place.insert(key, copy.deepcopy(place[key]))
        else:
            place[draw(st.sampled_from([*place, "new"]))] = copy.deepcopy(place[key])
    return data


WHOLE = whole_file()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("changed") / "run.json"


@settings(max_examples=150, deadline=None)
@given(data=changed_files())
def test_a_changed_file_is_read_or_refused_in_a_line_as_the_schema_says(path: Path, data: dict[str, Any]) -> None:
    builders.write(path, data)
    obeys = validator().is_valid(data)
    try:
        load(path)
    except ResultNotReadable as error:
        said = str(error)
        assert said.startswith(f"{path}: ")
        assert said.isprintable()
        assert not obeys or ONLY_THE_READER.search(said), said
    else:
        assert obeys


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_key_that_stands_twice_is_refused_wherever_it_stands(path: Path, data: st.DataObject) -> None:
    text = json.dumps(WHOLE)
    key = data.draw(st.sampled_from(list(re.finditer(r'[{ ]("[^"]+"): ', text))))
    path.write_text(f"{text[: key.start(1)]}{key[1]}: 1, {text[key.start(1) :]}", encoding="utf-8")
    with pytest.raises(ResultNotReadable, match=r"not a JSON file \(the key '.*' stands twice in an object\)"):
        load(path)
