"""Documents as a model reads them: which limit, which padding, which class is which, and what had to be left out.

Refuses a classifier whose classes are not those of the data, or that has no padding token; a tokenizer that does not
belong to the model; documents of which none holds a token; what `strided` refuses.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from sparsity.data import labels
from sparsity.data.documents import Documents, counted, whole
from sparsity.errors import Refused
from sparsity.positions import positions_of
from sparsity.tasks import language_modeling, strided, text_classification
from sparsity.tasks.batching import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sparsity.tasks.language_modeling import SpecialTokens
    from sparsity.tasks.strided import Window

FRAMING = 2
"""Positions that start and end tokens may take."""
LEAST_POSITIONS = 16
"""Below, what is left of a document says nothing of it."""
MOST_POSITIONS = 2048
"""What is read at once of models that read more, or any length; so perplexities of pruned ones are usually reported."""
BATCH_POSITIONS = 2**14
"""Of a batch, padding included: activations stay within a few hundred MB."""
LEAST_WINDOWS, FEW_WINDOWS = 2, 20
"""Of fewer strided windows there is no standard error, or it is itself a guess."""
LOGIT_BYTES = 2**28
"""What a batch's logits may hold, as float32."""


class Encoded(NamedTuple):
    """Documents, encoded; those without a token to judge a model by are left out."""

    examples: list[Example]
    documents: list[int]
    """Whose each example is: a place in `kept`. In strided windows each is its own."""
    kept: list[int]
    """The documents that are judged, by their place in what was given."""
    labels: list[int]
    """The class of each that is kept, as the model numbers it; of language modelling none."""
    cut: int
    """Documents of which the model does not read all; of language modelling, not at once."""
    notes: tuple[str, ...]


def encode(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    documents: Documents,
    seed: int,
    window: Window | None = None,
) -> Encoded:
    """For a model with the head of a task, "lm" or "classification"; of "lm" perhaps in strided windows.

    Raises `Refused`.
    """
    if window is not None and name == "lm":
        return _strided(model, tokenizer, objective, documents, window)
    limit = token_limit(model, tokenizer)
    notes: tuple[str, ...] = ()
    classes: list[int] = []
    if name == "lm":
        special = language_modeling.special_tokens(tokenizer, model)
        texts = [whole(row) for row in documents.rows()]
        made = language_modeling.encode(texts, tokenizer, objective, special, limit - FRAMING, seed)
        examples, owners = made.examples, made.documents
        cut = len({owner for owner, after in itertools.pairwise(owners) if owner == after})
    else:
        mapped = classes_of(model, documents)
        classes, notes = mapped.of(documents.labels or ()), mapped.notes
        rows, cut = text_classification.cut(documents.rows(), classes, tokenizer, limit)
        owners = [index for index, example in enumerate(rows) if example.input_ids]
        examples = [rows[index] for index in owners]
        notes += counted(cut, documents, f"documents of {documents.name} are longer than {limit} tokens, and were cut")
    kept = list(dict.fromkeys(owners))
    if not kept:
        raise Refused(f"no document of {documents.name} holds a token that the tokenizer knows")
    refuse_unknown_tokens(examples, model.config.vocab_size)
    left_out = len(documents) - len(kept)
    notes += counted(left_out, documents, f"documents of {documents.name} hold no token to judge by, and were left out")
    place = {document: index for index, document in enumerate(kept)}
    told = [classes[document] for document in kept] if classes else []
    return Encoded(examples, [place[each] for each in owners], kept, told, cut, notes)


def _strided(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, objective: str, documents: Documents, window: Window
) -> Encoded:
    """Every window is a unit of its own."""
    strided.check(window, model, objective)
    special = language_modeling.special_tokens(tokenizer, model)
    rows = language_modeling.tokens([whole(row) for row in documents.rows()], tokenizer)
    made = [list(strided.examples(row, special, window)) for row in rows]
    kept = [index for index, row in enumerate(made) if row]
    examples = [example for row in made for example in row]
    if len(examples) < LEAST_WINDOWS:
        what = (
            f"gives {len(examples)} windows of {window}, and of fewer than {LEAST_WINDOWS} there is no standard error"
        )
        raise Refused(f"{documents.name} {what}; choose shorter ones, or more text")
    refuse_unknown_tokens(examples, model.config.vocab_size)
    notes = counted(len(made) - len(kept), made, f"documents of {documents.name} hold no token, and were left out")
    if len(examples) < FEW_WINDOWS:
        notes += (f"only {len(examples)} windows of {window} are scored, so their standard errors are guesses",)
    cut = sum(len(row) > 1 for row in made)
    return Encoded(examples, list(range(len(examples))), kept, [], cut, notes)


def classes_of(model: PreTrainedModel, documents: Documents) -> labels.Mapped:
    """Which class of the model each label is.

    Raises `Refused` where the documents have no labels, or the model has other classes.
    """
    config = model.config
    if documents.labels is None:
        raise Refused(f"{documents.name} cannot be classified: {documents.unlabelled}")
    if documents.generated:
        refuse_other_classes(model)
        return labels.Mapped((0, 1))
    if config.problem_type == "multi_label_classification":
        raise Refused("the classifier may give a text several classes, so none is right alone; take one for a single")
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    return labels.mapped(documents.labels, documents.classes, names, documents.name)


def refuse_other_classes(model: PreTrainedModel) -> None:
    """Raises `Refused` for a classifier that does not have the two classes of the reviews."""
    if model.config.num_labels != 2:
        raise Refused(f"the reviews have 2 classes, but the classifier has {model.config.num_labels}")


def padding(name: str, model: PreTrainedModel, special: SpecialTokens) -> int:
    """The token that pads; raises `Refused` for a classifier that has none."""
    if name == "lm":
        return special.pad
    pad: int | None = model.config.pad_token_id
    if pad is None:  # GPT-2 classifies the last token that is not this one, whatever the tokenizer says
        raise Refused("the classifier's config.json names no padding token, so documents cannot share a batch")
    return pad


def token_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that are read at once, framing included; raises `Refused` where that is too few.

    The model's positions, and no more than its tokenizer says, which may be any number, or `MOST_POSITIONS`.
    """
    positions = positions_of(model) or MOST_POSITIONS
    limit = int(min(positions, tokenizer.model_max_length, MOST_POSITIONS))
    if limit < LEAST_POSITIONS:
        raise Refused(f"the model has {limit} positions, too few for a document (at least {LEAST_POSITIONS})")
    return limit


def batch_positions(name: str, model: PreTrainedModel) -> int:
    """How many positions a batch may have, padding included."""
    if name != "lm":
        return BATCH_POSITIONS
    return min(BATCH_POSITIONS, LOGIT_BYTES // (4 * int(model.config.vocab_size)))


def refuse_unknown_tokens(examples: list[Example], known: int) -> None:
    """Raises `Refused` for a token that the model has no embedding of."""
    largest = max(max(e.input_ids) for e in examples)
    if largest >= known:
        raise Refused(f"the tokenizer gives token {largest}, but the model knows {known}; save the two together")
