"""The recoveries of a run: each trained once, scored on the task's documents, and held against its control.

The control is the unpruned model after as much of the same training: without it, training that the model lacked
would look like something that pruning won. Every score is paired over documents; several training seeds are
pooled document by document, so that documents stay the unit of chance.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparsity import classifier, losses, prune, record, recover, training
from sparsity.bench import CONTROL, NEW_HEAD, Bench, Subject
from sparsity.errors import Refused
from sparsity.measure import latency
from sparsity.methods import METHODS
from sparsity.models import embedded
from sparsity.recovery import Recovery
from sparsity.tasks import quality
from sparsity.tasks import training as documents
from sparsity.training_state import Reached

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture
    from transformers import PreTrainedModel

    from sparsity.prune import PrunedModel, Recipe
    from sparsity.tasks.batching import Batch

TRAINING_SEED = 30_000
"""Added to a recovery's seed: its documents are neither those that the embedded models learnt from nor evaluated."""


HELD = prune.Recipe("l1", 0.8)
"""The masks whose cost is measured."""
STILL = 1e-12
"""A learning rate at which nothing moves while steps are timed."""


class Key(NamedTuple):
    """What makes a recovered model."""

    reference: str
    task: str
    recipe: Recipe
    recovery: Recovery
    seed: int


class Outcome(NamedTuple):
    """What one training seed came to."""

    scores: quality.Scores
    counts: record.Pruned
    reached: Reached


class Found(NamedTuple):
    """The sections of a recovered cell."""

    quality: record.Quality
    recovered: record.Recovered | None
    pruned: record.Pruned
    """As counted after the recovery."""
    asked: float
    """Sparsity of the same choice before it."""


@dataclass
class Recoveries:
    """What a run has recovered so far. One recovered model is held at a time, the scores of all."""

    bench: Bench
    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    last: tuple[Key, PrunedModel] | None = None

    def model(self, key: Key) -> PrunedModel:
        """The recovered model, made now unless it was the last one made."""
        if self.last is None or self.last[0] != key:
            self._outcome(key, anew=True)
        assert self.last is not None  # just made
        return self.last[1]

    def _outcome(self, key: Key, anew: bool = False) -> Outcome:
        if anew or key not in self.outcomes:
            self.last = None  # its memory is needed
            made = self._recover(key)
            self.last = key, made.pruned
            task = self.bench.quality_task(self.bench.subject(key.reference, key.task))
            self.outcomes[key] = Outcome(task.evaluate(made.pruned.model), _recounted(made.pruned), made.reached)
        return self.outcomes[key]

    def _recover(self, key: Key) -> recover.Recovered:
        title = " ".join(map(str, (key.reference, key.task, *_said(key.recipe), key.recovery, "seed", key.seed)))
        start = self._new_start(key) if key.recovery.kind == "transfer" else None
        return self.train(key, title, start)

    def train(self, key: Key, title: str, start: PreTrainedModel | None = None, spent: int = 0) -> recover.Recovered:
        """A model after the key's recovery; `start` is what it starts from where that is not the unpruned model.

        The unpruned model is the teacher all the same. `title` names the training and its state; `spent` is how many
        steps were trained before, whose documents it does not see again.
        """
        subject, recovery = self.bench.subject(key.reference, key.task), key.recovery
        calibrated = prune.needs(key.recipe) or recovery.kind == "reconstruct"
        with self.bench.showing():
            return recover.recover(
                start or subject.loaded.model,
                key.recipe,
                recovery,
                self.settings(key),
                itertools.islice(self.training_batches(subject, key.seed), spent * self.bench.options.accumulate, None),
                self.bench.calibration(subject) if calibrated else (),
                teacher=None if recovery.kind == "transfer" else subject.loaded.model,
                title=title,
                state=self._state(title),
            )

    def settings(self, key: Key) -> training.Settings:
        """How the key is trained; the budget is its recovery's."""
        options = self.bench.options
        source = "embedded" if key.reference in embedded.NAMES else "checkpoint"
        rate = options.learning_rate or classifier.LEARNING_RATE[source]
        steps = None if key.recovery.seconds else key.recovery.steps or 1
        return training.Settings(rate, steps, key.recovery.seconds, options.accumulate, seed=key.seed)

    def training_batches(self, subject: Subject, seed: int) -> Iterator[Batch]:
        """Documents for the subject's task, without end: fresh ones, or the user's own again and again."""
        loaded, own = subject.loaded, self.bench.training_documents(subject)
        fresh = documents.fresh_reviews(TRAINING_SEED + seed) if own is None else documents.again_and_again(own, seed)
        size = self.bench.options.training_batch
        return documents.of_model(subject.name, loaded.model, loaded.tokenizer(), loaded.objective, fresh, size, seed)

    def _new_start(self, key: Key) -> PreTrainedModel:
        """The pretrained model of the reference, with a head that has learnt nothing."""
        if key.task not in ("classification", NEW_HEAD):
            raise Refused(f"recovery {key.recovery} ends in a classifier; of task {key.task} there is finetune")
        return self.bench.new_head(key.reference, key.seed)

    def _state(self, title: str) -> Path | None:
        """A folder for each training; of other documents or other digits it is another, as its masks may be."""
        options = self.bench.options
        if options.training_state is None:
            return None
        told = f"{title} {options.dtype} batch {options.training_batch} calibration {options.calibration}"
        if own := self.bench.own:
            told += f" data {own.training.digest}"
        return Path(options.training_state) / hashlib.sha256(told.encode()).hexdigest()[:16]

    def found(
        self, reference: str, task: str, recipe: Recipe, recovery: Recovery, training_seeds: Sequence[int]
    ) -> Found:
        """What a cell's recovery came to, over its training seeds; without a recovery, one-shot."""
        drawn, task = METHODS[recipe.method].stochastic, self._judged_by(reference, task, recovery)
        seeds = list(training_seeds) if recovery.trains or drawn else list(training_seeds[:1])
        keys = [Key(reference, task, replace(recipe, seed=seed) if drawn else recipe, recovery, seed) for seed in seeds]
        outcomes = [self._outcome(key) for key in keys]
        mean = quality.pooled([each.scores for each in outcomes])
        dense = self.bench.score(reference, task, CONTROL)
        data = self.bench.quality_task(self.bench.subject(reference, task))
        judged = quality.compare(data, mean, dense)
        one_shot = quality.pooled([self.bench.score(reference, task, key.recipe) for key in keys])
        asked = self.bench.counts[reference, task, keys[0].recipe].prunable_sparsity
        if not recovery or recipe == CONTROL:
            return Found(judged, None, outcomes[0].counts, asked)
        controls = [self._control(key) for key in keys]
        return Found(judged, recovered(seeds, outcomes, controls, one_shot), outcomes[0].counts, asked)

    def _judged_by(self, reference: str, task: str, recovery: Recovery) -> str:
        """The head that is judged: a new one where a transfer ends in a classifier, and the checkpoint has none."""
        if recovery.kind == "transfer" and task == "classification":
            try:
                self.bench.subject(reference, task)
            except Refused:
                return NEW_HEAD
        return task

    def scores(self, key: Key) -> quality.Scores:
        """Of the recovered model; trained now if it was not yet."""
        return self._outcome(key).scores

    def cost_of_holding(self, benchmark: BenchmarkFixture, reference: str, budget: float) -> record.Training | None:
        """A training step that holds masks beside one that does not, in turns; None where nothing is timed."""
        subject = self.bench.subject(reference, self.bench.main_task(reference))
        batch = next(self.training_batches(subject, 0)).to(subject.loaded.model.device)
        settings = training.Settings(STILL, steps=1)
        calls = []
        for held in (True, False):
            model = copy.deepcopy(subject.loaded.model).float()
            hold = recover.MaskHold(prune.prune(model, HELD)) if held else None
            step = training.stepper(model, batch, losses.task_loss, settings, hold)
            calls.append(latency.on_device(step, self.bench.options.device))
        pair = latency.paired(benchmark, calls[0], calls[1], budget)
        if pair is None:
            return None
        held_for, free_for = (statistics.median(each) for each in (pair.own, pair.reference))
        return record.Training(held_for, free_for, pair.ratio.value, pair.ratio.low, pair.ratio.high)

    def _control(self, key: Key) -> quality.Scores:
        control = key.recovery.control
        if not control:
            return self.bench.score(key.reference, key.task, CONTROL)
        return self.scores(key._replace(recipe=CONTROL, recovery=control))


