"""That the distributions show the counts, and each pruning threshold where the counts put it."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np
import pytest
from matplotlib.axes import Axes

from reports.distributions import layer_dist, model_counts, near_zero, num_dist, thresholds
from sparsity.record import Cell, LayerWeights, Record, Weights
from tests.reports import builders


def dashed(axes: Axes) -> list[float]:
    """The places of the dashed vertical lines."""
    found = [np.asarray(line.get_xdata(), dtype=float) for line in axes.get_lines() if len(line.get_xdata()) == 2]  # type: ignore[arg-type]  # numbers
    return sorted(float(xs[0]) for xs in found if xs[0] == xs[1])


def marks(axes: Axes) -> list[tuple[float, float]]:
    """(value, row) of the ticks of layers."""
    found = [line for line in axes.get_lines() if line.get_marker() == "|"]
    return [tuple(pair) for line in found for pair in line.get_xydata().tolist()]  # type: ignore[union-attr]  # an array


def pruned(*sparsities: float, model: str = "bert", scope: str = "layer") -> list[Record]:
    return [builders.nll(model, "l1", scope, sparsity) for sparsity in sparsities]


def two_layers() -> Weights:
    """Eight prunable weights a layer in bins of one; the norm lies beyond them."""
    counts = [[0, 1, 2, 2, 2, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 100]]
    edges = [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    names = ("first", "second", "norm")
    return Weights(
        edges,
        [
            LayerWeights(name, name != "norm", sum(own), 0.0, 1.0, -3.0, 3.5, own)
            for name, own in zip(names, counts, strict=True)
        ],
    )


def test_a_threshold_is_exact_at_a_bin_edge_and_interpolated_within() -> None:
    weights = two_layers()
    first = thresholds(weights, weights.layers[:1], [0.5, 0.75, 0.25])
    assert first == {0.5: pytest.approx(1.0), 0.75: pytest.approx(1 + 2 / 3), 0.25: pytest.approx(0.5)}
    assert thresholds(weights, weights.layers[1:2], [0.5]) == {0.5: pytest.approx(2.0)}
    both = thresholds(weights, weights.layers[:2], [0.375])
    assert both == {0.375: pytest.approx(1.0)}, "4 and 2 of 16 lie within one of zero"


def test_a_threshold_of_values_beyond_the_bins_is_not_known() -> None:
    weights = two_layers()
    wider = dataclasses.replace(weights.layers[0], parameters=16)
    assert thresholds(weights, [wider], [0.25, 0.6, 0.0]) == {0.25: pytest.approx(1.0)}
    assert thresholds(weights, [], [0.5]) == {}


def test_thresholds_of_normal_weights_are_quantiles() -> None:
    weights = builders.weights(layers=1, bins=2001, parameters=1_000_000).weights
    assert weights is not None
    std = weights.layers[0].std
    for sparsity, found in thresholds(weights, weights.layers[:1], [0.1, 0.5, 0.9]).items():
        assert found == pytest.approx(NormalDist(0, std).inv_cdf((1 + sparsity) / 2), rel=0.01)


def test_num_dist_draws_the_threshold_of_each_sparsity_of_the_run() -> None:
    record = builders.weights(layers=3)
    assert record.weights is not None
    figure = num_dist("bert", [record, *pruned(0.5, 0.9), *pruned(0.7, model="gpt2")])
    assert figure is not None
    own = thresholds(record.weights, [layer for layer in record.weights.layers if layer.prunable], [0.5, 0.9])
    assert dashed(figure.axes[0]) == pytest.approx(sorted(s * x for x in own.values() for s in (-1, 1)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.5", "0.9"]
    assert "Dashed" in figure.texts[-1].get_text()


def test_at_most_five_thresholds_and_those_of_the_study_first() -> None:
    figure = num_dist("bert", [builders.weights(), *pruned(0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)])
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.1", "0.5", "0.9", "0.95", "0.99"]


def test_layers_are_marked_at_their_own_threshold() -> None:
    weights = two_layers()
    record = Record(Cell("bert"), weights=weights, outcome="passed")
    figure = layer_dist("bert", [record, *pruned(0.5, 0.95), *pruned(0.9, scope="global")])
    assert figure is not None
    own = [thresholds(weights, [layer], [0.95])[0.95] for layer in weights.layers[:2]]
    expected = [(sign * own[row], row + 0.5) for row in (0, 1) for sign in (-1, 1)]
    assert marks(figure.axes[0]) == [pytest.approx(pair) for pair in expected], "0.9 was pruned over the whole model"
    assert "below this magnitude lie 0.95" in figure.texts[-1].get_text()
    with_study = layer_dist("bert", [record, *pruned(0.5, 0.9, 0.95)])
    assert with_study is not None
    assert "lie 0.9 of" in with_study.texts[-1].get_text()


def test_without_pruning_by_magnitude_there_is_no_threshold() -> None:
    groups = dataclasses.replace(pruned(0.5)[0].cell, pattern="neurons")
    others = [builders.nll("bert", "random", "layer", 0.5), dataclasses.replace(pruned(0.5)[0], cell=groups)]
    for draw in (num_dist, layer_dist):
        figure = draw("bert", [builders.weights(), *others], "footer")
        assert figure is not None
        assert dashed(figure.axes[0]) == []
        assert marks(figure.axes[0]) == []
        assert not figure.axes[0].texts
        assert "magnitude" not in figure.texts[-1].get_text()


def test_no_distribution_without_counts() -> None:
    assert num_dist("bert", [builders.latency()]) is None
    assert layer_dist("bert", [builders.weights("gpt2")]) is None


def test_num_dist_shows_every_count_and_the_share_near_zero() -> None:
    record = builders.weights(layers=3)
    assert record.weights is not None
    figure = num_dist("bert", [record], "footer")
    assert figure is not None
    (stairs,) = figure.axes[0].patches[:1]
    counts, edges, _ = stairs.get_data()  # type: ignore[attr-defined]  # a StepPatch; the stub knows patches only
    assert list(counts) == model_counts(record.weights)
    assert list(edges) == record.weights.edges
    assert figure.axes[0].get_yscale() == "log"
    low, high, share = near_zero(record.weights)
    assert f"{share:.1%} of the values lie between" in figure.get_suptitle()
    largest = max(layer.maximum for layer in record.weights.layers)
    assert low <= -0.01 * largest < 0.01 * largest <= high


def test_bins_of_different_width_are_drawn_as_densities() -> None:
    record = builders.weights(layers=1, bins=4)
    assert record.weights is not None
    uneven = dataclasses.replace(record.weights, edges=[-2.0, -1.0, 0.0, 1.0, 3.0])
    figure = num_dist("bert", [dataclasses.replace(record, weights=uneven)])
    assert figure is not None
    counts, _, _ = figure.axes[0].patches[0].get_data()  # type: ignore[attr-defined]  # a StepPatch, as above
    assert counts[3] == model_counts(uneven)[3] / 2
    assert "per unit" in figure.axes[0].get_ylabel()


@pytest.mark.parametrize("layers", [1, 24, 200])
def test_layer_dist_has_one_row_per_layer_and_room_for_its_names(layers: int) -> None:
    record = builders.weights(layers=layers, bins=41)
    figure = layer_dist("bert", [record])
    assert figure is not None
    assert record.weights is not None
    axes = figure.axes[0]
    mesh = axes.collections[0].get_array()
    assert mesh is not None
    assert np.ma.filled(mesh, 0).shape == (layers + 1, 41)
    assert np.allclose(mesh.max(axis=1), 1.0), "every layer is relative to its own peak"
    labels = axes.get_yticklabels()
    assert figure.get_figheight() <= 16
    assert figure.get_figheight() * 72 / len(labels) >= 7, "a name of 6 points needs 7"
    assert labels[0].get_text() == record.weights.layers[0].name
    assert axes.get_ylim() == (layers + 1, 0)


def test_the_unpruned_weights_stand_first() -> None:
    dense = builders.weights(layers=2)
    cut = dataclasses.replace(dense, cell=Cell("bert", "l1", "unstructured", "layer", 0.5))
    figure = num_dist("bert", [cut, dense])
    assert figure is not None
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["not pruned", "l1 · unstructured · layer · 0.5"]
