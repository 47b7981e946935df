"""One thread for the unit tests: their models are too small for two, and a busy machine makes threads wait."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
