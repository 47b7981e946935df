"""What each rule lets pass and refuses, as a class and as a JSON schema alike, and that classes obey their fields'."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sparsity.rules import LARGEST, Above, Amount, Hexadecimal, OneOf, Range, Rule, Ruled, Some

DIGEST = "0123456789abcdef" * 4
CASES: list[tuple[Rule, list[Any], list[Any]]] = [
    (Range(), [0, 0.0, 1, 2**63, LARGEST], [-1, -1e-300, 2e100]),
    (Range(0, 1, open_=True), [0, math.nextafter(1, 0)], [1, 1.0, -0.1]),
    (Range(0, math.inf), [0, 1.7e308, 10**400], [-1]),
    (Range(-1, 1), [-1, 0.5, 1], [-1.01, 1.01]),
    (Above(0), [5e-324, 1e308], [0, 0.0, -1]),
    (OneOf(("faster", "same")), ["faster", "same"], ["", "fast", "Faster", "same\n"]),
    (Hexadecimal(64), [DIGEST], ["", DIGEST[1:], f"{DIGEST}0", DIGEST.upper(), f"{DIGEST}\n", f"{DIGEST[1:]}\n"]),
    (Some(2), [[1, 2], {"a": 1, "b": 2}], [[], [1], {}, {"a": 1}]),
]


@pytest.mark.parametrize(("rule", "right", "wrong"), CASES, ids=[str(rule) for rule, _, _ in CASES])
def test_a_rule_and_its_schema_agree(rule: Rule, right: list[Any], wrong: list[Any]) -> None:
    schema = Draft202012Validator(rule.schema())
    for value in right:
        assert rule.problem(value) is None
        assert schema.is_valid(value)
    for value in wrong:
        problem = rule.problem(value)
        assert problem
        assert "\n" not in problem
        assert not schema.is_valid(value)


@settings(deadline=None)
@given(
    st.sampled_from([case[0] for case in CASES[:5]]), st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
def test_rules_of_numbers_and_their_schemas_agree_on_any_number(rule: Rule, value: float) -> None:
    assert (rule.problem(value) is None) == Draft202012Validator(rule.schema()).is_valid(value)


@dataclass(frozen=True)
class Sample(Ruled):
    time: Amount
    parts: Annotated[list[Amount], Some()] | None = None
    named: dict[str, Annotated[str, OneOf(("a", "b"))]] | None = None
    free: float = -1.0


def test_a_class_obeys_the_rules_of_its_fields_and_of_their_entries() -> None:
    assert Sample(0.0, [0.0, 1.0], {"x": "a"}).free == -1.0
    cases: list[tuple[dict[str, Any], str]] = [
        ({"time": -1.0}, r"^time -1\.0 is not in \[0, 1e\+100\]$"),
        ({"parts": []}, r"^parts holds 0, and must hold at least 1$"),
        ({"parts": [0.0, -2.0]}, r"^parts\[1\] -2\.0 is not in "),
        ({"named": {"x": "a", "y": "c"}}, r"^named\.y 'c' is none of a, b$"),
    ]
    for values, said in cases:
        with pytest.raises(ValueError, match=said):
            Sample(**{"time": 1.0, **values})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_left_to_whoever_writes_or_reads_it(value: float) -> None:
    assert Sample(value).time is value
