"""Auto: the outputs of the masked dense model, in formats neither wrong nor slower, and a word on what was chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from sparsity import auto, workload
from sparsity.auto import chosen, composed, told
from sparsity.errors import BadValue, Refused
from sparsity.execution import in_format, relative_error
from sparsity.formats import FORMATS, NAMES
from sparsity.formats.protocol import LayerWise
from sparsity.models.architecture import PrunableLayer
from sparsity.prune import PrunedModel, Recipe, prune
from sparsity.sparse_storage import sparse_layers
from sparsity.units import units_of
from tests import tiny
from tests.models.tiny import refusal
from tests.test_units import undescribed

RECIPES = {
    "single weights": Recipe("l1", 0.7),
    "global": Recipe("l1", 0.7, scope="global"),
    "2:4": Recipe("l1", 0.5, "2:4"),
    "4x1": Recipe("l1", 0.5, "4x1"),
    "neurons": Recipe("l1", 0.5, "neurons"),
    "layers": Recipe("l1", 0.5, "layers"),
}
WORKLOAD = workload.parse("3x7")


def run(model: Any) -> Callable[[], torch.Tensor]:
    return workload.call(WORKLOAD, model)


def fastest(pruned: PrunedModel) -> Any:
    return in_format(pruned, "auto", run)


class Slow(nn.Module):
    """A linear layer, computed as it should be, or off by a factor, after a while."""

    def __init__(self, layer: PrunableLayer, seconds: float = 0.0, factor: float = 1.0) -> None:
        super().__init__()
        self.layer, self.seconds, self.factor = layer.module, seconds, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        y: torch.Tensor = self.layer(x) * self.factor
        return y


@pytest.fixture
def only() -> Iterator[Callable[..., None]]:
    """Leaves these formats besides dense."""
    before = dict(FORMATS)

    def leave(**formats: Any) -> None:
        FORMATS.clear()
        FORMATS.update({"dense": before["dense"], **formats})

    yield leave
    FORMATS.clear()
    FORMATS.update(before)


@pytest.fixture
def slow_dense(monkeypatch: pytest.MonkeyPatch) -> Callable[[PrunedModel], None]:
    """Makes the prunable layers of a pruned model slow, so that any format that replaces them is faster."""

    def sleep(pruned: PrunedModel) -> None:
        for layer in pruned.layers:
            layer.module.register_forward_pre_hook(lambda module, args: time.sleep(0.003))

    return sleep


def linear(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module:
    """The same layer as another module, without the hooks of the first."""
    del mask
    outputs, inputs = layer.weight.shape
    made = nn.Linear(inputs, outputs, bias=layer.module.bias is not None)
    made.weight, made.bias = nn.Parameter(layer.weight), layer.module.bias  # type: ignore[assignment]  # as nn.Module types attributes
    return made.requires_grad_(False)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_computes_what_the_masked_dense_model_computes(family: str, recipe: str) -> None:
    pruned = prune(tiny.model(family), RECIPES[recipe])
    expected = run(pruned.model)()
    assert relative_error(run(fastest(pruned))(), expected) < 1e-5


@pytest.mark.parametrize("family", tiny.DESCRIBED)
def test_any_format_for_any_part_computes_what_dense_computes(family: str) -> None:
    pruned = prune(tiny.model(family), RECIPES["single weights"])
    expected = run(pruned.model)()
    formats: dict[str, str] = {}
    for i, unit in enumerate(units_of(pruned.model, pruned.layers)):
        formats |= {pruned.layers[place].name: ("packed", "csr", "dense", "bsr")[i % 4] for place in unit.layers}
    model = composed(pruned.model, pruned.layers, pruned.masks, formats)
    assert relative_error(run(model)(), expected) < 1e-5
    assert set(sparse_layers(model)) == {name for name, chosen in formats.items() if chosen != "dense"}


def test_the_pruned_model_stays_as_it_is() -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    modules, before, expected = list(pruned.model.modules()), tiny.state(pruned.model), run(pruned.model)()
    config = pruned.model.config.to_dict()
    fastest(pruned)
    assert list(pruned.model.modules()) == modules
    assert not any(module._forward_pre_hooks for module in modules)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pruned.model.state_dict().items())
    assert chosen(pruned.model) is None
    assert pruned.model.config.to_dict() == config
    assert torch.equal(run(pruned.model)(), expected)


def test_a_faster_format_is_chosen_and_said(only: Any, slow_dense: Any) -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    slow_dense(pruned)
    only(other=LayerWise(linear), slower=LayerWise(lambda layer, mask: Slow(layer, 0.002)))
    model = fastest(pruned)
    found = chosen(model)
    assert found is not None
    assert found.formats == {layer.name: "other" for layer in pruned.layers}
    assert (found.counts, found.notes) == ({"other": len(pruned.layers)}, ())
    assert all(type(model.get_submodule(layer.name)) is nn.Linear for layer in pruned.layers)
    assert relative_error(run(model)(), run(pruned.model)()) < 1e-6


def test_each_part_has_its_own_format(only: Any, slow_dense: Any) -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    slow_dense(pruned)

    def attention_alone(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module | str:
        return linear(layer, mask) if "attention" in layer.name else "it is no attention's"

    only(other=LayerWise(attention_alone))
    found = chosen(fastest(pruned))
    assert found is not None
    assert {name for name, each in found.formats.items() if each == "other"} == {
        layer.name for layer in pruned.layers if "attention" in layer.name
    }
    assert found.counts == {"other": 8, "dense": 4}


def test_a_format_that_computes_something_else_is_not_chosen_however_fast(only: Any, slow_dense: Any) -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    slow_dense(pruned)

    def wrong(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module:
        made = linear(layer, mask)
        made.weight = nn.Parameter(layer.weight * 1.01)
        return made

    only(wrong=LayerWise(wrong))
    found = chosen(fastest(pruned))
    assert found is not None
    assert found.counts == {"dense": len(pruned.layers)}
    (note,) = found.notes
    assert note.startswith("auto left out wrong: its values for bert.encoder.layer.")
    assert "are off by 1.0e-02 of their norm" in note


def test_what_is_right_in_parts_and_wrong_as_a_whole_leaves_everything_dense(only: Any, slow_dense: Any) -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    slow_dense(pruned)

    class WrongTogether:
        def unsupported(self, *about: object) -> None:
            return None

        def convert(self, model: Any, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]) -> Any:
            made = LayerWise(linear).convert(model, layers, masks)
            if len(layers) == len(pruned.layers):
                made.get_submodule(layers[-1].name).weight = nn.Parameter(layers[-1].weight * 2)
            return made

    only(wrong=WrongTogether())
    found = chosen(fastest(pruned))
    assert found is not None
    assert found.counts == {"dense": len(pruned.layers)}
    (note,) = found.notes
    assert note.startswith("auto left everything dense: its values for the whole model are off by ")


def test_a_slower_format_is_not_chosen(only: Any) -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    only(slow=LayerWise(lambda layer, mask: Slow(layer, 0.002)))
    model = fastest(pruned)
    found = chosen(model)
    assert found is not None
    assert (found.counts, found.notes) == ({"dense": len(pruned.layers)}, ())
    assert not any(isinstance(module, Slow) for module in model.modules())


def test_what_is_fast_in_parts_and_slow_as_a_whole_leaves_everything_dense(only: Any, slow_dense: Any) -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    slow_dense(pruned)

    class SlowTogether:
        def unsupported(self, *about: object) -> None:
            return None

        def convert(self, model: Any, layers: Sequence[PrunableLayer], masks: Sequence[torch.Tensor]) -> Any:
            all_of_them = len(layers) == len(pruned.layers)
            return LayerWise(lambda layer, mask: Slow(layer, 0.005) if all_of_them else linear(layer, mask)).convert(
                model, layers, masks
            )

    only(slow=SlowTogether())
    model = fastest(pruned)
    found = chosen(model)
    assert found is not None
    assert found.counts == {"dense": len(pruned.layers)}
    assert found.notes == ("auto left everything dense: as a whole it was not faster in other formats",)
    assert not any(isinstance(module, Slow) for module in model.modules())


def test_a_format_that_breaks_is_left_out_with_what_it_says(only: Any) -> None:
    def broken(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module:
        raise RuntimeError("no kernel for this shape\nand more")

    only(broken=LayerWise(broken))
    found = chosen(fastest(prune(tiny.model("bert"), RECIPES["single weights"])))
    assert found is not None
    assert found.notes == ("auto left out broken: no kernel for this shape",)


def test_what_a_format_refuses_is_no_news(only: Any) -> None:
    def refused(layer: PrunableLayer, mask: torch.Tensor) -> nn.Module:
        raise Refused("this build cannot")

    only(refused=LayerWise(refused), never=LayerWise(linear, lambda pattern, dtype, device: "not here"))
    found = chosen(fastest(prune(tiny.model("bert"), RECIPES["single weights"])))
    assert found is not None
    assert (set(found.counts), found.notes) == ({"dense"}, ())


def test_a_format_that_changes_nothing_in_a_part_is_not_chosen_for_it(only: Any, monkeypatch: Any) -> None:
    only(same=LayerWise(lambda layer, mask: layer.module))
    monkeypatch.setattr(auto, "race", lambda arms: dict.fromkeys(reversed(arms), 1.0) | {"dense": 9.0})
    found = chosen(fastest(prune(tiny.model("bert"), RECIPES["single weights"])))
    assert found is not None
    assert set(found.counts) == {"dense"}


def test_a_model_of_which_nothing_was_removed_stays_dense_without_a_measurement(monkeypatch: Any) -> None:
    monkeypatch.setattr(auto, "race", None)
    pruned = prune(tiny.model("bert"), Recipe("none", 0.0))
    found = chosen(fastest(pruned))
    assert found is not None
    assert found.counts == {"dense": len(pruned.layers)}


def test_a_family_that_is_not_described_is_chosen_for_matrix_by_matrix(
    only: Any, slow_dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = prune(undescribed("gpt2", monkeypatch), RECIPES["single weights"])
    slow_dense(pruned)
    only(other=LayerWise(linear))
    found = chosen(fastest(pruned))
    assert found is not None
    assert found.counts == {"other": len(pruned.layers)}


@pytest.mark.parametrize("pattern", ["neurons", "heads", "layers"])
def test_where_groups_were_removed_the_choice_is_between_dense_and_compact(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = prune(tiny.model("bert"), Recipe("l1", 0.5, pattern))
    for seconds, expected in ((0.5, "compact"), (1.5, "dense")):
        monkeypatch.setattr(auto, "race", lambda arms, s=seconds: {"dense": 1.0, "chosen": s})
        found = chosen(fastest(pruned))
        assert found is not None
        assert found.counts == {expected: len(pruned.layers)}


def test_what_fills_a_cache_beforehand_is_not_taken_for_a_pass() -> None:
    pruned = prune(tiny.model("gpt2"), RECIPES["single weights"])

    def run(model: Any) -> Any:
        call = workload.call(workload.parse("decode:1x5"), model)
        time.sleep(0.3)
        return call

    search = auto._Search(pruned.model, pruned.layers, pruned.masks, run)
    search.run_dense()
    assert 0 < search.dense_seconds < 0.3


@pytest.mark.parametrize("text", ["2x5+3", "decode:2x5"])
def test_a_generation_is_measured_by_its_tokens_one_at_a_time(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Size] = []
    real = auto._Search.part

    def part(self: Any, function: Any, x: torch.Tensor) -> Any:
        seen.append(x.shape)
        return real(self, function, x)

    monkeypatch.setattr(auto._Search, "part", part)
    pruned = prune(tiny.model("gpt2"), RECIPES["single weights"])
    generation = workload.parse(text)
    in_format(pruned, "auto", lambda model: workload.call(generation, model))
    assert {shape.numel() // shape[-1] for shape in seen} == {2}


def test_what_was_chosen_goes_into_the_record_and_the_configuration(only: Any, slow_dense: Any) -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    slow_dense(pruned)
    only(csr=FORMATS["csr"])
    model = fastest(pruned)
    found = chosen(model)
    assert found is not None
    assert found.counts == {"csr": len(pruned.layers)}
    record = told(pruned.counts, model)
    assert (record.choices, record.notes) == (found.counts, None)
    assert record.convert_seconds == found.seconds > 0
    assert told(pruned.counts, pruned.model) == pruned.counts
    said = {"format": "auto", "pattern": "unstructured", "formats": found.formats}
    assert model.config.sparse == said


def test_it_must_be_told_how_the_model_is_run() -> None:
    pruned = prune(tiny.model("bert"), RECIPES["single weights"])
    message = refusal(BadValue, lambda: in_format(pruned, "auto"))
    assert message.startswith("format auto chooses by measuring")
    assert "auto" in NAMES
    assert "auto" not in FORMATS
