"""`pytest benchmarks` with a model of the hub: measured where the hub has it, else one line before anything is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import tiny
from tests.models.hub_misbehaviour import Fault, other_bytes
from tests.models.hub_server import HubServer

ROOT = Path(__file__).parents[2]
NAME = "owner/tiny"


def _benchmarks(server: HubServer, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """One question about the model, in a process that knows the hub by its environment alone."""
    command = [sys.executable, "-m", "pytest", str(ROOT / "benchmarks"), "--models", NAME, "--profile", "smoke"]
    command += ["-k", "weight_distribution", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "--threads=1", *options]
    environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    unset = ("HF_", "PYTEST_", "HTTP_PROXY", "http_proxy")  # of workers of pytest-xdist, too, who write no file
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    folder.mkdir(exist_ok=True)
    pipes = {"capture_output": True, "text": True}
    return subprocess.run(command, cwd=folder, env=kept | environment, check=False, timeout=300, **pipes)  # type: ignore[call-overload,no-any-return]  # mypy does not look into the dict


@pytest.mark.slow
def test_a_model_of_the_hub_is_measured_and_then_offline_as_well(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "served", "bert", "lm")
    tiny.add_tokenizer(folder, "bert")
    with HubServer({NAME: folder}) as server:
        done = _benchmarks(server, tmp_path / "run", "--benchmark-json=run.json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "model.safetensors" in server.fetched()
    assert NAME in (tmp_path / "run" / "run.json").read_text()
    again = _benchmarks(server, tmp_path / "run")
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_model_that_cannot_be_had_ends_the_run_in_one_line(tmp_path: Path) -> None:
    """Of all the ways the one that leaves most behind; `test_hub_misbehaviour.py` has the others."""
    fault, says = (
        Fault("GET /sent/.*", other_bytes),
        "model.safetensors came with other bytes than its hash says, twice",
    )
    with HubServer({NAME: tiny.save(tmp_path / "served", "bert", "lm")}, faults=[fault]) as server:
        done = _benchmarks(server, tmp_path / "run", "--benchmark-json=run.json")
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    (line,) = [line for line in said.splitlines() if says in line]
    assert line.startswith(f"ERROR: {NAME} cannot be had from the hub: ")
    assert "Traceback" not in said
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert all(path.is_relative_to(tmp_path / "run" / "home") for path in written)
    assert not [path for path in written if path.suffix == ".incomplete"]
