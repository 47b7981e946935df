"""Data sets in files and folders: split, divided, cleaned; and whatever is wrong with them in one line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from sparsity.data import known, reading, sources
from sparsity.data.reading import Data
from sparsity.errors import BadValue, SparsityError, UnknownName
from tests.models.tiny import refusal

CLASSES = ("bad", "good")


def texts(count: int, name: str = "text") -> list[str]:
    return [f"{name} {i}" for i in range(count)]


def rows(count: int, name: str = "text") -> list[dict[str, Any]]:
    return [{"text": text, "label": i % 2} for i, text in enumerate(texts(count, name))]


def jsonl(file: Path, rows_: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_))
    return str(file)


def written(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)


def read(data: str, training: str | None = None, *text: str, label: str | None = None) -> Data:
    return reading.read(data, training, text, label)


def everything(found: Data) -> dict[str, int | None]:
    """Each text of both halves with its label."""
    seen: dict[str, int | None] = {}
    for half in (found.evaluated, found.training):
        seen |= dict(zip(half.texts, half.labels or [None] * len(half), strict=True))
    return seen


def as_csv(file: Path, sign: str) -> str:
    return written(file, "\n".join([f"text{sign}label", *(f"{r['text']}{sign}{r['label']}" for r in rows(40))]))


def as_parquet(file: Path) -> str:
    datasets.Dataset.from_list(rows(40)).to_parquet(str(file))
    return str(file)


WRITERS: dict[str, Callable[[Path], str]] = {
    "a.csv": lambda file: as_csv(file, ","),
    "a.TSV": lambda file: as_csv(file, "\t"),
    "a.jsonl": lambda file: jsonl(file, rows(40)),
    "a.json": lambda file: written(file, json.dumps(rows(40))),
    "a.parquet": as_parquet,
    "b [1]*@x::y.csv": lambda file: as_csv(file, ","),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    found = read(WRITERS[name](tmp_path / name))
    assert everything(found) == {row["text"]: row["label"] for row in rows(40)}
    assert len(found.evaluated) + len(found.training) == 40
    assert found.notes == (f"{tmp_path / name} is one set: {len(found.evaluated)} documents are evaluated, "
                           f"{len(found.training)} left to learn from",)  # fmt: skip


def test_of_a_text_file_every_line_is_a_document(tmp_path: Path) -> None:
    found = read(written(tmp_path / "a.txt", "\n\n".join(texts(30)) + "\n"))
    assert everything(found) == dict.fromkeys(texts(30))
    assert any("29 of 59 rows of" in note and "have no text" in note for note in found.notes)
    assert found.evaluated.unlabelled.endswith("a.txt has no label column, and no other column")


def test_where_texts_are_long_a_text_file_is_one_document_and_enough(tmp_path: Path) -> None:
    text = "\n\n".join(texts(30)) + "\n"
    file, other = written(tmp_path / "a.txt", text), written(tmp_path / "b.txt", "another\ntext")
    found = reading.read(file, None, long=True)
    assert [each.strip() for each in found.evaluated.texts] == [text.strip()]
    assert found.training.texts == ()
    assert found.notes == (f"{file} is one document, which is evaluated; none is left to learn from",)
    found = reading.read(file, other, long=True)
    assert [each.strip() for each in found.training.texts] == ["another\ntext"]
    assert found.notes == ()
    several = jsonl(tmp_path / "a.jsonl", rows(30))
    assert reading.read(several, None, long=True) == read(several)


def test_an_edited_file_is_read_as_it_is_now_and_nothing_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    file = tmp_path / "a.jsonl"
    for name in ("one", "two"):
        assert set(everything(read(jsonl(file, rows(30, name))))) == set(texts(30, name))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_duplicates_are_on_one_side(tmp_path: Path) -> None:
    found = read(jsonl(tmp_path / "a.jsonl", rows(30) * 3))
    assert not set(found.evaluated.texts) & set(found.training.texts)
    assert len(found.evaluated) % 3 == len(found.training) % 3 == 0


def folder(path: Path, **splits: list[dict[str, Any]]) -> str:
    path.mkdir(exist_ok=True)
    for name, content in splits.items():
        jsonl(path / f"{name}.jsonl", content)
    return str(path)


HELD_BACK = [{"text": text, "label": -1} for text in texts(25, "test")]


@pytest.mark.parametrize(
    ("splits", "asked", "evaluated", "training"),
    [
        ({"train": 30, "test": 25}, "", "test", "train"),
        ({"train": 30, "validation": 25}, "", "validation", "train"),
        ({"train": 30, "validation": 22, "test": 25}, "", "test", "train"),
        ({"train": 30, "validation": 22, "test": 25}, "@validation", "validation", "train"),
        ({"validation": 22, "test": 25}, "", "test", "validation"),
    ],
)
def test_which_split_is_evaluated_and_which_is_learnt_from(
    tmp_path: Path, splits: dict[str, int], asked: str, evaluated: str, training: str
) -> None:
    content = {name: rows(count, name) for name, count in splits.items()}
    found = read(folder(tmp_path / "set", **content) + asked)
    assert found.evaluated.texts == tuple(texts(splits[evaluated], evaluated))
    assert found.training.texts == tuple(texts(splits[training], training))
    assert found.notes == ()


def test_a_test_split_whose_classes_are_held_back_is_not_evaluated(tmp_path: Path) -> None:
    reference = folder(tmp_path / "set", train=rows(30), validation=rows(25, "validation"), test=HELD_BACK)
    assert read(reference).evaluated.texts[0] == "validation 0"
    asked = read(f"{reference}@test")
    assert asked.evaluated.labels is None
    assert "holds every class back (-1" in asked.evaluated.unlabelled


def test_a_single_split_that_is_asked_for_is_divided(tmp_path: Path) -> None:
    found = read(folder(tmp_path / "set", train=rows(60), test=rows(25, "test")) + "@train")
    assert set(everything(found)) == set(texts(60))


def test_a_folder_that_save_to_disk_wrote(tmp_path: Path) -> None:
    both = datasets.DatasetDict({name: datasets.Dataset.from_list(rows(25, name)) for name in ("train", "test")})
    both.save_to_disk(str(tmp_path / "saved"))
    assert read(str(tmp_path / "saved")).evaluated.texts == tuple(texts(25, "test"))
    both["train"].save_to_disk(str(tmp_path / "one"))
    assert set(everything(read(str(tmp_path / "one")))) == set(texts(25, "train"))


def test_training_data_of_its_own_leaves_the_data_whole_and_none_of_it_is_evaluated(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "a.jsonl", rows(30))
    training = jsonl(tmp_path / "b.jsonl", rows(10) + rows(20, "other"))
    found = read(data, training)
    assert found.evaluated.texts == tuple(texts(30))
    assert found.training.texts == tuple(texts(20, "other"))
    assert found.notes == ("10 of 30 documents to learn from are evaluated as well, and were left out",)
    assert len(read(data, data).training) == 0


def test_training_data_is_a_sets_train_split(tmp_path: Path) -> None:
    training = folder(tmp_path / "set", train=rows(30, "train"), test=rows(25, "test"))
    found = read(jsonl(tmp_path / "a.jsonl", rows(30)), training)
    assert found.training.texts == tuple(texts(30, "train"))


# -- rows and classes -------------------------------------------------------------------------------------------


def test_rows_without_text_or_class_are_left_out_and_counted(tmp_path: Path) -> None:
    holes: list[dict[str, Any]] = [
        {"text": None, "label": 1},
        {"text": " \t", "label": 0},
        {"text": "x", "label": None},
    ]
    reference = jsonl(tmp_path / "a.jsonl", [*rows(40), *holes])
    found = read(reference)
    assert everything(found) == {row["text"]: row["label"] for row in rows(40)}
    assert found.notes[:2] == (
        f"2 of 43 rows of {reference} have no text, and were left out",
        f"1 of 43 rows of {reference} have no class, and were left out",
    )


@pytest.mark.parametrize(("name", "sign"), [("a.csv", ","), ("a.tsv", "\t")])
def test_words_that_pandas_takes_for_nothing_are_texts(tmp_path: Path, name: str, sign: str) -> None:
    words = ["NA", "null", "None", "nan", "N/A"]
    lines = [("text", "label"), *((word, word) for word in words), *((f"text {i}", words[i % 5]) for i in range(30))]
    found = read(written(tmp_path / name, "\n".join(sign.join(line) for line in lines)))
    assert set(words) <= set(everything(found))
    assert found.evaluated.classes == tuple(sorted(words))


@pytest.mark.parametrize("values", [["good", "bad"], [True, False], [1.0, 0.0], ["1", "0"], [1, 0]])
def test_classes_of_many_kinds(tmp_path: Path, values: list[Any]) -> None:
    content = [{"text": text, "label": values[i % 2]} for i, text in enumerate(texts(40))]
    found = read(jsonl(tmp_path / "a.jsonl", content))
    assert everything(found) == {text: 1 - i % 2 for i, text in enumerate(texts(40))}
    assert found.evaluated.classes == (CLASSES if values[0] == "good" else None)


def test_declared_names_keep_their_order_also_beside_files_that_say_the_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])}
    )
    table = datasets.Dataset.from_list(rows(30), features=features)
    table.save_to_disk(str(tmp_path / "set"))
    other = jsonl(tmp_path / "b.jsonl", [{"text": f"o {i}", "label": CLASSES[i % 2]} for i in range(20)])
    found = read(str(tmp_path / "set"), other)
    assert found.evaluated.classes == found.training.classes == ("good", "bad")
    assert (found.evaluated.labels or ())[:2] == (0, 1)
    assert (found.training.labels or ())[:2] == (1, 0)


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        (("text", "label"), "text", "label"),
        (("id", "Review", "Sentiment"), "Review", "Sentiment"),
        (("words", "class"), "words", "class"),
        (("sentence", "text", "label"), "text", "label"),
        (("body", "stars"), "body", None),
    ],
)
def test_columns_by_their_usual_names(tmp_path: Path, columns: tuple[str, ...], text: str, label: str | None) -> None:
    strings = {"Review", "words", "text", "sentence", "body"}
    content = [{c: f"{c} {i}" if c in strings else i % 2 for c in columns} for i in range(40)]
    found = read(jsonl(tmp_path / "a.jsonl", content))
    assert set(everything(found)) == set(texts(40, text))
    assert (found.evaluated.labels is None) is (label is None)
    if label is None:
        assert found.evaluated.unlabelled.endswith("has no label column; name one of stars by --label-column")


def test_two_columns_make_pairs_and_a_named_class(tmp_path: Path) -> None:
    content = [{"a": f"a {i}", "b": f"b {i}", "label": 0, "y": i % 2} for i in range(40)]
    found = read(jsonl(tmp_path / "a.jsonl", content), None, "b", "a", label="y")
    assert all(row == (f"b {row[0][2:]}", f"a {row[0][2:]}") for row in found.evaluated.rows())
    assert found.evaluated.labels == tuple(int(text[2:]) % 2 for text in found.evaluated.texts)


def test_an_unnamed_column_of_numbers_is_no_class_and_says_why(tmp_path: Path) -> None:
    reference = jsonl(tmp_path / "a.jsonl", [{"text": text, "label": i / 7} for i, text in enumerate(texts(40))])
    found = read(reference)
    assert found.evaluated.labels is None
    assert "this is regression" in found.evaluated.unlabelled
    assert "this is regression" in refusal(BadValue, lambda: read(reference, label="label"))


# -- what is wrong -------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, bytes, str]] = [
    ("a.csv", b"", "is empty"),
    ("a.jsonl", b"", "is empty"),
    ("a.csv", b"text,label\n", "holds no row"),
    ("a.csv", b"text,label\nhi,1\na,b,c,d\n", "cannot be read: Error tokenizing data"),
    ("a.csv", b'text,label\nhi,1\n"unclosed,0\n', "EOF inside string"),
    ("a.csv", "text\ncaf\xe9\n".encode("latin-1"), "it is not UTF-8 at byte"),
    ("a.txt", "caf\xe9\n".encode("latin-1"), "it is not UTF-8 at byte 3"),
    ("a.jsonl", b'{"text":"a"}\n{"text":\n', "cannot be read: JSON parse error"),
    ("a.parquet", b"PAR1xxxx", "cannot be read: Parquet magic bytes"),
    ("a.csv", b"text,label\n , 1\n,0\n", "has no row with a text (2 rows)"),
    ("a.jsonl", b'{"text":"a","label":null}\n{"text":"b","label":null}\n' * 20, "documents to evaluate"),
    ("a.csv", b"text\nonly one\n", "to evaluate; at least 2 are needed"),
    ("a.jsonl", b'{"one":"a","two":"b"}\n', "may be in any of one, two; name it by --text-column"),
    ("a.csv", b"x,y\n1,2\n", "may be in none of x, y; name it"),
    ("a.xlsx", b"PK", "of files, .csv .tsv .jsonl .json .parquet .txt are read"),
    ("a", b"text\n", "of files, .csv"),
    ("a.pkl", b"\x80\x04", "of files, .csv"),
]


@pytest.mark.parametrize(("name", "content", "said"), WRONG)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    if said.startswith("documents"):  # a class that is never there is no class at all
        assert read(str(file)).evaluated.labels is None
        return
    message = refusal(BadValue, lambda: read(str(file)))
    assert said in message
    assert name in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("./nowhere", "no such file or folder"),
        ("nowhere.csv", "no such file or folder"),
        ("", "names no data set"),
        ("a\nb", "names no data set"),
        ("stsb", "is a regression task"),
    ],
)
def test_what_is_not_there_is_refused(reference: str, said: str) -> None:
    assert said in refusal(BadValue, lambda: read(reference))


def test_an_unknown_column_or_split_is_refused_with_the_nearest(tmp_path: Path) -> None:
    reference = folder(tmp_path / "set", train=rows(30), test=rows(25))
    asked: list[tuple[Callable[[], Any], str]] = [
        (lambda: read(reference, None, "txt"), "did you mean 'text'? Known: text, label"),
        (lambda: read(reference, label="labl"), "did you mean 'label'? Known: text, label"),
        (lambda: read(f"{reference}@tset"), "did you mean 'test'? Known: train, test"),
    ]
    for call, said in asked:
        message = refusal(UnknownName, call)
        assert said in message
        assert reference in message
    assert "holds no text" in refusal(BadValue, lambda: read(reference, None, "label"))


def test_an_empty_folder_and_one_of_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert "cannot be read" in refusal(BadValue, lambda: read(str(tmp_path / "set")))
    (tmp_path / "set" / "a.png").write_bytes(b"x")
    assert "is read as imagefolder" in refusal(BadValue, lambda: read(str(tmp_path / "set")))


def test_a_script_beside_the_data_is_not_run(tmp_path: Path) -> None:
    place = Path(folder(tmp_path / "set", train=rows(30), test=rows(25, "test")))
    for name in ("set.py", "data.py", "loading.py"):
        (place / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit('ran')")
    with contextlib.suppress(SparsityError):
        read(str(place))
    assert not (tmp_path / "ran").exists()


def test_progress_bars_and_log_levels_are_as_before(tmp_path: Path) -> None:
    from datasets.utils import logging

    before = datasets.are_progress_bars_disabled(), logging.get_verbosity()
    read(jsonl(tmp_path / "a.jsonl", rows(30)))
    refusal(BadValue, lambda: read("./nowhere"))
    assert (datasets.are_progress_bars_disabled(), logging.get_verbosity()) == before


# -- by name ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Data sets that the hub has, by repository and configuration, by split."""
    there: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def of(source: sources.Source) -> Any:
        name = source.known.repository if source.known else source.name
        splits = there[f"{name}:{source.config}"]
        return {split: datasets.Dataset.from_list(content) for split, content in splits.items()}

    monkeypatch.setattr(sources, "_from_hub", of)
    return there


