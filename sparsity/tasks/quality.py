"""What does a model still know: a task's fixed documents, and a model's score on each of them.

A `Task` is built once for a model and evaluates any number of pruned versions of it on the same
documents, so every comparison is paired. The documents are the user's own, or generated reviews, whose
exact floor and Bayes accuracy are known. Sizes and seeds are the caller's.

Refuses what `encoding` refuses: classes that are not the model's, a tokenizer without the tokens that
an objective needs; documents of which all are of one class.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sparsity import record
from sparsity.errors import Refused
from sparsity.tasks import batching, encoding, language_modeling, metrics, reviews, text_classification
from sparsity.tasks.encoding import padding as padding  # part of what is said of a task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sparsity.data.documents import Documents
    from sparsity.tasks.strided import Window

TASKS = ("lm", "classification")
METRICS = {"lm": "mean_nll", "classification": "accuracy"}
BATCH_SIZE = 128
CHANCE = 0.5
"""Accuracy of a guess on generated reviews: they are balanced."""


@dataclass(frozen=True)
class Scores:
    """One model on one task's documents, or on strided windows of them, (N,) each.

    The metric is sum(numerators) / sum(denominators).
    """

    metric: str
    estimate: metrics.Estimate
    numerators: NDArray[np.float64]
    denominators: NDArray[np.float64]
    chance: float | None = None
    """On the user's own documents, what a guess scores, in the metric's unit: the share of the most frequent class, or
    the loss of one that takes every token for equally likely. None on generated reviews."""
    also: Mapping[str, float] = field(default_factory=dict)
    """Further metrics on the same documents, as information."""


@dataclass(frozen=True)
class Task:
    """A task with its documents encoded for one model."""

    name: str
    batches: list[batching.Batch]
    labels: list[int]
    log_probability: float | None = None
    """Sum over documents, nats, where it is the floor of what the model predicts."""
    bayes_accuracy: float | None = None
    """Expected accuracy of the exact posterior on these documents, where it is known."""
    chance: float | None = None
    """See `Scores`."""
    notes: tuple[str, ...] = ()
    """What was cut or left out, each with its count."""

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
        also: dict[str, float] = {}
        if self.name == "classification" and self.chance is not None:
            also = metrics.beside_accuracy(predictions, references)
        estimate = metrics.Estimate(computed[metric], computed["stderr"])
        return Scores(metric, estimate, numerators, denominators, self.chance, also)

    def floor(self, scores: Scores) -> float | None:
        """The exact value that no model can beat in expectation; None where it is not known."""
        if self.name == "classification":
            return self.bayes_accuracy
        return None if self.log_probability is None else -self.log_probability / float(scores.denominators.sum())


def build(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    documents: Documents | int,
    seed: int,
    batch_size: int = BATCH_SIZE,
    window: Window | None = None,
) -> Task:
    """The task on these documents, on the model's device; a number stands for as many generated reviews of the seed.

    Language modelling reads them in strided windows where one is given. A batch has up to `batch_size` documents, fewer
    where they are long. Raises `Refused`.
    """
    chosen = reviews.documents(documents, seed) if isinstance(documents, int) else documents
    encoded = encoding.encode(name, model, tokenizer, objective, chosen, seed, window)
    if encoded.labels and len(set(encoded.labels)) < 2:
        raise Refused(f"every document of {chosen.name} is of one class, so any guess would be right")
    exact = name == "lm" and objective == "causal" and not encoded.cut and len(encoded.kept) == len(chosen)
    probabilities, posteriors = chosen.log_probability, chosen.posteriors
    return Task(
        name,
        _batches(name, model, tokenizer, encoded.examples, batch_size, encoded.documents),
        encoded.labels,
        log_probability=math.fsum(probabilities) if exact and probabilities else None,
        bayes_accuracy=_bayes_accuracy(posteriors) if posteriors else None,
        chance=None if chosen.generated else _chance(name, model, encoded.labels),
        notes=encoded.notes,
    )


def calibration(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    documents: Documents,
    count: int,
    seed: int,
    batch_size: int,
) -> list[batching.Batch]:
    """Batches of up to `count` documents, or windows of long ones, drawn by the seed. Raises `Refused`."""
    encoded = encoding.encode(name, model, tokenizer, objective, documents.chosen(count, seed), seed)
    examples = encoded.examples
    if len(examples) > count:
        examples = [examples[i] for i in sorted(random.Random(seed).sample(range(len(examples)), count))]
    return _batches(name, model, tokenizer, examples, batch_size)


def _batches(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[batching.Example],
    batch_size: int,
    documents: Sequence[int] | None = None,
) -> list[batching.Batch]:
    pad = padding(name, model, language_modeling.special_tokens(tokenizer, model))
    most = encoding.batch_positions(name, model)
    return [b.to(model.device) for b in batching.batches(examples, pad, batch_size, documents, most)]


def _chance(name: str, model: PreTrainedModel, labels: Sequence[int]) -> float:
    """What a guess scores."""
    if name == "lm":
        return math.log(model.config.vocab_size)
    ((_, most),) = Counter(labels).most_common(1)
    return most / len(labels)


def pooled(scores: Sequence[Scores]) -> Scores:
    """The mean over trainings of each document's score, so that documents stay the unit of chance."""
    import numpy as np

    numerators = np.mean([each.numerators for each in scores], axis=0)
    estimate = metrics.ratio(numerators, scores[0].denominators)
    also = {name: float(np.mean([each.also[name] for each in scores])) for name in scores[0].also}
    return replace(scores[0], estimate=estimate, numerators=numerators, also=also)


def difference(scores: Scores, reference: Scores) -> metrics.Estimate:
    """Value - the reference's, paired over the same documents."""
    return metrics.ratio(scores.numerators - reference.numerators, reference.denominators)


def judged(found: metrics.Estimate, reference: Scores) -> str:
    """The verdict on a difference from a reference, in the metric's unit.

    Against a model that only guesses nothing can be kept or lost.
    """
    if not knows(reference):
        return "inconclusive"
    worse = found.value if reference.metric == "mean_nll" else -found.value
    return metrics.verdict(reference.metric, metrics.Estimate(worse, found.stderr))


def knows(scores: Scores) -> bool:
    """Whether a model is certain to do better than a guess; of a language model on generated reviews not asked."""
    known, chance = scores.estimate, scores.chance
    if scores.metric == "mean_nll":
        return chance is None or known.value + metrics.CONFIDENCE * known.stderr < chance
    return known.value - metrics.CONFIDENCE * known.stderr > (CHANCE if chance is None else chance)


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
        chance=scores.chance,
        also=dict(scores.also) or None,
    )


def _perplexity(scores: Scores) -> float | None:
    if scores.metric != "mean_nll" or scores.estimate.value > 700:  # exp would not be a number
        return None
    return math.exp(scores.estimate.value)


def _bayes_accuracy(posteriors: Sequence[float]) -> float:
    """Expected over the labels given the texts, so that luck with these labels does not enter."""
    return math.fsum(max(p, 1 - p) for p in posteriors) / len(posteriors)
