"""What bounds a forward pass: operations and bytes it needs, what is no prunable layer, and what really ran."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sparsity import limits, workload
from sparsity.errors import Refused
from sparsity.execution import in_format
from sparsity.formats import FORMATS
from sparsity.formats.protocol import skeleton
from sparsity.limits import (
    Limits,
    Unpruned,
    counted_calls,
    kept_flops,
    read_bytes,
    unkept_promise,
    unpruned,
    without_layers,
)
from sparsity.measure import dispatch, flops, latency, memory, roofline
from sparsity.models.architecture import prunable_layers
from sparsity.prune import PrunedModel, Recipe, prune, workspace
from sparsity.record import Latency, Products, Read, Roofline
from sparsity.sparse_storage import sparse_layers
from tests import tiny

BY_FAMILY = pytest.mark.parametrize("family", tiny.DESCRIBED)
WORKLOAD, TOKENS = "2x8", 16
LATENCY = Latency(0.010, 0.009, 0.011, 20, "same")


def forward(model: Any) -> Callable[[], object]:
    return workload.call(workload.parse(WORKLOAD), model)


def measured(model: Any) -> Unpruned:
    return unpruned(model, forward, "cpu", 0.0)


def pruned_like(dense: Any, *recipe: Any) -> PrunedModel:
    return prune(workspace(dense), Recipe(*recipe), dense)


@BY_FAMILY
def test_every_prunable_layer_is_counted_with_the_tokens_that_it_reads(family: str) -> None:
    model = tiny.model(family)
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    found = measured(model)
    names = [layer.name for layer in prunable_layers(model)]
    assert found.inputs == dict.fromkeys(names, TOKENS)
    assert found.calls == dict.fromkeys(names, 1)
    assert found.flops == flops.flops(forward(model))
    assert found.ceiling > 0
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks


def test_the_ceiling_is_how_much_faster_the_model_is_with_its_layers_free(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model("gpt2")
    asked: list[Any] = []

    def brief_ratio(*given: Any) -> float:
        asked.extend(given)
        return 0.25

    monkeypatch.setattr(latency, "brief_ratio", brief_ratio)
    assert unpruned(model, forward, "cpu", 2.0).ceiling == 4.0
    free, whole, budget = asked
    assert flops.flops(free) < flops.flops(whole) == flops.flops(forward(model))
    assert budget == limits.SHARE * 2.0


def test_an_encoder_and_its_decoder_read_tokens_of_their_own() -> None:
    model = tiny.model("bart")
    tokens = {"input_ids": torch.ones(1, 5, dtype=torch.long), "decoder_input_ids": torch.ones(1, 3, dtype=torch.long)}
    found = unpruned(model, lambda each: lambda: each(**tokens), "cpu", 0.0)
    by_layer = {name.removeprefix("model."): count for name, count in found.inputs.items()}
    assert by_layer["encoder.layers.0.fc1"] == 5
    assert by_layer["decoder.layers.0.fc1"] == by_layer["decoder.layers.0.encoder_attn.q_proj"] == 3
    assert by_layer["decoder.layers.1.encoder_attn.k_proj"] == 5


@BY_FAMILY
def test_with_its_layers_free_a_model_runs_and_multiplies_only_what_is_no_layer(family: str) -> None:
    model = tiny.model(family)
    before = tiny.state(model)
    own = sum(2 * TOKENS * layer.weight.numel() for layer in prunable_layers(model))
    call = forward(without_layers(model))
    call()
    assert flops.flops(call) == flops.flops(forward(model)) - own
    logits: Any = call()
    assert logits.shape == forward(model)().shape  # type: ignore[attr-defined]  # object, for whoever times it
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@BY_FAMILY
def test_kept_operations_are_those_without_removed_weights(family: str) -> None:
    dense = tiny.model(family)
    of, pruned = measured(dense), pruned_like(dense, "l1", 0.5, "unstructured", "global")
    assert pruned.removed > 0
    assert kept_flops(of, pruned) == of.flops - 2 * TOKENS * pruned.removed


@BY_FAMILY
def test_a_compact_model_makes_no_more_than_the_kept_operations(family: str) -> None:
    dense = tiny.model(family)
    pruned, of = pruned_like(dense, "l1", 0.5, "neurons"), measured(dense)
    assert flops.flops(forward(in_format(pruned, "compact"))) == kept_flops(of, pruned)


def test_of_heads_and_layers_that_are_gone_a_compact_model_saves_the_attention_too() -> None:
    dense = tiny.model("bert")
    of = measured(dense)
    for pattern in ("heads", "layers"):
        pruned = pruned_like(dense, "l1", 0.5, pattern)
        small = in_format(pruned, "compact")
        beside = limits_of(of).beside(LATENCY, of, pruned, small, forward(small), 0.1)
        assert beside.flops == beside.kept_flops == flops.flops(forward(small)) < kept_flops(of, pruned)


def limits_of(of: Unpruned) -> Limits:
    """Of a machine that reads in no time."""
    return Limits("cpu", Roofline({"float32": 1e9}, [Read(1, 1e12)]), {("m", WORKLOAD): of})


def read(model: Any, call: Callable[[], object] | None = None) -> int:
    with counted_calls(model) as calls:
        (call or forward(model))()
    return read_bytes(model, calls)


def test_tables_of_embeddings_are_not_read_unless_something_multiplies_by_them() -> None:
    model = tiny.model("bert")
    bert = model.base_model
    tables = [module for module in bert.modules() if isinstance(module, nn.Embedding)]
    inputs = torch.ones(1, 4, dtype=torch.long)
    positions = sum(buffer.nbytes for buffer in bert.embeddings.buffers())
    alone = memory.resident_bytes(bert) - sum(table.weight.nbytes for table in tables)
    assert positions > 0
    assert read(bert, lambda: bert(inputs)) == alone
    tied = memory.resident_bytes(model) - sum(
        t.weight.nbytes for t in tables if t is not bert.embeddings.word_embeddings
    )
    assert read(model) == tied
    assert read(model, lambda: bert(inputs)) == alone, "without the head, what only the head reads is not read"
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_masks_are_read_like_weights() -> None:
    dense = tiny.model("gpt2")
    pruned = pruned_like(dense, "l1", 0.5)
    own = sum(layer.weight.nbytes for layer in prunable_layers(dense))
    assert read(in_format(pruned, "masked")) == read(dense) + 2 * own


def test_weights_are_read_as_often_as_a_pass_calls_for_them() -> None:
    model = tiny.model("gpt2")
    call = forward(model)
    assert read(model, lambda: [call() for _ in range(3)]) == 3 * read(model)


def test_sparse_layers_that_run_as_one_are_read_with_it() -> None:
    dense = tiny.model("bert")
    pruned = pruned_like(dense, "l1", 0.5)
    executed = in_format(pruned, "packed")
    layers = sparse_layers(executed).values()
    inside = sum(sum(memory.own_storages(layer).values()) for layer in layers)
    others = tiny.model("bert")
    own = sum(sum(memory.own_storages(layer.module).values()) for layer in prunable_layers(others))
    assert read(executed) == read(others) - own + inside


def test_a_latency_is_set_beside_what_its_kept_weights_take_at_best() -> None:
    dense = tiny.model("gpt2")
    of, pruned = measured(dense), pruned_like(dense, "l1", 0.5)
    found = limits_of(of).beside(LATENCY, of, pruned, pruned.model, forward(pruned.model), 0.1)
    assert found.flops == found.dense_flops == of.flops
    assert found.kept_flops == kept_flops(of, pruned) < of.flops
    assert found.ideal_seconds == found.kept_flops / 1e9
    assert found.efficiency == found.ideal_seconds / 0.010
    assert (found.ceiling, found.read_bytes) == (of.ceiling, read(pruned.model))
    assert found.products == of.products
    assert (found.verdict, found.pruned_seconds) == ("same", 0.010)


def test_where_bytes_take_longer_than_operations_they_bound_the_time() -> None:
    dense = tiny.model("gpt2")
    of, pruned = measured(dense), pruned_like(dense, "l1", 0.5)
    slow = Limits("cpu", Roofline({"float32": 1e15}, [Read(1, 1e6)]))
    found = slow.beside(LATENCY, of, pruned, pruned.model, forward(pruned.model), 0.1)
    assert found.ideal_seconds == read(pruned.model) / 1e6


def test_machine_and_unpruned_model_are_measured_once_and_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def stand_in(found: Any, first: bool = False) -> Callable[..., Any]:
        def answer(*given: Any) -> Any:
            asked.append(given[0] if first else given)
            return found

        return answer

    of = Unpruned(1, {}, {}, Products({}, {}), 1.0)
    monkeypatch.setattr(roofline, "peak", stand_in(1e9))
    monkeypatch.setattr(roofline, "reads", stand_in([Read(1, 1e9)]))
    monkeypatch.setattr(limits, "unpruned", stand_in(of, first=True))
    for budget, most in ((0.4, 0.1), (100.0, limits.MOST_FOR_ROOFLINE)):
        asked.clear()
        found = Limits("cpu")
        for dtype in ("float32", "float32", "bfloat16", "float32"):
            assert found.roofline_in(dtype, budget).flops_per_second[dtype] == 1e9
        assert asked == [("cpu", most), ("float32", "cpu", most), ("bfloat16", "cpu", most)]
        asked.clear()
        for model, text in (("a", "1x8"), ("a", "1x8"), ("a", "2x8"), ("b", "1x8")):
            given: Any = model
            assert found.unpruned_of((model, text), given, forward, budget) is of
        assert asked == ["a", "a", "b"]


def test_a_model_is_held_against_the_speed_of_its_own_dtype() -> None:
    dense = tiny.model("bert")
    of, pruned = measured(dense), pruned_like(dense, "l1", 0.5)
    speeds = Limits("cpu", Roofline({"float32": 1e9, "bfloat16": 4e9}, [Read(1, 1e15)]))
    half = pruned_like(tiny.model("bert", torch.bfloat16), "l1", 0.5).model
    found = [speeds.beside(LATENCY, of, pruned, each, forward(each), 0.1) for each in (pruned.model, half)]
    assert found[0].ideal_seconds == pytest.approx(4 * found[1].ideal_seconds)  # type: ignore[operator]  # they are there


def test_a_layer_that_a_sparse_format_left_dense_multiplies_its_zeros() -> None:
    dense = tiny.model("gpt2")
    of, pruned = measured(dense), pruned_like(dense, "l1", 0.5)
    some = stored(pruned.model, honest, slice(0, 3))
    found = limits_of(of).beside(LATENCY, of, pruned, some, forward(some), 0.1)
    gone = sum(2 * TOKENS * int((~mask).sum()) for mask in pruned.masks[:3])
    assert found.flops == of.flops - gone
    assert found.kept_flops == kept_flops(of, pruned) < found.flops


def test_a_decode_counts_one_token_and_a_prefill_its_prompt() -> None:
    dense = tiny.model("llama")
    found = {}
    for text in ("prefill:2x9", "decode:2x9"):
        of = unpruned(dense, functools.partial(workload.call, workload.parse(text)), "cpu", 0.0)
        assert set(of.calls.values()) == {1}
        assert set(of.inputs.values()) == {18 if text == "prefill:2x9" else 2}
        found[text] = of.flops
    assert found["decode:2x9"] < found["prefill:2x9"] / 8


@pytest.mark.parametrize("family", ["gpt2", "bart", "llama"])
def test_a_generation_counts_every_token_and_reads_weights_once_for_each(family: str) -> None:
    dense = tiny.model(family)

    def generate(model: Any) -> Callable[[], object]:
        return workload.call(workload.parse("2x4+3"), model)

    of, pruned = unpruned(dense, generate, "cpu", 0.0), pruned_like(dense, "l1", 0.5)
    decoder = [layer.name for layer in prunable_layers(dense) if family != "bart" or layer.tokens == "decoder"]
    assert {of.calls[name] for name in decoder} == {3}
    found = limits_of(of).beside(LATENCY, of, pruned, pruned.model, generate(pruned.model), 0.1)
    assert found.kept_flops == kept_flops(of, pruned) < of.flops
    assert found.read_bytes is not None
    assert found.read_bytes > 2 * sum(layer.weight.nbytes for layer in prunable_layers(dense) if layer.name in decoder)
    assert said_of(dense, stored(dense, honest), generate) is None
    assert said_of(dense, stored(dense, dense_in_truth), generate) is not None


class Stored(nn.Module):
    """A sparse layer, and how it multiplies in truth."""

    weight = None

    def __init__(self, layer: Any, product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.dense: torch.Tensor = layer.weight.clone()
        self.product, self.bias = product, layer.module.bias
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls its compressed layouts beta
            self.stored = self.dense.to_sparse_csr()

    def dense_weight(self) -> torch.Tensor:
        return self.dense

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        found = self.product(self.stored, flat)
        return (found if self.bias is None else found + self.bias).reshape(*x.shape[:-1], -1)


def honest(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (weight @ x.t()).t()


def dense_in_truth(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x @ weight.to_dense().t()


def both(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    dense_in_truth(weight, x)
    return honest(weight, x)


def stored(model: Any, product: Callable[..., torch.Tensor], which: slice = slice(None)) -> Any:
    """The model with some of its layers sparse."""
    result = skeleton(model)
    for layer in prunable_layers(model)[which]:
        result.set_submodule(layer.name, Stored(layer, product))
    return result


def said_of(dense: Any, executed: Any, run: Callable[[Any], Callable[[], object]] = forward) -> str | None:
    return unkept_promise(executed, dispatch.products(run(executed)), unpruned(dense, run, "cpu", 0.0))


@BY_FAMILY
def test_sparse_layers_that_run_sparse_products_keep_their_promise(family: str) -> None:
    model = tiny.model(family)
    assert said_of(model, stored(model, honest)) is None
    assert said_of(model, stored(model, honest, slice(1, 3))) is None


def test_who_promises_nothing_is_held_to_nothing() -> None:
    model = tiny.model("gpt2")
    pruned = pruned_like(model, "l1", 0.5)
    assert all(said_of(model, in_format(pruned, name)) is None for name in ("dense", "masked"))
    whole = pruned_like(model, "l1", 0.5, "layers")
    assert said_of(model, in_format(whole, "compact")) is None


@pytest.mark.parametrize("text", ["2x8", "1x1"])  # a single token takes other paths
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_format_keeps_its_promise(family: str, name: str, text: str) -> None:
    dense = tiny.model(family)
    pruned = pruned_like(dense, "l1", 0.5, "neurons" if name == "compact" else "unstructured")
    try:
        executed = in_format(pruned, name)
    except Refused as refusal:
        pytest.skip(str(refusal))
    of = unpruned(dense, lambda model: workload.call(workload.parse(text), model), "cpu", 0.0)
    call = workload.call(workload.parse(text), executed)
    found = limits_of(of).beside(LATENCY, of, pruned, executed, call, 0.1)
    assert found.products is not None
    assert unkept_promise(executed, found.products, of) is None
    assert bool(found.products.sparse) == bool(sparse_layers(executed))
    if sparse_layers(executed):  # no zeros among its operations
        assert found.flops == found.kept_flops == kept_flops(of, pruned)


@pytest.mark.parametrize(
    ("product", "told"), [(dense_in_truth, "got 0 sparse and 9 dense"), (both, "got 8 sparse and 9 dense")]
)
def test_sparse_layers_that_run_dense_products_are_told_in_a_line(product: Any, told: str) -> None:
    model = tiny.model("gpt2", n_layer=2)
    said = said_of(model, stored(model, product))
    assert said is not None
    assert said.startswith(
        f"{told.replace('9', str(8 + 1 + 2))} matrix products, should be 8 and 3, one sparse product"
    )
    assert "\n" not in said
    assert "aten::mm float32" in said


def test_one_call_of_an_operator_that_runs_two_layers_counts_for_both() -> None:
    model = tiny.model("gpt2")
    of = Unpruned(
        1, {}, dict.fromkeys([layer.name for layer in prunable_layers(model)], 1), Products({"a": 11}, {}), 2.0
    )
    executed = stored(model, honest, slice(0, 2))
    for name, count in (("sparsity::packed_feed_forward", 1), ("sparsity::packed_linear", 2), ("aten::mm", 2)):
        assert unkept_promise(executed, Products({"a": 9}, {f"{name} float32": count}), of) is None
        if count > 1:
            assert unkept_promise(executed, Products({"a": 9}, {f"{name} float32": count - 1}), of) is not None
