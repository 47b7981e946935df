"""Which files of this folder are no question of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsity.pytest_plugin import run_options

ON_DEMAND = "test_harness.py"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tasks of lm-evaluation-harness are none unless the options name some, or the command line the file itself."""
    named = any(ON_DEMAND in argument for argument in config.args)
    return True if collection_path.name == ON_DEMAND and not named and not run_options(config).harness else None
