"""Workloads: parsing, and inputs and random documents that are the same every time and fit the model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from sparsity import workload
from sparsity.errors import BadValue, Refused
from sparsity.prune import Recipe, prune
from sparsity.tasks.batching import Batch
from tests import tiny


def test_what_is_printed_parses_back() -> None:
    assert workload.parse("8x64") == workload.Workload(8, 64)
    assert str(workload.parse("8x64")) == "8x64"
    assert workload.parse("1x16+64") == workload.Workload(1, 16, 64)
    assert str(workload.parse("1x16+64")) == "1x16+64"
    assert workload.parse("prefill:2x16") == workload.Workload(2, 16, phase="prefill")
    assert str(workload.parse("prefill:2x16")) == "prefill:2x16"
    assert workload.parse("decode:1x512") == workload.Workload(1, 512, phase="decode")
    assert str(workload.parse("decode:1x512")) == "decode:1x512"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8",
        "8x",
        "x64",
        "0x64",
        "8x0",
        "-1x4",
        "8X64",
        "8x64x2",
        " 8x64",
        "٨x64",
        "1e2x4",
        "8x64+",
        "8x64+0",
        "8x64+1+1",
        "prefill:",
        "prefill:8x64+1",
        "decode:8x",
        "encode:8x64",
        "prefill:decode:8x64",
        "PREFILL:8x64",
        ":8x64",
    ],
)
def test_what_is_no_workload_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="BATCHxLENGTH, such as 8x64"):
        workload.parse(text)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_inputs_are_real_tokens_of_the_model_and_always_the_same(family: str) -> None:
    model = tiny.model(family)
    one, two = (workload.inputs(workload.parse("3x7"), model) for _ in range(2))
    assert {name: tuple(tensor.shape) for name, tensor in one.items()} == dict.fromkeys(one, (3, 7))
    assert ("decoder_input_ids" in one) == (family == "bart")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["attention_mask"].all()
    assert 0 <= one["input_ids"].min() <= one["input_ids"].max() < tiny.VOCABULARY


@pytest.mark.parametrize(
    ("end", "vocabulary", "expected"),
    [
        (2, 9, [[3, 3, 5, 2], [1, 0, 3, 2]]),  # each ends, and none before its end
        (8, 9, [[2, 3, 5, 8], [1, 0, 2, 8]]),
        (None, 9, [[2, 3, 5, 2], [1, 0, 2, 8]]),  # a model without an end reads what there is
        ([2, 8], 9, [[2, 3, 5, 2], [1, 0, 2, 8]]),
        (0, 1, [[2, 3, 5, 2], [1, 0, 2, 8]]),  # no other token there is to take its place
    ],
)
def test_each_document_ends_once(end: int | list[int] | None, vocabulary: int, expected: list[list[int]]) -> None:
    tokens = torch.tensor([[2, 3, 5, 2], [1, 0, 2, 8]])
    config = transformers.BartConfig(vocab_size=vocabulary, eos_token_id=end)
    assert workload.ended(tokens, config).tolist() == expected


def test_the_last_token_of_the_vocabulary_as_an_end_is_replaced_by_the_first() -> None:
    config = transformers.BartConfig(vocab_size=9, eos_token_id=8)
    assert workload.ended(torch.tensor([[8, 8, 3]]), config).tolist() == [[0, 0, 8]]


@pytest.mark.parametrize("text", ["1x1", "3x7", "64x16"])
def test_an_encoder_decoders_classifier_runs_on_every_workload(text: str) -> None:
    """It reads the last end of each document, and refuses documents with different numbers of them."""
    config = tiny.config("bart", num_labels=2)
    model = transformers.BartForSequenceClassification(config).eval()
    shape = workload.parse(text)
    tokens = workload.inputs(shape, model)["input_ids"]
    assert (tokens == config.eos_token_id).sum(1).tolist() == [1] * shape.batch
    assert workload.call(shape, model)().shape == (shape.batch, 2)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_other_models_are_fed_any_token_anywhere(family: str) -> None:
    model = tiny.model(family, eos_token_id=2)
    tokens = workload.inputs(workload.parse("64x16"), model)["input_ids"]
    assert (tokens[:, :-1] == 2).any()
    assert not (tokens[:, -1] == 2).all()


def test_more_positions_than_the_model_has_are_refused() -> None:
    with pytest.raises(Refused, match="1x33 is longer than the model's 32 positions"):
        workload.inputs(workload.parse("1x33"), tiny.model("gpt2"))


def test_generated_tokens_need_positions_too() -> None:
    with pytest.raises(Refused, match=r"1x30\+3 is longer than the model's 32 positions"):
        workload.inputs(workload.parse("1x30+3"), tiny.model("gpt2"))
    workload.inputs(workload.parse("1x30+2"), tiny.model("gpt2"))
    workload.inputs(workload.parse("1x30+31"), tiny.model("bart"))  # its decoder begins with one token


@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_as_many_tokens_are_generated_as_asked_and_always_the_same(family: str) -> None:
    model = tiny.model(family)
    run = workload.call(workload.parse("2x5+7"), model)
    begun = 1 if family == "bart" else 5
    assert run().shape == (2, begun + 7)
    assert torch.equal(run(), run())


def test_what_cannot_generate_is_refused() -> None:
    with pytest.raises(Refused, match=r"1x4\+2: a BertForMaskedLM cannot generate"):
        workload.call(workload.parse("1x4+2"), tiny.model("bert"))
    with pytest.raises(Refused, match="without the head"):
        workload.call(workload.parse("1x4+2"), tiny.model("gpt2"), head=False)


PHASES = ("prefill:2x9", "decode:2x9")
CAUSAL = ("gpt2", "opt", "llama", "mistral", "qwen2")


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("text", PHASES)
def test_both_parts_of_a_generation_give_what_a_forward_pass_gives_at_its_last_position(text: str, family: str) -> None:
    model, shape = tiny.model(family), workload.parse(text)
    whole = model(**workload.inputs(shape, model)).logits
    assert whole.shape[1] == (10 if shape.phase == "decode" else 9)
    found = workload.call(shape, model)()
    assert found.shape == (2, 1, tiny.VOCABULARY)
    torch.testing.assert_close(found, whole[:, -1:])


@pytest.mark.parametrize("text", PHASES)
def test_a_part_that_cannot_leave_logits_out_gives_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, shape = tiny.model("llama"), workload.parse(text)
    expected = workload.call(shape, model)()
    forward = type(model).forward

    def without(self: torch.nn.Module, input_ids: torch.Tensor, **rest: object) -> object:
        assert "logits_to_keep" not in rest
        return forward(self, input_ids, **rest)

    monkeypatch.setattr(type(model), "forward", without)
    torch.testing.assert_close(workload.call(shape, model)(), expected)


def given(model: torch.nn.Module, part: str, run: Callable[[], object]) -> list[tuple[int, ...]]:
    """The shapes of what a part of a model is given."""
    found: list[tuple[int, ...]] = []
    hook = model.get_submodule(part).register_forward_pre_hook(lambda _, args: found.append(tuple(args[0].shape)))
    run()
    hook.remove()
    return found


def test_a_decode_computes_one_token_and_a_prefill_the_logits_of_one() -> None:
    model = tiny.model("llama")
    prefill, decode = (workload.call(workload.parse(text), model) for text in PHASES)
    layer = "model.layers.0.mlp.up_proj"
    assert given(model, layer, prefill) == [(2, 9, 16)]
    assert given(model, layer, decode) == [(2, 1, 16)]
    assert given(model, "lm_head", prefill) == given(model, "lm_head", decode) == [(2, 1, 16)]
    filling = given(model, layer, lambda: workload.call(workload.parse("decode:2x9"), model))
    assert filling == [(2, 10, 16)], "the cache is filled when the call is made"


def test_every_decode_is_on_a_cache_of_the_same_length(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = []
    update = transformers.DynamicCache.update

    def counted(self: transformers.DynamicCache, keys: torch.Tensor, values: torch.Tensor, *rest: Any) -> object:
        found = update(self, keys, values, *rest)
        caches.append(found[0].shape[-2])
        return found

    model = tiny.model("llama")
    run = workload.call(workload.parse("decode:2x9"), model)
    monkeypatch.setattr(transformers.DynamicCache, "update", counted)
    for _ in range(3):
        run()
    assert caches == [10] * 3 * 4  # 9 and the new one, in 4 blocks
    caches.clear()
    workload.call(workload.parse("prefill:2x9"), model)()
    assert caches == [9] * 4


@pytest.mark.parametrize("text", PHASES)
def test_parts_of_a_generation_are_refused_where_there_is_none(text: str) -> None:
    for family, why in (("bert", "a BertForMaskedLM cannot generate"), ("t5", "reads its prompt by an encoder")):
        with pytest.raises(Refused, match=f"{text}: .*{why}"):
            workload.call(workload.parse(text), tiny.model(family))
    with pytest.raises(Refused, match="without the head"):
        workload.call(workload.parse(text), tiny.model("llama"), head=False)


def test_a_decode_needs_a_position_more_than_its_cache() -> None:
    model = tiny.model("gpt2")
    workload.call(workload.parse("prefill:1x32"), model)()
    workload.call(workload.parse("decode:1x31"), model)()
    for text in ("prefill:1x33", "decode:1x32"):
        with pytest.raises(Refused, match=f"{text} is longer than the model's 32 positions"):
            workload.call(workload.parse(text), model)


def test_what_keeps_no_keys_and_values_is_refused() -> None:
    config = transformers.MambaConfig(vocab_size=60, hidden_size=8, num_hidden_layers=1, state_size=4)
    for text in PHASES:
        with pytest.raises(Refused, match=f"{text}: a MambaForCausalLM keeps no cache of keys and values"):
            workload.call(workload.parse(text), transformers.MambaForCausalLM(config).eval())()


def test_a_cache_that_cannot_be_brought_back_is_refused() -> None:
    model = tiny.model("mistral", sliding_window=4)
    assert workload.call(workload.parse("decode:1x2"), model)().isfinite().all()
    with pytest.raises(Refused, match="decode:1x9: its cache cannot be brought back"):
        workload.call(workload.parse("decode:1x9"), model)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_without_its_head_a_model_ends_with_its_hidden_states(family: str) -> None:
    model = tiny.model(family)
    shape = workload.parse("3x7")
    whole, body = workload.call(shape, model)(), workload.call(shape, model, head=False)()
    assert whole.shape == (3, 7, tiny.VOCABULARY)
    assert body.shape[:2] == (3, 7)
    assert body.shape[2] < tiny.VOCABULARY


def rows(found: list[Batch]) -> list[list[int]]:
    return [tokens for batch in found for tokens in batch.inputs["input_ids"].tolist()]


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_random_documents_are_real_tokens_of_the_model_and_always_the_same(family: str) -> None:
    model = tiny.model(family)
    found, again = (workload.random_batches(model, 10, 7, 4) for _ in range(2))
    assert [batch.documents for batch in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for batch, same in zip(found, again, strict=True):
        tensors = batch.inputs | {"labels": batch.labels}
        assert {tuple(tensor.shape) for tensor in tensors.values()} == {(len(batch.documents), 7)}
        assert ("decoder_input_ids" in batch.inputs) == model.config.is_encoder_decoder
        assert all(
            torch.equal(tensor, (same.inputs | {"labels": same.labels})[name]) for name, tensor in tensors.items()
        )
        assert batch.inputs["attention_mask"].all()
        assert all(0 <= tensor.min() <= tensor.max() < tiny.VOCABULARY for tensor in tensors.values())
    assert len({tuple(row) for row in rows(found)}) == 10


def test_labels_of_random_documents_are_not_their_tokens() -> None:
    (batch,) = workload.random_batches(tiny.model("bart"), 4, 16, 4)
    given = [*batch.inputs.values(), batch.labels]
    assert not any(torch.equal(a, b) for i, a in enumerate(given) for b in given[:i])


@pytest.mark.parametrize(("length", "expected"), [(7, 7), (32, 32), (33, 32), (512, 32)])
def test_random_documents_are_no_longer_than_the_model_bears(length: int, expected: int) -> None:
    model = tiny.model("gpt2")
    (batch,) = workload.random_batches(model, 2, length, 8)
    assert batch.inputs["input_ids"].shape == (2, expected)
    assert model(**batch.inputs).logits.isfinite().all()


def test_random_documents_of_a_model_without_a_last_position_have_the_length_asked_for() -> None:
    (batch,) = workload.random_batches(tiny.model("t5"), 2, 50, 8)
    assert batch.inputs["input_ids"].shape == (2, 50)


def test_random_documents_are_the_same_however_they_are_batched() -> None:
    model = tiny.model("bert")
    assert rows(workload.random_batches(model, 10, 7, 3)) == rows(workload.random_batches(model, 10, 7, 10))


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "taylor"])
def test_random_documents_are_calibration(method: str, family: str) -> None:
    model = tiny.model(family)
    pruned = prune(model, Recipe(method, 0.5), batches=workload.random_batches(model, 8, 9, 4))
    assert pruned.counts.prunable_sparsity == 0.5


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_the_longest_forward_pass_that_is_not_refused_runs(family: str) -> None:
    model = tiny.model(family)
    longest = 0
    for length in range(30, 37):
        with contextlib.suppress(Refused):
            inputs = workload.inputs(workload.parse(f"1x{length}"), model)
            assert model(**inputs).logits.shape[:2] == (1, length)
            longest = length
    assert longest >= 32
    for batch in workload.random_batches(model, 2, longest, 2):
        assert model(**batch.inputs).logits.isfinite().all()
