"""Which builds a processor runs, and that each is compiled once."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import Mock

import llvmlite.binding as llvm
import pytest

from sparsity.errors import UnknownName
from sparsity.kernel import build, engine
from sparsity.kernel.product import Variant
from sparsity.kernel.program import Program
from tests.kernel.weights import BUILDS, inputs, sample
from tests.models.tiny import refusal


class Flags(dict[str, bool]):
    def flatten(self) -> str:
        return "its features"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({"avx512f", "avx512vl", "avx2", "fma"}, ["avx512", "avx2", "plain"]),
        ({"avx512f", "avx2", "fma"}, ["avx2", "plain"]),
        ({"avx512f", "avx512vl", "fma"}, ["avx512", "plain"]),
        ({"avx2", "fma"}, ["avx2", "plain"]),
        ({"avx2"}, ["plain"]),
        (set(), ["plain"]),
    ],
)
def test_builds_are_those_that_the_processor_runs_the_best_first(
    flags: set[str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: Flags(dict.fromkeys(flags, True)))
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "its name")
    found = build.builds.__wrapped__()
    assert list(found) == names
    assert all(each.name == name for name, each in found.items())
    best, *others = found.values()
    assert (best.processor, best.features) == ("its name", "its features")
    assert [(each.processor, each.features) for each in others] == [
        ({"avx2": "haswell", "plain": "x86-64"}[name], "") for name in names[1:]
    ]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """The build of the next call, as in a process that has made none and was told nothing."""
    monkeypatch.setattr(build, "_current", [])
    monkeypatch.delenv(build.VARIABLE, raising=False)
    monkeypatch.setattr(build, "_entries", {})
    monkeypatch.setattr(build, "_compile", lambda chosen, *_: chosen.name)
    return lambda: cast("str", build.entries(8, 1))


def test_the_best_is_used_unless_another_is_asked_for(used: Callable[[], str]) -> None:
    assert used() == BUILDS[0]
    for name in BUILDS:
        with build.using(name):
            assert used() == name
    with pytest.raises(KeyError), build.using(BUILDS[-1]):
        raise KeyError
    assert used() == BUILDS[0]


@pytest.mark.parametrize("name", BUILDS)
def test_the_environment_can_name_another(name: str, used: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSITY_KERNEL", name)
    assert used() == name


def test_refuses_a_build_that_the_processor_cannot_run(
    used: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSITY_KERNEL", "avx1024")
    for ask in (lambda: build.using("avx1024").__enter__(), used):
        message = refusal(UnknownName, ask)
        assert message.startswith("unknown build of the kernel 'avx1024'")
        assert message.endswith(f"Known: {', '.join(BUILDS)}")


def test_a_variant_is_compiled_once_whoever_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[int, int]] = []

    def compile_(_: object, tokens: int, block_rows: int) -> tuple[object, int]:
        time.sleep(0.05)  # time for others to ask as well
        compiled.append((tokens, block_rows))
        return object(), tokens

    monkeypatch.setattr(build, "_entries", {})
    monkeypatch.setattr(build, "_compile", compile_)
    found: list[Any] = []
    askers = [threading.Thread(target=lambda: found.append(build.entries(64, 2))) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert compiled == [(64, 2)]
    assert len({id(each) for each in found}) == 1
    build.entries(64, 4)
    with build.using(BUILDS[-1]):
        build.entries(64, 2)
    assert len(compiled) == (3 if len(BUILDS) > 1 else 2)


def test_without_an_openmp_runtime_the_kernel_runs_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    weight, x = sample(24, 40), inputs(200, 40)
    expected = weight.linear(x)
    monkeypatch.setattr(engine, "parallel", lambda: 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert engine.threads() == 1
    assert torch.equal(weight.linear(x), expected)


@pytest.mark.parametrize("error", [OSError, AttributeError, TypeError])  # the last on Windows
def test_where_no_openmp_runtime_is_found_there_is_none(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", Mock(side_effect=error))
    assert build.parallel.__wrapped__() == 0


@pytest.mark.parametrize("tokens", [1, 8])
def test_the_plain_build_is_for_every_processor(tokens: int) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        other = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this LLVM writes code for no other processor")
    plain = build.builds()["plain"]
    variant = Variant(min(plain.lanes, tokens), tokens, 1, plain.accumulators, plain.lanes, plain.gathers)
    module = llvm.parse_assembly(str(Program(variant).module))
    module.verify()
    assert "fmla" in other.create_target_machine(cpu="generic").emit_assembly(module)  # multiplies and adds at once
