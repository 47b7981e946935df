"""What a run keeps between its tests, so that work is done once.

A model is loaded once for each task, pruned in place in one workspace beside its dense copy, and
evaluated once for each choice, however many tests ask. Only the models of one reference are held at
a time: tests are ordered by model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparsity import classifier, compiling, execution, gather, prune, record, training, workload
from sparsity.errors import Refused
from sparsity.formats import AUTO
from sparsity.harness import library
from sparsity.harness import scores as harness_scores
from sparsity.limits import Limits
from sparsity.measure import gpu, latency, machine, memory, ratio
from sparsity.models import embedded, hub, identity, spread
from sparsity.models.new_head import CLASSES, with_new_head
from sparsity.own_documents import OwnDocuments
from sparsity.tasks import encoding, language_modeling, quality, reviews, trends

if TYPE_CHECKING:
    import torch
    from pytest_benchmark.fixture import BenchmarkFixture
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sparsity.measure.duet import Call
    from sparsity.options import Options
    from sparsity.prune import PrunedModel, Recipe
    from sparsity.strict_json import Scalar
    from sparsity.tasks.batching import Batch
    from sparsity.tasks.training import Document

CONTROL = prune.Recipe("none", 0.0)
NEW_HEAD = "new head"
"""The task of a classifier that has learnt nothing yet, on a pretrained language model."""
CALIBRATION_BATCH = 8
"""Documents of one batch: gradients are taken batch by batch."""
CALIBRATION_LENGTH = 64
"""Tokens of a random document."""
LEARNT_FROM = 4000
"""Generated reviews that a new head learns from, where the user brought no documents."""
LEARNT_SEED = 9
"""Of those; neither evaluated nor shown to methods."""
MORE_CONTROLS = 3
"""Controls after a noisy one, before a model's cells on a workload are given up as noisy."""


@dataclass
class Subject:
    """A model with the head of one task: dense, and a workspace that is pruned again and again."""

    loaded: hub.Loaded
    workspace: PreTrainedModel
    name: str
    """Of the task: "lm" or "classification"."""
    current: PrunedModel | None = None
    """What the workspace holds now."""
    task: quality.Task | None = None
    calibration: list[Batch] | None = None
    """What methods that look at inputs or gradients see."""
    calibration_seconds: float | None = None
    """What one pass over it takes."""


