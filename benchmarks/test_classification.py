"""What does text classification lose?

The documents are balanced, so a collapsed classifier scores one half.
"""

from __future__ import annotations

from benchmarks.curves import CurveClaims


class TestClassification(CurveClaims):
    """Accuracy against sparsity."""
