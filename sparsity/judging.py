"""The sections of a record that are about quality, and how a loss of it is judged; `sparsity.record` hands them on.

Refuses what cannot be: a verdict that is none, an accuracy above 1, seeds without a value each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from sparsity.rules import Amount, Count, Difference, OneOf, Range, Ruled, Some

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


Verdict = Annotated[str, OneOf(QUALITY_VERDICTS)]


@dataclass(frozen=True)
class Quality(Ruled):
    """A metric on a fixed set of documents. `delta` = value - dense_value, in the metric's unit."""

    metric: Annotated[str, OneOf(METRICS)]
    """"mean_nll" (nats per token; lower is better) or "accuracy" (a fraction; higher is better)."""
    value: Amount
    stderr: Amount
    documents: Count
    perplexity: Annotated[float, Range(0, math.inf)] | None = None
    """exp(value), for mean_nll only, and only while it is a finite number."""
    floor: float | None = None
    """The exact mean NLL (or Bayes accuracy) that no model can beat in expectation, where known."""
    dense_value: float | None = None
    delta: Difference | None = None
    delta_stderr: Amount | None = None
    """Paired over the same documents."""
    verdict: Verdict | None = None
    """One of `QUALITY_VERDICTS`."""
    also: dict[str, Annotated[float, Range(-1, 1)]] | None = None
    """Further metrics on the same documents as information, by name, such as macro F1 and Matthews correlation."""
    chance: Amount | None = None
    """What a guess scores on these documents: the share of the most frequent class, or the logarithm of the
    vocabulary; absent on the generated reviews, half of which are of each class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric == "accuracy" and math.isfinite(self.value) and self.value > 1:
            raise ValueError(f"value {self.value} is not in [0, 1]")


@dataclass(frozen=True)
class Harness(Ruled):
    """A metric of a task of lm-evaluation-harness.

    A section of its own: what it measures is comparable with nothing but the same task, so it stands in no frontier and
    beside no accuracy of ours.
    """

    metric: str
    """lm-eval's name, such as "acc_norm"; its unit is the task's."""
    value: Difference
    documents: Count
    version: str
    """Of the task."""
    shots: Count
    """Examples that stand before each document."""
    higher_is_better: bool | None = None
    """Absent where lm-eval does not say."""
    stderr: Amount | None = None
    resampled: Count | None = None
    """How often documents were drawn anew for the standard errors; absent where the metric is a mean over them."""
    dense_value: Difference | None = None
    delta: Difference | None = None
    """value - dense_value; absent of the unpruned model itself."""
    delta_stderr: Amount | None = None
    """Paired over the same documents."""
    verdict: Verdict | None = None
    """One of `QUALITY_VERDICTS`, by the margin of accuracy; absent where a document's score is not from 0 to 1."""
    chance: Amount | None = None
    """What a guess scores, of an accuracy in choosing."""
    filter: str | None = None
    """lm-eval's name for how answers were read out of what was written."""
    also: dict[str, Difference] | None = None
    """The task's further metrics, as information."""


@dataclass(frozen=True)
class Recovered(Ruled):
    """What followed pruning, and what it won back: over some training seeds, on the same documents.

    Values and differences are in the metric's unit, as in `Quality`; a difference is paired over documents.
    """

    seeds: Annotated[list[int], Some()]
    values: list[Amount]
    """Of the recovered model, by seed."""
    one_shot: Amount
    """The same choice without recovery."""
    gained: Difference
    """Mean value - one_shot."""
    gained_stderr: Amount
    control: Amount
    """The unpruned model after as much training; the mean over seeds."""
    deltas: list[Difference]
    """Value - the control's of the same seed, by seed."""
    delta: Difference
    """Mean of `deltas`."""
    delta_stderr: Amount
    verdict: Verdict
    """One of `QUALITY_VERDICTS`, of `delta`."""
    steps: Count | None = None
    """Of the optimizer, for each seed; absent where nothing was trained."""
    seconds: Amount | None = None
    """What a seed took; median."""
    documents: Count | None = None
    """That a seed trained on; median."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.seeds) == len(self.values) == len(self.deltas):
            raise ValueError(f"{len(self.seeds)} seeds, {len(self.values)} values, {len(self.deltas)} differences")
