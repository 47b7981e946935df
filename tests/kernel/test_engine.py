"""A token's result is the same to the bit, whatever comes with it, on however many threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from sparsity.kernel import engine
from sparsity.kernel.build import using
from sparsity.kernel.layers import PackedFeedForward
from tests.kernel.weights import BUILDS, THREADS_SHARED, TILES, inputs, sample

SOME = 200
TOKENS = (1, 2, 4, 7, 8, 13, 16, 31, 32, 64, 65, 128, 130, 193)
SHARED = pytest.mark.skipif(not THREADS_SHARED, reason="torch's OpenMP runtime cannot be found here")


def modules(block_rows: int = 1) -> tuple[nn.Module, nn.Module]:
    """Of several panels in each direction, cut short in both."""
    up, down = sample(392, 300, 0.7, block_rows), sample(408, 392, 0.7, block_rows, seed=1)
    first, second = up.packed(), down.packed()
    assert (first.block_rows, second.block_rows) == (block_rows, block_rows)
    return up.packed("gelu"), PackedFeedForward(first, second, "silu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def parts(module: nn.Module, x: torch.Tensor, size: int) -> torch.Tensor:
    """So many tokens at a time."""
    return torch.cat([module(part) for part in x.split(size)])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("build", BUILDS)
def test_a_token_comes_out_alike_in_whatever_batch_it_comes(build: str, which: int) -> None:
    module, x = modules()[which], inputs(SOME, 300)
    with using(build):
        expected = module(x)
        for size in TOKENS:
            assert torch.equal(parts(module, x, size), expected), size


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("block_rows", [2, 4, 8])
def test_a_token_comes_out_alike_in_blocks_of_rows_too(block_rows: int, which: int) -> None:
    module, x = modules(block_rows)[which], inputs(66, 300)
    expected = module(x)
    for size in TILES:
        assert torch.equal(parts(module, x, size), expected), size


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("count", TOKENS)
def test_dividing_by_panels_or_by_tiles_is_the_same(
    count: int, few: bool, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = modules()[which], inputs(count, 300)
    expected = module(x)
    decide = Mock(return_value=few)
    monkeypatch.setattr(engine, "_few", decide)
    assert torch.equal(module(x), expected)
    assert decide.called


@SHARED
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("build", BUILDS)
def test_two_threads_compute_what_one_does(build: str, which: int) -> None:
    module, x = modules()[which], inputs(SOME, 300)
    with using(build):
        for size in (*TOKENS, SOME):
            torch.set_num_threads(1)
            one = module(x[:size])
            torch.set_num_threads(2)
            assert torch.equal(module(x[:size]), one), size


@SHARED
@pytest.mark.usefixtures("two_threads")
def test_with_two_threads_few_tiles_are_shared_out_by_panels() -> None:
    assert engine.threads() == 2
    assert [engine._few(64 * tiles, 64, 2) for tiles in range(1, 7)] == [True, False, True, False, False, False]
    assert not any(engine._few(count, 64, 1) for count in (1, 64, 128, 192))


@SHARED
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("which", [0, 1])
def test_every_call_gives_the_same(which: int) -> None:
    module, x = modules()[which], inputs(SOME, 300)
    for size in (1, 37, 128, SOME):
        first = module(x[:size])
        for _ in range(20):
            assert torch.equal(module(x[:size]), first)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=SHARED)])
@pytest.mark.usefixtures("two_threads")
def test_python_threads_can_call_at_once(threads: int) -> None:
    layers = modules()
    batches = [inputs(size, 300, seed=size) for size in (1, 5, 64, 130, 200)]
    expected = [[layer(x) for x in batches] for layer in layers]
    wrong: list[str] = []
    begin = threading.Barrier(3)

    def work(shift: int) -> None:
        torch.set_num_threads(threads)  # OpenMP keeps a number for each thread
        begin.wait()
        for turn in range(12):
            at = (turn + shift) % len(batches)
            for layer, results in zip(layers, expected, strict=True):
                if not torch.equal(layer(batches[at]), results[at]):
                    wrong.append(f"turn {turn} of {shift}")

    workers = [threading.Thread(target=work, args=(shift,)) for shift in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_whole_tiles_first_then_the_smallest_that_holds_what_is_left() -> None:
    assert list(engine._portions(0)) == []
    assert list(engine._portions(1)) == [(0, 1, 1)]
    assert list(engine._portions(33)) == [(0, 33, 64)]
    assert list(engine._portions(128)) == [(0, 128, 64)]
    assert list(engine._portions(131)) == [(0, 128, 64), (128, 3, 4)]
    for tokens in range(1, 300):
        portions = list(engine._portions(tokens))
        assert sum(count for _, count, _ in portions) == tokens
        assert portions[-1][0] + portions[-1][1] == tokens


def test_scratch_memory_stays_and_grows() -> None:
    def addresses() -> None:
        small = engine._scratch(1000)
        assert engine._scratch(500) == small
        large = engine._scratch(10_000_000)
        assert engine._scratch(1000) == large
        found.extend([small % engine.ALIGN, large % engine.ALIGN])

    found: list[int] = []
    own = threading.Thread(target=addresses)  # each thread has its own
    own.start()
    own.join()
    assert found == [0, 0]