@dataclass
class Bench:
    """The state of a run. Torch is imported when the first model is asked for."""

    options: Options
    showing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Wraps what may take long, so that its progress reaches the terminal."""
    subjects: dict[tuple[str, str], Subject] = field(default_factory=dict)
    scores: dict[tuple[str, str, Recipe], quality.Scores] = field(default_factory=dict)
    harnessed: dict[tuple[str, str, Recipe], harness_scores.Scores] = field(default_factory=dict)
    """The same of tasks of lm-evaluation-harness."""
    counts: dict[tuple[str, str, Recipe], record.Pruned] = field(default_factory=dict)
    """What each recipe removed, for those that were scored."""
    dense_memory: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(model, workload) → (weights bytes, peak bytes) of the dense model."""
    noise: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """(model, workload) → how far the dense model seemed to differ from its own copy, a fraction; the last counts."""
    models: dict[str, record.Model] = field(default_factory=dict)
    """What each reference turned out to be, for the result file."""
    refused: dict[tuple[str, str], Refused] = field(default_factory=dict)
    """Models that lack the head of a task."""
    main_tasks: dict[str, str] = field(default_factory=dict)
    fastest: tuple[PrunedModel | None, dict[str, PreTrainedModel]] = field(default_factory=lambda: (None, {}))
    """The pruned model that was last asked for in format auto, and by workload what was chosen for it."""
    notes: dict[str, None] = field(default_factory=dict)
    """What was cut or left out of documents as models read them, once each, in order."""
    limits: Limits = field(init=False)
    """Of this machine, and of the dense models on their workloads."""

    def __post_init__(self) -> None:
        self.limits = Limits(self.options.device)

    def threads(self) -> int:
        """Threads that torch computes with."""
        return self.options.threads or machine.physical_cores()

    def check_device(self) -> None:
        """Raises `BadValue` when the device asked for is not there, or a model cannot be spread over several."""
        gpu.check(self.options.device)
        spread.check(self.options.device_map, self.options.device)

    def check_model(self, reference: str, quality: bool) -> None:
        """Loads a checkpoint, as its first cell would, and its tokenizer where quality is to be measured.

        Raises what cannot be had of either; a head or a tokenizer that is missing is refused by the cells that need it.
        """
        if reference in embedded.NAMES or reference.startswith(hub.RANDOM):
            return
        with contextlib.suppress(Refused):
            loaded = self.subject(reference, self.main_task(reference)).loaded
            if quality:
                loaded.tokenizer()

    @functools.cached_property
    def own(self) -> OwnDocuments | None:
        """The user's own documents, read when they are first asked for; None where generated reviews stand for them."""
        if self.options.data is None:
            return None
        with self.showing():
            return OwnDocuments.of(self.options)

    def check_data(self) -> None:
        """Raises `SparsityError` where the user's documents cannot be had, or lack what the run alone is to measure."""
        if self.own is not None:
            self.own.check(self.options)

    def data_fingerprint(self) -> dict[str, Scalar]:
        """Which documents the user's are, for the result file; nothing where reviews are generated."""
        return {} if self.own is None else self.own.fingerprint()

    def data_notes(self) -> list[str]:
        """What was left out, cut or taken for something, so far: of the documents, and of how models read them."""
        of_harness = self.harness_tasks.notes if self.harness_tasks else ()
        return [*(self.own.notes if self.own else ()), *self.notes, *of_harness]

    @functools.cached_property
    def harness_tasks(self) -> library.Tasks | None:
        """The tasks of lm-evaluation-harness that the run names, loaded when they are first asked for."""
        if not self.options.harness:
            return None
        with self.showing():
            return library.Tasks.of(self.options.harness, self.options.harness_tasks)

    def harness_fingerprint(self) -> dict[str, Scalar]:
        """Which tasks of lm-evaluation-harness, for the result file; nothing where none are named."""
        if self.harness_tasks is None:
            return {}
        return {"harness limit": self.options.harness_limit or "all", **self.harness_tasks.fingerprint()}

    def subject(self, reference: str, task: str) -> Subject:
        """The model of a reference with the head of a task, or with a `NEW_HEAD`, loaded now if it is not yet."""
        key = (reference, task)
        if key not in self.subjects and task == NEW_HEAD:
            self.subjects[key] = self._with_new_head(reference)
        if key not in self.subjects:
            import torch

            torch.set_num_threads(self.threads())
            for other in [k for k in self.subjects if k[0] != reference]:
                del self.subjects[other]
            dtype, device = getattr(torch, self.options.dtype), torch.device(self.options.device)
            if key in self.refused:  # as it was when it was loaded for nothing
                raise self.refused[key]
            quick = reference in embedded.NAMES
            try:
                with contextlib.nullcontext() if quick else self.showing():
                    loaded = hub.load(reference, task, dtype, device, device_map=self.options.device_map)
            except Refused as refusal:
                if task != "classification" or self.options.fine_tune is None or reference.startswith(hub.RANDOM):
                    self.refused[key] = refusal
                    raise
                loaded = self._fine_tuned(reference, self.options.fine_tune, dtype, device)
            self.subjects[key] = Subject(loaded, prune.workspace(loaded.model), task)
            self._describe(reference, task, loaded)
        return self.subjects[key]

    def _with_new_head(self, reference: str) -> Subject:
        model = self.new_head(reference, seed=0)
        loaded = dataclasses.replace(self.subject(reference, "lm").loaded, model=model)
        return Subject(loaded, prune.workspace(model), "classification")

    def new_head(self, reference: str, seed: int) -> PreTrainedModel:
        """The pretrained language model of a reference, with a classifier that has learnt nothing."""
        pretrained = self.subject(reference, "lm").loaded
        pad = language_modeling.special_tokens(pretrained.tokenizer(), pretrained.model).pad
        return with_new_head(pretrained.model, pad, seed, self.own.classes() if self.own else CLASSES)

    def _fine_tuned(self, reference: str, steps: int, dtype: torch.dtype, device: torch.device) -> hub.Loaded:
        """The checkpoint with a new head, trained on the documents to learn from."""
        rate = self.options.learning_rate or classifier.LEARNING_RATE["checkpoint"]
        settings = training.Settings(rate, steps, accumulate=self.options.accumulate)
        shown = self.own.to_learn_from() if self.own else reviews.documents(LEARNT_FROM, LEARNT_SEED)
        classes = self.own.classes() if self.own else CLASSES
        with self.showing():
            return classifier.fine_tuned(
                reference, shown, settings, classes, self.options.training_batch, device, dtype
            )

    def _describe(self, reference: str, task: str, loaded: hub.Loaded) -> None:
        """Which class stands behind the reference: that of its main head, and that of its classifier."""
        kind, known = type(loaded.model).__name__, self.models.get(reference)
        main = kind if task == "lm" or known is None else known.class_name
        head = kind if task == "classification" else known.classifier if known else None
        digest = known.digest if known else None
        if known is None and loaded.source == "checkpoint" and loaded.folder is not None:
            digest = identity.digest(loaded.folder)  # of all heads at once; the shipped ones are held to their manifest
        self.models[reference] = record.Model(main, loaded.source, loaded.source == "embedded", head, digest)

    def main_task(self, reference: str) -> str:
        """The task whose head latency and memory are measured with: "lm", or "classification" for a mere classifier."""
        if reference not in self.main_tasks:
            try:
                self.subject(reference, "lm")
                self.main_tasks[reference] = "lm"
            except Refused:  # no language-modelling head
                self.subject(reference, "classification")
                self.main_tasks[reference] = "classification"
        return self.main_tasks[reference]

    def forget(self, models: bool) -> None:
        """What may be half changed is made anew when it is asked for: what was pruned or converted, or all `models`."""
        self.fastest = (None, {})
        for subject in self.subjects.values():
            subject.current = None
        if models:
            self.subjects.clear()

    def pruned(self, subject: Subject, recipe: Recipe) -> PrunedModel:
        """The subject's workspace, pruned by the recipe."""
        if subject.current is None or subject.current.recipe != recipe:
            subject.current = None  # should pruning fail half way, nothing may be taken for granted
            subject.current = self.prune(subject, recipe)
        return subject.current

    def prune(self, subject: Subject, recipe: Recipe) -> PrunedModel:
        """The subject's workspace, pruned anew."""
        batches = self.calibration(subject) if prune.needs(recipe) else ()
        quick = subject.loaded.reference in embedded.NAMES or not batches
        with contextlib.nullcontext() if quick else self.showing():
            return prune.prune(subject.workspace, recipe, subject.loaded.model, batches)

    def recipe(self, method: str, sparsity: float, pattern: str, scope: str, seed: int) -> Recipe:
        """A recipe with the run's own settings."""
        return prune.Recipe(method, sparsity, pattern, scope, seed, self.options.multiple)

    def calibration(self, subject: Subject) -> list[Batch]:
        """Documents that are never evaluated, encoded once for the subject; random tokens for random weights."""
        if subject.calibration is None:
            model, count = subject.loaded.model, self.options.calibration
            if subject.loaded.source == "random":
                subject.calibration = workload.random_batches(model, count, CALIBRATION_LENGTH, CALIBRATION_BATCH)
            elif self.own is None:
                task = quality.build(*self._read_by(subject), count, embedded.CALIBRATION_SEED, CALIBRATION_BATCH)
                subject.calibration = task.batches
            else:
                rest = (self.own.to_learn_from(), count, embedded.CALIBRATION_SEED, CALIBRATION_BATCH)
                subject.calibration = quality.calibration(*self._read_by(subject), *rest)
        return subject.calibration

    def training_documents(self, subject: Subject) -> list[Document] | None:
        """The user's own documents to learn from, their classes as the subject numbers them; None: fresh reviews do.

        Raises `Refused` where there are none, or the subject is a classifier of other classes.
        """
        model, classifies = subject.loaded.model, subject.name == "classification"
        if self.own is not None:
            return self.own.training_documents(model if classifies else None)
        if classifies:
            encoding.refuse_other_classes(model)
        return None

    def calibration_seconds(self, subject: Subject) -> float:
        """What one pass over the calibration documents takes by itself, up to the last block; measured once."""
        if subject.calibration_seconds is None:
            batches = self.calibration(subject)
            gather.passes(subject.loaded.model, batches[:1])  # warm
            started = time.perf_counter()
            gather.passes(subject.loaded.model, batches)
            subject.calibration_seconds = time.perf_counter() - started
        return subject.calibration_seconds

    def quality_task(self, subject: Subject) -> quality.Task:
        """The documents of the subject's task, encoded once."""
        if subject.task is None:
            documents = self.own.evaluated if self.own else self.options.documents
            given, window = self._read_by(subject), self.options.window
            subject.task = quality.build(*given, documents, embedded.EVALUATION_SEED, window=window)
            self.notes |= dict.fromkeys(f"{subject.loaded.reference}: {note}" for note in subject.task.notes)
        return subject.task

    def _read_by(self, subject: Subject) -> tuple[str, PreTrainedModel, PreTrainedTokenizerBase, str]:
        """By what documents are encoded: task, model, tokenizer and objective."""
        loaded = subject.loaded
        return subject.name, loaded.model, loaded.tokenizer(), loaded.objective

    def score(self, reference: str, task: str, recipe: Recipe) -> quality.Scores:
        """The score of a pruned model on every document of a task; the dense model's for `CONTROL`."""
        key = (reference, task, recipe)
        if key not in self.scores:
            subject = self.subject(reference, task)
            documents = self.quality_task(subject)
            pruned = self.pruned(subject, recipe)
            self.counts[key] = pruned.counts
            self.scores[key] = documents.evaluate(pruned.model)
        return self.scores[key]

    def quality(self, reference: str, task: str, recipe: Recipe) -> record.Quality:
        """The record of a score, compared with dense over the same documents."""
        scores, dense = self.score(reference, task, recipe), self.score(reference, task, CONTROL)
        return quality.compare(self.quality_task(self.subject(reference, task)), scores, dense)

    def harness_score(self, reference: str, task: str, recipe: Recipe) -> harness_scores.Scores:
        """The score of a pruned model on a task of lm-evaluation-harness, such as "harness:arc_easy".

        Raises `Refused` for any but a causal language model: the others do not continue a text.
        """
        key = (reference, task, recipe)
        if key not in self.harnessed:
            subject = self.subject(reference, "lm")
            if subject.loaded.objective != "causal":
                raise Refused(f"tasks of lm-evaluation-harness ask causal language models, which {reference} is not")
            tokenizer = subject.loaded.tokenizer()
            pruned = self.pruned(subject, recipe)
            self.counts[key] = pruned.counts
            name = task.removeprefix(library.PREFIX)
            assert self.harness_tasks is not None  # else there were no such cell
            with contextlib.nullcontext() if reference in embedded.NAMES else self.showing():
                found = harness_scores.evaluate(
                    self.harness_tasks, name, pruned.model, tokenizer, self.options.harness_limit
                )
            if found.cut:
                self.notes.setdefault(f"{reference}: {task}: {found.cut} requests lost their beginning, being too long")
            self.harnessed[key] = found
        return self.harnessed[key]

    def harness(self, reference: str, task: str, recipe: Recipe) -> record.Harness:
        """The record of such a score, compared with dense over the same documents."""
        scores = self.harness_score(reference, task, recipe)
        return harness_scores.compare(scores, self.harness_score(reference, task, CONTROL))

    def curve(self, reference: str, task: str, recipes: Iterable[Recipe]) -> list[trends.Point]:
        """Dense, then one point for each recipe in order of sparsity; a recipe that is refused has none."""
        points = [trends.Point(0.0, self.score(reference, task, CONTROL))]
        for recipe in sorted(recipes, key=lambda r: r.sparsity):
            with contextlib.suppress(Refused):
                points.append(trends.Point(recipe.sparsity, self.score(reference, task, recipe)))
        return points

    def dense_bytes(self, reference: str, text: str, task: str | None = None) -> tuple[int, int]:
        """(weights, peak of a forward pass) of the dense model, bytes; measured once for each workload.

        With the head of a task, or with that of its main one.
        """
        subject = self.subject(reference, task or self.main_task(reference))
        key = self.on(subject, text)
        if key not in self.dense_memory:
            model = subject.loaded.model
            if len(on := spread.devices_of(model)) > 1:
                raise Refused(f"{reference} is spread over {len(on)} GPUs, and the peak of one says nothing of all")
            peak = memory.peak_memory(self.forward(model, text), self.options.device)
            self.dense_memory[key] = (memory.resident_bytes(model), peak.bytes)
        return self.dense_memory[key]

    def executed(self, pruned: PrunedModel, name: str, text: str) -> PreTrainedModel:
        """The pruned model in a format; format auto chooses once for a workload."""
        if name != AUTO:
            return execution.in_format(pruned, name)
        if self.fastest[0] is not pruned:
            self.fastest = (pruned, {})
        if text not in (known := self.fastest[1]):
            known[text] = execution.in_format(pruned, name, functools.partial(self.call, text=text))
        return known[text]

    def on(self, subject: Subject, text: str) -> tuple[str, str]:
        """(reference, workload) under which the dense model's own numbers are kept; another head has its own."""
        reference = subject.loaded.reference
        main = subject.name == self.main_task(reference)
        return reference, text if main else f"{text} {subject.name}"

    def call(self, model: PreTrainedModel, text: str) -> Callable[[], torch.Tensor]:
        """What runs the model on a workload such as "8x64", with its head or without, as the options say."""
        return workload.call(workload.parse(text), model, head=self.options.head == "full")

    def forward(self, model: PreTrainedModel, text: str, eager: bool = False) -> Call:
        """The same, compiled where the options say so, and returns when the device is done."""
        if self.options.compile and not eager:
            call = compiling.call(workload.parse(text), model, head=self.options.head == "full")
        else:
            call = self.call(model, text)
        return latency.on_device(call, self.options.device)

    def latency(
        self,
        benchmark: BenchmarkFixture,
        subject: Subject,
        pruned: PrunedModel,
        executed: PreTrainedModel,
        text: str,
        budget: float,
    ) -> record.Latency | None:
        """What a forward pass of the pruned model, executed in some format, costs beside the dense model's.

        None where the fixture is told not to time. The control, dense against its own copy, is judged
        against the bare margin, everything else against the noise floor that it gives.
        """
        dense, own = self.forward(subject.loaded.model, text), self.forward(executed, text)
        control = is_control(pruned, executed)
        floor = self.noise_floor(subject, text, budget) if latency.times(benchmark) and not control else 0.0
        pair = latency.paired(benchmark, own, dense, budget, gpu.clocks(self.options.device))
        if pair is None:
            return None
        if control:
            floor = pair.ratio.floor
            self.noise.setdefault(self.on(subject, text), []).append(floor)
        timed = latency.described(pair, floor, control)
        eager = functools.partial(self.forward, text=text, eager=True)
        measured = self.limits.unpruned_of(self.on(subject, text), subject.loaded.model, eager, budget)
        found = self.limits.beside(timed, measured, pruned, executed, eager(executed), budget)
        return dataclasses.replace(found, ceiling=None) if self.options.compile else found  # that of eager models

    def noise_floor(self, subject: Subject, text: str, budget: float) -> float:
        """How far the subject's dense model seems to differ from its own copy on a workload, a fraction.

        Measured when it is first asked for, unless the control was a cell of the run; and again, a few
        times, while it is too high for any verdict: noise often passes.
        """
        floors = self.noise.setdefault(self.on(subject, text), [])
        if not floors or (floors[-1] > ratio.NOISY and len(floors) <= MORE_CONTROLS):
            floors.append(latency.timed_in_turns(*self.control_arms(subject, text), budget).ratio.floor)
        return floors[-1]

    def control_arms(self, subject: Subject, text: str) -> tuple[Call, Call]:
        """Forward passes of a copy of the dense model, made now, and of the dense model itself."""
        dense = subject.loaded.model
        return self.forward(prune.workspace(dense), text), self.forward(dense, text)


def is_control(pruned: PrunedModel, executed: PreTrainedModel) -> bool:
    """Whether the executed model is the unpruned one as it is, so that it differs from the reference by noise alone."""
    return pruned.recipe == CONTROL and executed is pruned.model
