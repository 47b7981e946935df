"""Checkpoints over several GPUs: what is asked of accelerate, what is refused, and copies that are their own."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from sparsity import losses, training
from sparsity.bench import Bench
from sparsity.errors import BadValue, ModelNotLoaded, Refused
from sparsity.execution import in_format
from sparsity.formats.protocol import skeleton
from sparsity.models import checkpoint, hub, spread
from sparsity.models.architecture import prunable_layers
from sparsity.options import Options
from sparsity.prune import Recipe, _refuse_far_apart, prune, workspace
from tests import tiny
from tests.models.tiny import refusal

CPU = torch.device("cpu")


def dispatched() -> Any:
    """A model as accelerate leaves it: forwards are attributes of their modules, and a method is that of this model."""
    model = tiny.model("llama", num_hidden_layers=2)

    def hooked(module: Any, *args: Any, **kwargs: Any) -> Any:
        module.calls = getattr(module, "calls", 0) + 1
        return module._old_forward(*args, **kwargs)

    for module in [model, *model.model.layers, *(layer.module for layer in prunable_layers(model))]:
        module._old_forward = module.forward
        module.forward = functools.update_wrapper(functools.partial(hooked, module), module._old_forward)
    move = model.to
    model.to = lambda *args: move(*args)
    return model


def apart() -> Any:
    """A model whose second block is elsewhere."""
    model = tiny.model("llama", num_hidden_layers=2)
    model.model.layers[1].to("meta")
    return model


# -- asked for ----------------------------------------------------------------------------------------------------


def test_nothing_is_asked_of_a_run_that_spreads_nothing() -> None:
    spread.check(None, "cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_single_device_is_refused(device: str) -> None:
    message = refusal(BadValue, lambda: spread.check("auto", device))
    assert message == f"device-map auto spreads a model over GPUs, so it needs --device=cuda, not {device}"


def test_accelerate_that_is_missing_is_told_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "accelerate" else find(name))
    monkeypatch.setattr("sparsity.measure.gpu.check", lambda device: None)
    bench = Bench(Options(device="cuda", device_map="auto"))
    assert refusal(BadValue, bench.check_device) == (
        'device-map auto needs accelerate: pip install "sparsity-bench[large]"'
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    bench.check_device()


def test_random_weights_are_not_spread() -> None:
    asked = ("random:gpt2", "lm", torch.float32, CPU)
    assert "only a checkpoint is spread" in refusal(Refused, lambda: hub.load(*asked, device_map="auto"))


def test_transformers_is_asked_and_the_model_left_where_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.model("llama").save_pretrained(tmp_path)
    asked: list[object] = []
    real = transformers.AutoModelForCausalLM.from_pretrained

    def from_pretrained(folder: Path, device_map: str | None = None, **rest: Any) -> Any:
        asked.append(device_map)
        return real(folder, **rest)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    message = refusal(
        ModelNotLoaded, lambda: hub.load(str(tmp_path), "lm", torch.float32, CPU, device_map="sequential")
    )
    assert message == (
        f"{tmp_path}: the GPUs here do not hold it, part of it ended on cpu; "
        "python -m sparsity.prune_streamed prunes a checkpoint from disk, block by block"
    )
    monkeypatch.setattr(spread, "devices_of", lambda model: {torch.device("cuda:0"), torch.device("cuda:1")})
    monkeypatch.setattr(torch.nn.Module, "to", lambda *args: pytest.fail("it was moved"))
    assert hub.load(str(tmp_path), "lm", torch.float32, CPU, device_map="sequential").source == "checkpoint"
    checkpoint.load("here", tmp_path, "lm", torch.float32)
    assert asked == ["sequential", "sequential", None]


def test_what_is_offloaded_is_refused() -> None:
    message = refusal(ModelNotLoaded, lambda: spread.settled("mine", apart()))
    assert message.startswith("mine: the GPUs here do not hold it, part of it ended on the CPU or on disk; ")


# -- copies -------------------------------------------------------------------------------------------------------


def test_methods_that_a_copy_would_call_on_the_first_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = dispatched()
    copied: Any = skeleton(model)
    assert copied.to(torch.float64) is model  # as accelerate leaves it
    monkeypatch.setattr(spread, "devices_of", lambda model: {torch.device("cuda:0")})
    model = spread.settled("mine", dispatched())
    copied = workspace(model)
    assert copied.to(torch.float64) is copied
    assert copied.dtype == torch.float64


@pytest.mark.parametrize("copies", [workspace, skeleton])
def test_a_copy_runs_its_own_modules(copies: Any) -> None:
    model = dispatched()
    tokens = torch.arange(8)[None]
    expected = model(tokens).logits
    copied = copies(model)
    torch.testing.assert_close(copied(tokens).logits, expected)
    before = [layer.module.calls for layer in prunable_layers(model)]
    with torch.no_grad():
        for layer in prunable_layers(copied):
            layer.module.weight = torch.nn.Parameter(torch.zeros_like(layer.weight))
    assert not torch.equal(copied(tokens).logits, expected)
    assert [layer.module.calls for layer in prunable_layers(model)] == before
    torch.testing.assert_close(model(tokens).logits, expected)


@pytest.mark.parametrize("kind", ["dense", "masked", "csr", "packed"])
def test_every_format_computes_what_the_masked_model_computes(kind: str) -> None:
    model = dispatched()
    pruned = prune(workspace(model), Recipe("wanda", 0.5), model, tiny.batches(model))
    tokens = torch.arange(8)[None]
    expected = pruned.model(tokens).logits
    assert not torch.equal(expected, model(tokens).logits)
    torch.testing.assert_close(in_format(pruned, kind)(tokens).logits, expected)


# -- refused of a model on several devices ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "what"),
    [(Recipe("l1", 0.5, scope="global"), "scope global"), (Recipe("l1", 0.5, "layers"), "pattern layers")],
)
def test_layers_that_compete_must_be_on_one_device(recipe: Recipe, what: str) -> None:
    first, second = prunable_layers(tiny.model("llama"))[:2]
    second.module.to("meta")
    _refuse_far_apart([first], recipe)
    _refuse_far_apart([first, second], Recipe("l1", 0.5))
    message = refusal(Refused, lambda: _refuse_far_apart([first, second], recipe))
    assert message == f"{what} compares layers with each other, and those of this model are on 2 devices"


def test_only_a_model_on_one_device_is_trained() -> None:
    settings = training.Settings(1e-3, 1)
    message = refusal(Refused, lambda: training.train(apart(), iter([]), losses.task_loss, settings, "tuning"))
    assert message == "tuning: the model is spread over 2 devices, and only one on a single device is trained"


def test_the_peak_of_several_devices_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Options(threads=1))
    bench.subject("gpt2", "lm")
    monkeypatch.setattr(spread, "devices_of", lambda model: {torch.device("cuda:0"), torch.device("cuda:1")})
    message = refusal(Refused, lambda: bench.dense_bytes("gpt2", "1x8"))
    assert message == "gpt2 is spread over 2 GPUs, and the peak of one says nothing of all"
