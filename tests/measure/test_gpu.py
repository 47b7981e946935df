"""Clocks of a GPU, where NVML answers; nothing where it does not. NVML is a stand-in."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch

from sparsity.measure import gpu


class NVMLError(Exception):
    """What pynvml raises."""


class FakeNvml(types.ModuleType):
    """One GPU whose clock falls, and whose second reading fails."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1

    def __init__(self, works: bool = True) -> None:
        super().__init__("pynvml")
        self.works = works
        self.clocks: list[int | None] = [1980, None, 1410]
        self.bits = [0x1, 0x4 | 0x40]
        self.asked: list[bytes] = []

    def nvmlInit(self) -> None:  # noqa: N802  # pynvml's name
        if not self.works:
            raise NVMLError("driver not loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> str:  # noqa: N802  # pynvml's name
        self.asked.append(uuid)
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802  # pynvml's name
        assert (handle, kind) == ("handle", 1)
        clock = self.clocks.pop(0)
        if clock is None:
            raise NVMLError("busy")
        return clock

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:  # noqa: N802  # pynvml's name
        return self.bits.pop(0)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802  # pynvml's name
        return "580.65.06"


def install(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    properties = types.SimpleNamespace(uuid="1234-abcd")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


def test_readings_gather_clocks_and_reasons_and_pass_over_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    install(monkeypatch, nvml)
    clocks = gpu.clocks("cuda:0")
    assert clocks is not None
    assert nvml.asked == [b"GPU-1234-abcd"]
    for _ in range(3):
        clocks.read()
    assert clocks.megahertz == [1980, 1410]
    assert clocks.throttled == {"power cap", "hardware thermal slowdown"}
    assert gpu.driver() == "580.65.06"


@pytest.mark.parametrize("module", [None, FakeNvml(works=False)], ids=["not installed", "no answer"])
def test_without_nvml_there_are_no_clocks_and_no_driver(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    install(monkeypatch, module)
    assert gpu.clocks("cuda") is None
    assert gpu.driver() is None


def test_a_cpu_has_none() -> None:
    assert gpu.clocks("cpu") is None
