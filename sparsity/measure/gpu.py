"""What clocks a GPU runs at while it is timed, and what holds them down, where NVML answers.

Read only: no clock is ever set. Without NVIDIA's `nvidia-ml-py`, or where the driver does not answer,
there are no clocks, and nothing is said of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""NVML's bits of reasons to throttle; those of an idle or a deliberately set clock left out."""


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
    if not device.startswith("cuda"):
        return None
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        # By its UUID: CUDA_VISIBLE_DEVICES renumbers torch's devices, not NVML's.
        uuid = torch.cuda.get_device_properties(device).uuid
        return Clocks(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode()))
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None


def driver() -> str | None:
    """The version of the NVIDIA driver; None where NVML does not answer."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
