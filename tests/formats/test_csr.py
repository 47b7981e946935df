"""CSR: the kept weights alone, in every family, and the same outputs as the masked dense model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from sparsity import pattern as patterns
from sparsity.errors import Refused
from sparsity.execution import in_format, relative_error
from sparsity.formats import FORMATS
from sparsity.formats.protocol import left_dense
from sparsity.measure.memory import resident_bytes
from sparsity.prune import PrunedModel, Recipe, prune
from tests import tiny
from tests.models.tiny import refusal

GENERATING = ("gpt2", "bart", "opt", "llama", "mistral", "qwen2", "t5", "t5-gated")
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def pruned_by(family: str, sparsity: float = 0.7, dtype: torch.dtype = torch.float32, scope: str = "") -> PrunedModel:
    return prune(tiny.model(family, dtype), Recipe("l1", sparsity, scope=scope))


def logits(model: Any) -> torch.Tensor:
    (batch,) = tiny.batches(model, 1)
    with torch.inference_mode():
        found: torch.Tensor = model(**{name: each.to(model.device) for name, each in batch.inputs.items()}).logits
    return found


@pytest.mark.parametrize("family", tiny.DESCRIBED)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equals_the_masked_dense_model(family: str, dtype: torch.dtype, close: float) -> None:
    pruned = pruned_by(family, dtype=dtype)
    assert relative_error(logits(in_format(pruned, "csr")), logits(pruned.model)) < close


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_every_prunable_layer_holds_its_kept_weights_and_no_others(family: str) -> None:
    pruned = pruned_by(family, scope="global")
    model = in_format(pruned, "csr")
    assert left_dense(model) == {}
    for layer, mask in zip(pruned.layers, pruned.masks, strict=True):
        module: Any = model.get_submodule(layer.name)
        assert module is not layer.module
        assert module.values.numel() == int(mask.count_nonzero())
        assert torch.equal(module.dense_weight(), layer.weight)
        assert module.bias is layer.module.bias
        assert (module.out_features, module.in_features) == mask.shape


@pytest.mark.parametrize(("sparsity", "smaller"), [(0.3, False), (0.7, True), (0.9, True)])
def test_holds_less_than_dense_from_half_of_the_weights_on(sparsity: float, smaller: bool) -> None:
    pruned = pruned_by("bert", sparsity)
    assert (resident_bytes(in_format(pruned, "csr")) < resident_bytes(pruned.model)) is smaller


@pytest.mark.parametrize("family", GENERATING)
def test_generates_the_same_token_by_token(family: str) -> None:
    pruned = pruned_by(family, dtype=torch.float64)
    tokens = tiny.batches(pruned.model, 1)[0].inputs["input_ids"][:1, :5]
    found = []
    for model in (pruned.model, in_format(pruned, "csr")):
        torch.manual_seed(0)  # drawn, because the likeliest token of a random model is always the same
        with torch.inference_mode():
            found.append(
                model.generate(  # type: ignore[operator]  # transformers' generation is a mixin
                    tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=8, min_new_tokens=8, do_sample=True,
                    use_cache=True, pad_token_id=1,
                )
            )  # fmt: skip
    assert torch.equal(*found)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_copy_of_the_model_is_on_its_own(family: str) -> None:
    model = in_format(pruned_by(family), "csr")
    expected = logits(model)
    copied = copy.deepcopy(model)
    assert torch.equal(logits(copied), expected)
    for parameter in copied.state_dict().values():
        parameter.zero_()
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize(
    ("dtype", "device", "reason"),
    [
        ("float32", "cpu", None),
        ("float64", "cpu", None),
        ("bfloat16", "cpu", "on cpu torch multiplies compressed rows in float32, float64, not in bfloat16"),
        ("float16", "cpu", "on cpu torch multiplies compressed rows in float32, float64, not in float16"),
        ("float16", "cuda", None),
        ("bfloat16", "cuda", None),
        ("float32", "mps", "torch multiplies compressed rows on cpu and cuda alone, not on mps"),
    ],
)
def test_says_where_torch_has_no_such_product(dtype: str, device: str, reason: str | None) -> None:
    for text in patterns.EXAMPLES:
        assert FORMATS["csr"].unsupported(patterns.parse(text), dtype, device) == reason


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_torch_really_has_none_in_half_precision_on_a_cpu(dtype: torch.dtype) -> None:
    """Should this fail, torch has learnt it, and the refusal can go."""
    pruned = pruned_by("bert", dtype=dtype)
    refusal(Refused, lambda: in_format(pruned, "csr"))
    module = FORMATS["csr"].convert(pruned.model, pruned.layers, pruned.masks).get_submodule(pruned.layers[0].name)
    with pytest.raises(NotImplementedError, match="not implemented for"):
        module(torch.ones(2, 16, dtype=dtype))


@NEEDS_CUDA
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_equals_the_masked_dense_model_on_cuda(dtype: torch.dtype, close: float) -> None:
    pruned = prune(tiny.model("bert", dtype).to("cuda"), Recipe("l1", 0.7))
    assert relative_error(logits(in_format(pruned, "csr")), logits(pruned.model)) < close
