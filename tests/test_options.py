"""Options: what the command line may say, what comes of it, and that all else is refused in one line."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity import options, pattern, prune, recovery
from sparsity.errors import BadValue, SparsityError, UnknownName
from sparsity.formats import NAMES
from sparsity.methods import METHODS
from sparsity.models.spread import WAYS
from sparsity.pytest_plugin import OPTIONS
from sparsity.tasks import quality
from sparsity.tasks.strided import Window

SETTINGS = (
    *("profile", "dtype", "device", "threads", "documents", "calibration", "multiple", "head"),
    *("compile", "learning-rate", "training-batch", "accumulate", "training-state", "time-per-cell", "budget"),
    *("cell-timeout", "resume", "data", "training-data", "text-column", "label-column", "fine-tune"),
    *("harness", "harness-tasks", "harness-limit"),
    *("window", "device-map", "ray"),
)
"""The options that are no axis."""


def test_nothing_set_leaves_every_axis_to_the_profile() -> None:
    parsed = options.parse({})
    assert parsed == options.Options()
    training = (parsed.learning_rate, parsed.training_batch, parsed.accumulate, parsed.training_state)
    assert training == (None, 32, 1, None)
    assert (parsed.profile, parsed.documents, parsed.calibration, parsed.head) == ("default", 1000, 128, "full")
    assert options.parse(dict.fromkeys([*options.AXES, *SETTINGS], "")) == parsed


def test_every_option_of_the_command_line_is_named_above() -> None:
    assert set(OPTIONS) == {*options.AXES, *SETTINGS}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("models", "bert,owner/name,./folder,random:gpt2", ("bert", "owner/name", "./folder", "random:gpt2")),
        ("methods", "random,none,l1", ("random", "none", "l1")),
        ("patterns", ",".join(pattern.EXAMPLES), pattern.EXAMPLES),
        ("scopes", "global,layer,row,owl,erk", ("global", "layer", "row", "owl", "erk")),
        ("sparsities", "0,0.5,.9,1e-1,0.999", (0.0, 0.5, 0.9, 0.1, 0.999)),
        ("formats", "masked,compact,dense", ("masked", "compact", "dense")),
        ("workloads", "8x64,1x1", ("8x64", "1x1")),
        ("workloads", "prefill:1x512, decode:1x512", ("prefill:1x512", "decode:1x512")),
        ("tasks", "classification,lm", ("classification", "lm")),
        ("seeds", "3,0,12", (3, 0, 12)),
        ("recoveries", ",".join(recovery.EXAMPLES), recovery.EXAMPLES),
    ],
)
def test_an_axis_is_a_comma_list_in_the_order_given(name: str, text: str, expected: tuple[object, ...]) -> None:
    assert options.parse({name: text}).axes == {name: expected}


def test_every_axis_has_an_example_above() -> None:
    (mark,) = test_an_axis_is_a_comma_list_in_the_order_given.pytestmark  # type: ignore[attr-defined]  # pytest's own
    assert {name for name, _, _ in mark.args[1]} == set(options.AXES)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("methods", " l1 , random ,", ("l1", "random")),
        ("methods", "l1,random,l1", ("l1", "random")),
        ("sparsities", "0.5,.50,5e-1", (0.5,)),  # one value in three spellings
        ("seeds", "1,,01", (1,)),
        ("patterns", "2:4 , 4x1,2:4", ("2:4", "4x1")),
        ("models", "gpt2, bert, gpt2", ("gpt2", "bert")),
    ],
)
def test_spaces_gaps_and_repetitions_are_dropped(name: str, text: str, expected: tuple[object, ...]) -> None:
    assert options.parse({name: text}).axes[name] == expected


def test_axes_are_of_the_type_that_a_cell_has() -> None:
    axes = options.parse({"sparsities": "0", "seeds": "0", "workloads": "8x64"}).axes
    assert {name: type(value) for name, (value,) in axes.items()} == {
        "sparsities": float,
        "seeds": int,
        "workloads": str,
    }


def test_settings_that_are_no_axis() -> None:
    texts = {
        "profile": "smoke",
        "dtype": "bfloat16",
        "device": "cuda:1",
        "threads": "4",
        "documents": "20",
        "calibration": "64",
        "multiple": "16",
        "head": "none",
        "compile": "yes",
        "learning-rate": "5e-5",
        "training-batch": "16",
        "accumulate": "2",
        "training-state": "./state",
        "time-per-cell": "2.5",
        "budget": "180",
        "cell-timeout": "60",
        "resume": "yes",
        "data": "./mine.csv",
        "training-data": "sst2",
        "text-column": "premise, hypothesis",
        "label-column": "stars",
        "fine-tune": "300",
        "harness": "arc_easy, own",
        "harness-tasks": "./tasks",
        "harness-limit": "40",
        "ray": "10.0.0.1:6379",
        "window": " 1024/512 ",
        "device-map": "balanced",
    }
    assert texts.keys() == set(SETTINGS)
    expected = options.Options(
        *("smoke", {}, "bfloat16", "cuda:1", 4, 20, 64, 16, "none", True, 5e-5, 16, 2, "./state", 2.5, 180.0),
        *(60.0, True, "./mine.csv", "sst2", ("premise", "hypothesis"), "stars", 300),
        *(("arc_easy", "own"), "./tasks", 40, "10.0.0.1:6379"),
        window=Window(1024, 512),
        device_map="balanced",
    )
    assert options.parse(texts) == expected


@pytest.mark.parametrize(
    ("text", "meant"), [("yes", True), ("True", True), ("on", True), ("no", False), ("off", False)]
)
def test_a_switch_is_on_or_off(text: str, meant: bool) -> None:
    assert options.parse({"compile": text}).compile is meant


@pytest.mark.parametrize(
    ("name", "text", "known", "nearest"),
    [
        ("methods", "randm", METHODS, "random"),
        ("methods", "XXXX", METHODS, None),
        ("head", "non", options.HEADS, "none"),
        ("compile", "maybe", options.SWITCH, None),
        ("patterns", "unstructred", pattern.EXAMPLES, "unstructured"),
        ("patterns", "neuron", pattern.EXAMPLES, "neurons"),
        ("patterns", "2-4", pattern.EXAMPLES, "2:4"),
        ("scopes", "layers", prune.SCOPES, "layer"),
        ("formats", "mask", NAMES, "masked"),
        ("tasks", "clasification", quality.TASKS, "classification"),
        ("dtype", "float23", ("float32", "bfloat16", "float16", "float64"), "float32"),
        ("device", "gpu", ("cpu", "cuda", "cuda:0"), None),
        ("device-map", "balancd", WAYS, "balanced"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones_and_the_nearest(
    name: str, text: str, known: Iterable[str], nearest: str | None
) -> None:
    with pytest.raises(UnknownName) as caught:
        options.parse({name: text})
    message = str(caught.value)
    assert repr(text) in message
    assert message.endswith(f"Known: {', '.join(known)}")
    assert (f"did you mean {nearest!r}?" in message) is (nearest is not None)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("sparsities", text) for text in ("1", "1.0", "-0.1", "nan", "inf", "-inf", "half", "50%", "0.5 0.6")),
        *(("workloads", text) for text in ("8x", "0x64", "x", "x64", "8", "8x0", "8X64", "8x64x2", "-8x64", "8.0x64")),
        *(("seeds", text) for text in ("-1", "1.0", "one", "0x1", "²", "9" * 5000)),
        *(("threads", text) for text in ("0", "-1", "2.0", "two", "9" * 5000)),
        *(("patterns", text) for text in ("4:4", "0:4", "1:5000", "1x1", "0x4", "heads+neurons", "layers+heads")),
        *(("documents", text) for text in ("0", "7", "18", "-2", "1e3", "9" * 5000)),
        *(("calibration", text) for text in ("0", "21", "18", "-2", "all", "9" * 5000)),
        *(("multiple", text) for text in ("0", "-8", "2.0", "eight", "9" * 5000)),
        *(("time-per-cell", text) for text in ("0", "0.0", "-1", "1e3", "nan", "2s", ".5", "9" * 5000)),
        *(("window", text) for text in ("1024", "1024/0", "512/1024", "a/b")),
        *(("learning-rate", text) for text in ("0", "0.0", "-1e-3", "1e999", "nan", "fast", "1e-999", "9" * 5000)),
        *(("training-batch", text) for text in ("0", "-8", "2.0", "9" * 5000)),
        *(("accumulate", text) for text in ("0", "-8", "2.0", "9" * 5000)),
        *(
            ("recoveries", text)
            for text in ("distill", "distill:0", "none:1", "finetune:1h", "gradual-finetune", "tune:9")
        ),
        *(("budget", text) for text in ("0", "-1", "3 min", "9" * 5000)),
        *(("device", text) for text in ("cuda:", "cuda:x", "cpu:cuda", "CUDA", "cuda:-1", "cuda:" + "9" * 5000)),
        *((name, ",") for name in options.AXES),
        *((name, " , ,") for name in options.AXES),
    ],
    ids=lambda value: value[:12],
)
def test_a_bad_value_is_refused_in_one_line_that_repeats_it(name: str, text: str) -> None:
    with pytest.raises(SparsityError) as caught:
        options.parse({name: text})
    message = str(caught.value)
    assert "\n" not in message
    assert text.strip()[:20] in message


def test_one_bad_value_among_good_ones_is_enough() -> None:
    with pytest.raises(BadValue, match=r"1\.5"):
        options.parse({"sparsities": "0.1,1.5,0.2"})


ALMOST_RIGHT = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[0-9a-z.:x,\- ]{0,12}", fullmatch=True),
    st.floats().map(str),
    st.integers().map(str),
    st.tuples(st.integers(), st.sampled_from("x:"), st.integers()).map(lambda each: "".join(map(str, each))),
    st.lists(st.sampled_from(pattern.GROUP_KINDS), min_size=1, max_size=3).map("+".join),
)


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.sampled_from([*options.AXES, *SETTINGS]),
    ALMOST_RIGHT,
)
def test_any_text_is_read_or_refused_and_nothing_else(name: str, text: str) -> None:
    try:
        parsed = options.parse({name: text})
    except SparsityError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017  # that it raises is not the claim
        return
    for value in (0.0, *parsed.axes.get("sparsities", ())):
        assert 0 <= float(value) < 1
    assert all(int(seed) >= 0 for seed in parsed.axes.get("seeds", ()))
    assert all(values for values in parsed.axes.values())
    assert parsed.threads is None or parsed.threads >= 1
    assert parsed.multiple >= 1
    for count in (parsed.documents, parsed.calibration):
        assert count >= 20
        assert count % 2 == 0
    assert all(str(pattern.parse(str(text))) == text for text in parsed.axes.get("patterns", ()))


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(min_value=0, max_value=1, exclude_max=True), min_size=1, max_size=6))
def test_every_sparsity_is_read_as_the_number_it_was_written_as(values: list[float]) -> None:
    parsed = options.parse({"sparsities": ",".join(map(repr, values))})
    assert parsed.axes["sparsities"] == tuple(dict.fromkeys(values))


# -- the user's own documents ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"training-data": "b.csv"}, "training-data 'b.csv' without data"),
        ({"text-column": "text"}, "text-column 'text' without data"),
        ({"label-column": "y"}, "label-column 'y' without data"),
        ({"data": "a.csv", "text-column": "a,b,c"}, "text-column 'a,b,c' is not one column, or two"),
        ({"data": "a.csv", "text-column": "a,"}, "text-column 'a,' is not one column"),
        ({"data": "a.csv", "text-column": "a, a"}, "text-column 'a, a' is not one column"),
        ({"data": "a.csv", "text-column": "a,b", "label-column": "b"}, "label-column 'b' is the text column as well"),
        ({"data": "a.csv", "documents": "19"}, "documents 19 is not a number from 20"),
        ({"data": "a.csv", "calibration": "0"}, "calibration '0' is not a whole number from 1"),
        ({"data": " ", "documents": "21"}, "documents 21 is not an even number from 20"),
    ],
)
def test_what_says_nothing_of_own_documents_is_refused(texts: dict[str, str], said: str) -> None:
    with pytest.raises(BadValue) as caught:
        options.parse(texts)
    assert said in str(caught.value)


def test_own_documents_need_be_neither_even_nor_many_to_calibrate_with() -> None:
    found = options.parse({"data": "a.csv", "documents": "21", "calibration": "3", "text-column": " text "})
    assert (found.documents, found.calibration, found.text_column) == (21, 3, ("text",))
