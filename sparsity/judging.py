"""The sections of a record that are about quality, and how a loss of it is judged; `sparsity.record` hands them on.

Refuses what cannot be: a verdict that is none, an accuracy above 1, seeds without a value each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparsity.strict_json import LARGEST, one_of, within

METRICS = ("mean_nll", "accuracy")
QUALITY_VERDICTS = ("kept", "lost", "inconclusive")
MARGINS = {"mean_nll": 0.02, "accuracy": 0.01}
"""Losses up to this much count as kept: 0.02 nats per token, 1 point of accuracy."""
UNITS = {"mean_nll": 1.0, "accuracy": 100.0}
"""By which a difference is multiplied to be in nats per token, or in points of accuracy."""
CONFIDENCE = 1.96
"""Standard errors on each side of a 95 % interval."""


def verdict(loss: float, stderr: float, margin: float) -> str:
    """`kept`, `lost` or `inconclusive`: the 95 % interval of a loss (positive = worse) against the margin."""
    reach = CONFIDENCE * stderr
    if loss + reach <= margin:
        return "kept"
    return "lost" if loss - reach > margin else "inconclusive"


@dataclass(frozen=True)
class Quality:
    """A metric on a fixed set of documents. `delta` = value - dense_value, in the metric's unit."""

    metric: str
    """"mean_nll" (nats per token; lower is better) or "accuracy" (a fraction; higher is better)."""
    value: float
    stderr: float
    documents: int
    perplexity: float | None = None
    """exp(value), for mean_nll only, and only while it is a finite number."""
    floor: float | None = None
    """The exact mean NLL (or Bayes accuracy) that no model can beat in expectation, where known."""
    dense_value: float | None = None
    delta: float | None = None
    delta_stderr: float | None = None
    """Paired over the same documents."""
    verdict: str | None = None
    """One of `QUALITY_VERDICTS`."""

    def __post_init__(self) -> None:
        one_of("metric", self.metric, METRICS)
        one_of("verdict", self.verdict, QUALITY_VERDICTS)
        within(self, "value", most=1 if self.metric == "accuracy" else LARGEST)
        within(self, "documents", "stderr", "delta_stderr")
        within(self, "perplexity", most=math.inf)
        _differ("delta", self.delta)


def _differ(name: str, *differences: float | None) -> None:
    """Refuses differences that are too large, either way."""
    for each in differences:
        if each is not None and math.isfinite(each) and abs(each) > LARGEST:
            raise ValueError(f"{name} {each} is not in [-{LARGEST:g}, {LARGEST:g}]")


@dataclass(frozen=True)
class Recovered:
    """What followed pruning, and what it won back: over some training seeds, on the same documents.

    Values and differences are in the metric's unit, as in `Quality`; a difference is paired over documents.
    """

    seeds: list[int]
    values: list[float]
    """Of the recovered model, by seed."""
    one_shot: float
    """The same choice without recovery."""
    gained: float
    """Mean value - one_shot."""
    gained_stderr: float
    control: float
    """The unpruned model after as much training; the mean over seeds."""
    deltas: list[float]
    """Value - the control's of the same seed, by seed."""
    delta: float
    """Mean of `deltas`."""
    delta_stderr: float
    verdict: str
    """One of `QUALITY_VERDICTS`, of `delta`."""
    steps: int | None = None
    """Of the optimizer, for each seed; absent where nothing was trained."""
    seconds: float | None = None
    """What a seed took; median."""
    documents: int | None = None
    """That a seed trained on; median."""

    def __post_init__(self) -> None:
        one_of("verdict", self.verdict, QUALITY_VERDICTS)
        if not self.seeds or not len(self.seeds) == len(self.values) == len(self.deltas):
            raise ValueError(f"{len(self.seeds)} seeds, {len(self.values)} values, {len(self.deltas)} differences")
        within(self, "gained_stderr", "delta_stderr", "seconds", "steps", "documents", "one_shot", "control")
        _differ("delta", self.gained, self.delta, *self.deltas)
        if not all(0 <= value <= LARGEST for value in self.values):
            raise ValueError(f"values {self.values} are not all in [0, {LARGEST:g}]")
