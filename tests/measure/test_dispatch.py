"""What multiplied matrices is told by what ran, dense from sparse, each product once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from sparsity.measure import dispatch
from sparsity.measure.dispatch import products
from sparsity.record import Products

X, BIAS = torch.ones(6, 16), torch.ones(8)
W = torch.ones(8, 16).triu()


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def sparse(layout: str) -> torch.Tensor:
    """W in a sparse layout."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its compressed layouts beta
        made: Any = {"csr": W.to_sparse_csr, "bsr": lambda: W.to_sparse_bsr((4, 4)), "coo": W.to_sparse}[layout]
        weight: torch.Tensor = made()
        return weight


DENSE: dict[str, tuple[str, Callable[[], object]]] = {
    "linear": ("aten::addmm float32", lambda: linear(X, W, BIAS)),
    "without a bias": ("aten::mm float32", lambda: linear(X, W)),
    "of three axes": ("aten::addmm float32", lambda: linear(X[None], W, BIAS)),
    "transposed, as GPT-2's": ("aten::addmm float32", lambda: torch.addmm(BIAS, X, W.t())),
    "bfloat16": ("aten::addmm bfloat16", lambda: linear(X.bfloat16(), W.bfloat16(), BIAS.bfloat16())),
    "batched": ("aten::bmm float32", lambda: X[None] @ W.t()[None]),
    "vector": ("aten::mv float32", lambda: W @ X[0]),
    "attention": (
        "aten::scaled_dot_product_attention float32",
        lambda: scaled_dot_product_attention(X[None, None], X[None, None], X[None, None]),
    ),
}


@pytest.mark.parametrize("case", DENSE)
def test_a_dense_product_is_seen_once_by_its_operator(case: str) -> None:
    name, function = DENSE[case]
    assert products(function) == Products({name: 1}, {})


@pytest.mark.parametrize("layout", ["csr", "bsr", "coo"])
def test_a_product_of_a_sparse_layout_is_sparse(layout: str) -> None:
    weight = sparse(layout)
    found = products(lambda: weight @ X.t())
    assert found.dense == {}
    assert list(found.sparse.values()) == [1]


@pytest.mark.parametrize("layout", ["csr", "bsr"])
def test_so_is_one_with_a_bias_or_a_vector_or_without_any_weight(layout: str) -> None:
    weight = sparse(layout)
    empty = torch.sparse_compressed_tensor(
        torch.zeros(9, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0), (8, 16),
        layout=torch.sparse_csr, check_invariants=False,
    )  # fmt: skip
    functions: list[Callable[[], object]] = [
        lambda: torch.addmm(BIAS[:, None].expand(-1, 6), weight, X.t()),
        lambda: weight @ X[0],
        lambda: torch.addmv(BIAS, weight, X[0]),
        lambda: empty @ X.t(),
    ]
    for function in functions:
        found = products(function)
        assert (found.dense, list(found.sparse.values())) == ({}, [1])


def test_a_sparse_weight_made_dense_is_a_dense_product() -> None:
    weight = sparse("csr")
    assert products(lambda: linear(X, weight.to_dense())) == Products({"aten::mm float32": 1}, {})


def test_products_are_counted_and_all_else_is_not() -> None:
    weight = sparse("csr")

    def call() -> None:
        for _ in range(3):
            torch.relu(linear(X, W)) + 1
        weight @ X.t()

    found = products(call)
    assert found == Products({"aten::mm float32": 3}, {"aten::mm float32": 1})
    assert products(lambda: torch.ones(3) + 1) == Products({}, {})


def test_an_operator_of_a_librarys_own_hides_what_it_is_made_of_where_it_is_told_of() -> None:
    with torch.library._scoped_library("tests_of_dispatch", "DEF") as library:
        library.define("spmm(Tensor x) -> Tensor")
        library.impl("spmm", lambda x: linear(x, W), "CPU")
        call = torch.ops.tests_of_dispatch.spmm
        name = "tests_of_dispatch::spmm"
        assert products(lambda: call(X), own=[name]) == Products({}, {f"{name} float32": 1})
        assert products(lambda: call(X)) == Products({"aten::mm float32": 1}, {})
    assert dispatch.operator(f"{name} float32") == name


class Event(SimpleNamespace):
    """One of the profiler's, on a CPU or on a GPU."""

    def __init__(self, name: str, start: int, end: int, device: str = "CPU", **more: Any) -> None:
        values = {"thread": 1, "id": 0, "link": 0, "dtypes": ["float"]} | more
        super().__init__(
            name=lambda: name,
            start_ns=lambda: start,
            duration_ns=lambda: end - start,
            device_type=lambda: SimpleNamespace(name=device),
            start_thread_id=lambda: values["thread"],
            correlation_id=lambda: values["id"],
            linked_correlation_id=lambda: values["link"],
            dtypes=lambda: values["dtypes"],
        )


def test_on_a_gpu_the_kernels_of_products_are_told_and_no_others() -> None:
    found = dispatch._told(
        [
            Event("aten::addmm", 0, 10, id=1),
            Event("aten::_cslt_sparse_mm", 2, 9, id=2),
            Event("aten::relu", 11, 12, id=3),
            Event("aten::mm", 13, 20, id=4),
            Event("cusparseLt", 30, 40, "CUDA", link=2),
            Event("elementwise", 40, 45, "CUDA", link=3),
            Event("cutlass_gemm", 45, 50, "CUDA", link=4),
            Event("splitK", 50, 55, "CUDA", link=4),
        ],
        frozenset(),
    )
    kernels = {"cusparseLt": 1, "cutlass_gemm": 1, "splitK": 1}
    assert found == Products({"aten::mm float32": 1}, {"aten::addmm float32": 1}, kernels)


def test_what_another_thread_does_meanwhile_is_no_part_of_a_product() -> None:
    events = [Event("aten::mm", 0, 10), Event("aten::crow_indices", 2, 3, thread=2)]
    assert dispatch._told(events, frozenset()).sparse == {}
    inside = [Event("aten::mm", 0, 10), Event("aten::crow_indices", 2, 3)]
    assert dispatch._told(inside, frozenset()).sparse == {"aten::mm float32": 1}


def test_a_dtype_that_is_no_floating_point_is_not_told() -> None:
    assert dispatch._told([Event("aten::mm", 0, 1, dtypes=["long int", ""])], frozenset()).dense == {"aten::mm": 1}
