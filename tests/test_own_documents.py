"""The user's own documents in a run: evaluated, calibrated with and learnt from, each only what it should be."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from sparsity import classifier, prune
from sparsity.bench import CONTROL, NEW_HEAD, Bench, Subject
from sparsity.cells import RunState
from sparsity.data import reading
from sparsity.errors import BadValue, Refused
from sparsity.models import embedded
from sparsity.options import parse
from sparsity.recoveries import Key, Recoveries
from sparsity.recovery import parse as recovery
from sparsity.tasks import reviews
from sparsity.tasks.batching import Batch
from tests.models import tiny
from tests.models.tiny import refusal

pytestmark = pytest.mark.usefixtures("threads_restored")

DOCUMENTS = [(each.text, each.label) for each in reviews.generate(160, seed=77)]
L1 = prune.Recipe("l1", 0.5)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Reviews in a file, with their classes."""
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in DOCUMENTS))
    return str(file)


@pytest.fixture
def unlabelled(tmp_path: Path) -> str:
    """The same without classes."""
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(text for text, _ in DOCUMENTS))
    return str(file)


def new(data: str, **texts: str) -> Bench:
    given = {"threads": "1", "documents": "30", "calibration": "11", "training-batch": "4", "data": data}
    return Bench(parse(given | {name.replace("_", "-"): text for name, text in texts.items()}))


def texts(subject: Subject, batches: list[Batch]) -> set[str]:
    """What a classifier's batches hold, without spaces."""
    tokenizer = subject.loaded.tokenizer()
    rows = [(row, mask) for b in batches for row, mask in zip(*list(b.inputs.values())[:2], strict=True)]
    found = {tokenizer.decode(row[mask.bool()], skip_special_tokens=True) for row, mask in rows}
    return {str(text).replace(" ", "") for text in found}


def test_they_are_read_once_for_all_models(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = reading.read

    def counted(*asked: Any) -> reading.Data:
        reads.append(asked[0])
        return read(*asked)

    monkeypatch.setattr(reading, "read", counted)
    bench = new(data)
    for name in ("gpt2", "bert"):
        bench.score(name, "classification", CONTROL)
        bench.calibration(bench.subject(name, "classification"))
    bench.check_data()
    bench.data_fingerprint()
    assert reads == [data]


def test_a_long_text_is_read_in_windows_whole_and_calibrated_with_others(unlabelled: str, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in DOCUMENTS[::-1]))
    bench = new(unlabelled, training_data=str(other), window="96/48")
    scores = bench.score("gpt2", "lm", prune.Recipe("wanda", 0.5))
    tokens = bench.subject("gpt2", "lm").loaded.tokenizer()(Path(unlabelled).read_text(), verbose=False)["input_ids"]
    assert scores.denominators.sum() == len(tokens) + 1  # its end
    assert set(scores.denominators[1:-1]) == {48}
    fingerprint = RunState(bench.options, bench).fingerprint
    assert (fingerprint["window"], fingerprint["data documents"]) == ("96/48", 1)
    assert "window" not in RunState(new(unlabelled).options, new(unlabelled)).fingerprint
    with pytest.raises(Refused, match="window 96/48: bert models predict by the masked objective"):
        bench.score("bert", "lm", CONTROL)
    alone = new(unlabelled, window="96/48")
    assert alone.score("gpt2", "lm", L1).denominators.tolist() == scores.denominators.tolist()
    with pytest.raises(Refused, match="leaves no document to learn from; give some by --training-data"):
        alone.score("gpt2", "lm", prune.Recipe("wanda", 0.5))


@pytest.mark.parametrize("name", embedded.NAMES)
def test_what_is_evaluated_is_never_calibrated_with_nor_learnt_from(data: str, name: str) -> None:
    bench = new(data, documents="1000")
    subject = bench.subject(name, "classification")
    calibration = bench.calibration(subject)
    assert sorted(d for batch in calibration for d in batch.documents) == list(range(11))
    evaluated = texts(subject, bench.quality_task(subject).batches)
    learnt = texts(subject, list(itertools.islice(Recoveries(bench).training_batches(subject, 0), 80)))
    every = {text.replace(" ", "") for text, _ in DOCUMENTS}
    assert evaluated | learnt == every
    assert not evaluated & (learnt | texts(subject, calibration))


