"""The fingerprint of machine and software: which numbers may be compared with which.

Holds nothing that changes between two identical runs, such as a clock frequency of the moment.
A value that cannot be read is absent.
"""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from sparsity.measure import gpu
from sparsity.record import Scalar

Fingerprint = dict[str, Scalar]

SIMD = ("avx", "fma", "f16c", "sse4_2", "amx", "neon", "asimd", "sve", "bf16")
"""Beginnings of the processor's flags that decide which kernels torch takes."""
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
LIBRARIES = ("torch", "transformers", "pytest-benchmark", "datasets", "evaluate", "safetensors")


def physical_cores() -> int:
    """Cores that this process may use, a core's hardware threads counted once."""
    import os

    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def governor() -> str | None:
    """What governs the clock of the first core, such as "performance"; None where that is not told."""
    try:
        return GOVERNOR.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def fingerprint(device: str, dtype: str, threads: int) -> Fingerprint:
    """Machine, software and settings that a time depends on."""
    import cpuinfo
    import torch

    cpu = cpuinfo.get_cpu_info()
    found: Fingerprint = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "cores": physical_cores(),
        "threads": threads,
        "device": device,
        "dtype": dtype,
        "simd": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
    if cpu.get("brand_raw"):
        found["cpu"] = cpu["brand_raw"]
    if flags := sorted(flag for flag in cpu.get("flags", ()) if flag.startswith(SIMD)):
        found["cpu_flags"] = " ".join(flags)
    if (set_to := governor()) is not None:
        found["governor"] = set_to
    for library in LIBRARIES:
        found[library] = metadata.version(library)
    found["torch"] = torch.__version__  # with the build, as in 2.13.0+cpu
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "gpu_capability": f"{properties.major}.{properties.minor}",
            "cuda": str(torch.version.cuda),
            "gpu_bytes": properties.total_memory,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "cudnn": str(torch.backends.cudnn.version()),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        }
        if (version := gpu.driver()) is not None:
            found["driver"] = version
    return found
