"""Pickled weights: refused, with one command that converts them, which is run here as it stands."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparsity.errors import ModelNotLoaded
from sparsity.models import hub, pickled
from tests.models import tiny
from tests.models.hub_server import HubServer, use_hub

NAME = "owner/name"


def _pickle(folder: Path) -> None:
    """Weights as they were saved before there was safetensors."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _load(reference: str, task: str) -> torch.Tensor:
    return tiny.logits(hub.load(reference, task, torch.float32, tiny.CPU).model)


def _run(message: str, folder: Path, **environment: str) -> None:
    """The command that ends the message, in a shell as a reader would."""
    command = "python -c " + message.partition("python -c ")[2]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, shell=True, check=True, cwd=folder, env=os.environ | {"PATH": path} | environment)  # noqa: S602  # a command line is what it is


def test_the_command_converts_a_folder_in_place_with_its_head(tmp_path: Path) -> None:
    family, task = "bert", "classification"
    folder = tiny.save(tmp_path / "it's $HOME", family, task)
    _pickle(folder)
    message = tiny.refusal(ModelNotLoaded, lambda: hub.check(str(folder)))
    assert message.startswith(f"{folder}: no model.safetensors but pytorch_model.bin; other formats are not read, ")
    _run(message, tmp_path)
    assert torch.equal(_load(str(folder), task), tiny.logits(tiny.model(family, task)))


def test_the_command_converts_a_repository_into_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.save(tmp_path / "served", "bert", "lm")
    tiny.add_tokenizer(folder, "bert")
    _pickle(folder)
    with HubServer({NAME: folder}) as server:
        use_hub(monkeypatch, server.url, tmp_path / "cache")
        message = tiny.refusal(ModelNotLoaded, lambda: hub.check(NAME))
        assert "pytorch_model.bin" not in server.fetched()
        assert message.startswith(f"{NAME}: no model.safetensors; other formats are not read, ")
        environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        _run(message, tmp_path, **environment)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(_load("./name", "lm"), tiny.logits(tiny.model("bert", "lm")))
    assert hub.load("./name", "lm", torch.float32, tiny.CPU).tokenizer()("the film")["input_ids"]


def test_a_pickle_that_transformers_does_not_find_is_refused_without_a_command(tmp_path: Path) -> None:
    _pickle(tiny.save(tmp_path, "bert", "lm"))
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "mine.pt")
    message = tiny.refusal(ModelNotLoaded, lambda: hub.check(str(tmp_path)))
    assert message.endswith("save it again with save_pretrained()")
    assert "no model.safetensors but mine.pt; " in message


@pytest.mark.parametrize("named", [["os.system"], ["Nothing"], [1], [], None, "x", {}])
def test_only_a_class_of_transformers_gets_into_the_command(tmp_path: Path, named: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": named, "model_type": "bert"}))
    assert "t.AutoModelForMaskedLM.from_pretrained(" in pickled.conversion("owner/name", tmp_path)


def test_a_name_cannot_leave_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    name = 'a\'; touch hacked; \'"); open("hacked", "w")# é😀'
    command = pickled.conversion(name, tmp_path)
    code = shlex.split(command)[2]
    assert f"from_pretrained({json.dumps(name, ensure_ascii=False)}, use_safetensors=False)" in code
    compile(code, "command", "exec")
