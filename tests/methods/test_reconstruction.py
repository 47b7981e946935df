"""What each method leaves of a layer's outputs, on the embedded models and documents that are never evaluated.

All see the inputs of the dense model, so their errors ||WX - W'X||^2 can be compared. At sparsity 0.5,
where all compete alike (unstructured within the layer, 2:4), SparseGPT leaves less than Wanda and Wanda
less than magnitude in every single layer of all six models. Wanda within each row, as in its paper, beats
magnitude within each row in every layer too; but magnitude within the whole layer, which may take
more from one row than from another, only in total, not in each layer (not in GPT-2's c_attn).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch

from sparsity import gather
from sparsity.calibration import HESSIAN, LayerStatistics
from sparsity.methods import METHODS
from sparsity.models import embedded, hub
from sparsity.models.architecture import PrunableLayer, architecture_of, prunable_layers
from sparsity.tasks import quality
from tests.methods import layers as made_up

DOCUMENTS, BATCH_SIZE = 48, 24


class Model(NamedTuple):
    """An embedded model's layers, and what is known of their inputs."""

    layers: list[PrunableLayer]
    known: list[LayerStatistics]


@pytest.fixture(scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of small steps: threads would only wait for each other
    yield
    torch.set_num_threads(before)


@pytest.fixture(
    scope="module", params=[(name, task) for name in embedded.NAMES for task in quality.TASKS], ids="-".join
)
def model(request: pytest.FixtureRequest, _one_thread: None) -> Model:
    name, task = request.param
    loaded = hub.load(name, task, torch.float32, torch.device("cpu"))
    objective = architecture_of(name).objective
    documents = quality.build(
        task, loaded.model, loaded.tokenizer(), objective, DOCUMENTS, embedded.CALIBRATION_SEED, BATCH_SIZE
    )
    found = prunable_layers(loaded.model)
    seeds = [(0, i) for i in range(len(found))]
    known: dict[int, LayerStatistics] = {}
    for step in gather.in_sequence(loaded.model, found, documents.batches, {HESSIAN}, seeds):
        known |= step  # nothing is pruned between the blocks
    return Model(found, [known[i] for i in range(len(found))])


def errors(model: Model, method: str, pattern: str, scope: str) -> list[float]:
    """||WX - W'X||^2 of each layer at half of its weights: the trace of D H D^T, D = W - W', H = X X^T."""
    found = []
    for layer, known in zip(model.layers, model.known, strict=True):
        weight = layer.weight.clone()
        of_row = {"2:4": 2, "unstructured": weight.shape[1] // 2}[pattern]
        remove = of_row if scope == "row" else weight.numel() // 2
        target = made_up.target(pattern, remove, per_row=scope == "row")
        chosen = METHODS[method].prune_layer(weight.clone(), known, target)
        assert int(chosen.mask.sum()) * 2 == weight.numel()
        assert known.hessian is not None
        apart = (weight - chosen.pruned).double()
        found.append(float(((apart @ known.hessian) * apart).sum()))
    return found


@pytest.mark.parametrize(("pattern", "scope"), [("unstructured", "layer"), ("2:4", "row")])
def test_sparsegpt_beats_wanda_beats_magnitude_in_every_layer(model: Model, pattern: str, scope: str) -> None:
    magnitude, wanda, sparsegpt = (errors(model, method, pattern, scope) for method in ("l1", "wanda", "sparsegpt"))
    for layer, most, less, least in zip(model.layers, magnitude, wanda, sparsegpt, strict=True):
        assert 0 < least < less < most, f"{layer.name}: {least:.4g}, {less:.4g}, {most:.4g}"
    assert math.fsum(sparsegpt) < 0.5 * math.fsum(wanda), "and not by a hair"
    assert math.fsum(wanda) < 0.9 * math.fsum(magnitude)


def test_wanda_in_rows_beats_magnitude_in_rows_in_every_layer_and_in_the_layer_in_total(model: Model) -> None:
    wanda, in_rows, in_layer = (
        errors(model, method, "unstructured", scope)
        for method, scope in (("wanda", "row"), ("l1", "row"), ("l1", "layer"))
    )
    for layer, less, most in zip(model.layers, wanda, in_rows, strict=True):
        assert 0 < less < most, f"{layer.name}: {less:.4g}, {most:.4g}"
    assert math.fsum(wanda) < 0.9 * math.fsum(in_layer)
