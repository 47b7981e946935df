"""2:4: what it refuses, which shapes fit, and that torch's tensor is handed around whole. Its kernels need a GPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.sparse import SparseSemiStructuredTensorCUTLASS
from torch.sparse import _semi_structured_conversions as conversions

from sparsity import pattern as patterns
from sparsity.errors import Refused
from sparsity.execution import in_format, relative_error
from sparsity.formats import FORMATS, semi_structured
from sparsity.formats.protocol import left_dense
from sparsity.measure.memory import resident_bytes
from sparsity.prune import PrunedModel, Recipe, prune
from tests import tiny
from tests.formats.test_csr import logits
from tests.models.tiny import refusal

RECIPE = Recipe("l1", 0.5, "2:4")
FITTING: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}
"""Widths that the kernels can do."""


def can_run() -> bool:
    return FORMATS["semi_structured"].unsupported(patterns.parse("2:4"), "float16", "cuda") is None


NEEDS_KERNELS = pytest.mark.skipif(
    not (torch.cuda.is_available() and can_run()), reason="no CUDA device here that has 2:4 kernels"
)


def pruned_by(family: str = "bert", dtype: torch.dtype = torch.float16, device: str = "cpu", **changes: Any) -> Any:
    return prune(tiny.model(family, dtype, **changes).to(device), RECIPE)


# -- what it refuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", patterns.EXAMPLES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_cpu_has_no_kernels(pattern: str, dtype: str) -> None:
    reason = FORMATS["semi_structured"].unsupported(patterns.parse(pattern), dtype, "cpu")
    assert reason == "2:4 kernels run on CUDA only (torch has none for CPUs)"


def test_a_model_on_a_cpu_is_refused() -> None:
    message = refusal(Refused, lambda: in_format(pruned_by(), "semi_structured"))
    assert message == "2:4 kernels run on CUDA only (torch has none for CPUs)"


NOT_2_4 = "semi_structured stores two of every four inputs (2:4), which {} zeros need not leave"
NOT_SO = "torch's 2:4 kernels multiply float16 and bfloat16, not {}"


@pytest.mark.parametrize(
    ("pattern", "dtype", "device", "reason"),
    [
        *((text, "float16", "cuda", NOT_2_4.format(text)) for text in patterns.EXAMPLES if text != "2:4"),
        ("4:8", "float16", "cuda", NOT_2_4.format("4:8")),
        ("2:4", "float32", "cuda", NOT_SO.format("float32")),
        ("2:4", "float64", "cuda", NOT_SO.format("float64")),
        ("2:4", "float16", "mps", "2:4 kernels run on CUDA only (torch has none for mps)"),
    ],
)
def test_other_patterns_dtypes_and_devices_are_refused(pattern: str, dtype: str, device: str, reason: str) -> None:
    assert FORMATS["semi_structured"].unsupported(patterns.parse(pattern), dtype, device) == reason


WITHOUT = "this build of torch is without cuSPARSELt, and its other 2:4 kernels are not for capability {}"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("capability", "library", "reason"),
    [
        ((7, 5), True, "2:4 kernels need compute capability 8.0, and this GPU has 7.5"),
        ((8, 0), True, None),
        ((8, 9), False, None),
        ((9, 0), True, None),
        ((9, 0), False, WITHOUT.format("9.0")),
        ((12, 0), False, WITHOUT.format("12.0")),
    ],
)
def test_gpus_without_such_kernels_are_refused(
    dtype: str, capability: tuple[int, int], library: bool, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: library)
    assert FORMATS["semi_structured"].unsupported(patterns.parse("2:4"), dtype, "cuda") == reason


# -- which shapes fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "least", "fits"),
    [
        ((32, 64), (32, 64), True),
        ((3072, 768), (32, 64), True),
        ((32, 32), (32, 64), False),
        ((48, 64), (32, 64), False),
        ((48, 32), (16, 16), True),
        ((8, 16), (16, 16), False),
    ],
)
def test_both_sides_must_be_multiples(shape: tuple[int, int], least: tuple[int, int], fits: bool) -> None:
    reason = semi_structured.misfit(*shape, *least)
    assert (reason is None) is fits
    if not fits:
        of, want = (f"{rows}x{columns}" for rows, columns in (shape, least))
        assert reason == f"its {of} weights are no multiple of the {want} that 2:4 kernels want"


# -- that torch's tensor is handed around whole: CUTLASS's layout, in which a CPU can pack but not multiply --------


def _packed(weight: torch.Tensor) -> Any:
    packed, meta = conversions.sparse_semi_structured_from_dense_cutlass(weight)
    return SparseSemiStructuredTensorCUTLASS(weight.shape, packed, meta, None, None, None)


def _multiplied(packed: torch.Tensor, meta: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    weight: torch.Tensor = conversions.sparse_semi_structured_to_dense_cutlass(packed, meta)
    return (weight.float() @ columns.float()).to(columns.dtype)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def added(bias: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return _multiplied(*rest) + bias[:, None]

    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: False)
    monkeypatch.setattr(SparseSemiStructuredTensorCUTLASS, "from_dense", staticmethod(_packed))
    monkeypatch.setattr(torch, "_sparse_semi_structured_mm", _multiplied)
    monkeypatch.setattr(torch, "_sparse_semi_structured_addmm", added)


def converted(pruned: PrunedModel) -> Any:
    return FORMATS["semi_structured"].convert(pruned.model, pruned.layers, pruned.masks)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_converted_model_computes_the_same_and_holds_less(dtype: torch.dtype) -> None:
    pruned = pruned_by(dtype=dtype, **FITTING)
    model = converted(pruned)
    assert left_dense(model) == {}
    assert relative_error(logits(model), logits(pruned.model)) < (5e-3 if dtype is torch.float16 else 4e-2)
    for layer in pruned.layers:
        module = model.get_submodule(layer.name)
        assert torch.equal(module.dense_weight(), layer.weight)
        assert module.bias is layer.module.bias
        bias = 2 * len(layer.weight)
        assert resident_bytes(module) == layer.weight.numel() * 2 * 9 // 16 + bias
        assert (module.out_features, module.in_features) == layer.weight.shape
    copied = copy.deepcopy(model)
    assert torch.equal(logits(copied), logits(model))
    for tensor in copied.state_dict().values():
        tensor.zero_()
    assert logits(model).any()


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_transposed_layers_and_those_without_a_bias(family: str) -> None:
    wide: dict[str, dict[str, Any]] = {
        "gpt2": {"n_embd": 64, "n_inner": 128},
        "llama": {**FITTING, "num_key_value_heads": 4},
        "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128},
    }
    pruned = pruned_by(family, **wide[family])
    model = converted(pruned)
    assert left_dense(model) == {}
    assert relative_error(logits(model), logits(pruned.model)) < 5e-3


@pytest.mark.usefixtures("on_cpu")
def test_inputs_may_lie_in_memory_in_any_way() -> None:
    pruned = pruned_by(**FITTING)
    module: Any = converted(pruned).get_submodule(pruned.layers[0].name)
    x = torch.linspace(-1, 1, 2 * 64 * 5).half().reshape(2, 64, 5).transpose(1, 2)
    expected = torch.nn.functional.linear(x, pruned.layers[0].weight, module.bias)
    assert relative_error(module(x), expected) < 5e-3


@pytest.mark.usefixtures("on_cpu")
def test_layers_that_do_not_fit_stay_dense_and_are_listed() -> None:
    pruned = pruned_by(hidden_size=64, intermediate_size=96)
    model = converted(pruned)
    narrow = {layer.name for layer in pruned.layers if layer.weight.shape == (64, 96)}
    assert narrow
    assert left_dense(model) == dict.fromkeys(
        narrow, "its 64x96 weights are no multiple of the 32x64 that 2:4 kernels want"
    )
    assert relative_error(logits(model), logits(pruned.model)) < 5e-3


@pytest.mark.usefixtures("on_cpu")
def test_a_model_of_which_no_layer_fits_is_refused() -> None:
    message = refusal(Refused, lambda: converted(pruned_by()))
    assert message.startswith("no layer of this model can be stored in this format: its 16x16 weights")


# -- on a GPU -------------------------------------------------------------------------------------------


@NEEDS_KERNELS
@pytest.mark.parametrize(("dtype", "close"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_equals_the_masked_dense_model_on_cuda(dtype: torch.dtype, close: float) -> None:
    pruned = pruned_by(dtype=dtype, device="cuda", **FITTING)
    model = in_format(pruned, "semi_structured")
    assert left_dense(model) == {}
    assert relative_error(logits(model), logits(pruned.model)) < close
    for layer in pruned.layers:
        module: Any = model.get_submodule(layer.name)
        assert torch.equal(module.dense_weight(), layer.weight)
    assert resident_bytes(model) < resident_bytes(pruned.model)
