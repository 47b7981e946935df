"""What does language modelling lose?

The three families have three objectives, so their perplexities are different quantities: compare
along a curve, never across models. The metric is the mean negative log-likelihood, nats per token;
its exponential is the perplexity.
"""

from __future__ import annotations

from benchmarks.curves import CurveClaims


class TestPerplexity(CurveClaims):
    """Mean NLL against sparsity."""
