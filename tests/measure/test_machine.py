"""The fingerprint says what a number depends on, and nothing that differs between two equal runs."""

from __future__ import annotations

import json
import os
import types
from importlib import metadata
from pathlib import Path
from typing import Any

import cpuinfo
import psutil
import pytest
import torch

from sparsity.measure import gpu, machine


@pytest.fixture
def moving_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor whose clock is another at every look."""
    looks = iter(range(1000))

    def info() -> dict[str, Any]:
        look = next(looks)
        return {"brand_raw": "Brand 9", "hz_actual": [look, 0], "hz_actual_friendly": f"{look} Hz", "count": 4}

    monkeypatch.setattr(cpuinfo, "get_cpu_info", info)


@pytest.mark.usefixtures("moving_clock")
def test_fingerprint_is_the_same_in_two_runs_and_is_json() -> None:
    first, second = (json.dumps(machine.fingerprint("cpu", "float32", 2)) for _ in range(2))
    assert first == second
    assert json.loads(first) == machine.fingerprint("cpu", "float32", 2)


@pytest.mark.usefixtures("moving_clock")
def test_fingerprint_tells_settings_and_software() -> None:
    found = machine.fingerprint("cpu", "bfloat16", 3)
    assert (found["device"], found["dtype"], found["threads"], found["cpu"]) == ("cpu", "bfloat16", 3, "Brand 9")
    for library in ("transformers", "pytest-benchmark", "datasets", "evaluate", "safetensors"):
        assert found[library] == metadata.version(library)
    assert found != machine.fingerprint("cpu", "float32", 3)


@pytest.mark.usefixtures("moving_clock")
def test_torch_stands_with_its_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "9.8.7+cu999")
    assert machine.fingerprint("cpu", "float32", 2)["torch"] == "9.8.7+cu999"


def test_what_cannot_be_read_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpuinfo, "get_cpu_info", dict)
    monkeypatch.setattr(machine, "GOVERNOR", Path("no such file"))
    found = machine.fingerprint("cpu", "float32", 2)
    assert not {"cpu", "cpu_flags", "governor"} & set(found)
    assert None not in found.values()


@pytest.mark.usefixtures("moving_clock")
def test_flags_that_choose_kernels_and_the_governor_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags = ["fpu", "avx512f", "avx2", "hypervisor", "amx_bf16", "fma"]
    monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda: {"flags": flags})
    monkeypatch.setattr(machine, "GOVERNOR", tmp_path / "governor")
    (tmp_path / "governor").write_text("powersave\n")
    found = machine.fingerprint("cpu", "float32", 2)
    assert found["cpu_flags"] == "amx_bf16 avx2 avx512f fma"
    assert found["governor"] == "powersave"


@pytest.mark.usefixtures("moving_clock")
def test_a_gpu_is_named_only_where_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = types.SimpleNamespace(name="Card 1", major=9, minor=0, total_memory=85_000_000_000)
    monkeypatch.setattr(gpu, "driver", lambda: "580.1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    on_gpu, on_cpu = (machine.fingerprint(device, "float32", 2) for device in ("cuda:0", "cpu"))
    assert (on_gpu["gpu"], on_gpu["gpu_capability"], on_gpu["driver"]) == ("Card 1", "9.0", "580.1")
    assert json.dumps(on_gpu)
    assert not {"gpu", "gpu_capability", "cuda", "tf32", "driver", "cudnn", "gpu_bytes"} & set(on_cpu)


@pytest.mark.parametrize(
    ("allowed", "physical", "expected"),
    [
        pytest.param(8, 4, 4, id="two threads a core"),
        pytest.param(2, 32, 2, id="a share of a machine"),
        pytest.param(3, None, 3, id="a machine that does not tell"),
    ],
)
def test_cores_are_physical_and_allowed(
    monkeypatch: pytest.MonkeyPatch, allowed: int, physical: int | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 64 if logical else physical)
    assert machine.physical_cores() == expected
