"""What a model scores on a task of lm-evaluation-harness, document by document, and what it lost beside another.

A metric that is a mean over documents has the standard error of one; any other (a perplexity, F1, BLEU) is computed
anew over documents drawn again and again, for both models the same (paired bootstrap; Koehn, Statistical significance
tests for machine translation evaluation, EMNLP 2004). There is a verdict only where a document's score is between 0 and
1, since only there a point is what it is everywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from sparsity import judging
from sparsity.errors import Refused, SparsityError, one_line
from sparsity.harness import library, model
from sparsity.tasks import metrics

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PRIMARY = "acc_norm"
"""The metric that is told where a task has it; else the task's first."""
RESAMPLES = {"bleu": 100, "chrf": 100, "ter": 100}
"""As often as lm-eval draws; slow ones."""
USUAL_RESAMPLES = 1000
SEED = 0
LEAST_DOCUMENTS = 20
"""With fewer, two models that answer alike are no evidence that they are."""
MARGIN = judging.MARGINS["accuracy"]


@dataclass(frozen=True)
class Scores:
    """One model on one task."""

    metric: str
    """lm-eval's name, such as "acc_norm"."""
    value: float
    items: Mapping[int, Any]
    """By document, of what the metric is made."""
    aggregate: Callable[[Sequence[Any]], float]
    """Makes the metric of them."""
    higher_is_better: bool | None
    version: str
    shots: int
    filter: str
    """lm-eval's name for how answers were read out of texts; "none" where nothing was."""
    chance: float | None = None
    """What a guess scores; None where that is not known."""
    cut: int = 0
    """Requests whose beginning did not fit into the model."""
    also: Mapping[str, float] = field(default_factory=dict)

    @property
    def numbers(self) -> list[float] | None:
        """A number for each document, where the metric is their mean."""
        from lm_eval.api.metrics import mean

        values = list(self.items.values())
        if self.aggregate is not mean or not all(isinstance(value, Real) for value in values):
            return None
        return [float(value) for value in values]

    @property
    def fractions(self) -> bool:
        """Whether each document scores from 0 to 1, and the metric is their mean."""
        return self.numbers is not None and all(0 <= number <= 1 for number in self.numbers)


def evaluate(
    tasks: library.Tasks, name: str, lm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limit: int | None
) -> Scores:
    """The model's score on the first `limit` documents of a task, or on all.

    Raises `Refused` for what lm-eval cannot do with this model.
    """
    import lm_eval

    task = tasks.loaded[name]
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=library.FEWSHOT_SEED)  # anew, so that every model is shown the same examples
    wrapped = model.of(lm, tokenizer)
    try:
        with library.quiet(tasks.notes):
            found = lm_eval.evaluate(wrapped, {"tasks": {name: task}}, limit=limit, bootstrap_iters=0, log_samples=True)
    except SparsityError:
        raise
    except Exception as error:
        raise Refused(f"{library.PREFIX}{name} cannot be evaluated: {one_line(error)}") from None
    return _scores(task, name, found, wrapped.cut)


def _scores(task: Any, name: str, found: Any, cut: int) -> Scores:
    """Out of what lm-eval gives back."""
    values = {
        key: float(value)
        for key, value in found["results"][name].items()
        if "," in key and "_stderr," not in key and isinstance(value, Real)
    }
    if not values:
        raise Refused(f"{library.PREFIX}{name} gives no number")
    chosen = next((key for key in values if key.split(",")[0] == PRIMARY), next(iter(values)))
    metric, kind = chosen.rsplit(",", 1)
    samples = [sample for sample in found["samples"][name] if sample["filter"] == kind and metric in sample]
    if len(samples) < 2:
        raise Refused(f"{library.PREFIX}{name} scored {len(samples)} documents, which tell nothing of a model")
    others = {key.removesuffix(f",{kind}"): value for key, value in values.items() if key != chosen}
    return Scores(
        metric,
        values[chosen],
        {int(sample["doc_id"]): sample[metric] for sample in samples},
        task.aggregation().get(metric, _mean()),
        found["higher_is_better"][name].get(metric),
        str(found["versions"][name]),
        int(found["n-shot"][name] or 0),
        kind,
        _chance(task, metric, samples),
        cut,
        {key: value for key, value in others.items() if math.isfinite(value)},
    )


