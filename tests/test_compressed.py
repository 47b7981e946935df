"""Compressed linear layers: they compute what the dense one does, by the calls that are fast, from plain buffers."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sparsity import compressed
from sparsity.errors import Refused
from sparsity.measure.memory import resident_bytes
from tests.models.tiny import refusal

TILES = (1, 2, 4, 8, 16)


def masked(
    rows: int, columns: int, tile: int, sparsity: float, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, mask) whose zeros come in tiles; `rows` and `columns` count tiles."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, columns, generator=generator) >= sparsity
    mask = mask.repeat_interleave(tile, 0).repeat_interleave(tile, 1)
    weight = torch.randn(mask.shape, generator=generator, dtype=dtype)
    return torch.where(mask, weight, 0.0), mask


def layer(tile: int = 1, sparsity: float = 0.7, bias: bool = True, dtype: torch.dtype = torch.float32) -> Any:
    weight, mask = masked(64 // tile, 32 // tile, tile, sparsity, dtype=dtype)
    shared = torch.nn.Parameter(torch.linspace(-1, 1, 64, dtype=dtype)) if bias else None
    return built(weight, mask, shared, tile)


def built(*given: Any) -> Any:
    return compressed.linear(*given)


def inputs(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def dense(module: Any, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, module.dense_weight(), module.bias)


def assert_near(output: torch.Tensor, expected: torch.Tensor, close: float = 1e-5) -> None:
    assert output.shape == expected.shape
    wanted = expected.detach().double()
    assert float((output.detach().double() - wanted).norm()) <= close * float(wanted.norm())


# -- what it computes -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), tile=st.sampled_from(TILES),
    sparsity=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])),
    bias=st.booleans(), batch=st.lists(st.integers(0, 9), max_size=3), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_masked_dense_layer(
    rows: int, columns: int, tile: int, sparsity: float, bias: bool, batch: list[int], seed: int
) -> None:
    weight, mask = masked(rows, columns, tile, sparsity, seed)
    own = torch.nn.Parameter(inputs(len(weight))) if bias else None
    x = inputs(*batch, weight.shape[1])
    module = built(weight, mask, own, tile)
    with torch.inference_mode():
        found = module(x)
        assert_near(found, functional.linear(x, weight, own))
    assert found.is_contiguous()
    assert torch.equal(module.dense_weight(), weight)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 128, 200])
def test_many_tokens_are_taken_some_at_a_time(tile: int, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = layer(tile), inputs(tokens, 32)
    with torch.inference_mode():
        monkeypatch.setattr(compressed, "AT_ONCE", 1)
        assert_near(module(x), dense(module, x))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_works_with_gradients_on_and_off(tile: int, mode: Any) -> None:
    module = layer(tile)
    with mode():
        for x in (inputs(2, 9, 32), inputs(1, 1, 32)):
            assert_near(module(x), dense(module, x))


@pytest.mark.parametrize("tile", TILES)
def test_double_precision_is_double(tile: int) -> None:
    module, x = layer(tile, dtype=torch.float64), inputs(9, 32, dtype=torch.float64)
    with torch.inference_mode():
        assert_near(module(x), dense(module, x), 1e-13)


@pytest.mark.parametrize("tile", TILES)
def test_inputs_may_lie_in_memory_in_any_way(tile: int) -> None:
    module = layer(tile)
    with torch.inference_mode():
        for x in (inputs(32, 9).t(), inputs(4, 32, 5).transpose(1, 2), inputs(9, 64)[:, ::2], inputs(32).expand(7, 32)):
            assert_near(module(x), dense(module, x))


@pytest.mark.parametrize("tile", TILES)
def test_a_weight_that_lies_transposed_is_stored_alike(tile: int) -> None:
    weight, mask = masked(64 // tile, 32 // tile, tile, 0.7)
    one = built(weight, mask, None, tile)
    other = built(weight.t().contiguous().t(), mask.t().contiguous().t(), None, tile)
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


# -- what it holds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", TILES)
def test_holds_the_kept_tiles_and_nothing_else(tile: int) -> None:
    module = layer(tile)
    weight, mask = masked(64 // tile, 32 // tile, tile, 0.7)
    stored = int(mask.count_nonzero())
    assert module.values.numel() == stored
    expected = 4 * stored + 4 * (stored // tile**2) + 4 * (64 // tile + 1) + 4 * 64
    assert resident_bytes(module) == expected
    module(inputs(9, 32))
    assert resident_bytes(module) == expected
    assert (module.in_features, module.out_features) == (32, 64)
    assert torch.equal(module.dense_weight(), weight)


def test_kept_zeros_of_either_sign_are_stored_and_what_the_mask_removed_is_not() -> None:
    weight, mask = masked(8, 8, 1, 0.5)
    weight[0], mask[0] = -0.0, True
    weight[1], mask[1] = 3.0, False
    module = built(weight, mask, None)
    assert module.values.numel() == int(mask.count_nonzero())
    again = module.dense_weight()
    assert torch.equal(again[0].signbit(), torch.ones(8, dtype=torch.bool))
    assert not again[1].any()


def test_the_bias_is_shared_and_the_weight_is_not() -> None:
    weight, mask = masked(64, 32, 1, 0.0)
    bias = torch.nn.Parameter(torch.zeros(64))
    module = built(weight, mask, bias)
    assert module.bias is bias
    assert list(module.state_dict()) == ["bias", "crow_indices", "col_indices", "values"]
    weight.zero_()
    assert module.dense_weight().all()


@pytest.mark.parametrize("tile", [1, 8])
def test_a_copy_is_on_its_own_and_a_cast_reaches_the_values_alone(tile: int) -> None:
    module, x = layer(tile), inputs(9, 32)
    with torch.inference_mode():
        before = module(x)
        for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301  # our own bytes
            assert type(copied) is type(module)
            assert torch.equal(copied(x), before)
            copied.values.zero_()
            assert torch.equal(copied(x), copied.bias.expand(9, 64))
        double = copy.deepcopy(module).to(torch.float64)
        assert_near(double(x.double()), before)
    assert {double.crow_indices.dtype, double.col_indices.dtype} == {torch.int32}
    assert torch.equal(module(x), before)


def test_what_is_loaded_is_what_it_computes_with() -> None:
    module, x = layer(sparsity=0.7), inputs(9, 32)
    module(x)
    other = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    other["values"].mul_(2)
    for assign in (False, True):
        copied = copy.deepcopy(module)
        copied.load_state_dict(other, assign=assign)
        assert_near(copied(x), functional.linear(x, 2 * module.dense_weight(), module.bias))


# -- how it multiplies ----------------------------------------------------------------------------------


class Watch(TorchDispatchMode):
    """Notes each operator, with the number of columns of what is multiplied."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.seen: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "mv", "addmv", "linear"):
            position = {"mm": 1, "mv": 1}.get(name, 2)
            assert args[position - 1].layout in (torch.sparse_csr, torch.sparse_bsr)
            self.seen.append((name, args[position].shape[1] if name.endswith("mm") else 1))
        return func(*args, **(kwargs or {}))


