"""A pretrained model as the start of a classifier: its body, and a head that has learnt nothing yet.

That is how the original study began: prune the pretrained model, then fine-tune it on the task.

Refuses a family of which transformers has no classifier, or one with another body.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsity.errors import Refused, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CLASSES = 2
"""Of the reviews."""


def with_new_head(
    model: PreTrainedModel, pad: int, seed: int, classes: int | Sequence[str] = CLASSES
) -> PreTrainedModel:
    """A classifier with the model's body, copied, in eval mode; the global random state is left as it was.

    Args:
        model: a language model, or a bare body.
        pad: the token that pads documents, which a classifier's configuration must name.
        seed: of the new head.
        classes: how many, or what they are called.

    Raises `Refused` where transformers has no classifier for the body.
    """
    import torch
    import transformers

    config = copy.deepcopy(model.config)
    names = [f"LABEL_{index}" for index in range(classes)] if isinstance(classes, int) else list(classes)
    config.id2label, config.label2id = dict(enumerate(names)), {name: index for index, name in enumerate(names)}
    config.problem_type = "single_label_classification"  # what the checkpoint was for before is no matter
    if config.pad_token_id is None:
        config.pad_token_id = pad
    auto = transformers.AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU there is
        try:
            made: PreTrainedModel = auto.from_config(config, dtype=model.dtype)
        except ValueError as error:
            raise Refused(f"transformers has no classifier of type {config.model_type}: {one_line(error)}") from None
    found = made.base_model.load_state_dict(model.base_model.state_dict(), strict=False)
    if unlearnt := [name for name in found.missing_keys if "pooler" not in name]:  # that is new, as the head is
        raise Refused(
            f"a classifier of type {config.model_type} has {unlearnt[0]}, which {type(model).__name__} has not"
        )
    made.to(model.device)  # type: ignore[arg-type]  # transformers types .to by a Self that mypy loses
    return made.eval().requires_grad_(False)  # type: ignore[no-any-return]  # the same
