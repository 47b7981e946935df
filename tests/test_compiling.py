"""Compiled forward passes: the same outputs, compiled before they are timed, and one line where they cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from sparsity import compiling, workload
from sparsity.bench import Bench
from sparsity.errors import Refused
from sparsity.execution import in_format, relative_error
from sparsity.formats import FORMATS
from sparsity.options import Options
from sparsity.prune import Recipe, prune
from sparsity.workload import Workload
from tests import tiny
from tests.fake_benchmark import FakeBenchmark
from tests.models.tiny import refusal

WORKLOAD = workload.parse("2x5")
L1 = Recipe("l1", 0.5)


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """What was compiled; graphs are run as they are, so that no test waits for a compiler of C++."""
    made: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", backend)
    torch._dynamo.reset()
    yield made
    torch._dynamo.reset()


def model_of(family: str, **changes: Any) -> Any:
    """Of one block, as every block takes as long to be compiled."""
    layers = {"bert": ["num_hidden_layers"], "gpt2": ["n_layer"], "bart": ["encoder_layers", "decoder_layers"]}
    few: dict[str, Any] = dict.fromkeys(layers[family], 1)
    return tiny.model(family, **few, **changes)


CELLS = [("bert", name) for name in FORMATS if name not in ("compact", "semi_structured", "bf16")]


@pytest.mark.parametrize(("family", "name"), [*CELLS, ("gpt2", "packed"), ("bart", "packed")])
def test_every_format_is_one_graph_with_the_same_outputs(family: str, name: str, graphs: list[Any]) -> None:
    model = in_format(prune(model_of(family), L1), name)
    expected = workload.call(WORKLOAD, model)()
    call = compiling.call(WORKLOAD, model)
    assert len(graphs) == 1
    assert relative_error(call(), expected) < 1e-5
    assert len(graphs) == 1  # nothing is left to be compiled when it is timed


def test_the_model_stays_as_it_is(graphs: list[Any]) -> None:
    model = model_of("bert")
    compiling.call(WORKLOAD, model)
    workload.call(WORKLOAD, model)()
    assert "forward" not in vars(model)
    assert len(graphs) == 1


def test_models_of_equal_shapes_share_what_was_compiled_and_others_do_not(
    graphs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        monkeypatch.setattr(torch._dynamo.config, limit, 2)
    for seed in (0, 1):
        compiling.call(WORKLOAD, model_of("bert", seed=seed))
    assert len(graphs) == 1
    for length in (6, 7, 8):  # none of them for any length, and more than torch's own limits
        compiling.call(workload.parse(f"2x{length}"), model_of("bert"))
    assert len(graphs) == 4


def test_a_model_without_its_head_is_compiled_too(graphs: list[Any]) -> None:
    model = model_of("bert")
    call = compiling.call(WORKLOAD, model, head=False)
    assert len(graphs) == 1
    assert relative_error(call(), workload.call(WORKLOAD, model, head=False)()) < 1e-5


def test_what_cannot_be_compiled_is_refused_with_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: object, inputs: object) -> None:
        raise RuntimeError("No working C++ compiler found\n\n  in a long list")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    message = refusal(Refused, lambda: compiling.call(WORKLOAD, model_of("bert")))
    assert message.startswith("torch.compile does not take this model here: ")
    assert "No working C++ compiler found" in message


def test_a_model_of_several_graphs_is_refused() -> None:
    model = model_of("bert")
    model.bert.encoder.layer[0].register_forward_hook(lambda module, args, output: torch._dynamo.graph_break())
    with pytest.raises(Refused, match=r"torch\.compile does not take this model here"):
        compiling.call(WORKLOAD, model)


def test_a_generation_is_refused() -> None:
    message = refusal(Refused, lambda: compiling.call(workload.parse("1x4+3"), tiny.model("gpt2")))
    assert message.startswith("workload 1x4+3: a generation would be compiled anew at every length")


@pytest.mark.parametrize("text", ["prefill:2x5", "decode:2x5"])
def test_nothing_of_a_generations_parts_is_left_to_be_compiled_when_it_is_timed(text: str, graphs: list[Any]) -> None:
    model = tiny.model("llama", num_hidden_layers=1)
    expected = workload.call(workload.parse(text), model)()
    call = compiling.call(workload.parse(text), model)
    made = len(graphs)
    assert made
    assert relative_error(call(), expected) < 1e-5
    assert relative_error(call(), expected) < 1e-5
    assert len(graphs) == made


def test_both_arms_are_compiled_or_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    real = compiling.call

    def call(work: Workload, model: Any, head: bool) -> Any:
        compiled.append(model)
        return real(work, model, head)

    monkeypatch.setattr(compiling, "call", call)
    for compile_ in (True, False):
        bench = Bench(Options(threads=1, compile=compile_))
        subject = bench.subject("bert", "lm")
        pruned = bench.pruned(subject, L1)
        compiled.clear()
        monkeypatch.setattr(Bench, "noise_floor", lambda *asked: 0.0)
        found: Any = bench.latency(FakeBenchmark(), subject, pruned, pruned.model, "1x8", 0.1)  # type: ignore[arg-type]  # as much of it as is used
        assert (compiled == [subject.loaded.model, pruned.model]) is compile_
        assert (found.ceiling is None) is compile_
        assert found.flops
        compiled.clear()
        bench.dense_bytes("bert", "1x8")
        assert (compiled == [subject.loaded.model]) is compile_


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles what surrounds the kernel by g++")
@pytest.mark.filterwarnings("ignore:`torch.jit.*:DeprecationWarning")  # torch's own, on importing inductor
def test_torchs_own_compiler_gives_the_same_outputs_around_our_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    model = in_format(prune(model_of("bert"), L1), "packed")
    assert relative_error(compiling.call(WORKLOAD, model)(), workload.call(WORKLOAD, model)()) < 1e-5
