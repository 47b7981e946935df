"""The command: a classifier that everyone can read, accuracy before and after, and nothing half written."""

from __future__ import annotations

import csv
import os
import re
import shlex
from pathlib import Path

import pytest
import torch
import transformers

from sparsity import classifier, fine_tune
from sparsity.data import reading
from sparsity.errors import Refused
from sparsity.models import hub
from sparsity.training import Settings
from sparsity.training_state import Reached
from tests.models import tiny
from tests.test_classifier import documents

pytestmark = pytest.mark.usefixtures("threads_restored")


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    """Options that lead to a training and an evaluation set with columns of unusual names."""
    for name, count in (("train", 60), ("test", 30)):
        chosen = documents(count)
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("words", "warmth"))
            for i, (text, label) in enumerate(zip(chosen.texts, chosen.labels or (), strict=True)):
                # the end of a text says which set it is of: what is evaluated is not trained on
                writer.writerow((f"{text} {'today' if name == 'test' else ''} {i}", (chosen.classes or ())[label]))
    sets = ["--data", str(tmp_path / "test.csv"), "--training-data", str(tmp_path / "train.csv")]
    return [*sets, "--text-column", "words", "--label-column", "warmth"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A bare encoder, as `BertModel.save_pretrained` writes it."""
    folder = tiny.save(tmp_path / "model", "bert", "body")
    tiny.add_tokenizer(folder, "bert")
    return str(folder)


def run(*arguments: str) -> int:
    return fine_tune.main([*arguments, "--threads", "1"])


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command ends in."""
    capsys.readouterr()
    assert run(*arguments) == 2
    said = capsys.readouterr().err.splitlines()
    lines = [line for line in said if line.startswith("error: ")]
    assert len(lines) == 1
    assert said[-1] == lines[0]
    return lines[0].removeprefix("error: ")


def test_it_writes_a_classifier_of_the_accuracy_that_it_says(
    tmp_path: Path, data: list[str], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "made"
    tiny.add_tokenizer(tiny.save(Path(model), "gpt2", "body"), "gpt2")  # which learns faster
    assert run(model, *data, "--out", str(out), "--steps", "40", "--learning-rate", "2e-3") == 0
    told = capsys.readouterr().out
    assert re.search(rf"^model     {re.escape(model)}, GPT2ForSequenceClassification, .* 3 classes$", told, re.M)
    assert re.search(r"^data      60 documents to learn from, 30 evaluated$", told, re.M)
    before, after = (float(value) for value in re.findall(r"accuracy (\d\.\d+) ± \d\.\d+ \(standard error\)", told))
    assert "naming the most frequent class alone: 0.333" in told
    assert before < 0.8 < after
    read = reading.read(data[1], data[3], ("words",), "warmth").evaluated
    loaded = hub.load(str(out), "classification", torch.float32, torch.device("cpu"))
    scored = classifier.task(loaded, read).evaluate(loaded.model)
    assert f"{scored.estimate.value:.3f} ± {scored.estimate.stderr:.3f}" in told.splitlines()[-2]
    assert told.splitlines()[-1] == f"written   {out}"


def test_what_it_writes_is_a_plain_checkpoint_and_lies_alone(tmp_path: Path, data: list[str], model: str) -> None:
    out = tmp_path / "new" / "made"
    assert run(model, *data, "--out", str(out), "--steps", "1") == 0
    assert {file.name for file in out.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in out.iterdir())
    assert list(out.parent.iterdir()) == [out]
    assert os.access(out, os.R_OK | os.X_OK)
    assert out.stat().st_mode & 0o777 == (tmp_path / "new").stat().st_mode & 0o777
    read = transformers.AutoModelForSequenceClassification.from_pretrained(out)
    assert read.config.id2label == {0: "cold", 1: "neither", 2: "warm"}
    assert read.config.label2id == {"cold": 0, "neither": 1, "warm": 2}
    text = "the film"
    own, theirs = (transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"] for folder in (out, model))
    assert own == theirs


def test_one_set_is_halved(tmp_path: Path, data: list[str], model: str, capsys: pytest.CaptureFixture[str]) -> None:
    one = [*data[:2], *data[4:]]
    assert run(model, *one, "--out", str(tmp_path / "made"), "--steps", "1") == 0
    counts = re.search(r"^data      (\d+) documents to learn from, (\d+) evaluated$", capsys.readouterr().out, re.M)
    assert counts is not None
    assert sum(map(int, counts.groups())) == 30


def test_the_seed_and_the_steps_are_heeded(tmp_path: Path, data: list[str], model: str) -> None:
    heads = []
    for name, asked in {
        "a": ["--seed", "3"],
        "b": ["--seed", "3"],
        "c": ["--seed", "4"],
        "d": ["--steps", "2"],
    }.items():
        given = ["--steps", "1", "--seed", "3", *asked]
        assert run(model, *data, "--out", str(tmp_path / name), *given) == 0
        made = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / name)
        heads.append(made.classifier.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], heads[3])


def test_the_settings_of_training_are_those_that_were_asked_for(
    tmp_path: Path, data: list[str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def train(loaded: hub.Loaded, documents: object, settings: Settings, batch_size: int) -> Reached:
        seen.extend((settings, batch_size))
        return Reached(1, 1.0, 1)

    monkeypatch.setattr(classifier, "train", train)
    asked = ["--seed", "3", "--steps", "7", "--accumulate", "2", "--training-batch", "5", "--learning-rate", "0.25"]
    assert run(model, *data, "--out", str(tmp_path / "made"), *asked) == 0
    assert run(model, *data, "--out", str(tmp_path / "usual")) == 0
    assert seen == [Settings(0.25, 7, accumulate=2, seed=3), 5, Settings(5e-5, 300), 32]


def test_a_folder_that_holds_something_is_left_alone_and_an_empty_one_taken(
    tmp_path: Path, data: list[str], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    out.mkdir()
    (out / "precious").write_text("mine")
    message = failed(capsys, "./no-model", "--data", "./no-data", "--out", str(out))  # so told before all else
    assert message == f"{out} is there already; give the name of a new folder, or of an empty one"
    assert (out / "precious").read_text() == "mine"
    assert "is there already" in failed(capsys, model, *data, "--out", str(out / "precious"))
    (out / "precious").unlink()
    assert run(model, *data, "--out", str(out), "--steps", "1") == 0
    assert (out / "model.safetensors").is_file()


def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "made"
    message = failed(capsys, "./no-model", "--data", "./no-data", "--out", str(out))
    assert message.startswith(f"{out}: nothing can be written there: ")


def test_a_disk_that_fills_up_leaves_nothing_half_written(
    tmp_path: Path, data: list[str], model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "save_pretrained", full)
    out = tmp_path / "new" / "made"
    message = failed(capsys, model, *data, "--out", str(out), "--steps", "1")
    assert message.startswith(f"{out}: nothing can be written there: ")
    assert "No space left" in message
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--steps", "0"], "steps '0' is not a whole number from 1"),
        (["--steps", "many"], "steps 'many' is not a whole number from 1"),
        (["--seed", "-1"], "seed '-1' is not a whole number from 0"),
        (["--learning-rate", "fast"], "learning-rate 'fast' is not a number above 0"),
        (["--device", "cuda:99"], "device cuda:99: torch finds "),
        (["--label-column", "words"], " labels for "),
        (["--label-column", "nothing"], "unknown column of "),
        (["--data", "./nowhere.csv"], "./nowhere.csv"),
    ],
)
def test_each_error_is_one_line_and_writes_nothing(
    tmp_path: Path, data: list[str], model: str, capsys: pytest.CaptureFixture[str], changes: list[str], said: str
) -> None:
    # "--text-column" gives way, where the text is asked to be the class
    asked = data if "words" not in changes else data[:4]
    assert said in failed(capsys, model, *asked, "--out", str(tmp_path / "made"), *changes)
    assert not (tmp_path / "made").exists()


def test_a_model_that_is_not_there_is_one_line(
    tmp_path: Path, data: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such folder" in failed(capsys, "./nowhere", *data, "--out", str(tmp_path / "made"))


def test_the_command_that_a_refusal_names_is_understood(tmp_path: Path, data: list[str], model: str) -> None:
    """Copied from the message, its dots filled in."""
    with pytest.raises(Refused) as refused:
        hub.load(model, "classification", torch.float32, torch.device("cpu"))
    found = re.search(r"python -m sparsity\.fine_tune (.*) makes one", str(refused.value))
    assert found is not None
    words = shlex.split(found[1].replace("--data …", shlex.join(data)).replace("…", str(tmp_path / "made")))
    assert run(*words, "--steps", "1") == 0
