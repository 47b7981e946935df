"""Packed: kept weights alone on our own kernel, feed-forward parts joined, and the masked dense model's outputs."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from sparsity import pattern as patterns
from sparsity.errors import Refused
from sparsity.execution import CLOSE, in_format, relative_error
from sparsity.formats import FORMATS
from sparsity.kernel.layers import HandsOn, PackedFeedForward, PackedLinear
from sparsity.measure.memory import resident_bytes
from sparsity.models.architecture import PrunableLayer, architecture_for, blocks_of
from sparsity.prune import PrunedModel, Recipe, prune
from tests import tiny
from tests.models.tiny import refusal

RECIPES = [("unstructured", 0.5), ("unstructured", 0.9), ("2:4", 0.5), ("4x1", 0.5)]
JOINED = ("bert", "roberta", "distilbert", "gpt2", "opt", "bart", "t5")
GATED = ("llama", "mistral", "qwen2", "t5-gated")
ACTIVATIONS = {
    "bert": "gelu", "roberta": "gelu", "distilbert": "gelu", "gpt2": "gelu_tanh", "opt": "relu", "bart": "gelu",
    "t5": "relu", "llama": "silu", "mistral": "silu", "qwen2": "silu", "t5-gated": "gelu_tanh",
}  # fmt: skip
GENERATING = ("gpt2", "bart", "opt", "llama", "t5", "t5-gated")


def pruned_by(family: str, pattern: str = "unstructured", sparsity: float = 0.7, **changes: Any) -> PrunedModel:
    return prune(tiny.model(family, **changes), Recipe("l1", sparsity, pattern))


def logits(model: Any) -> torch.Tensor:
    (batch,) = tiny.batches(model, 1)
    with torch.inference_mode():
        found: torch.Tensor = model(**batch.inputs).logits
    return found


def of_kind(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


def feed_forward_parts(model: Any) -> list[tuple[nn.Module, nn.Module, nn.Module]]:
    """(first matrix, activation, second) of each block, as they now are."""
    parts = []
    for block in blocks_of(model):
        part = (architecture_for(model.config).stacks or ())[block.stack].feed_forward
        paths = (part.up[0], part.activation, part.down)
        parts.append(tuple(model.get_submodule(f"{block.name}.{path}") for path in paths))
    return parts


def test_every_described_family_is_in_one_of_the_lists() -> None:
    assert {*JOINED, *GATED} == set(tiny.DESCRIBED) == ACTIVATIONS.keys()


@pytest.mark.parametrize(("pattern", "sparsity"), RECIPES)
@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_equals_the_masked_dense_model(family: str, pattern: str, sparsity: float) -> None:
    pruned = pruned_by(family, pattern, sparsity)
    error = relative_error(logits(in_format(pruned, "packed")), logits(pruned.model))
    assert error < 1e-5 < CLOSE["float32"]


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_every_prunable_layer_holds_its_weight_and_no_dense_one_is_left(family: str) -> None:
    pruned = pruned_by(family)
    model = in_format(pruned, "packed")
    packed = {module.layer_name: module for module in of_kind(model, PackedLinear)}
    assert packed.keys() == {layer.name for layer in pruned.layers}
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        module = packed[layer.name]
        found, bias = module.dense_weight(), layer.module.bias
        assert torch.equal(found.view(torch.int32), layer.weight.contiguous().view(torch.int32))  # to the bit
        assert torch.equal(module.bias, bias) if isinstance(bias, torch.Tensor) else module.bias is None
        assert (module.out_features, module.in_features) == mask.shape
    dense = {module for kind in (nn.Linear, transformers.pytorch_utils.Conv1D) for module in of_kind(model, kind)}
    assert not dense & {layer.module for layer in pruned.layers}


@pytest.mark.parametrize("family", JOINED)
def test_feed_forward_parts_become_one_operator(family: str) -> None:
    for up, between, down in feed_forward_parts(in_format(pruned_by(family), "packed")):
        assert isinstance(up, HandsOn)
        assert isinstance(between, HandsOn)
        assert isinstance(down, PackedFeedForward)
        assert down.activation == ACTIVATIONS[family]
        assert down.up.activation == down.down.activation == "none"


@pytest.mark.parametrize("family", GATED)
def test_a_gate_applies_the_activation_where_it_stores(family: str) -> None:
    for gate, between, down in feed_forward_parts(in_format(pruned_by(family), "packed")):
        assert isinstance(gate, PackedLinear)
        assert isinstance(between, HandsOn)
        assert isinstance(down, PackedLinear)
        assert (gate.activation, down.activation) == (ACTIVATIONS[family], "none")


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"hidden_act": "mish"}),
        ("bert", {"hidden_act": "relu6"}),
        ("gpt2", {"activation_function": "quick_gelu"}),
        ("opt", {"activation_function": "tanh"}),
        ("llama", {"hidden_act": "leaky_relu"}),
    ],
)
def test_an_activation_that_the_kernel_does_not_know_leaves_the_parts_apart(
    family: str, changes: dict[str, Any]
) -> None:
    pruned = pruned_by(family, **changes)
    model = in_format(pruned, "packed")
    assert relative_error(logits(model), logits(pruned.model)) < 1e-5
    assert not of_kind(model, PackedFeedForward)
    assert not of_kind(model, HandsOn)
    assert all(module.activation == "none" for module in of_kind(model, PackedLinear))


@pytest.mark.parametrize(("name", "known"), [("gelu_new", "gelu_tanh"), ("gelu_fast", "gelu_tanh"), ("silu", "silu")])
def test_an_activation_is_known_by_its_values(name: str, known: str) -> None:
    pruned = pruned_by("bert", hidden_act=name)
    model = in_format(pruned, "packed")
    assert [module.activation for module in of_kind(model, PackedFeedForward)] == [known] * 2
    assert relative_error(logits(model), logits(pruned.model)) < 1e-5


def test_a_family_that_is_not_described_keeps_its_layers_apart() -> None:
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    pruned = prune(transformers.GPTNeoXForCausalLM(config).eval().requires_grad_(False), Recipe("l1", 0.7))
    model = in_format(pruned, "packed")
    assert len(of_kind(model, PackedLinear)) == len(pruned.layers)
    assert not of_kind(model, PackedFeedForward)
    assert relative_error(logits(model), logits(pruned.model)) < 1e-5


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_masked_dense_model_stays_as_it_is(family: str) -> None:
    pruned = pruned_by(family)
    before, modules, expected = tiny.state(pruned.model), dict(pruned.model.named_modules()), logits(pruned.model)
    logits(in_format(pruned, "packed"))
    after = tiny.state(pruned.model)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert modules == dict(pruned.model.named_modules())
    assert torch.equal(logits(pruned.model), expected)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_copy_of_the_model_is_on_its_own(family: str) -> None:
    model = in_format(pruned_by(family), "packed")
    expected = logits(model)
    copied = copy.deepcopy(model)
    assert torch.equal(logits(copied), expected)
    for parameter in copied.state_dict().values():
        parameter[..., -20:] = 0
    assert not torch.equal(logits(copied), expected)
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_its_state_goes_into_another_of_the_same_masks(family: str) -> None:
    pruned = pruned_by(family)
    model = in_format(pruned, "packed")
    pruned.model.load_state_dict({name: tensor * 2 for name, tensor in pruned.model.state_dict().items()})
    other = in_format(pruned, "packed")
    assert not torch.equal(logits(other), logits(model))
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize("family", GENERATING)
def test_generates_the_same_token_by_token(family: str) -> None:
    pruned = pruned_by(family)
    tokens = tiny.batches(pruned.model, 1)[0].inputs["input_ids"][:1, :5]
    found = []
    for model in (pruned.model, in_format(pruned, "packed")):
        torch.manual_seed(0)  # drawn, because the likeliest token of a random model is always the same
        with torch.inference_mode():
            found.append(
                model.generate(  # type: ignore[operator]  # transformers' generation is a mixin
                    tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=8, min_new_tokens=8, do_sample=True,
                    use_cache=True, pad_token_id=1,
                )
            )  # fmt: skip
    assert torch.equal(*found)


def test_at_a_sparsity_of_90_percent_weights_take_a_sixth_and_less() -> None:
    layer = nn.Linear(768, 768).requires_grad_(False)
    mask = torch.rand(768, 768, generator=torch.Generator().manual_seed(0)) >= 0.9
    packed = PackedLinear(layer.weight * mask, mask, layer.bias, "layer")
    assert 6 * resident_bytes(packed) < resident_bytes(layer)


def test_a_packed_model_holds_less() -> None:
    pruned = pruned_by("bert", sparsity=0.9)
    assert resident_bytes(in_format(pruned, "packed")) < resident_bytes(pruned.model)


@pytest.mark.parametrize(
    ("pattern", "dtype", "device", "reason"),
    [
        ("unstructured", "float32", "cpu", None),
        ("2:4", "float32", "cpu", None),
        ("4x1", "float32", "cpu:0", None),
        ("16x16", "float32", "cpu", None),
        ("unstructured", "float16", "cpu", "packed computes in float32, not in float16"),
        ("2:4", "bfloat16", "cpu", "packed computes in float32, not in bfloat16"),
        ("unstructured", "float64", "cpu", "packed computes in float32, not in float64"),
        ("unstructured", "float32", "cuda", "packed runs on a CPU, not on cuda"),
        ("unstructured", "float32", "mps", "packed runs on a CPU, not on mps"),
        ("neurons", "float32", "cpu", "packed leaves out single weights; what neurons removes is taken out by compact"),
        ("heads", "float32", "cpu", "packed leaves out single weights; what heads removes is taken out by compact"),
    ],
)
def test_says_what_it_does_not_run(pattern: str, dtype: str, device: str, reason: str | None) -> None:
    assert FORMATS["packed"].unsupported(patterns.parse(pattern), dtype, device) == reason


def test_says_how_to_get_what_compiles_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    pruned, find = pruned_by("bert"), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "llvmlite" else find(name, *rest)
    )
    message = refusal(Refused, lambda: in_format(pruned, "packed"))
    assert message == 'packed needs llvmlite to compile its kernel: pip install "sparsity-bench[packed]"'


def test_refuses_a_model_in_training_and_to_be_put_there() -> None:
    pruned = pruned_by("opt")
    pruned.model.train()
    message = refusal(Refused, lambda: in_format(pruned, "packed"))
    assert message == ("packed cannot train: put the model in evaluation mode, by model.eval(), and convert it then")
    pruned.model.eval()
    model = in_format(pruned, "packed")
    assert not any(module.training for module in model.modules())
    refusal(Refused, model.train)


def test_the_first_layer_and_the_activation_are_not_run_apart() -> None:
    """Hooks see what each module is given: up to the last of the three, what the part as a whole was given."""
    pruned = pruned_by("gpt2")
    model = in_format(pruned, "packed")
    widths: list[int] = []
    for module in (each for part in feed_forward_parts(model) for each in part):
        module.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[-1]))
    logits(model)
    assert widths == [16] * 6


def test_layers_are_prunable_no_more() -> None:
    pruned = pruned_by("bert")
    layer: PrunableLayer = pruned.layers[0]
    assert isinstance(layer.module, nn.Linear)
    assert isinstance(in_format(pruned, "packed").get_submodule(layer.name), PackedLinear)
