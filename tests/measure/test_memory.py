"""Peak memory and resident bytes are exact, and a measured zero is told from nothing measured."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn
from torch.nn.utils import prune as torch_prune

from sparsity.errors import Refused
from sparsity.measure import memory

ROOT = Path(__file__).parents[2]


def block(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8)


def one_after_the_other() -> None:
    first = block(3000)
    del first
    block(2000)


def middle_is_highest() -> None:
    a = block(1000)
    b = block(2000)
    del a
    c = block(500)
    del b, c


def end_is_highest() -> None:
    a = block(1000)
    b = block(2000)
    del a
    c = block(5000)
    del b, c


def recursion(depth: int = 4) -> None:
    held = block(100)
    if depth > 1:
        recursion(depth - 1)
    del held


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(lambda: None, 0, id="nothing"),
        pytest.param(lambda: block(1), 1, id="one byte"),
        pytest.param(lambda: block(3001), 3001, id="a result that is returned"),
        pytest.param(lambda: [block(100) for _ in range(7)], 700, id="seven at once"),
        (one_after_the_other, 3000),
        (middle_is_highest, 3000),
        (end_is_highest, 7000),
        (recursion, 400),
    ],
)
@pytest.mark.parametrize("warmups", [0, 2])
def test_peak_is_the_one_that_can_be_counted_by_hand(
    function: Callable[[], object], expected: int, warmups: int
) -> None:
    assert memory.peak_memory(function, warmups=warmups) == memory.Peak(expected, memory.CPU_SOURCE)


def test_peak_of_a_product_is_its_result_alone() -> None:
    left, right = torch.ones(10, 20), torch.ones(20, 30)
    assert memory.peak_memory(lambda: left @ right).bytes == 10 * 30 * 4


@pytest.mark.parametrize("warmups", [0, 1])
def test_what_the_call_before_left_is_released_in_the_count(warmups: int) -> None:
    kept: dict[str, torch.Tensor] = {}

    def replaces() -> None:  # the new one is there before the old one goes
        kept["weight"] = block(1000)

    def releases_first() -> None:
        kept.clear()
        kept["weight"] = block(1000)
        block(10)

    def replaces_then_computes() -> None:  # beyond the 1000 that were resident: 1000 new, later 700
        kept["weight"] = block(1000)
        block(700)

    assert memory.peak_memory(replaces, warmups=warmups).bytes == 1000
    assert memory.peak_memory(releases_first, warmups=warmups).bytes == 10
    assert memory.peak_memory(replaces_then_computes, warmups=warmups).bytes == 1000


def test_memory_that_was_resident_is_not_in_the_peak() -> None:
    kept = block(1_000_000)
    assert memory.peak_memory(lambda: kept[:10].clone()).bytes == 10


FORWARD = """
import torch
from torch import nn
from sparsity.measure.memory import peak_memory

layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
inputs = torch.zeros(3, 5, 16)
def forward():
    with torch.inference_mode():
        return layer(inputs)
