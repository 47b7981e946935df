"""Labels: what is a class, what is none, and which of a model's classes each is."""

from __future__ import annotations

from typing import Any

import pytest

from sparsity.data import labels
from sparsity.errors import BadValue, Refused
from tests.models.tiny import refusal

MNLI = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0, None], [1, 0, None]),
        ([True, False], [1, 0]),
        ([1.0, float("nan"), 0.0], [1, None, 0]),
        ([" good", "bad ", "", None], ["good", "bad", None, None]),
        (["1", "0", None], [1, 0, None]),
        (["1", "one"], ["1", "one"]),
        ([], []),
    ],
)
def test_what_is_a_class(values: list[Any], expected: list[Any]) -> None:
    assert labels.plain(values, "x") == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 0.5], "holds 0.5, so this is regression"),
        ([float("inf")], "holds inf"),
        ([1, "a"], "holds numbers and names, such as 1 and 'a'"),
        ([[1]], "holds a list, and no class"),
        ([{"a": 1}], "holds a dict"),
    ],
)
def test_what_is_none_is_refused(values: list[Any], said: str) -> None:
    assert said in refusal(BadValue, lambda: labels.plain(values, "column 'y' of f.csv"))


def test_names_are_numbered_alike_in_every_set_sorted_or_as_declared() -> None:
    assert labels.numbered([["b", "a"], ["c"]], None, "x") == ([(1, 0), (2,)], ("a", "b", "c"))
    assert labels.numbered([["b", "a"], ["b"]], ("b", "a"), "x") == ([(0, 1), (0,)], ("b", "a"))
    assert labels.numbered([[2, 0], [1]], None, "x") == ([(2, 0), (1,)], None)


@pytest.mark.parametrize(
    ("columns", "names", "said"),
    [
        ([[0, -1]], None, "holds -1; the hub writes -1 for no label"),
        ([["a"], [1]], None, "names in one set and numbers in the other"),
        ([["a"], ["z"]], ("a", "b"), "holds 'z', which is none of its classes (a, b)"),
    ],
)
def test_what_cannot_be_numbered_is_refused(columns: Any, names: Any, said: str) -> None:
    assert said in refusal(BadValue, lambda: labels.numbered(columns, names, "x"))


def of(data: tuple[str, ...] | None, model: tuple[str, ...], used: tuple[int, ...] = (0, 1)) -> labels.Mapped:
    return labels.mapped(used, data, dict(enumerate(model)), "f.csv")


def test_by_name_whatever_the_order() -> None:
    found = of(MNLI, ("CONTRADICTION", "Neutral", "entailment"))
    assert (found.classes, found.notes) == ((2, 1, 0), ())
    assert found.of([0, 0, 2]) == [2, 2, 0]
    assert of(("not_entailment", "entailment"), ("entailment", "Not Entailment")).classes == (1, 0)
    assert of(("b",), ("a", "b", "c")).classes == (1,), "a model may know more"
    assert of(("LABEL_1", "LABEL_0"), ("LABEL_0", "LABEL_1")).classes == (1, 0)


def test_by_number_where_the_data_has_no_names() -> None:
    assert of(None, MNLI, (2, 0)).classes == (0, 1, 2)
    message = refusal(Refused, lambda: of(None, MNLI, (0, 3)))
    assert message.startswith("f.csv has label 3, but the model has 3 classes, numbered from 0 (entailment, neutral")


def test_in_their_order_where_the_model_has_no_names_and_that_is_told() -> None:
    found = of(("bad", "good"), ("LABEL_0", "LABEL_1"))
    assert found.classes == (0, 1)
    assert found.notes == ("the model does not name its classes; taken in this order: 0 bad, 1 good",)
    assert "2 classes (bad, good), the model 3 without names" in refusal(
        Refused, lambda: of(("bad", "good"), ("LABEL_0", "LABEL_1", "LABEL_2"))
    )


def test_by_their_beginnings_where_that_is_clear_and_that_is_told() -> None:
    found = of(("neg", "pos"), ("POSITIVE", "NEGATIVE"))
    assert found.classes == (1, 0)
    assert found.notes == ("classes that begin alike were taken for the same: neg is NEGATIVE, pos is POSITIVE",)
    refusal(Refused, lambda: of(("a", "b"), ("ab", "abc")))


@pytest.mark.parametrize(
    ("data", "model", "said"),
    [
        (("ham", "spam"), ("yes", "no"), "f.csv has the classes ham, spam, the model yes, no; say in id2label"),
        (
            MNLI,
            ("entailment", "other"),
            "f.csv has 3 classes (entailment, neutral, contradiction), but the model",
        ),
        (("A", "a"), ("a", "b"), "f.csv has the classes A, a, the model a, b"),
    ],
)
def test_names_that_do_not_agree_are_refused_with_both_lists(data: Any, model: Any, said: str) -> None:
    assert said in refusal(Refused, lambda: of(data, model))


def test_a_long_list_is_cut() -> None:
    names = tuple(f"n{i}" for i in range(30))
    assert labels.listed(names) == "n0, n1, n2, n3, n4, n5, n6, n7 and 22 more"
