"""What clocks a GPU runs at while it is timed, and what holds them down, where NVML answers.

Read only: no clock is ever set. Without NVIDIA's `nvidia-ml-py`, or where the driver does not answer,
there are no clocks, and nothing is said of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sparsity.errors import BadValue

Answer = TypeVar("Answer")

REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""NVML's bits of reasons to throttle; those of an idle or a deliberately set clock left out."""


def check(device: str) -> None:
    """Raises `BadValue` for a CUDA device, such as "cuda" or "cuda:1", that torch does not find."""
    import torch

    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise BadValue(f"device {device}: torch finds {torch.cuda.device_count()} CUDA devices here")


@dataclass
class Clocks:
    """The SM clock and the reasons to throttle, gathered at each reading."""

    nvml: Any
    """The module pynvml."""
    handle: Any
    megahertz: list[int] = field(default_factory=list)
    throttled: set[str] = field(default_factory=set)

    def read(self) -> None:
        """One more reading; one that fails is left out."""
        try:
            clock = int(self.nvml.nvmlDeviceGetClockInfo(self.handle, self.nvml.NVML_CLOCK_SM))
            bits = int(self.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle))
        except self.nvml.NVMLError:
            return
        self.megahertz.append(clock)
        self.throttled |= {name for bit, name in REASONS.items() if bits & bit}


def clocks(device: str) -> Clocks | None:
    """Clocks of a CUDA device; None for a CPU, and where NVML does not answer."""

    def found(nvml: Any) -> Clocks:
        import torch

        # By its UUID: CUDA_VISIBLE_DEVICES renumbers torch's devices, not NVML's.
        uuid = torch.cuda.get_device_properties(device).uuid
        return Clocks(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode()))

    return _asked(found) if device.startswith("cuda") else None


def driver() -> str | None:
    """The version of the NVIDIA driver; None where NVML does not answer."""
    return _asked(lambda nvml: str(nvml.nvmlSystemGetDriverVersion()))


def _asked(question: Callable[[Any], Answer]) -> Answer | None:
    """What NVML answers; None where it is not installed or does not answer."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return question(pynvml)
    except pynvml.NVMLError:
        return None