def recovered(
    seeds: list[int], outcomes: Sequence[Outcome], controls: Sequence[quality.Scores], one_shot: quality.Scores
) -> record.Recovered:
    """The record of what each seed came to, beside its control and the same choice one-shot."""
    mean, control = quality.pooled([each.scores for each in outcomes]), quality.pooled(controls)
    gained, delta = quality.difference(mean, one_shot), quality.difference(mean, control)
    pairs = zip(outcomes, controls, strict=True)
    trained = [each.reached for each in outcomes if each.reached.steps]
    return record.Recovered(
        seeds=seeds,
        values=[each.scores.estimate.value for each in outcomes],
        one_shot=one_shot.estimate.value,
        gained=gained.value,
        gained_stderr=gained.stderr,
        control=control.estimate.value,
        deltas=[quality.difference(each.scores, beside).value for each, beside in pairs],
        delta=delta.value,
        delta_stderr=delta.stderr,
        verdict=quality.judged(delta, control),
        steps=round(statistics.median(each.steps for each in trained)) if trained else None,
        seconds=statistics.median(each.seconds for each in trained) if trained else None,
        documents=round(statistics.median(each.documents for each in trained)) if trained else None,
    )


def _recounted(pruned: PrunedModel) -> record.Pruned:
    """What was removed and is zero now; a kept weight that training brought to zero was not removed."""
    pairs = zip(pruned.layers, pruned.masks, strict=True)
    zeros = sum(int(((layer.weight == 0) & ~mask).sum()) for layer, mask in pairs)
    counts = pruned.counts
    return replace(
        counts,
        prunable_sparsity=zeros / counts.prunable_parameters,
        total_sparsity=zeros / counts.total_parameters,
    )


def _said(recipe: Recipe) -> tuple[object, ...]:
    return recipe.method, recipe.pattern, recipe.scope, recipe.sparsity, recipe.seed, recipe.multiple
