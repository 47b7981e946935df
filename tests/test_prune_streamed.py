"""The command: what it says is so, what it writes is a plain checkpoint, each error is one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers

from sparsity import prune_streamed
from sparsity.models import hub
from sparsity.models.architecture import prunable_layers
from tests.models import tiny

pytestmark = pytest.mark.usefixtures("threads_restored")
FEW = ("--calibration", "5", "--length", "16", "--threads", "1")


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tiny.save(tmp_path / "model", "gpt2", "lm")
    tiny.add_tokenizer(folder, "gpt2")
    return str(folder)


def run(*words: str) -> int:
    return prune_streamed.main([*words, *FEW])


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_it_says_what_it_did_and_what_it_took(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "out"
    assert run(model, str(out), "--method", "sparsegpt", "--sparsity", "0.75") == 0
    said = capsys.readouterr().out
    assert re.search(r"^seen      5 documents, \d+ tokens; hidden states wait on the CPU$", said, re.M)
    read = hub.load(str(out), "lm", torch.float32, torch.device("cpu"))
    weights = [layer.weight for layer in prunable_layers(read.model)]
    zeros, total = sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)
    assert zeros * 4 == total * 3
    assert f"pruned    sparsegpt unstructured layer: {zeros} of {total} prunable weights (0.75)" in said
    assert re.search(r"^resident  [\d.]+ MiB at most above the [\d.]+ [MG]iB after imports$", said, re.M)
    assert re.search(r"^bound     within 1\.00 GiB, 4 times the largest block and 1 GiB$", said, re.M)
    assert re.search(r"^seconds   read [\d.]+, statistics [\d.]+, prune [\d.]+, write [\d.]+$", said, re.M)
    assert said.splitlines()[-1] == f"written   {out}"
    assert list(out.parent.iterdir()) == [out]
    own, theirs = (transformers.AutoTokenizer.from_pretrained(each)("the film").input_ids for each in (out, model))
    assert own == theirs


def test_own_documents_are_what_it_learns_from(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.csv").write_text("words\n" + "".join(f"the film number {i} was good\n" for i in range(30)))
    data = ("--data", str(tmp_path / "texts.csv"), "--text-column", "words")
    assert run(model, str(tmp_path / "out"), "--method", "wanda", "--pattern", "2:4", *data) == 0
    seen = re.search(r"^seen      (\d+) documents", capsys.readouterr().out, re.M)
    assert seen is not None
    assert 0 < int(seen[1]) < 30


def test_random_weights_are_pruned_and_embedded_models_too(tmp_path: Path, model: str) -> None:
    for reference, name in {f"random:{model}": "a", "gpt2": "b"}.items():
        assert run(reference, str(tmp_path / name), "--method", "wanda", "--sparsity", "0.5", "--scope", "row") == 0
        first, *_ = prunable_layers(transformers.GPT2LMHeadModel.from_pretrained(tmp_path / name))
        assert int((first.weight == 0).sum()) * 2 == first.weight.numel()


def test_dtype_and_shards_are_heeded(tmp_path: Path, model: str) -> None:
    assert run(model, str(tmp_path / "out"), "--method", "l1", "--sparsity", "0.5", "--dtype", "bfloat16") == 0
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "l3", "--sparsity", "0.5"), "unknown method 'l3'"),
        (("--method", "l1"), "--sparsity is not given"),
        (("--method", "l1", "--sparsity", "1"), "outside [0, 1)"),
        (("--method", "l1", "--sparsity", "0.5", "--scope", "global"), "scope global looks at all layers at once"),
        (("--method", "taylor", "--sparsity", "0.5"), "needs gradients"),
        (("--method", "l1", "--sparsity", "0.5", "--pattern", "blocky"), "unknown pattern 'blocky'"),
        (("--method", "l1", "--sparsity", "0.5", "--shard-size", "big"), "shard-size 'big'"),
        (("--method", "l1", "--sparsity", "0.5", "--dtype", "int8"), "unknown dtype 'int8'"),
        (("--method", "l1", "--sparsity", "0.5", "--device", "cuda:99"), "device cuda:99: torch finds "),
        (("--method", "l1", "--sparsity", "0.5", "--text-column", "x"), "text-column 'x' without data"),
    ],
)
def test_each_error_is_one_line_and_writes_nothing(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert said in failed(capsys, model, str(tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_is_told_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").touch()
    assert "is there already" in failed(capsys, "./no-model", str(tmp_path / "out"), "--method", "l1")