def test_a_trained_classifier_is_right_on_them_and_pruning_is_paired(data: str) -> None:
    found = new(data).quality("gpt2", "classification", L1)
    assert found.documents == 30
    assert found.dense_value is not None
    assert found.dense_value > 0.75
    assert found.floor is None
    assert found.also is not None
    assert set(found.also) == {"macro_f1", "matthews"}
    language = new(data).quality("gpt2", "lm", CONTROL)
    assert (language.floor, language.also) == (None, None)


def test_the_same_documents_whatever_else_is_asked(data: str) -> None:
    first, second, fewer = new(data), new(data, calibration="5", tasks="lm"), new(data, documents="20")
    assert first.data_fingerprint()["data digest"] == second.data_fingerprint()["data digest"]
    assert fewer.data_fingerprint()["data digest"] != first.data_fingerprint()["data digest"]
    said = first.data_fingerprint()
    assert (said["data"], said["data documents"]) == (data, 30)
    assert said["training documents"] == len(first.own.training) if first.own else False


def test_without_own_documents_nothing_is_said_of_them() -> None:
    bench = Bench(parse({}))
    bench.check_data()
    assert (bench.own, bench.data_fingerprint(), bench.data_notes()) == (None, {}, [])


def test_notes_tell_what_was_divided_and_what_a_model_could_not_read(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    rows = [
        {"text": f"{text} " * (40 if i % 9 == 0 else 1), "label": label} for i, (text, label) in enumerate(DOCUMENTS)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench = new(str(file), documents="200")
    bench.score("gpt2", "classification", CONTROL)
    bench.score("gpt2", "classification", L1)
    divided, cut = bench.data_notes()
    assert "is one set" in divided
    assert cut.startswith("gpt2: ")
    assert cut.endswith("are longer than 96 tokens, and were cut")


def test_training_is_on_the_documents_again_and_again(data: str) -> None:
    recoveries = Recoveries(new(data))
    scores = recoveries.scores(Key("gpt2", "classification", L1, recovery("finetune:3"), 0))
    assert len(scores.numerators) == 30
    subject = recoveries.bench.subject("gpt2", "lm")
    (batch,) = itertools.islice(recoveries.training_batches(subject, 0), 1)
    assert batch.labels.shape == batch.inputs["input_ids"].shape


def test_without_classes_a_language_model_is_measured_and_a_classifier_refused(unlabelled: str) -> None:
    bench = new(unlabelled)
    bench.check_data()
    assert bench.quality("gpt2", "lm", CONTROL).documents == 30
    message = refusal(Refused, lambda: bench.score("gpt2", "classification", CONTROL))
    assert "cannot be classified" in message
    assert "no label column" in message
    only = new(unlabelled, tasks="classification")
    assert "no label column" in refusal(BadValue, only.check_data)


def test_data_that_cannot_be_had_is_known_before_anything_is_measured(data: str) -> None:
    assert "no such file" in refusal(BadValue, new("./nowhere.csv").check_data)
    with pytest.raises(Exception, match="did you mean 'text'"):
        new(data, text_column="txt").check_data()


def test_where_every_document_is_evaluated_none_can_be_learnt_from(data: str) -> None:
    bench = new(data, training_data=data)
    assert bench.quality("gpt2", "classification", CONTROL).documents == 30
    for call in (
        lambda: bench.prune(bench.subject("gpt2", "classification"), prune.Recipe("wanda", 0.5, scope="row")),
        lambda: next(Recoveries(bench).training_batches(bench.subject("gpt2", "classification"), 0)),
    ):
        assert "leaves no document to learn from; give some by --training-data" in refusal(Refused, call)


def test_random_weights_are_calibrated_on_random_tokens_all_the_same(data: str, tmp_path: Path) -> None:
    bench = new(data)
    subject = bench.subject(f"random:{tiny.save(tmp_path / 'random', 'gpt2', 'lm')}", "lm")
    assert sum(len(batch.documents) for batch in bench.calibration(subject)) == 11
    assert "own" not in vars(bench), "the file was not even read"


def three(tmp_path: Path) -> str:
    """Three classes with names."""
    file = tmp_path / "three.jsonl"
    named = [{"text": text, "label": ("bad", "fair", "good")[i % 3]} for i, (text, _) in enumerate(DOCUMENTS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in named))
    return str(file)


def test_a_new_head_has_the_classes_of_the_documents(tmp_path: Path) -> None:
    bench = new(three(tmp_path))
    subject = bench.subject("gpt2", NEW_HEAD)
    assert subject.loaded.model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert bench.score("gpt2", NEW_HEAD, CONTROL).chance is not None


@pytest.mark.parametrize("own", [True, False])
def test_a_checkpoint_without_a_head_is_given_one_where_that_was_asked_for(tmp_path: Path, own: bool) -> None:
    folder = tmp_path / "body"
    tiny.save(folder, "bert", "lm")
    tiny.add_tokenizer(folder, "bert")
    given = {"data": three(tmp_path)} if own else {"documents": "20"}
    plain = Bench(parse({"threads": "1", **given}))
    assert "has no classification head" in refusal(Refused, lambda: plain.subject(str(folder), "classification"))
    bench = Bench(parse({"threads": "1", "fine-tune": "2", "training-batch": "4", **given}))
    model = bench.subject(str(folder), "classification").loaded.model
    assert model.config.num_labels == (3 if own else 2)
    assert bench.models[str(folder)].classifier == "BertForSequenceClassification"
    assert len(bench.score(str(folder), "classification", CONTROL).numerators) >= 20
    random = f"random:{folder}"
    assert "random weights" in refusal(Refused, lambda: bench.subject(random, "classification"))


def test_a_new_head_is_trained_as_the_options_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "body"
    tiny.save(folder, "bert", "lm")
    tiny.add_tokenizer(folder, "bert")
    asked: list[Any] = []
    made = classifier.fine_tuned

    def watched(*given: Any) -> Any:
        asked.append(given)
        return made(*given)

    monkeypatch.setattr(classifier, "fine_tuned", watched)
    given = {"threads": "1", "data": three(tmp_path), "fine-tune": "3", "training-batch": "5", "learning-rate": "0.5"}
    bench = Bench(parse(given))
    bench.subject(str(folder), "classification")
    ((reference, shown, settings, classes, size, *_),) = asked
    assert (reference, settings.steps, settings.learning_rate, size) == (str(folder), 3, 0.5, 5)
    assert bench.own is not None
    assert (shown, classes) == (bench.own.training, ("bad", "fair", "good"))


def test_states_of_training_are_told_apart_by_the_documents(data: str, tmp_path: Path) -> None:
    folders = {
        Recoveries(new(reference, training_state=str(tmp_path / "state")))._state("title")
        for reference in (data, three(tmp_path))
    }
    assert len(folders) == 2


def test_a_model_of_another_order_is_judged_and_trained_by_the_names_of_its_classes(tmp_path: Path) -> None:
    folder, file = tmp_path / "turned", tmp_path / "named.jsonl"
    shutil.copytree(embedded.FOLDER / "gpt2" / "classification", folder)
    names = {0: "bad", 1: "good"}
    tiny.edit_json(folder / "config.json", id2label=names, label2id={name: i for i, name in names.items()})
    classes = datasets.ClassLabel(names=["good", "bad"])
    features = datasets.Features({"text": datasets.Value("string"), "label": classes})
    rows = [{"text": text, "label": 1 - label} for text, label in DOCUMENTS]
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(file.with_suffix(".parquet")))
    bench = new(str(file.with_suffix(".parquet")))
    subject = bench.subject(str(folder), "classification")
    assert bench.score(str(folder), "classification", CONTROL).estimate.value > 0.75
    learnt = bench.training_documents(subject)
    assert learnt is not None
    assert set(learnt) <= set(DOCUMENTS)
