"""One thread for the unit tests: their models are too small for two, and a busy machine makes threads wait.

They may run side by side (`-n`): what they start in their turn must not take itself for a worker, has one thread as
well unless it is told otherwise, and where it has more they wait for each other asleep.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
    os.environ.pop("PYTEST_XDIST_WORKER", None)
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@pytest.fixture(autouse=True, scope="module")
def _nothing_imported_is_garbage() -> None:
    """What is alive between two files is imported code, which runs within this run would look through at each end."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def threads_restored() -> Iterator[None]:
    """For what sets how many threads torch computes with, as a bench and the commands do."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
