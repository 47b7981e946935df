"""The user's own documents within a run: read once, the evaluated ones chosen, and what the result file says of them.

Refuses what `data.reading` refuses; to learn from documents where none is left that is not evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity import classifier
from sparsity.data import reading
from sparsity.errors import BadValue, Refused
from sparsity.models import embedded
from sparsity.tasks import encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from sparsity.data.documents import Documents
    from sparsity.options import Options
    from sparsity.strict_json import Scalar
    from sparsity.tasks.training import Document


@dataclass(frozen=True)
class OwnDocuments:
    """What is evaluated, what may be learnt from, and what was left out of both."""

    evaluated: Documents
    training: Documents
    notes: tuple[str, ...]

    @classmethod
    def of(cls, options: Options) -> OwnDocuments:
        """What the options lead to; raises `SparsityError` with one line."""
        assert options.data is not None
        columns, long = (options.text_column, options.label_column), options.window is not None
        read = reading.read(options.data, options.training_data, *columns, long)
        return cls(read.evaluated.chosen(options.documents, embedded.EVALUATION_SEED), read.training, read.notes)

    def check(self, options: Options) -> None:
        """Raises `BadValue` where all that the run is to measure is a task that the documents do not have."""
        if self.evaluated.labels is None and options.axes.get("tasks") == ("classification",):
            raise BadValue(f"{self.evaluated.name} cannot be classified: {self.evaluated.unlabelled}")

    def fingerprint(self) -> dict[str, Scalar]:
        """Names, digests and numbers of documents."""
        evaluated, training = self.evaluated, self.training
        return {
            "data": evaluated.name,
            "data digest": evaluated.digest,
            "data documents": len(evaluated),
            "training data": training.name,
            "training digest": training.digest,
            "training documents": len(training),
        }

    def classes(self) -> int | Sequence[str]:
        """Of a classifier that is to be made for them; raises `Refused` where they have none."""
        return classifier.classes_in(self.evaluated, self.to_learn_from())

    def to_learn_from(self) -> Documents:
        """Raises `Refused` where every document is evaluated."""
        if not self.training:
            raise Refused(f"{self.evaluated.name} leaves no document to learn from; give some by --training-data")
        return self.training

    def training_documents(self, model: PreTrainedModel | None) -> list[Document]:
        """Each with its class as this classifier numbers it; without a classifier all are of class 0."""
        shown = self.to_learn_from()
        if model is None:
            return [(row, 0) for row in shown.rows()]
        labels = encoding.classes_of(model, shown).of(shown.labels or ())
        return list(zip(shown.rows(), labels, strict=True))
