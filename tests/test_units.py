"""Units: each prunable layer in one, feed-forward parts whole, each computing what the model computes there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsity.models.architecture import prunable_layers
from sparsity.models.families import ARCHITECTURES
from sparsity.units import Unit, alike, units_of
from tests import tiny


def undescribed(family: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model of a family whose description is taken away."""
    others = {name: each for name, each in ARCHITECTURES.items() if name != family}
    monkeypatch.setattr("sparsity.models.architecture.ARCHITECTURES", others)
    return tiny.model(family)


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_each_layer_is_in_one_unit_and_feed_forward_parts_are_whole(family: str) -> None:
    model = tiny.model(family)
    layers = prunable_layers(model)
    units = units_of(model, layers)
    assert [place for unit in units for place in sorted(unit.layers)] == list(range(len(layers)))
    parts = [unit for unit in units if unit.down is not None]
    gated = family in ("llama", "mistral", "qwen2", "t5-gated")
    assert len(parts) == len({layer.block for layer in layers})
    assert {len(unit.layers) for unit in parts} == {3 if gated else 2}
    assert all(len(unit.layers) == 1 for unit in units if unit.down is None)


def test_every_layer_of_a_family_that_is_not_described_is_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = undescribed("gpt2", monkeypatch)
    layers = prunable_layers(model)
    assert units_of(model, layers) == [Unit((i,), (layer.name,)) for i, layer in enumerate(layers)]


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_a_unit_computes_what_the_model_computes_between_its_ends(family: str) -> None:
    model = tiny.model(family)
    seen: dict[str, torch.Tensor] = {}
    units = units_of(model, prunable_layers(model))
    for unit in units:
        for path in (*unit.first[:1], unit.down):
            if path is not None:
                before = lambda module, args, path=path: seen.update({f"{path} given": args[0]})  # noqa: E731  # brief
                after = lambda module, args, output, path=path: seen.update({path: output})  # noqa: E731  # brief
                model.get_submodule(path).register_forward_pre_hook(before)
                model.get_submodule(path).register_forward_hook(after)
    (batch,) = tiny.batches(model, 1)
    with torch.inference_mode():
        model(**batch.inputs)
        for unit in units:
            given, expected = seen[f"{unit.first[0]} given"], seen[unit.down or unit.first[0]].clone()
            torch.testing.assert_close(unit.of(model)(given), expected)


def test_what_a_unit_holds_changes_with_any_of_its_modules_or_tensors() -> None:
    from sparsity.formats.protocol import skeleton

    model = tiny.model("bert")
    unit = next(unit for unit in units_of(model, prunable_layers(model)) if unit.down is not None)
    other = skeleton(model)
    assert unit.held(other) == unit.held(model)
    other.set_submodule(str(unit.activation), torch.nn.ReLU())
    assert unit.held(other) != unit.held(model)
    other = skeleton(model)
    down: Any = other.get_submodule(str(unit.down))
    down.weight = torch.nn.Parameter(down.weight.clone())
    assert unit.held(other) != unit.held(model)


def masks_with(shares: list[float], layers: list[Any]) -> list[torch.Tensor]:
    masks = []
    for layer, share in zip(layers, shares, strict=True):
        mask = torch.zeros(layer.weight.numel(), dtype=torch.bool)
        mask[: round(share * len(mask))] = True
        masks.append(mask.view(layer.weight.shape))
    return masks


def test_units_of_one_shape_and_nearly_the_same_share_are_alike() -> None:
    model = tiny.model("bert")
    layers = prunable_layers(model)
    units = units_of(model, layers)
    same = alike(units, layers, masks_with([0.5] * len(layers), layers))
    assert sorted(len(group) for group in same) == [2, 8]  # two feed-forward parts, eight matrices of attentions
    assert sorted(unit.layers for group in same for unit in group) == sorted(unit.layers for unit in units)
    shares = [0.25 if unit.down is None and unit.layers[0] < 3 else 0.5 for unit in units for _ in unit.layers]
    apart = alike(units, layers, masks_with(shares, layers))
    assert sorted(len(group) for group in apart) == [2, 3, 5]


def test_units_without_a_kept_weight_are_grouped_too() -> None:
    model = tiny.model("bert")
    layers = prunable_layers(model)
    shares = [i / len(layers) if i > 3 else 0.0 for i in range(len(layers))]
    found = alike(units_of(model, layers), layers, masks_with(shares, layers))
    assert len(found) <= 8
    assert sum(map(len, found)) == 10


def test_there_are_never_many_kinds_however_the_shares_differ() -> None:
    model = tiny.model("bert", num_hidden_layers=6)
    layers = prunable_layers(model)
    units = units_of(model, layers)
    shares = [(i + 1) / (len(layers) + 1) for i in range(len(layers))]
    found = alike(units, layers, masks_with(shares, layers))
    assert len(found) <= 8
    assert sorted(unit.layers for group in found for unit in group) == sorted(unit.layers for unit in units)
    for group in found:
        assert len({tuple(layers[i].weight.shape for i in unit.layers) for unit in group}) == 1
