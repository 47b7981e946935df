"""The schema of the result file: what is written is read back equal, and what is broken is refused by its path."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.errors import ResultNotReadable
from sparsity.record import (
    Cell,
    Harness,
    Latency,
    LayerWeights,
    Memory,
    Model,
    Node,
    NotMeasured,
    Products,
    Pruned,
    Quality,
    Read,
    Record,
    Recovered,
    Roofline,
    RunPart,
    Training,
    Weights,
    from_json,
    run_from_json,
    to_json,
)
from sparsity.rules import LARGEST

Path = tuple[str | int, ...]

FULL = Record(
    Cell("bert", "random", "unstructured", "layer", 0.5, "dense", "none", "l1 0.3", "8x64", "float32", "lm", 3),
    Pruned(0.5, 0.25, 100, 200, 0.1, 4096, 0.2, 8192, choices={"packed": 60, "dense": 13}),
    Latency(
        0.1, 0.09, 0.11, 20, "inconclusive", "drift", 0.1, 1.0, 0.9, 1.1, 0.02,
        flops=80, dense_flops=100, kept_flops=50, read_bytes=1000, ideal_seconds=0.01, ceiling=9.5,
        products=Products({"aten::addmm float32": 3}, {"aten::mm float32": 8}, {"gemm": 3, "spmm": 8}),
    ),
    Memory(1000, 500, "cpu profiler", 1100, 1000, 500, "same"),
    Quality("mean_nll", 2.0, 0.1, 50, 7.389, 1.5, 1.9, 0.1, 0.01, "lost", {"macro F1": 0.5}),
    Recovered([0, 1], [1.8, 1.9], 2.5, -0.6, 0.02, 1.7, [0.1, 0.2], 0.15, 0.03, "inconclusive", 200, 9.5, 6400),
    Training(0.02, 0.019, 1.05, 1.01, 1.09),
    Weights([-1.0, 0.0, 1.0], [LayerWeights("block.0", True, 3, 0.1, 0.5, -0.9, 0.8, [1, 2])]),
    "failed",
    "why",
    "one",
    Harness("acc", 0.7, 200, "1.0", 2, True, 0.03, 1000, 0.9, -0.2, 0.03, "lost", 0.5, "strict", {"f1": 0.6}),
)  # fmt: skip
"""A value in every section."""
RUN = RunPart(
    "smoke",
    {"cores": 2, "cpu": "Brand 9", "tf32": False},
    {"bert": Model("BertForMaskedLM", "embedded", True, "BertForSequenceClassification", "0a" * 32)},
    [NotMeasured(Cell("bert", sparsity=0.5), "test_a.py::test_b", "skipped", "why")],
    roofline=Roofline({"float32": 1e11}, [Read(1024, 2e11), Read(4096, 1e10)]),
    notes=["3 rows without a label were left out"],
    resumed=2,
    nodes={"one": Node({"cpu": "Brand 9"}, 0.02, Roofline({"float32": 1e11}, [Read(1024, 2e11)]))},
)


def written(record: Record | RunPart) -> Any:
    """As it stands in the file, after a parser that knows no NaN."""
    return json.loads(json.dumps(to_json(record), allow_nan=False))


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place of a JSON value that holds no further ones."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def broken(data: Any, path: Path, value: Any) -> Any:
    """A copy with another value at the path."""
    data = copy.deepcopy(data)
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return data


def dotted(path: Path) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


LEAVES = [(path, value) for path, value in leaves(written(FULL)) if path != ("schema",)]


# -- what goes out comes back ------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, LARGEST)
fractions = st.floats(min_value=0, max_value=1, exclude_max=True)
shares = st.floats(0, 1)
differences = st.floats(-LARGEST, LARGEST)
counts = st.integers(min_value=0, max_value=2**80)
texts = st.text(max_size=8)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def weights(draw: st.DrawFn) -> Weights:
    edges = sorted(draw(st.sets(numbers, min_size=2, max_size=5)))
    bins = st.lists(counts, min_size=len(edges) - 1, max_size=len(edges) - 1)
    layer = st.builds(LayerWeights, texts, st.booleans(), counts, numbers, numbers, numbers, numbers, bins)
    return Weights(edges, draw(st.lists(layer, max_size=3)))


@st.composite
def recovered(draw: st.DrawFn) -> Recovered:
    seeds = draw(st.lists(counts, min_size=1, max_size=3))
    each = st.lists(differences, min_size=len(seeds), max_size=len(seeds))
    values = st.lists(fractions, min_size=len(seeds), max_size=len(seeds))
    said = st.sampled_from(["kept", "lost", "inconclusive"])
    gained, delta = ((draw(differences), draw(positive)) for _ in range(2))
    taken = (draw(maybe(counts)), draw(maybe(positive)), draw(maybe(counts)))
    control = (draw(fractions), draw(each))
    return Recovered(seeds, draw(values), draw(fractions), *gained, *control, *delta, draw(said), *taken)


records = st.builds(
    Record,
    st.builds(
        Cell, texts, *[maybe(texts)] * 3, maybe(fractions), *[maybe(texts)] * 6, maybe(counts)
    ),
    maybe(
        st.builds(
            Pruned, shares, shares, counts, counts, maybe(positive), maybe(counts), maybe(positive), maybe(counts)
        )
    ),
    maybe(
        st.builds(
            Latency, positive, positive, positive, counts,
            st.sampled_from(["faster", "same", "slower", "inconclusive"]), maybe(texts), *[maybe(positive)] * 6,
            maybe(counts), maybe(counts), maybe(st.lists(differences, max_size=3)), maybe(differences),
        )
    ),
    maybe(
        st.builds(
            Memory, counts, counts, texts, *[maybe(counts)] * 3, maybe(st.sampled_from(["smaller", "same", "larger"]))
        )
    ),
    maybe(
        st.builds(
            Quality, st.sampled_from(["mean_nll", "accuracy"]), fractions, positive, counts, maybe(positive),
            *[maybe(differences)] * 3, maybe(positive),
            maybe(st.sampled_from(["kept", "lost", "inconclusive"])),
            maybe(st.dictionaries(texts, st.floats(-1, 1), max_size=2)),
        )
    ),
    maybe(recovered()),
    maybe(st.builds(Training, *[positive] * 5)),
    maybe(weights()),
    maybe(st.sampled_from(["passed", "failed", "error"])),
    maybe(texts),
)  # fmt: skip


@settings(deadline=None)  # a busy machine is no failure
@given(records)
def test_any_record_is_read_back_equal_and_holds_no_null(record: Record) -> None:
    data = written(record)
    assert from_json(data) == record
    assert None not in [value for _, value in leaves(data)]


def test_full_record_and_run_part_are_read_back_equal() -> None:
    assert from_json(written(FULL)) == FULL
    assert run_from_json(written(RUN)) == RUN


def test_what_was_not_measured_is_absent_and_stays_absent() -> None:
    data = written(Record(Cell("bert"), memory=Memory(10, 5, "cpu profiler")))
    assert data == {
        "schema": 1,
        "cell": {"model": "bert"},
        "memory": {"weights_bytes": 10, "peak_bytes": 5, "source": "cpu profiler"},
    }
    assert from_json(data).memory == Memory(10, 5, "cpu profiler", None, None, None, None)
    assert from_json(data).latency is None


def test_a_zero_that_was_measured_is_written() -> None:
    data = written(Record(Cell("bert", sparsity=0.0, seed=0), Pruned(0.0, 0.0, 10, 12, extra_bytes=0)))
    assert data["cell"] == {"model": "bert", "sparsity": 0.0, "seed": 0}
    assert data["pruned"]["extra_bytes"] == 0
    assert from_json(data).cell.seed == 0


def test_names_in_the_file_are_those_that_readers_rely_on() -> None:
    data = written(FULL)
    assert list(data) == [
        "schema",
        "cell",
        "pruned",
        "latency",
        "memory",
        "quality",
        "recovered",
        "training",
        "weights",
        "outcome",
        "reason",
        "node",
        "harness",
    ]
    axes = list(data["cell"])
    assert axes[:6] == ["model", "method", "pattern", "scope", "sparsity", "format"]
    assert axes[6:] == ["recovery", "after", "workload", "dtype", "task", "seed"]
    assert list(written(RUN)) == [
        "schema", "profile", "fingerprint", "models", "not_measured", "roofline", "notes", "resumed", "nodes",
    ]  # fmt: skip
    assert written(RUN)["roofline"]["reads"][0] == {"bytes": 1024, "bytes_per_second": 2e11}


@pytest.mark.parametrize(
    ("section", "impossible"),
    [
        ("cell", {"sparsity": 1.0}),
        ("cell", {"sparsity": -0.1}),
        ("pruned", {"prunable_sparsity": 1.1}),
        ("pruned", {"seconds": -1.0}),
        ("latency", {"pruned_seconds": -1e-9}),
        ("latency", {"speedup": -2.0}),
        ("latency", {"ceiling": -0.5}),
        ("latency", {"ideal_seconds": -1e-9}),
        ("latency", {"noise_floor": -1.0}),
        ("latency", {"high": 1e101}),
        ("memory", {"weights_bytes": -1}),
        ("memory", {"dense_peak_bytes": -1}),
        ("quality", {"metric": "accuracy", "value": 1.01}),
        ("quality", {"stderr": -0.1}),
        ("harness", {"documents": -1}),
        ("harness", {"delta_stderr": -0.1}),
        ("harness", {"stderr": -0.1}),
        ("quality", {"documents": -2}),
        ("quality", {"delta_stderr": 1e101}),
        ("recovered", {"control": 1e101}),
    ],
)
def test_what_cannot_be_is_refused_on_the_way_in(section: str, impossible: dict[str, Any]) -> None:
    data = written(FULL)
    data[section] |= impossible
    with pytest.raises(ResultNotReadable, match=rf"^record\.{section}: .* is not in \[0, "):
        from_json(data)


@pytest.mark.parametrize("section", ["quality", "recovered"])
def test_a_difference_whose_square_is_no_number_is_refused(section: str) -> None:
    data = written(FULL)
    data[section]["delta"] = -1e200
    with pytest.raises(ResultNotReadable, match=rf"^record\.{section}: delta -1e\+200 is not in \[-1e\+100, "):
        from_json(data)


# -- what is no measurement does not go out ------------------------------------------------------

WORST = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("worst", WORST)
def test_a_number_that_is_not_finite_is_not_written_and_is_named(worst: float) -> None:
    assert FULL.latency is not None
    assert FULL.weights is not None
    layer = replace(FULL.weights.layers[0], maximum=worst)
    for record, path in [
        (replace(FULL, cell=replace(FULL.cell, sparsity=worst)), "record.cell.sparsity"),
        (replace(FULL, latency=replace(FULL.latency, low=worst)), "record.latency.low"),
        (replace(FULL, weights=replace(FULL.weights, layers=[layer])), "record.weights.layers[0].maximum"),
    ]:
        with pytest.raises(ValueError, match="not a measurement") as caught:
            to_json(record)
        assert str(caught.value).startswith(f"{path} is {worst}")


def test_what_is_no_plain_value_is_not_written_and_is_named() -> None:
    odd: Any = complex(1, 2)
    with pytest.raises(TypeError, match=r"record\.reason is a complex"):
        to_json(replace(FULL, reason=odd))


# -- what is broken does not come in -------------------------------------------------------------


@pytest.mark.parametrize(("path", "value"), LEAVES, ids=[dotted(path).lstrip(".") for path, _ in LEAVES])
def test_a_field_of_the_wrong_type_is_refused_by_its_path(path: Path, value: Any) -> None:
    wrong: list[Any] = [None, {}, []]
    wrong += [1, 1.5, False] if isinstance(value, str) else ["1"]
    wrong += [1, 1.0] if isinstance(value, bool) else [True]
    wrong += [1.0] if type(value) is int else []
    wrong += [*WORST, 10**30] if isinstance(value, float) else []
    for item in wrong:
        with pytest.raises(ResultNotReadable) as caught:
            from_json(broken(written(FULL), path, item), "run.json: test_x")
        assert str(caught.value).startswith(f"run.json: test_x{dotted(path)}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ((), "cell"),
        (("cell",), "model"),
        (("pruned",), "prunable_parameters"),
        (("latency",), "verdict"),
        (("memory",), "source"),
        (("quality",), "metric"),
        (("weights",), "edges"),
        (("weights", "layers", 0), "counts"),
    ],
)
def test_a_missing_field_is_named_with_its_place(path: Path, name: str) -> None:
    data = written(FULL)
    place = data
    for key in path:
        place = place[key]
    del place[name]
    with pytest.raises(ResultNotReadable) as caught:
        from_json(data)
    assert str(caught.value) == f"record{dotted(path)}: {name!r} is missing"


@pytest.mark.parametrize("section", ["cell", "pruned", "latency", "memory", "quality", "weights"])
@pytest.mark.parametrize("value", [None, 3, "text", [], [{}]])
def test_a_section_that_is_no_object_is_refused_by_its_path(section: str, value: Any) -> None:
    with pytest.raises(ResultNotReadable, match=rf"^record\.{section}: expected an object, got "):
        from_json(broken(written(FULL), (section,), value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("outcome",), "maybe", ": outcome 'maybe' is none of passed, failed, error"),
        (("latency", "verdict"), "fast", ".latency: verdict 'fast' is none of faster, "),
        (("memory", "verdict"), "faster", ".memory: verdict 'faster' is none of smaller, "),
        (("quality", "verdict"), "better", ".quality: verdict 'better' is none of kept, "),
        (("quality", "metric"), "bleu", ".quality: metric 'bleu' is none of mean_nll, accuracy"),
        (("quality", "also"), {"macro F1": 1.5}, ".quality: also.macro F1 1.5 is not in [-1, 1]"),
        (("pruned", "choices"), {"packed": -1}, ".pruned: choices.packed -1 is not in [0, "),
        (("latency", "products", "dense"), {"mm": 0}, ".latency.products: dense.mm 0 is not in [1, inf]"),
        (("recovered", "seeds"), [], ".recovered: seeds holds 0, and must hold at least 1"),
        (("weights", "edges"), [0.0, 0.0, 1.0], ".weights: the bin edges do not ascend"),
        (("weights", "edges"), [0.0, 1.0], ".weights: block.0 has 2 counts for 1 bins"),
        (("weights", "layers", 0, "counts"), [4, -1], ".weights.layers[0]: counts[1] -1 is not in [0, inf]"),
    ],
)
def test_a_value_outside_what_it_may_be_is_refused_by_its_section(path: Path, value: Any, said: str) -> None:
    with pytest.raises(ResultNotReadable) as caught:
        from_json(broken(written(FULL), path, value))
    assert str(caught.value).startswith(f"record{said}")
    assert "\n" not in str(caught.value)


def test_numbers_beyond_any_float_are_refused() -> None:
    with pytest.raises(ResultNotReadable, match=r"^record\.memory: weights_bytes 1000.* is not in \[0, 1e\+100\]$"):
        from_json(broken(written(FULL), ("memory", "weights_bytes"), 10**400))


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_is_refused_before_anything_is_read(schema: Any) -> None:
    with pytest.raises(ResultNotReadable, match=r"^record: schema .*, but this version reads schema 1$"):
        from_json({"schema": schema, "cell": 3})
    with pytest.raises(ResultNotReadable, match="reads schema 1"):
        run_from_json({**written(RUN), "schema": schema})


@pytest.mark.parametrize("data", [None, 1, "text", [], [FULL]])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(ResultNotReadable, match=r"^record: expected an object, got "):
        from_json(data)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("fingerprint", "cores"), None, "run.fingerprint.cores: "),
        (("fingerprint", "cores"), math.nan, "run.fingerprint.cores: "),
        (("fingerprint", "cores"), [1], "run.fingerprint.cores: "),
        (("models", "bert"), "BertForMaskedLM", "run.models.bert: "),
        (("models", "bert", "demonstration"), "yes", "run.models.bert.demonstration: "),
        (("not_measured", 0, "cell", "sparsity"), "0.5", "run.not_measured[0].cell.sparsity: "),
        (("not_measured",), {}, "run.not_measured: "),
        (("models", "bert", "digest"), "0A" * 32, "run.models.bert: digest "),
        (("models", "bert", "digest"), "0a" * 32 + "\n", "run.models.bert: digest "),
        (("notes",), [1], "run.notes[0]: "),
        (("resumed",), -1, "run: resumed -1 "),
        (("roofline", "flops_per_second", "float32"), 0.0, "run.roofline: "),
        (("roofline", "reads"), [], "run.roofline: "),
        (("roofline", "reads", 1, "bytes_per_second"), 0.0, "run.roofline.reads[1]: "),
        (("roofline", "reads", 1, "bytes"), 1024.5, "run.roofline.reads[1].bytes: "),
    ],
)
def test_a_broken_run_part_is_refused_by_its_path(path: Path, value: Any, named: str) -> None:
    with pytest.raises(ResultNotReadable) as caught:
        run_from_json(broken(written(RUN), path, value))
    assert str(caught.value).startswith(named)


def test_a_whole_number_may_stand_for_a_float() -> None:
    data = broken(written(FULL), ("quality", "value"), 2)
    assert from_json(data) == FULL
    assert isinstance(getattr(from_json(data).quality, "value", None), float)


def test_fields_of_a_later_version_are_passed_over() -> None:
    data = written(FULL)
    data["energy"] = {"joules": 3}
    data["cell"]["compiled"] = True
    assert from_json(data) == FULL


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = sorted({path[:length] for path, _ in LEAVES for length in range(1, len(path) + 1)}, key=str)


@settings(deadline=None)  # a busy machine is no failure
@given(st.sampled_from(PLACES), anything)
def test_whatever_stands_anywhere_is_read_or_refused(path: Path, value: Any) -> None:
    try:
        record = from_json(broken(written(FULL), path, value))
    except ResultNotReadable as error:
        assert str(error).startswith("record")  # noqa: PT017  # that it raises is not the claim
    else:
        assert from_json(written(record)) == record
