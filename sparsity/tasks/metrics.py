"""Metrics as `evaluate.Metric` classes that need no network, and the paired comparison to dense.

`evaluate.load` fetches a script from the hub and runs it; these classes are the same interface
without either. Documents, not tokens, are the unit of chance: tokens of one document hang together,
so standard errors treat the document as the cluster (ratio estimator, delta method; Cochran,
Sampling Techniques, 3rd ed., section 6.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsity import judging
from sparsity.judging import CONFIDENCE as CONFIDENCE  # part of what is said of a metric, for whoever compares
from sparsity.judging import MARGINS as MARGINS

if TYPE_CHECKING:
    import evaluate
    import numpy as np
    from numpy.typing import NDArray


class Estimate(NamedTuple):
    """A ratio over documents and its standard error."""

    value: float
    stderr: float


def ratio(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> Estimate:
    """sum(numerators) / sum(denominators) over (N,) documents, N >= 2."""
    value = float(numerators.sum() / denominators.sum())
    residuals = numerators - value * denominators
    stderr = float(residuals.std(ddof=1) / (math.sqrt(len(residuals)) * denominators.mean()))
    return Estimate(value, stderr)


def mean_nll_metric() -> evaluate.Metric:
    """`predictions`: summed NLL of each document, nats; `references`: its number of predicted tokens."""
    import numpy as np

    def compute(predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        nll = ratio(np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.float64))
        return {"mean_nll": nll.value, "stderr": nll.stderr}

    return _metric("Mean negative log-likelihood, nats per token.", "float64", compute)


def accuracy_metric() -> evaluate.Metric:
    """`predictions`: predicted class of each document; `references`: its label."""
    import numpy as np

    def compute(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        right = (np.asarray(predictions) == np.asarray(references)).astype(np.float64)
        share = ratio(right, np.ones_like(right))
        return {"accuracy": share.value, "stderr": share.stderr}

    return _metric("Share of documents whose class is predicted right.", "int64", compute)


def macro_f1_metric() -> evaluate.Metric:
    """`predictions`: predicted class of each document; `references`: its label. The mean over the classes of either."""
    import numpy as np

    def compute(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        counts = _confusion(predictions, references)
        right = np.diag(counts)
        return {"macro_f1": float((2 * right / (counts.sum(0) + counts.sum(1))).mean())}

    return _metric("Mean over classes of the harmonic mean of precision and recall.", "int64", compute)


def matthews_metric() -> evaluate.Metric:
    """`predictions` and `references` as above; 0 where either is of one class alone (Gorodkin 2004, R_K)."""

    def compute(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        counts = _confusion(predictions, references)
        total, right = float(counts.sum()), float(counts.trace())
        said, true = counts.sum(0), counts.sum(1)
        spread = math.sqrt((total**2 - float(said @ said)) * (total**2 - float(true @ true)))
        return {"matthews": (right * total - float(said @ true)) / spread if spread else 0.0}

    return _metric("Correlation of predicted and true classes, from -1 to 1.", "int64", compute)


def beside_accuracy(predictions: NDArray[np.int64], references: NDArray[np.int64]) -> dict[str, float]:
    """Macro F1 and Matthews correlation, which classes of different size do not flatter."""
    found: dict[str, float] = {}
    for metric in (macro_f1_metric(), matthews_metric()):
        found |= metric.compute(predictions=predictions, references=references)
    return found


def _confusion(predictions: Sequence[int], references: Sequence[int]) -> NDArray[np.float64]:
    """(classes, classes): documents by true and predicted class; classes that nowhere occur have no row."""
    import numpy as np

    classes, places = np.unique(np.concatenate([references, predictions]), return_inverse=True)
    true, said = places[: len(references)], places[len(references) :]
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (true, said), 1)
    return counts


def _metric(description: str, kind: str, compute: Any) -> evaluate.Metric:
    """An `evaluate.Metric` that keeps to memory. Built here because evaluate is imported late."""
    import datasets
    import evaluate

    class Local(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
        def _info(self) -> evaluate.MetricInfo:
            value = datasets.Value(kind)
            features = datasets.Features({"predictions": value, "references": value})
            return evaluate.MetricInfo(description=description, citation="", inputs_description="", features=features)

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            return dict(compute(predictions, references))

    return Local(keep_in_memory=True)


def verdict(metric: str, loss: Estimate) -> str:
    """`kept`, `lost` or `inconclusive`: the 95 % interval of the loss (positive = worse) against the margin."""
    return judging.verdict(loss.value, loss.stderr, MARGINS[metric])