def test_glue_is_evaluated_on_validation_and_learnt_from_train(hub: dict[str, Any]) -> None:
    pairs = [{"premise": f"p {i}", "hypothesis": f"h {i}", "label": i % 3, "idx": i} for i in range(60)]
    held = [row | {"label": -1} for row in pairs]
    hub["nyu-mll/glue:mnli"] = {"train": pairs[:30], "test_matched": held, "validation_mismatched": held,
                                "validation_matched": pairs[30:]}  # fmt: skip
    found = read("mnli")
    assert found.evaluated.rows()[0] == ("p 30", "h 30")
    assert (len(found.evaluated), len(found.training)) == (30, 30)
    assert read("mnli", "mnli").training.rows() == found.training.rows()


def test_wikitext_is_of_articles(hub: dict[str, Any]) -> None:
    lines = []
    for i in range(25):
        lines += ["", f" = Title {i} = \n", "", f" Some words {i} . \n", f" = = Part {i} = = \n", " More . \n", ""]
    hub["Salesforce/wikitext:wikitext-2-raw-v1"] = {
        name: [{"text": line} for line in lines] for name in ("test", "train", "validation")
    }
    found = read("wikitext2")
    assert len(found.evaluated) == 25
    assert found.evaluated.texts[3] == " = Title 3 = \n Some words 3 . \n = = Part 3 = = \n More . \n"
    assert len(found.training) == 0, "the same articles"


def test_a_set_of_the_hub_by_configuration_and_split(hub: dict[str, Any]) -> None:
    hub["owner/name:part"] = {"train": rows(30), "test": rows(25, "test"), "other": rows(21, "other")}
    assert read("owner/name:part@other").evaluated.texts == tuple(texts(21, "other"))
    assert read("owner/name:part").evaluated.texts == tuple(texts(25, "test"))


def test_every_name_says_where_it_is() -> None:
    assert set(known.KNOWN) == {
        *("cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli"),
        *("wikitext2", "wikitext103"),
    }
    for each in known.KNOWN.values():
        assert len(each.text) in (1, 2)
        assert (each.label is None) is each.articles


def test_rows_with_a_column_more_than_the_header_are_refused_and_not_shifted(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text,label\n" + "".join(f"film {i},{i % 2},9\n" for i in range(40)))
    with pytest.raises(BadValue, match="header"):
        reading.read(str(file), None)


def test_documents_that_repeat_others_are_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text,label\n" + "".join(f"film {i % 30},{i % 2}\n" for i in range(40)))
    told = "10 of 40 evaluated documents repeat others, which standard errors cannot know"
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"soup {i},{i % 2}\n" for i in range(40)))
    assert told in reading.read(str(file), str(other)).notes
