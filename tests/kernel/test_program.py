"""The kernel touches its buffers and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="pages are fenced by the mprotect of Linux")
def test_never_reads_or_writes_outside_its_buffers() -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.kernel.fenced"]  # apart: a fault ends the process
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1] if done.stdout else "nothing"
    assert done.returncode == 0, f"{last}: {done.stderr[-2000:]}"
    count, words = last.split(maxsplit=1)
    assert (int(count) > 300, words) == (True, "calls went well")
