"""A classifier on a pretrained body: the body is the language model's to the last bit, the head hangs on the seed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers

from sparsity.errors import Refused
from sparsity.models.new_head import with_new_head
from tests import tiny
from tests.models.tiny import refusal

PAD = 1
BY_FAMILY = pytest.mark.parametrize("family", tiny.DESCRIBED)
NEW = ("pooler.dense.weight", "pooler.dense.bias")
"""Of a body that a language model has not: the head's, by another name."""


def documents(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two of different length, each with its end, and which of their tokens are none of padding."""
    end, pad = model.config.eos_token_id or 9, model.config.pad_token_id
    tokens = torch.tensor([[3, 4, 5, end], [6, 7, end, pad]])
    return tokens, torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def logits(model: Any) -> torch.Tensor:
    tokens, mask = documents(model)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=tokens, attention_mask=mask).logits
    return found


def head(model: Any) -> dict[str, torch.Tensor]:
    """What is not the body's, and its pooler."""
    prefix = f"{model.base_model_prefix}."
    found = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(prefix)}
    return found | {name: tensor for name, tensor in model.state_dict().items() if name.endswith(NEW)}


@BY_FAMILY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_body_is_that_of_the_language_model_to_the_last_bit(family: str, dtype: torch.dtype) -> None:
    model = tiny.model(family, dtype)
    for parameter in model.parameters():  # digits that a narrower type has not
        parameter.data = parameter.data * (1 + 2**-40)
    made = with_new_head(model, PAD, 0)
    theirs, own = model.base_model.state_dict(), made.base_model.state_dict()
    assert set(own) - set(theirs) <= set(NEW)
    assert {name for name in own if name in theirs and not torch.equal(own[name], theirs[name])} == set()
    assert {parameter.dtype for parameter in made.parameters()} == {dtype}
    assert logits(made).isfinite().all()
    assert logits(made).shape == (2, 2)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_tables_of_rotations_keep_their_digits_in_half_precision(family: str) -> None:
    model = tiny.model(family, torch.bfloat16)
    made, theirs = with_new_head(model, PAD, 0), dict(model.base_model.named_buffers())
    own = {name: buffer for name, buffer in made.base_model.named_buffers() if "inv_freq" in name}
    assert own
    assert all(buffer.dtype is torch.float32 and torch.equal(buffer, theirs[name]) for name, buffer in own.items())


@BY_FAMILY
def test_the_new_head_hangs_on_the_seed_and_on_nothing_else(family: str) -> None:
    model = tiny.model(family)
    first = head(with_new_head(model, PAD, 3))
    torch.rand(7)
    again, other = head(with_new_head(model, PAD, 3)), head(with_new_head(model, PAD, 4))
    assert first
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = {name for name, tensor in first.items() if tensor.any()}  # a bias begins at nothing
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_the_global_random_state_is_left_as_it_was_and_no_gpu_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    model = tiny.model("bert")
    seeded.clear()
    torch.default_generator.manual_seed(11)
    expected = torch.rand(3)
    torch.default_generator.manual_seed(11)
    with_new_head(model, PAD, 0)
    assert torch.equal(torch.rand(3), expected)
    assert seeded == []


@BY_FAMILY
def test_the_language_model_is_left_alone_and_shares_nothing(family: str) -> None:
    model = tiny.model(family)
    before, config = tiny.state(model), copy.deepcopy(model.config.to_dict())
    made = with_new_head(model, PAD, 0)
    storages = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not storages & {tensor.data_ptr() for tensor in made.state_dict().values()}
    for parameter in made.parameters():
        parameter.data.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.config.to_dict() == config


@BY_FAMILY
def test_it_is_ready_to_be_measured_and_has_the_two_classes_of_the_reviews(family: str) -> None:
    made = with_new_head(tiny.model(family), PAD, 0)
    assert not made.training
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert (made.config.num_labels, made.config.use_cache) == (2, False)
    assert type(made).__name__.endswith("ForSequenceClassification")


def test_its_classes_are_named_or_numbered_whatever_the_model_had_before() -> None:
    model = tiny.model("bert", id2label={0: "old", 1: "older"}, problem_type="regression")
    named, numbered = with_new_head(model, PAD, 0, ("yes", "no", "perhaps")), with_new_head(model, PAD, 0, 4)
    assert named.config.id2label == {0: "yes", 1: "no", 2: "perhaps"}
    assert named.config.label2id == {"yes": 0, "no": 1, "perhaps": 2}
    assert numbered.config.id2label == {index: f"LABEL_{index}" for index in range(4)}
    assert [made.config.num_labels for made in (named, numbered)] == [3, 4]
    assert [logits(made).shape[1] for made in (named, numbered)] == [3, 4]
    assert named.config.problem_type == "single_label_classification"


@BY_FAMILY
def test_a_bare_body_is_a_start_as_its_language_model_is(family: str) -> None:
    model = tiny.model(family)
    whole, bare = with_new_head(model, PAD, 0), with_new_head(model.base_model, PAD, 0)
    assert all(torch.equal(tensor, bare.state_dict()[name]) for name, tensor in whole.state_dict().items())


def test_a_configuration_without_padding_gets_the_one_that_is_given_and_one_with_it_keeps_its_own() -> None:
    without = with_new_head(tiny.model("gpt2", pad_token_id=None), PAD, 0)
    assert without.config.pad_token_id == PAD
    assert logits(without).isfinite().all()  # two documents without padding would be refused by transformers
    assert with_new_head(tiny.model("gpt2", pad_token_id=5), PAD, 0).config.pad_token_id == 5


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_padding_says_nothing_to_the_new_classifier(family: str) -> None:
    made = with_new_head(tiny.model(family, pad_token_id=None if family == "gpt2" else PAD), PAD, 0)
    alone = documents(made)[0][1:, :3]
    with torch.no_grad():
        expected = made(input_ids=alone, attention_mask=torch.ones_like(alone)).logits
    torch.testing.assert_close(logits(made)[1:], expected)


def test_a_family_without_a_classifier_is_refused_in_one_line() -> None:
    config = transformers.BlenderbotSmallConfig(
        vocab_size=30, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.BlenderbotSmallForConditionalGeneration(config)
    message = refusal(Refused, lambda: with_new_head(model, PAD, 0))
    assert message.startswith("transformers has no classifier of type blenderbot-small: ")


def test_a_classifier_with_another_body_is_refused_by_what_it_would_have_to_make_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auto = transformers.AutoModelForSequenceClassification
    deeper = transformers.BertForSequenceClassification(tiny.config("bert", num_hidden_layers=3))
    monkeypatch.setattr(auto, "from_config", lambda *args, **settings: deeper)
    message = refusal(Refused, lambda: with_new_head(tiny.model("bert"), PAD, 0))
    assert message.startswith("a classifier of type bert has encoder.layer.2.")
