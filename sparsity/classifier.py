"""A classifier made here: a pretrained body, a new head, and training on documents with classes.

For checkpoints without a classification head. `python -m sparsity.fine_tune` writes one; `fine_tuned` is for use
within a run.

Refuses documents without labels or of one class, labels that are no classes, and a body of which transformers has
no classifier.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from sparsity import losses, training
from sparsity.errors import Refused
from sparsity.models import embedded, hub
from sparsity.models.checkpoint import BODY
from sparsity.models.new_head import with_new_head
from sparsity.tasks import encoding, language_modeling, quality
from sparsity.tasks import training as training_documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from sparsity.data.documents import Documents
    from sparsity.training_state import Reached

CLASSIFICATION = "classification"
LEARNING_RATE = {"embedded": 1e-3, "checkpoint": 5e-5}
"""By what a model is; the narrow embedded ones learn far faster."""
BATCH = 32
"""Documents of a training batch."""
DOCUMENTS_OF_A_CLASS = 2
"""Fewer on average are numbers of rows, or texts, and no classes."""


def fine_tuned(
    reference: str,
    documents: Documents,
    settings: training.Settings,
    classes: int | Sequence[str],
    batch_size: int = BATCH,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> hub.Loaded:
    """The reference's body with a new head, trained on all of its weights; ready to be measured, with its tokenizer.

    The same for the same settings and documents on the same machine.

    Args:
        reference: any name that `hub.load` knows, but no random weights.
        documents: to train on, gone through again and again.
        settings: the budget, the learning rate, and the seed of head, order and dropout.
        classes: of the new head; `classes_in` has them.
        batch_size: documents of a training batch.
        device: to train on (the CPU).
        dtype: of the weights in the end; they are trained as float32.

    Raises `Refused` for documents or bodies that make no classifier, and whatever loading and training raise.
    """
    loaded = started(reference, classes, settings.seed, device)
    train(loaded, documents, settings, batch_size)
    if dtype is not None:
        for parameter in loaded.model.parameters():  # and no table of rotations
            parameter.data = parameter.data.to(dtype)
    return loaded


def classes_in(*sets: Documents) -> int | tuple[str, ...]:
    """The classes of these documents, which number them alike: their names, or how many where they have none.

    Raises `Refused` for documents without labels, of one class, of numbers with gaps, or with about as many classes
    as documents.
    """
    for each in sets:
        if each.labels is None:
            raise Refused(f"{each.name} has no classes to learn: {each.unlabelled}")
        if not each.labels:
            raise Refused(f"{each.name} has no document left to learn from; name others by --training-data")
        used = len(set(each.labels))
        if used < 2:
            raise Refused(f"{each.name} has one class alone, so there is nothing to tell apart; give it another")
        if used * DOCUMENTS_OF_A_CLASS > len(each):
            raise Refused(f"{each.name} has {used} labels for {len(each)} documents, so they are no classes")
    if named := next((each.classes for each in sets if each.classes), None):
        return named
    numbers = sorted({label for each in sets for label in each.labels or ()})
    if numbers != list(range(len(numbers))):
        told = f"{', '.join(map(str, numbers[:3]))}{' …' if len(numbers) > 3 else ''}"
        raise Refused(f"{sets[0].name} has classes {told:.60}; number them 0, 1, 2 and so on, or give them names")
    return len(numbers)


def started(reference: str, classes: int | Sequence[str], seed: int, device: torch.device | None = None) -> hub.Loaded:
    """The reference's body, float32, with a head that has learnt nothing."""
    import torch

    task = "lm" if reference in embedded.NAMES else BODY  # each of those has a language model to begin with
    with torch.random.fork_rng(devices=[]):  # a pooler is drawn that is not kept
        loaded = hub.load(reference, task, torch.float32, device or torch.device("cpu"))
    pad = language_modeling.special_tokens(loaded.tokenizer(), loaded.model).pad
    return dataclasses.replace(loaded, model=with_new_head(loaded.model, pad, seed, classes))


def default_rate(loaded: hub.Loaded) -> float:
    """The learning rate where none is given."""
    return LEARNING_RATE[loaded.source]


def train(loaded: hub.Loaded, documents: Documents, settings: training.Settings, batch_size: int = BATCH) -> Reached:
    """Train the classifier in place."""
    model, tokenizer, objective = loaded.model, loaded.tokenizer(), loaded.objective
    encoding.encode(CLASSIFICATION, model, tokenizer, objective, documents, settings.seed)  # refuses before a step
    labelled = list(zip(documents.rows(), documents.labels or (), strict=True))
    endless = training_documents.again_and_again(labelled, settings.seed)
    batches = training_documents.of_model(
        CLASSIFICATION, model, tokenizer, objective, endless, batch_size, settings.seed
    )
    return training.train(model, batches, losses.task_loss, settings, f"fine-tuning {loaded.reference}")


def task(loaded: hub.Loaded, documents: Documents) -> quality.Task:
    """What evaluates the classifier on the documents."""
    return quality.build(CLASSIFICATION, loaded.model, loaded.tokenizer(), loaded.objective, documents, seed=0)
