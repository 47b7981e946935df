"""What exceptions mean: those that torch and numpy raise themselves, and the texts of those that need a GPU."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sparsity.failures import LONGEST, failure, is_lost, place

OF_A_GPU = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 1 has a total capacity of 79.15 GiB of which 1.25 GiB is "
    "free. Including non-PyTorch memory, this process has 77.88 GiB memory in use."
)


def raised(function: Callable[[], object]) -> Exception:
    """What the function raises."""
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("ask", "amount"),
    [
        (lambda: torch.empty(2**62 // 8), "2.0 EiB"),
        (lambda: np.empty(2**62 // 8), "4.00 EiB"),
        (lambda: bytearray(2**62), None),
    ],
)
def test_what_the_host_has_no_room_for_is_told_with_its_size_where_that_is_known(
    ask: Callable[[], object], amount: str | None
) -> None:
    found = failure(raised(ask))
    told = f" ({amount} more were asked for)" if amount else ""
    assert found.reason.startswith(f"out of memory on the host{told}; smaller --workloads, ")
    assert (found.place, found.lost) == (None, False)


def test_a_process_that_may_not_have_more_memory_is_out_of_it() -> None:
    pytest.importorskip("resource", reason="memory of a process cannot be bounded here")
    script = (
        "import resource, torch; from sparsity.failures import failure\n"
        "torch.set_num_threads(1); torch.ones(8, 8) @ torch.ones(8, 8)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        "held = []\n"
        "try:\n"
        "    while True: held.append(torch.ones(4 << 20))\n"
        "except Exception as error: found = failure(error); held.clear(); print(found.reason)\n"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("what a process uses is read from /proc")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("out of memory on the host (16.0 MiB more were asked for); ")


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError(OF_A_GPU), "cuda:1 (20.00 GiB more were asked for, 1.25 GiB free)"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronous"), "cuda"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "cuda"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: not enough memory"), "the host"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the host"),
    ],
)
def test_out_of_memory_is_known_by_type_text_or_number(error: Exception, where: str) -> None:
    found = failure(error)
    assert found.reason.startswith(f"out of memory on {where}; ")
    assert "\n" not in found.reason
    assert not found.lost


@pytest.mark.parametrize(
    "error",
    [
        OSError("libgomp.so.1: cannot allocate memory in static TLS block"),  # a library that is loaded too late
        OSError(errno.ENOENT, "No such file or directory"),
        ValueError("can't allocate memory"),  # not how torch says it
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    ],
)
def test_what_only_sounds_like_it_is_told_as_it_is(error: Exception) -> None:
    assert failure(error).reason == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("CUDA error: device-side assert triggered", True),
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: invalid argument", False),
        ("CUDA error: no kernel image is available for execution on the device", False),
        ("an illegal memory access of our own making", False),
    ],
)
def test_a_gpu_is_lost_after_those_errors_alone_that_cuda_does_not_recover_from(text: str, lost: bool) -> None:
    error = RuntimeError(f"{text}\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.")
    assert is_lost(error) is lost
    found = failure(error)
    assert found.lost is lost
    assert found.reason.startswith(f"RuntimeError: {text}")
    assert found.reason.endswith("until the process ends)") is lost


def test_any_other_is_its_type_and_the_first_line_of_its_message() -> None:
    assert failure(ValueError("\n first \nsecond")).reason == "ValueError: first"
    assert failure(KeyError()).reason == "KeyError"
    long = failure(ValueError("x" * 1000)).reason
    assert len(long) == LONGEST
    assert long.endswith("x…")


def test_the_place_is_the_innermost_line_and_the_innermost_that_is_nobody_elses() -> None:
    linear = torch.nn.Linear(2, 3)
    found = place(raised(lambda: linear(torch.ones(4, 5))))
    assert found is not None
    inner, own = found.split(", from ")
    assert inner.startswith("in Linear.forward, torch/nn/modules/linear.py:")
    assert own.startswith(
        "test_the_place_is_the_innermost_line_and_the_innermost_that_is_nobody_elses.<locals>.<lambda>"
    )
    assert "test_failures.py:" in own


def test_where_both_are_one_line_it_is_told_once() -> None:
    def broken() -> None:
        raise ValueError("no")

    found = place(raised(broken))
    assert found is not None
    assert found.startswith("in test_where_both_are_one_line_it_is_told_once.<locals>.broken, ")
    assert ", from " not in found


def test_an_exception_that_was_not_raised_has_no_place_and_lines_above_do_not_count() -> None:
    assert place(ValueError("no")) is None
    assert place(raised(lambda: torch.empty(-1)), above=__file__) is None