def _mean() -> Callable[[Sequence[Any]], float]:
    """What lm-eval takes for a metric without an aggregation of its own."""
    from lm_eval.api.metrics import mean

    return mean  # type: ignore[no-any-return]  # lm-eval ships no types


def _chance(task: Any, metric: str, samples: Sequence[Mapping[str, Any]]) -> float | None:
    """Of an accuracy in choosing: that of a blind choice, or of the answer that is right most often."""
    if task.OUTPUT_TYPE != "multiple_choice" or not metric.startswith("acc"):
        return None
    doubled = "acc_mutual_info" in samples[0]["metrics"]  # each choice is asked for twice
    blind = [(2 if doubled else 1) / len(sample["arguments"]) for sample in samples]
    ((_, most),) = Counter(str(sample["target"]) for sample in samples).most_common(1)
    return max(math.fsum(blind) / len(blind), most / len(samples))


def compare(scores: Scores, dense: Scores) -> judging.Harness:
    """The record of a score, with its difference from dense over the same documents. Dense itself is not judged."""
    value, itself = scores.value, scores is dense
    delta = value - dense.value
    own = {} if itself else {"delta": delta, "delta_stderr": _paired(scores, dense)}
    return judging.Harness(
        metric=scores.metric,
        value=value,
        documents=len(scores.items),
        version=scores.version,
        shots=scores.shots,
        higher_is_better=scores.higher_is_better,
        stderr=_stderr(scores),
        resampled=None if scores.numbers is not None else _resamples(scores),
        dense_value=dense.value,
        **own,
        verdict=None if itself else _verdict(scores, dense, delta, own["delta_stderr"]),
        chance=scores.chance,
        filter=None if scores.filter == "none" else scores.filter,
        also=dict(scores.also) or None,
    )


def _stderr(scores: Scores) -> float | None:
    import numpy as np

    if (numbers := scores.numbers) is not None:
        return metrics.ratio(np.array(numbers), np.ones(len(numbers))).stderr
    return _spread([_drawn(scores, rows) for rows in _draws(scores)])


def _paired(scores: Scores, dense: Scores) -> float | None:
    """Of the difference; None where the two models were not scored on the same documents."""
    import numpy as np

    if list(scores.items) != list(dense.items):
        return None
    own, other = scores.numbers, dense.numbers
    if own is not None and other is not None:
        return metrics.ratio(np.array(own) - np.array(other), np.ones(len(own))).stderr
    return _spread([_drawn(scores, rows) - _drawn(dense, rows) for rows in _draws(scores)])


def _resamples(scores: Scores) -> int:
    return RESAMPLES.get(scores.metric, USUAL_RESAMPLES)


def _draws(scores: Scores) -> Any:
    """(resamples, N): rows of documents drawn with replacement, the same for every model."""
    import numpy as np

    count = len(scores.items)
    return np.random.default_rng(SEED).integers(0, count, (_resamples(scores), count))


def _drawn(scores: Scores, rows: Any) -> float:
    items = list(scores.items.values())
    try:
        return float(scores.aggregate([items[row] for row in rows]))
    except (OverflowError, ValueError, ZeroDivisionError):  # of a model in ruins, or of documents that are all alike
        return math.nan


def _spread(values: Sequence[float]) -> float | None:
    """None where some are no numbers: what is left would flatter."""
    import numpy as np

    found = float(np.std(values, ddof=1))
    return found if math.isfinite(found) else None


def _verdict(scores: Scores, dense: Scores, delta: float, stderr: float | None) -> str | None:
    """By the margin of accuracy; against a model that only guesses nothing can be kept or lost."""
    if stderr is None or scores.higher_is_better is None or not (scores.fractions and dense.fractions):
        return None
    least = dense.chance if dense.chance is not None else 0.0
    known = dense.value - judging.CONFIDENCE * (_stderr(dense) or 0.0)
    if (scores.higher_is_better and known <= least) or len(scores.items) < LEAST_DOCUMENTS:
        return "inconclusive"
    return judging.verdict(-delta if scores.higher_is_better else delta, stderr, MARGIN)
