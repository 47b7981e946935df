"""Text classification: framing as the tokenizer frames, predictions that go back to their document."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsity.errors import BadValue
from sparsity.models import hub
from sparsity.tasks import batching, reviews
from sparsity.tasks import text_classification as tc


@pytest.fixture(scope="module")
def bert() -> hub.Loaded:
    return hub.load("bert", "classification", torch.float32, torch.device("cpu"))


def test_examples_are_framed_and_cut(bert: hub.Loaded) -> None:
    tokenizer: Any = bert.tokenizer()
    short, cut = tc.encode(["the soup was great .", "the soup was great ."], [1, 0], tokenizer, 4)
    assert short == cut._replace(labels=[1])
    assert len(short.input_ids) == 4
    assert short.input_ids[0] == tokenizer.cls_token_id
    assert short.input_ids[-1] == tokenizer.sep_token_id


def test_predictions_go_back_to_their_document_whatever_the_batches(bert: hub.Loaded) -> None:
    sample = reviews.balanced(60, seed=11)
    examples = tc.encode([r.text for r in sample], [r.label for r in sample], bert.tokenizer(), 96)
    one_by_one = tc.predict(bert.model, [batching.collate(examples, [i], 0) for i in range(60)])
    batched = tc.predict(bert.model, batching.batches(examples, 0, 16))
    assert torch.equal(one_by_one, batched)
    right = (batched == torch.tensor([r.label for r in sample])).double().mean()
    assert right > 0.85


def test_logits_that_are_no_numbers_are_no_prediction() -> None:
    model: Any = hub.load("bert", "classification", torch.float32, torch.device("cpu")).model
    torch.nn.init.constant_(model.classifier.bias, float("nan"))
    with pytest.raises(BadValue, match="logits are not finite"):
        tc.predict(model, [batching.collate([batching.Example([2, 5, 3], [0])], [0], 0)])
