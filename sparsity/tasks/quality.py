"""What does a model still know: a task's fixed documents, and a model's score on each of them.

A `Task` is built once for a model and evaluates any number of pruned versions of it on the same
documents, so every comparison is paired. Sizes and seeds are the caller's.

Refuses: a classifier that does not have the two classes of the reviews, a tokenizer without the
tokens that an objective needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity import record
from sparsity.errors import Refused
from sparsity.positions import positions_of
from sparsity.tasks import batching, language_modeling, metrics, reviews, text_classification

if TYPE_CHECKING:
    import datasets
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TASKS = ("lm", "classification")
METRICS = {"lm": "mean_nll", "classification": "accuracy"}
BATCH_SIZE = 128
CHANCE = 0.5
"""Accuracy of a guess: the documents are balanced."""
FRAMING = 2
"""Positions that start and end tokens may take."""
LEAST_POSITIONS = 16
"""Below, what is left of a document says nothing of it."""


@dataclass(frozen=True)
class Scores:
    """One model on one task's documents, (N,) each: the metric is sum(numerators) / sum(denominators)."""

    metric: str
    estimate: metrics.Estimate
    numerators: NDArray[np.float64]
    denominators: NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """A task with its documents encoded for one model."""

    name: str
    batches: list[batching.Batch]
    labels: list[int]
    log_probability: float
    """Sum over documents, nats."""
    bayes_accuracy: float
    """Expected accuracy of the exact posterior on these documents."""
    exact_floor: bool
    """Whether the model predicts the text itself, so that its exact probability is a floor."""

    def evaluate(self, model: PreTrainedModel) -> Scores:
        """The model's score on every document. The model must be in eval mode."""
        import numpy as np

        metric = METRICS[self.name]
        if self.name == "lm":
            losses = language_modeling.evaluate(model, self.batches)
            predictions, references = losses.total.numpy(), losses.tokens.numpy()
            computed = metrics.mean_nll_metric().compute(predictions=predictions, references=references)
            numerators, denominators = predictions, references
        else:
            predictions, references = text_classification.predict(model, self.batches).numpy(), np.asarray(self.labels)
            computed = metrics.accuracy_metric().compute(predictions=predictions, references=references)
            numerators = (predictions == references).astype(np.float64)
            denominators = np.ones_like(numerators)
        return Scores(metric, metrics.Estimate(computed[metric], computed["stderr"]), numerators, denominators)

    def floor(self, scores: Scores) -> float | None:
        """The exact value that no model can beat in expectation; None where it is not known."""
        if self.name == "classification":
            return self.bayes_accuracy
        return -self.log_probability / float(scores.denominators.sum()) if self.exact_floor else None


def build(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    count: int,
    seed: int,
    batch_size: int = BATCH_SIZE,
) -> Task:
    """The task on `count` generated reviews, half of each label, on the model's device."""
    chosen = reviews.as_dataset(reviews.balanced(count, seed))
    texts, labels = list(chosen["text"]), list(chosen["label"])
    special = language_modeling.special_tokens(tokenizer, model)
    limit = token_limit(model, tokenizer)
    pad = padding(name, model, special)
    if name == "lm":
        examples = language_modeling.encode(texts, tokenizer, objective, special, limit - FRAMING, seed)
    else:
        examples = text_classification.encode(texts, labels, tokenizer, limit)
    device_batches = [b.to(model.device) for b in batching.batches(examples, pad, batch_size)]
    _refuse_unknown_tokens(examples, model.config.vocab_size)
    whole = max(len(e.input_ids) for e in examples) < limit
    return Task(
        name,
        device_batches,
        labels,
        log_probability=math.fsum(chosen["log_probability"]),
        bayes_accuracy=_bayes_accuracy(chosen),
        exact_floor=name == "lm" and objective == "causal" and whole,
    )


def padding(name: str, model: PreTrainedModel, special: language_modeling.SpecialTokens) -> int:
    """The token that pads; raises `Refused` for a classifier that has none, or not two classes."""
    if name == "lm":
        return special.pad
    if model.config.num_labels != 2:
        raise Refused(f"the reviews have 2 classes, but the classifier has {model.config.num_labels}")
    pad: int | None = model.config.pad_token_id
    if pad is None:  # GPT-2 classifies the last token that is not this one, whatever the tokenizer says
        raise Refused("the classifier's config.json names no padding token, so documents cannot share a batch")
    return pad


def pooled(scores: Sequence[Scores]) -> Scores:
    """The mean over trainings of each document's score, so that documents stay the unit of chance."""
    import numpy as np

    numerators = np.mean([each.numerators for each in scores], axis=0)
    estimate = metrics.ratio(numerators, scores[0].denominators)
    return Scores(scores[0].metric, estimate, numerators, scores[0].denominators)


def difference(scores: Scores, reference: Scores) -> metrics.Estimate:
    """Value - the reference's, paired over the same documents."""
    return metrics.ratio(scores.numerators - reference.numerators, reference.denominators)


def judged(found: metrics.Estimate, reference: Scores) -> str:
    """The verdict on a difference from a reference, in the metric's unit.

    Against a classifier that only guesses nothing can be kept or lost.
    """
    known = reference.estimate
    if reference.metric == "accuracy" and known.value - metrics.CONFIDENCE * known.stderr <= CHANCE:
        return "inconclusive"
    worse = found.value if reference.metric == "mean_nll" else -found.value
    return metrics.verdict(reference.metric, metrics.Estimate(worse, found.stderr))


def _refuse_unknown_tokens(examples: list[batching.Example], known: int) -> None:
    largest = max(max(e.input_ids) for e in examples)
    if largest >= known:
        raise Refused(f"the tokenizer gives token {largest}, but the model knows {known}; save the two together")


def compare(task: Task, scores: Scores, dense: Scores) -> record.Quality:
    """The record of a score, with its difference from dense over the same documents.

    Dense itself is not judged.
    """
    delta, value = difference(scores, dense), scores.estimate.value
    return record.Quality(
        metric=scores.metric,
        value=value,
        stderr=scores.estimate.stderr,
        documents=len(scores.numerators),
        perplexity=_perplexity(scores),
        floor=task.floor(scores),
        dense_value=dense.estimate.value,
        delta=delta.value,
        delta_stderr=delta.stderr,
        verdict=None if scores is dense else judged(delta, dense),
    )


def _perplexity(scores: Scores) -> float | None:
    if scores.metric != "mean_nll" or scores.estimate.value > 700:  # exp would not be a number
        return None
    return math.exp(scores.estimate.value)


def token_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that a document may have; raises `Refused` where that is too few."""
    positions = positions_of(model) or tokenizer.model_max_length
    limit = int(min(positions, tokenizer.model_max_length))
    if limit < LEAST_POSITIONS:
        raise Refused(f"the model has {limit} positions, too few for a document (at least {LEAST_POSITIONS})")
    return limit


def _bayes_accuracy(chosen: datasets.Dataset) -> float:
    """Expected over the labels given the texts, so that luck with these labels does not enter."""
    posteriors: list[float] = list(chosen["posterior"])
    return math.fsum(max(p, 1 - p) for p in posteriors) / len(posteriors)
