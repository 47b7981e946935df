"""Metrics: through evaluate's interface, offline, with standard errors that a resampling agrees with."""

from __future__ import annotations

import math
import os
from typing import Any

import evaluate
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from sparsity.tasks import metrics


def test_they_are_evaluate_metrics_and_add_up_over_batches() -> None:
    metric = metrics.mean_nll_metric()
    assert isinstance(metric, evaluate.Metric)
    metric.add_batch(predictions=[2.0, 4.0], references=[1, 2])
    metric.add_batch(predictions=[9.0], references=[3])
    assert metric.compute()["mean_nll"] == 15.0 / 6


def test_they_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a metric opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    assert metrics.accuracy_metric().compute(predictions=[1, 0, 1], references=[1, 1, 1])["accuracy"] == 2 / 3


def test_accuracy_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    predictions, references = generator.integers(0, 3, 200), generator.integers(0, 3, 200)
    ours = metrics.accuracy_metric().compute(predictions=predictions, references=references)
    assert ours["accuracy"] == pytest.approx(accuracy_score(references, predictions), abs=1e-15)
    p = ours["accuracy"]
    assert ours["stderr"] == pytest.approx(math.sqrt(p * (1 - p) / 199), rel=1e-12)


def test_the_standard_error_of_a_ratio_agrees_with_resampling_documents() -> None:
    generator = np.random.default_rng(1)
    tokens = generator.integers(4, 40, 400).astype(np.float64)
    losses = tokens * generator.gamma(2.0, 0.8, 400)
    estimate = metrics.ratio(losses, tokens)
    draws = generator.integers(0, 400, (4000, 400))
    resampled = losses[draws].sum(1) / tokens[draws].sum(1)
    assert estimate.value == losses.sum() / tokens.sum()
    assert estimate.stderr == pytest.approx(resampled.std(), rel=0.1)


@pytest.mark.parametrize(
    ("loss", "stderr", "expected"),
    [
        (0.0, 0.0, "kept"),
        (-0.05, 0.001, "kept"),
        (0.004, 0.003, "kept"),
        (0.004, 0.004, "inconclusive"),
        (0.02, 0.006, "inconclusive"),
        (0.03, 0.006, "lost"),
    ],
)
def test_verdicts_compare_the_whole_interval_with_the_margin(loss: float, stderr: float, expected: str) -> None:
    assert metrics.verdict("accuracy", metrics.Estimate(loss, stderr)) == expected


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_what_stands_beside_accuracy_is_that_of_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(classes)
    references = generator.integers(0, classes, 150)
    predictions = np.where(generator.random(150) < 0.6, references, generator.integers(0, classes + 1, 150))
    found = metrics.beside_accuracy(predictions, references)
    assert found["macro_f1"] == pytest.approx(f1_score(references, predictions, average="macro"), abs=1e-12)
    assert found["matthews"] == pytest.approx(matthews_corrcoef(references, predictions), abs=1e-12)


def test_a_classifier_of_one_favourite_class_correlates_with_nothing() -> None:
    found = metrics.beside_accuracy(np.zeros(10, dtype=np.int64), np.asarray([0] * 9 + [1]))
    assert found["matthews"] == 0.0
    assert found["macro_f1"] == pytest.approx(18 / 19 / 2)
