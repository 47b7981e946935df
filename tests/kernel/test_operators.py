"""The two operators against float64, in all shapes, sparsities, blocks and builds; and what torch makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparsity.kernel.build import using
from sparsity.kernel.layers import PackedFeedForward, PackedLinear
from tests.kernel.weights import BUILDS, FUNCTIONS, Sample, inputs, sample

CLOSE = 1e-6
"""Relative to the norm of what would be computed if nothing cancelled out."""
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([127, 128, 129, 200, 256, 260, 383, 384, 385, 400, 770]))
SPARSITIES = st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0])
TOKENS = st.one_of(st.sampled_from([1, 4, 8, 16, 32, 64]), st.integers(1, 200))
ACTIVATIONS = st.sampled_from(list(FUNCTIONS))
BLOCKS = [*((build, 1) for build in BUILDS), *((BUILDS[0], rows) for rows in (2, 4, 8))]
"""Every build, and on the best one every height of blocks."""


def whole_numbers(given: Sample) -> Sample:
    """The same with small whole numbers, whose sums fp32 holds exactly, in whatever order."""
    bias = given.bias if given.bias is None else (4 * given.bias).round()
    return Sample((4 * given.weight).round(), given.mask, bias, given.block_rows)


def assert_close(found: torch.Tensor, expected: torch.Tensor, size: float) -> None:
    assert found.shape == expected.shape
    assert float((found.double() - expected).norm()) <= CLOSE * size


@pytest.mark.parametrize(("build", "block_rows"), BLOCKS)
def test_sums_of_whole_numbers_are_exact(build: str, block_rows: int) -> None:
    @settings(max_examples=60, deadline=None)
    @given(TOKENS, SIZES, SIZES, SPARSITIES, st.booleans(), st.integers(0, 9))
    @example(1, 385, 129, 0.5, True, 0)
    @example(64, 1, 1, 0.0, True, 0)
    @example(67, 770, 400, 0.0, False, 0)
    def holds(tokens: int, rows: int, columns: int, sparsity: float, bias: bool, seed: int) -> None:
        weight = whole_numbers(sample(rows, columns, sparsity, block_rows, bias, seed))
        x = (4 * inputs(tokens, columns, seed=seed)).round()
        with using(build):
            assert torch.equal(weight.linear(x), weight.exact(x).float())

    holds()


@pytest.mark.parametrize(("build", "block_rows"), BLOCKS)
def test_a_layer_is_right(build: str, block_rows: int) -> None:
    @settings(max_examples=40, deadline=None)
    @given(TOKENS, SIZES, SIZES, SPARSITIES, st.booleans(), ACTIVATIONS, st.integers(0, 9))
    def holds(tokens: int, rows: int, columns: int, sparsity: float, bias: bool, activation: str, seed: int) -> None:
        weight, x = sample(rows, columns, sparsity, block_rows, bias, seed), inputs(tokens, columns, seed=seed)
        with using(build):
            assert_close(weight.linear(x, activation), FUNCTIONS[activation](weight.exact(x)), weight.size(x))

    holds()


@pytest.mark.parametrize(("build", "block_rows"), BLOCKS)
def test_a_feed_forward_part_is_right(build: str, block_rows: int) -> None:
    @settings(max_examples=40, deadline=None)
    @given(TOKENS, SIZES, SIZES, SIZES, SPARSITIES, SPARSITIES, st.booleans(), ACTIVATIONS, st.integers(0, 9))
    @example(1, 260, 770, 385, 0.5, 0.9, True, "gelu", 0)
    @example(129, 128, 385, 129, 0.0, 0.5, False, "none", 0)
    def holds(
        tokens: int, columns: int, hidden: int, rows: int, s: float, t: float, bias: bool, activation: str, seed: int
    ) -> None:
        up, down = sample(hidden, columns, s, block_rows, bias, seed), sample(rows, hidden, t, block_rows, bias, 1)
        x = inputs(tokens, columns, seed=seed)
        between = FUNCTIONS[activation](up.exact(x))
        with using(build):
            found = up.feed_forward(down, x, activation)
        largest = up.size(x) * float(down.weight.abs().double().norm()) + down.size(between)
        assert_close(found, down.exact(between), largest)

    holds()


@pytest.mark.parametrize(("one", "other"), [(1, 4), (8, 2)])
def test_the_two_matrices_need_not_be_in_the_same_blocks(one: int, other: int) -> None:
    up, down = sample(48, 40, block_rows=one), sample(40, 48, block_rows=other)
    x = inputs(64, 40)
    found = up.feed_forward(down, x, "relu")
    assert_close(found, down.exact(up.exact(x).relu()), 10 * down.size(up.exact(x)))


def modules() -> tuple[PackedLinear, PackedFeedForward]:
    """40 features in and 24 out, each."""
    return sample(24, 40).packed("silu"), PackedFeedForward(sample(48, 40).packed(), sample(24, 48).packed(), "gelu")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (2, 3, 5), (1, 1, 1, 7)])
def test_tokens_come_in_any_shape(which: int, shape: tuple[int, ...]) -> None:
    module, x = modules()[which], inputs(*shape, 40)
    found = module(x)
    assert found.shape == (*shape, 24)
    assert found.is_contiguous()
    assert torch.equal(found.reshape(-1, 24), module(x.reshape(-1, 40)))


@pytest.mark.parametrize("which", [0, 1])
def test_tokens_need_not_lie_one_after_the_other(which: int) -> None:
    module, x = modules()[which], inputs(6, 40)
    expected = module(x)
    wide, across = inputs(6, 90), x.t().contiguous().t()
    wide[:, 7:47] = x
    assert torch.equal(module(wide[:, 7:47]), expected)
    assert torch.equal(module(across), expected)
    assert torch.equal(module(x[:1].expand(6, 40)), expected[:1].expand(6, 24))
    assert torch.equal(module(x.flip(0)), expected.flip(0))
    assert torch.equal(module(torch.cat([inputs(40), x.flatten()])[40:].view(6, 40)), expected)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_runs_in_every_mode_and_leaves_its_input(which: int, mode: Callable[[], Any]) -> None:
    module, x = modules()[which], inputs(6, 40)
    before, expected = x.clone(), module(x)
    with mode():
        assert torch.equal(module(x), expected)
    assert torch.equal(x, before)


@pytest.mark.parametrize("which", [0, 1])
def test_on_the_meta_device_there_is_the_shape_alone(which: int) -> None:
    found = modules()[which].to("meta")(torch.empty(2, 5, 40, device="meta"))
    assert (found.shape, found.dtype, found.device.type) == ((2, 5, 24), torch.float32, "meta")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32])
def test_refuses_other_dtypes(which: int, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"^packed layers compute in float32, not {dtype}; cast the input$"):
        modules()[which](torch.ones(2, 40, dtype=dtype))


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("features", [1, 39, 41, 80])
def test_refuses_inputs_of_another_width(which: int, features: int) -> None:
    with pytest.raises(
        ValueError, match=f"^a packed weight of .* x 40 in .* was called as one of .* x {features} in blocks of 1 rows$"
    ):
        modules()[which](inputs(2, features))


def test_the_defaults_of_torch_do_not_matter() -> None:
    x, made = inputs(70, 40), modules()
    expected = [module(x) for module in made]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = [module(x) for module in made]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_torch_compiles_around_it_once_for_any_number_of_tokens() -> None:
    """As far as code for g++; that it becomes such, `tests/test_compiling.py` holds."""
    torch._dynamo.reset()
    layer, pair = modules()
    between = torch.nn.Sequential(torch.nn.LayerNorm(24), torch.nn.Linear(24, 40)).requires_grad_(False)
    whole = torch.nn.Sequential(layer, between, pair)
    compiled = torch.compile(whole, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.inference_mode():
        for tokens in (3, 70, 131):
            x = inputs(2, tokens, 40)
            with torch.compiler.set_stance("fail_on_recompile" if tokens > 3 else "default"):
                torch.testing.assert_close(compiled(x), whole(x))


@pytest.mark.parametrize("which", [0, 1])
def test_torch_finds_nothing_wrong_with_the_operators(which: int) -> None:
    """That they change and share nothing that they are given, and that shapes are known before anything is computed."""
    up, down, x = sample(48, 40), sample(24, 48), inputs(3, 40)
    one = (x, up.buffer, 48, 1, 0)
    pair = (x, up.buffer, 48, down.buffer, 24, 1, 1, 2)
    operators = (torch.ops.sparsity.packed_linear, torch.ops.sparsity.packed_feed_forward)
    torch.library.opcheck(operators[which].default, (one, pair)[which], test_utils=("test_schema", "test_faketensor"))


def test_has_no_gradient_and_torch_says_so() -> None:
    x = inputs(3, 40).requires_grad_()
    for module in modules():
        with pytest.warns(UserWarning, match="an autograd kernel was not registered"):
            module(x).sum().backward()
    assert x.grad is None