peaks = [peak_memory(forward).bytes for _ in range(3)]
"""


def test_equal_runs_give_equal_bytes_also_in_a_fresh_process() -> None:
    here: dict[str, Any] = {}
    exec(FORWARD, here)  # noqa: S102  # the same text in this process as in the other
    command = [sys.executable, "-c", FORWARD + "print(peaks)"]
    there = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert here["peaks"][0] >= 3 * 5 * 16 * 4  # at least the output
    assert here["peaks"] == [here["peaks"][0]] * 3
    assert str(here["peaks"]) in there.stdout.splitlines()


@pytest.mark.parametrize(("warmups", "calls"), [(0, 2), (1, 3), (4, 6)])
def test_the_function_is_called_warm_and_as_often_as_documented(warmups: int, calls: int) -> None:
    made: list[int] = []
    memory.peak_memory(lambda: made.append(1), warmups=warmups)
    assert len(made) == calls


@pytest.fixture
def collector() -> Iterator[None]:
    """Restores the garbage collector whatever a test left."""
    enabled = gc.isenabled()
    yield
    if enabled:
        gc.enable()
    else:
        gc.disable()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("fails_at", [None, 1, 2, 3])
def test_the_garbage_collector_rests_in_the_measured_calls_and_is_restored(enabled: bool, fails_at: int | None) -> None:
    states: list[bool] = []

    def function() -> None:
        states.append(gc.isenabled())
        if len(states) == fails_at:
            raise ZeroDivisionError

    if enabled:
        gc.enable()
    else:
        gc.disable()
    if fails_at is None:
        memory.peak_memory(function)
    else:
        with pytest.raises(ZeroDivisionError):
            memory.peak_memory(function)
    assert gc.isenabled() is enabled
    assert states == [enabled, False, False][:fails_at]


def test_a_failed_call_does_not_spoil_the_next_measurement() -> None:
    def fails() -> None:
        kept = block(100)
        raise ZeroDivisionError(kept)

    with pytest.raises(ZeroDivisionError):
        memory.peak_memory(fails, warmups=0)
    assert memory.peak_memory(lambda: block(123)).bytes == 123


def test_garbage_of_the_caller_is_not_the_functions() -> None:
    class Ring:
        def __init__(self) -> None:
            self.me, self.tensor = self, block(1_000_000)

    def makes_a_ring() -> None:
        Ring()

    assert memory.peak_memory(makes_a_ring).bytes == 1_000_000


def test_a_profiler_without_memory_events_is_refused_and_not_a_peak_of_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.autograd.profiler.profile

    def deaf(*, profile_memory: bool, **settings: Any) -> Any:
        assert profile_memory
        return real(profile_memory=False, **settings)

    monkeypatch.setattr(torch.autograd.profiler, "profile", deaf)
    with pytest.raises(Refused, match="no memory events"):
        memory.peak_memory(lambda: block(1000))


def test_cuda_peak_is_net_of_what_was_resident_and_synchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    allocated, peak, log = 700, 700, []

    def function() -> None:
        nonlocal peak
        log.append("call")
        peak = max(peak, allocated + 300)

    def reset(device: str) -> None:
        nonlocal peak
        log.append(f"reset {device}")
        peak = allocated

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append(f"wait {device}"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak)
    peak = 5000  # left by something before
    assert memory.peak_memory(function, "cuda:1", warmups=2) == memory.Peak(300, memory.CUDA_SOURCE)
    assert log == ["call", "call", "wait cuda:1", "reset cuda:1", "call", "wait cuda:1"]


def linear() -> nn.Linear:
    """48 bytes of weight and 12 of bias."""
    return nn.Linear(4, 3)


def test_resident_counts_parameters_and_buffers() -> None:
    module = linear()
    module.register_buffer("counts", torch.zeros(5, dtype=torch.int64))
    module.register_buffer("unsaved", torch.zeros(2, dtype=torch.float64), persistent=False)
    module.register_parameter("absent", None)
    assert memory.resident_bytes(nn.Sequential(module, nn.ReLU())) == 48 + 12 + 40 + 16


def test_resident_counts_a_tie_once() -> None:
    embedding, head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    assert memory.resident_bytes(nn.ModuleList([embedding, head])) == 2 * 160
    head.weight = embedding.weight
    assert memory.resident_bytes(nn.ModuleList([embedding, head])) == 160


def test_resident_counts_a_whole_storage_once_however_many_views() -> None:
    module = nn.Module()
    whole = torch.zeros(100, dtype=torch.uint8)
    module.register_buffer("head", whole[:10])
    module.register_buffer("tail", whole[90:].view(2, 5))
    assert memory.resident_bytes(module) == 100


def test_resident_counts_all_three_tensors_of_torchs_reparametrisation() -> None:
    module = linear()
    torch_prune.l1_unstructured(module, "weight", amount=0.5)
    assert not isinstance(module.weight, nn.Parameter)  # a plain attribute, computed from the other two
    assert memory.resident_bytes(module) == 3 * 48 + 12
    torch_prune.remove(module, "weight")
    assert memory.resident_bytes(module) == 48 + 12


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")  # torch's words on every CSR
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")
def test_resident_counts_indices_and_values_of_csr() -> None:
    module = nn.Module()
    crow, columns, values = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 3, 0]), torch.tensor([1.0, 2.0, 3.0])
    csr = torch.sparse_csr_tensor(crow, columns, values, (3, 4))
    module.weight = nn.Parameter(csr, requires_grad=False)
    assert memory.resident_bytes(module) == 4 * 8 + 3 * 8 + 3 * 4


def test_resident_refuses_a_layout_that_it_cannot_count() -> None:
    module = nn.Module()
    module.register_buffer("weight", torch.eye(3).to_sparse_coo())
    with pytest.raises(Refused, match="sparse_coo"):
        memory.resident_bytes(module)


def test_resident_depends_on_the_dtype_and_not_on_the_values() -> None:
    module = linear()
    nn.init.zeros_(module.weight)
    assert memory.resident_bytes(module) == 60
    assert memory.resident_bytes(module.to(torch.bfloat16)) == 30


DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.uint8, torch.int64, torch.bool, torch.complex64)


@given(
    st.dictionaries(
        st.text(max_size=20), st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 40), max_size=3)), max_size=12
    ),
    st.none() | st.dictionaries(st.text(max_size=9), st.text(max_size=9), min_size=1, max_size=1),
)
def test_the_size_of_a_file_is_that_of_the_file(
    shapes: dict[str, tuple[torch.dtype, list[int]]], metadata: dict[str, str] | None
) -> None:
    shapes.pop("__metadata__", None)
    real = {name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in shapes.items()}
    on_meta = {name: tensor.to("meta") for name, tensor in real.items()}
    assert memory.file_bytes(real, metadata) == memory.file_bytes(on_meta, metadata) == len(save(real, metadata))


@pytest.mark.parametrize(("total", "dense", "expected"), [(10, 10, "same"), (9, 10, "smaller"), (11, 10, "larger")])
def test_the_verdict_is_exact(total: int, dense: int, expected: str) -> None:
    assert memory.verdict(total, dense) == expected
