"""Taylor against autograd: squared w dL/dw for weights, and real gates for neurons and heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from sparsity import gather
from sparsity.calibration import LayerStatistics
from sparsity.groups import Slices, groups_of
from sparsity.methods import METHODS
from sparsity.models.architecture import PrunableLayer, prunable_layers
from sparsity.tasks.batching import IGNORED, Batch
from tests import tiny

READERS = {
    "bert": {"attention.output.dense": 4, "output.dense": 32},
    "gpt2": {"attn.c_proj": 4, "mlp.c_proj": 32},
    "bart": {"self_attn.out_proj": 4, "encoder_attn.out_proj": 4, "fc2": 32},
}
"""The matrices that read heads and neurons, by the end of their names, and how many of either they read."""


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def loss_of(model: Any, batch: Batch) -> torch.Tensor:
    logits = model(**batch.inputs).logits
    loss = functional.cross_entropy(logits.flatten(0, -2), batch.labels.flatten(), ignore_index=IGNORED)
    assert isinstance(loss, torch.Tensor)
    return loss


def gathered(model: Any, batches: list[Batch]) -> tuple[list[PrunableLayer], list[LayerStatistics]]:
    layers = prunable_layers(model)
    return layers, gather.gradients(model, layers, batches, [(0, i) for i in range(len(layers))])


def squared_changes(model: Any, layers: list[PrunableLayer], batches: list[Batch]) -> list[torch.Tensor]:
    """For each layer the mean over batches of (w dL/dw)^2, (out, in)."""
    model.requires_grad_(True)
    found = [torch.zeros_like(layer.weight) for layer in layers]
    for batch in batches:
        model.zero_grad()
        loss_of(model, batch).backward()
        for layer, total in zip(layers, found, strict=True):
            parameter: Any = layer.module.weight
            gradient = parameter.grad.t() if layer.transposed else parameter.grad
            total += (layer.weight * gradient).square() / len(batches)
    return found


def gate_gradients(model: Any, layers: list[PrunableLayer], batches: list[Batch]) -> dict[str, torch.Tensor]:
    """By the name of the reading matrix, mean over batches of |dL/dgate|, gates of one on what each group hands on."""
    readers, kind = {}, model.config.model_type
    for layer in layers:
        for ending, count in READERS[kind].items():
            if layer.name.endswith(f".{ending}") and not layer.name.endswith(f".attention.{ending}"):
                readers[layer.name] = layer.module, count
    found = {name: torch.zeros(count, dtype=torch.float64) for name, (_, count) in readers.items()}
    for batch in batches:
        gates = {
            name: torch.ones(count, dtype=torch.float64, requires_grad=True) for name, (_, count) in readers.items()
        }

        def gated(_: Any, args: Any, gate: torch.Tensor) -> Any:
            return (args[0] * gate.repeat_interleave(args[0].shape[-1] // len(gate)),)

        handles = [
            module.register_forward_pre_hook(lambda module, args, gate=gates[name]: gated(module, args, gate))
            for name, (module, _) in readers.items()
        ]
        slopes = torch.autograd.grad(loss_of(model, batch), list(gates.values()))
        for handle in handles:
            handle.remove()
        for name, slope in zip(gates, slopes, strict=True):
            found[name] += slope.abs() / len(batches)
    return found


def test_a_weight_is_worth_its_squared_change_of_the_loss(family: str) -> None:
    model = tiny.model(family, torch.float64)
    batches, score = tiny.batches(model), METHODS["taylor"].score
    layers, known = gathered(model, batches)
    assert score is not None
    for layer, statistics, expected in zip(layers, known, squared_changes(model, layers, batches), strict=True):
        torch.testing.assert_close(score(layer.weight, statistics), expected, rtol=1e-4, atol=0.0, msg=layer.name)


def test_a_group_is_worth_the_slope_of_its_gate(family: str) -> None:
    model = tiny.model(family, torch.float64)
    batches, columns_score = tiny.batches(model), METHODS["taylor"].columns_score
    layers, known = gathered(model, batches)
    expected = gate_gradients(model, layers, batches)
    assert columns_score is not None
    seen = set()
    for each in groups_of(model, layers, ("neurons", "heads")):
        assert isinstance(each, Slices)
        reader = layers[each.reader.layer]
        found = columns_score(reader.weight, known[each.reader.layer], each.reader.index)
        slope = expected[reader.name]
        assert slope.min() > 0
        torch.testing.assert_close(found, slope, rtol=1e-3, atol=1e-9, msg=f"{each.name}: {found} for {slope}")
        seen.add(reader.name)
    assert seen == expected.keys()


def test_slopes_of_batches_do_not_cancel() -> None:
    known = LayerStatistics(saliences=torch.tensor([[3.0, 1.0, 0.5, 0.0], [-3.0, 1.0, -0.5, 0.0]]))
    columns_score = METHODS["taylor"].columns_score
    assert columns_score is not None
    weight = torch.zeros(2, 4)  # its part is in the saliences
    assert columns_score(weight, known, torch.tensor([[0], [1], [2], [3]])).tolist() == [3.0, 1.0, 0.5, 0.0]
    assert columns_score(weight, known, torch.tensor([[0, 3], [1, 2]])).tolist() == [3.0, 1.0]
    assert columns_score(weight, known, torch.tensor([[0, 1], [2, 3]])).tolist() == [3.0, 0.5]


@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "GPT2ForSequenceClassification"])
def test_a_classifiers_loss_is_that_of_its_classes(kind: str) -> None:
    torch.manual_seed(0)
    model = getattr(transformers, kind)(tiny.config("bert" if kind.startswith("Bert") else "gpt2"))
    model = model.double().eval().requires_grad_(False)
    labels = torch.tensor([[0], [1], [1], [0]])
    batches = [Batch(batch.inputs, labels, batch.documents) for batch in tiny.batches(model)]
    layers, known = gathered(model, batches)
    score = METHODS["taylor"].score
    assert score is not None
    for layer, statistics, expected in zip(layers, known, squared_changes(model, layers, batches), strict=True):
        torch.testing.assert_close(score(layer.weight, statistics), expected, rtol=1e-4, atol=0.0, msg=layer.name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_does_not_lose_the_squares_of_small_gradients(family: str, dtype: torch.dtype) -> None:
    half = tiny.model(family, dtype)
    batches, score = tiny.batches(half), METHODS["taylor"].score
    assert score is not None
    layers, known = gathered(half, batches)
    for layer, statistics, exact in zip(layers, known, squared_changes(half, layers, batches), strict=True):
        parameter: Any = layer.module.weight
        last = parameter.grad.t() if layer.transposed else parameter.grad
        lost = (score(layer.weight, statistics) == 0) & (last != 0) & (layer.weight != 0)
        assert not lost.any(), f"{layer.name}: {int(lost.sum())} of {exact.numel()}"
