"""BSR: tiles as the zeros come, the same outputs as the masked dense model, and what cannot be cut stays dense."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsity import pattern as patterns
from sparsity.errors import Refused
from sparsity.execution import in_format, relative_error
from sparsity.formats import FORMATS, bsr
from sparsity.formats.protocol import left_dense
from sparsity.measure.memory import resident_bytes
from sparsity.prune import PrunedModel, Recipe, prune
from tests import tiny
from tests.formats.test_csr import NEEDS_CUDA, logits
from tests.models.tiny import refusal

WHICH = "which {} zeros do not come in"


def pruned_by(
    family: str, pattern: str = "4x4", sparsity: float = 0.5, dtype: torch.dtype = torch.float32, **changes: Any
) -> PrunedModel:
    return prune(tiny.model(family, dtype, **changes), Recipe("l1", sparsity, pattern))


@pytest.mark.parametrize("family", tiny.DESCRIBED)
@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "8x8", "neurons"])
def test_equals_the_masked_dense_model(family: str, pattern: str) -> None:
    pruned = pruned_by(family, pattern)
    model = in_format(pruned, "bsr")
    assert relative_error(logits(model), logits(pruned.model)) < 1e-5
    for layer in pruned.layers:
        module: Any = model.get_submodule(layer.name)
        assert torch.equal(module.dense_weight(), layer.weight)
        assert module.bias is layer.module.bias


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_double_precision_is_double(family: str) -> None:
    pruned = pruned_by(family, dtype=torch.float64)
    assert relative_error(logits(in_format(pruned, "bsr")), logits(pruned.model)) < 1e-12


def in_tiles(rows: int, columns: int, sparsity: float, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(size // rows, size // columns, generator=generator) >= sparsity
    return kept.repeat_interleave(rows, 0).repeat_interleave(columns, 1)


@pytest.mark.parametrize(
    ("rows", "columns", "sparsity", "side"),
    [
        (4, 4, 0.7, 4),
        (8, 8, 0.7, 8),
        (16, 16, 0.7, 8),  # tiles of 8 are multiplied faster, and cover tiles of 16
        (32, 8, 0.7, 8),
        (2, 2, 0.9, 2),
        (4, 1, 0.9, 2),  # no square fits, and the smallest drags the fewest zeros along
        (1, 1, 0.99, 2),
        (1, 1, 0.1, 8),  # every tile is held whatever its size
    ],
)
def test_a_layer_is_cut_as_is_cheapest_to_multiply(rows: int, columns: int, sparsity: float, side: int) -> None:
    assert bsr.cheapest(in_tiles(rows, columns, sparsity), bsr.CPU_TILES) == side


@pytest.mark.parametrize(
    ("rows", "columns", "side"), [(64, 64, 64), (32, 32, 32), (16, 16, 16), (32, 16, 16), (128, 64, 64)]
)
def test_on_cuda_it_is_cut_into_the_largest_that_drag_no_zeros_along(rows: int, columns: int, side: int) -> None:
    assert bsr.cheapest(in_tiles(rows, columns, 0.7, 256), bsr.CUDA_TILES) == side


@pytest.mark.parametrize(("shape", "side"), [((12, 20), 4), ((6, 20), 2), ((8, 24), 8), ((7, 8), None), ((8, 9), None)])
def test_tiles_must_cover_the_layer(shape: tuple[int, int], side: int | None) -> None:
    assert bsr.cheapest(torch.ones(shape, dtype=torch.bool), bsr.CPU_TILES) == side


def test_what_a_tile_drags_along_is_held_and_counted() -> None:
    tiles, single = pruned_by("bert", "8x8", 0.75), pruned_by("bert", "unstructured", 0.75)
    assert resident_bytes(in_format(tiles, "bsr")) < resident_bytes(in_format(tiles, "csr"))
    assert resident_bytes(in_format(single, "bsr")) > resident_bytes(in_format(single, "csr"))


def test_a_layer_that_cannot_be_cut_stays_dense_and_is_listed() -> None:
    pruned = pruned_by("bert", "unstructured", intermediate_size=33)
    model = in_format(pruned, "bsr")
    odd = {layer.name: layer for layer in pruned.layers if 33 in layer.weight.shape}
    assert len(odd) == 4
    assert left_dense(model) == {
        name: f"its {'x'.join(map(str, layer.weight.shape))} weights cannot be cut into square tiles"
        for name, layer in odd.items()
    }
    for layer in pruned.layers:
        assert hasattr(model.get_submodule(layer.name), "dense_weight") is (layer.name not in odd)
    assert relative_error(logits(model), logits(pruned.model)) < 1e-5
    assert left_dense(pruned.model) == {}


def test_a_model_of_which_no_layer_can_be_cut_is_refused() -> None:
    pruned = pruned_by("bert", "unstructured", hidden_size=15, num_attention_heads=3, intermediate_size=33)
    message = refusal(Refused, lambda: in_format(pruned, "bsr"))
    assert message == (
        "no layer of this model can be stored in this format: its 15x15 weights cannot be cut into square tiles"
    )


@pytest.mark.parametrize(
    ("pattern", "dtype", "device", "reason"),
    [
        ("unstructured", "float32", "cpu", None),
        ("16x16", "float64", "cpu", None),
        ("4x4", "bfloat16", "cpu", "on cpu torch multiplies tiles in float32 and float64, not in bfloat16"),
        ("16x16", "float16", "cuda", None),
        ("64x32", "bfloat16", "cuda", None),
        ("16x16", "float32", "cuda", "on cuda torch multiplies tiles in float16 and bfloat16, not in float32"),
        ("16x16", "float32", "mps", "torch multiplies tiles on cpu and cuda alone, not on mps"),
        *(
            (text, "float16", "cuda", f"on cuda torch multiplies tiles of 16x16 and more, {WHICH.format(text)}")
            for text in ("unstructured", "2:4", "4x4", "16x8", "24x16", "heads")
        ),
    ],
)  # fmt: skip
def test_says_where_torch_has_no_such_product(pattern: str, dtype: str, device: str, reason: str | None) -> None:
    assert FORMATS["bsr"].unsupported(patterns.parse(pattern), dtype, device) == reason


@NEEDS_CUDA
@pytest.mark.parametrize(("dtype", "close"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_equals_the_masked_dense_model_on_cuda(dtype: torch.dtype, close: float) -> None:
    pruned = prune(tiny.model("bert", dtype).to("cuda"), Recipe("l1", 0.5, "16x16"))
    assert relative_error(logits(in_format(pruned, "bsr")), logits(pruned.model)) < close
