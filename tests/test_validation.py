"""What is said of a file that breaks the schema: its place, what is wrong, what to do, in one line."""

from __future__ import annotations

from typing import Any

import pytest

from sparsity.errors import ResultNotReadable
from sparsity.record import KEY
from sparsity.validation import MEND, check
from tests.test_record import Path, broken
from tests.test_schema import whole_file

OURS: Path = ("benchmarks", 0, "extra_info", KEY)
HERE = "benchmarks[0].extra_info.sparsity"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ((*OURS, "latency", "low"), "fast", f"{HERE}.latency.low (a.py::t): expected float, got str"),
        ((*OURS, "latency", "low"), None, f"{HERE}.latency.low (a.py::t): expected float, got NoneType"),
        (
            (*OURS, "latency", "verdict"),
            "fast",
            "latency.verdict (a.py::t): 'fast' is none of faster, same, slower, inc",
        ),
        ((*OURS, "cell", "sparsity"), 1, "cell.sparsity (a.py::t): 1 is not below 1"),
        ((*OURS, "cell", "sparsity"), -0.5, "cell.sparsity (a.py::t): -0.5 is less than 0"),
        ((*OURS, "latency", "high"), 1e101, "latency.high (a.py::t): 1e+101 is more than 1e+100"),
        ((*OURS, "weights", "edges"), [1.0], "weights.edges (a.py::t): [1.0] has fewer than 2 entries"),
        ((*OURS, "quality", "also", "macro F1"), 2, "quality.also.macro F1 (a.py::t): 2 is more than 1"),
        ((*OURS, "memory"), {}, f"{HERE}.memory (a.py::t): 'weights_bytes' is missing"),
        ((*OURS, "memory"), [], f"{HERE}.memory (a.py::t): expected object, got list"),
        ((*OURS, "schema"), 2, f"{HERE}.schema (a.py::t): schema 2, but this version reads schema 1"),
        ((KEY, "roofline", "flops_per_second"), {}, "sparsity.roofline.flops_per_second: {} has fewer than 1 entries"),
        ((KEY, "roofline", "reads", 0, "bytes_per_second"), 0, "reads[0].bytes_per_second: 0 is not above 0"),
        ((KEY, "models", "bert", "digest"), "ABC", "models.bert.digest: 'ABC' is not of the form ^[0-9a-f]{64}$"),
        (
            (KEY, "fingerprint", "cores"),
            [],
            "sparsity.fingerprint.cores: expected str or int or float or bool, got list",
        ),
        (("datetime",), 3, "datetime: expected str, got int"),
        (("machine_info", "cpu"), [], "machine_info.cpu: expected object, got list"),
        (("benchmarks",), [], "benchmarks: holds no record of ours"),
        (("benchmarks", 1), "x", "benchmarks[1]: expected object, got str"),
    ],
)
def test_the_place_and_what_is_wrong_are_said(path: Path, value: Any, said: str) -> None:
    with pytest.raises(ResultNotReadable) as caught:
        check(broken(whole_file(), path, value), "run.json")
    message = str(caught.value)
    assert message.startswith("run.json: ")
    assert said in message
    assert message.endswith(f"; {MEND}")
    assert "\n" not in message


def test_what_holds_is_not_refused() -> None:
    check(whole_file(), "run.json")


def test_another_version_is_said_before_anything_else_that_it_changed() -> None:
    data = broken(whole_file(), (*OURS, "schema"), 2)
    data["benchmarks"][0]["extra_info"][KEY]["latency"] = "elsewhere"
    data["benchmarks"][0]["extra_info"][KEY]["cell"] = 3
    with pytest.raises(ResultNotReadable, match="schema 2, but this version reads schema 1"):
        check(data, "run.json")


def test_long_names_and_values_are_cut() -> None:
    data = broken(whole_file(), (KEY, "fingerprint"), {"k" * 10_000: []})
    with pytest.raises(ResultNotReadable, match=f"sparsity.fingerprint.{'k' * 59}…: expected") as caught:
        check(data, "run.json")
    assert len(str(caught.value)) < 300
    data = broken(whole_file(), (*OURS, "outcome"), "v" * 10_000)
    data["benchmarks"][0]["fullname"] = "n" * 10_000
    with pytest.raises(ResultNotReadable, match="v…") as caught:
        check(data, "run.json")
    assert len(str(caught.value)) < 500


def test_what_is_nested_too_deeply_to_be_shown_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ResultNotReadable, match=r"^run\.json: nested too deeply for a result file"):
        check(broken_shallow(whole_file(), deep), "run.json")


def broken_shallow(data: dict[str, Any], value: Any) -> dict[str, Any]:
    """With another profile; copying what is nested so deeply would itself fail."""
    data[KEY]["profile"] = value
    return data
