"""A recovery is one word: what can be said reads back as it was meant, and what cannot is refused in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity import recovery
from sparsity.errors import BadValue, SparsityError, UnknownName
from sparsity.recovery import EXAMPLES, KINDS, LARGEST, NONE, TRAINED, Recovery, parse, said
from tests.models.tiny import refusal

UNTRAINED = tuple(kind for kind in KINDS if kind not in TRAINED)
budgets = st.integers(1, LARGEST)
trained = st.one_of(
    st.builds(Recovery, st.sampled_from(TRAINED), steps=budgets, gradual=st.booleans()),
    st.builds(Recovery, st.sampled_from(TRAINED), seconds=budgets, gradual=st.booleans()),
)
recoveries = st.one_of(st.builds(Recovery, st.sampled_from(UNTRAINED)), trained)


@given(recoveries)
def test_a_recovery_reads_back_as_it_is_written(recovery: Recovery) -> None:
    assert parse(str(recovery)) == recovery


@given(st.text(max_size=12))
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    try:
        found = parse(text)
    except SparsityError as error:
        message = str(error)
    else:
        message = ""
        assert str(found) == text
    assert message.isprintable()


@pytest.mark.parametrize(
    ("word", "recovery"),
    [
        ("none", Recovery()),
        ("reconstruct", Recovery("reconstruct")),
        ("finetune:200", Recovery("finetune", 200)),
        ("distill:200", Recovery("distill", 200)),
        ("gradual-distill:200", Recovery("distill", 200, gradual=True)),
        ("transfer:200", Recovery("transfer", 200)),
        ("distill:60s", Recovery("distill", seconds=60)),
        ("gradual-finetune:9999999s", Recovery("finetune", seconds=9_999_999, gradual=True)),
    ],
)
def test_words_mean_what_they_say(word: str, recovery: Recovery) -> None:
    assert parse(word) == recovery
    assert str(recovery) == word


@pytest.mark.parametrize("word", EXAMPLES)
def test_every_example_is_one(word: str) -> None:
    assert str(parse(word)) == word


def test_every_kind_is_among_the_examples() -> None:
    assert {parse(word).kind for word in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("distil:200", "distill:200"),
        ("reconstuct", "reconstruct"),
        ("finetun:200", "finetune:200"),
        ("gradual-distil:200", "gradual-distill:200"),
        ("Transfer:200", "transfer:200"),
        ("non", "none"),
    ],
)
def test_an_unknown_kind_names_the_nearest(word: str, nearest: str) -> None:
    message = refusal(UnknownName, lambda: parse(word))
    assert f"did you mean {nearest!r}?" in message
    assert repr(word) in message
    refusal(UnknownName, lambda: Recovery(word.partition(":")[0], 200))


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("before", ["", "gradual-"])
@pytest.mark.parametrize(
    "budget", [":0", ":-1", ":1.5", ":1e9", ":x", ":", "", ":0s", ":s", ":10000000", ":007", ":2 ", ":2S", ":2\n", ":٣"]
)
def test_a_budget_that_is_none_is_refused_with_one_that_is(kind: str, before: str, budget: str) -> None:
    message = refusal(BadValue, lambda: parse(f"{before}{kind}{budget}"))
    assert f"as in {before}{kind}:200 or {before}{kind}:60s" in message
    parse(f"{before}{kind}:200")
    parse(f"{before}{kind}:60s")


@pytest.mark.parametrize("kind", UNTRAINED)
@pytest.mark.parametrize("budget", [":200", ":60s", ":", ":x"])
def test_what_does_not_train_has_no_budget(kind: str, budget: str) -> None:
    assert f"say {kind}" in refusal(BadValue, lambda: parse(kind + budget))


@pytest.mark.parametrize("kind", UNTRAINED)
def test_what_does_not_train_cannot_prune_as_it_trains(kind: str) -> None:
    assert "does not train" in refusal(BadValue, lambda: parse(f"gradual-{kind}"))


@pytest.mark.parametrize("steps", [None, 0, -1, 1.5, True, LARGEST + 1, "200"])
def test_no_recovery_is_made_that_could_not_be_written(steps: object) -> None:
    message = refusal(BadValue, lambda: Recovery("finetune", steps))  # type: ignore[arg-type]  # that is the point
    assert "finetune:200" in message
    refusal(BadValue, lambda: Recovery("finetune", seconds=steps))  # type: ignore[arg-type]  # the same


@pytest.mark.parametrize(("kind", "steps", "seconds"), [("finetune", 2, 2), ("none", 2, None), ("none", 2, 2)])
def test_a_recovery_has_one_budget_or_none(kind: str, steps: int | None, seconds: int | None) -> None:
    refusal(BadValue, lambda: Recovery(kind, steps, seconds))


def test_the_control_is_as_much_training_of_the_unpruned_model_without_a_teacher() -> None:
    assert [str(parse(word).control) for word in EXAMPLES] == [
        "none", "none", "finetune:200", "finetune:200", "finetune:200", "transfer:200", "finetune:60s",
    ]  # fmt: skip


@given(recoveries)
def test_a_control_is_its_own_control(recovery: Recovery) -> None:
    control = recovery.control
    assert control.control == control
    assert (control.steps, control.seconds, control.gradual) == (recovery.steps, recovery.seconds, False)


def test_only_none_is_false() -> None:
    assert not NONE
    assert [bool(parse(word)) for word in EXAMPLES] == [word != "none" for word in EXAMPLES]


def test_a_reader_is_told_in_words() -> None:
    assert [said(parse(word)) for word in EXAMPLES] == [
        "", "reconstructed", "200 steps fine-tuned", "200 steps distilled", "200 steps distilled while pruning",
        "200 steps transferred", "60 s distilled",
    ]  # fmt: skip
    assert said(parse("finetune:1000"), "{:,}".format) == "1,000 steps fine-tuned"


def test_the_word_is_read_without_torch() -> None:
    code = "import sys, sparsity.recovery; assert not {'torch', 'numpy', 'transformers'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_kind_without_a_participle_is_said_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recovery.KINDS, "mine", "my own")
    monkeypatch.setattr(recovery, "TRAINED", (*TRAINED, "mine"))
    assert said(parse("mine:5")) == "5 steps mine"