def products(module: Any, tokens: int) -> list[tuple[str, int]]:
    watch = Watch()
    with torch.inference_mode(), watch:
        module(inputs(tokens, 32))
    return watch.seen


@pytest.mark.parametrize("bias", [True, False])
def test_one_token_is_a_product_with_a_vector_where_that_is_fast(bias: bool) -> None:
    vector, matrix = ("addmv", "addmm") if bias else ("mv", "mm")
    for tile in (1, 2, 16):
        assert products(layer(tile, bias=bias), 1) == [(vector, 1)]
    for tile in (4, 8):
        assert products(layer(tile, bias=bias), 1) == [(matrix, 16)]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("tokens", [2, 15, 16, 17, 33, 64, 4000])
def test_tiles_meet_multiples_of_16_tokens_and_no_more_of_them_than_need_be(tile: int, tokens: int) -> None:
    seen = [count for name, count in products(layer(tile), tokens) if name == "addmm"]
    assert sum(seen) == (tokens if tile == 1 else -(-tokens // 16) * 16)
    assert tile == 1 or all(count % 16 == 0 for count in seen)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("tile", [1, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_compiles_as_a_whole(backend: str, tile: int, bias: bool) -> None:
    torch._dynamo.reset()
    module = layer(tile, bias=bias)
    compiled = torch.compile(torch.nn.Sequential(module, torch.nn.ReLU()), backend=backend, fullgraph=True)
    with torch.inference_mode():
        for x in (inputs(2, 9, 32), inputs(1, 1, 32)):
            assert_near(compiled(x), dense(module, x).relu())


# -- what it refuses ------------------------------------------------------------------------------------


def test_a_build_without_mkl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    message = refusal(Refused, layer)
    assert message == "on a CPU torch multiplies compressed weights by MKL, and this build of torch is without it"
