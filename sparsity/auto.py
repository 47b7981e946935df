"""Auto: each part of a model in the format that is fastest on a workload, by measurement, dense among them.

One pass of the masked dense model tells what each part is given. Parts of one shape that keep about as many weights
share a measurement: the part is run in every format by turns, and a format is chosen that gives the same values in
clearly less time than dense. The model that is put together so is held against the dense one as a whole; where it is
not faster, everything stays dense. So auto costs a few passes, and is never slower than dense but by what noise hides.

What was chosen, and which formats were left out for what, is kept with the model (`chosen`).

Refuses nothing: what cannot run, or gives other values, is not chosen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sparsity import pattern as patterns
from sparsity.closeness import CLOSE, relative_error
from sparsity.errors import Refused, SparsityError
from sparsity.formats import FORMATS
from sparsity.formats.protocol import skeleton
from sparsity.measure import duet, latency
from sparsity.measure.race import LONG, race, winner
from sparsity.units import alike, units_of

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from sparsity.measure.duet import Call
    from sparsity.models.architecture import PrunableLayer
    from sparsity.record import Pruned
    from sparsity.units import Unit

    Run = Callable[[PreTrainedModel], Callable[[], torch.Tensor]]
    """Gives what runs a model on a workload, and returns what it computed."""

DENSE = "dense"
NEVER = (DENSE, "masked", "bf16")
"""Not among those that dense is compared with: what never pays, and what computes in another dtype."""
WHOLE = ("compact",)
"""Of a whole model or not at all, and the only ones where whole groups are removed."""
CLEAR = 1.5
"""A long pass that takes as many times less than the dense one needs no turns."""
ATTRIBUTE = "chosen_formats"


@dataclass(frozen=True)
class Chosen:
    """What auto decided."""

    formats: dict[str, str]
    """By prunable layer."""
    notes: tuple[str, ...]
    """Formats that were left out, and why; and whether the model as a whole was not faster."""
    seconds: float
    """What choosing took, conversions included."""

    @property
    def counts(self) -> dict[str, int]:
        """Layers in each format, the most frequent first."""
        return dict(Counter(self.formats.values()).most_common())


def chosen(model: nn.Module) -> Chosen | None:
    """What auto decided for a model; None of one that it did not make."""
    return getattr(model, ATTRIBUTE, None)


def told(counts: Pruned, model: nn.Module) -> Pruned:
    """The record of what was removed, with what auto decided for the model."""
    if (found := chosen(model)) is None:
        return counts
    notes = [*(counts.notes or ()), *found.notes]
    return replace(counts, choices=found.counts, convert_seconds=found.seconds, notes=notes or None)


def fastest(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    masks: Sequence[torch.Tensor],
    pattern: str,
    run: Run,
) -> PreTrainedModel:
    """A masked dense model, its layers and masks, in the formats that are fastest where it is run so."""
    started = time.perf_counter()
    search = _Search(model, layers, masks, run)
    with duet.without_garbage_collection():
        formats = search.choose(patterns.parse(pattern))
        result = search.held(formats)
        if result is None:
            formats = dict.fromkeys(formats, DENSE)
            result = skeleton(model)
    setattr(result, ATTRIBUTE, Chosen(formats, tuple(search.notes), time.perf_counter() - started))
    return result


def composed(
    model: PreTrainedModel,
    layers: Sequence[PrunableLayer],
    masks: Sequence[torch.Tensor],
    formats: Mapping[str, str],
) -> PreTrainedModel:
    """A masked dense model with each prunable layer in its own format, by name."""
    result = skeleton(model)
    for name in dict.fromkeys(formats.values()):
        if name != DENSE:
            some = [(a, b) for a, b in zip(layers, masks, strict=True) if formats[a.name] == name]
            result = FORMATS[name].convert(result, [layer for layer, _ in some], [mask for _, mask in some])
    return result


@dataclass
class _Search:
    """What is known while formats are chosen."""

    model: PreTrainedModel
    layers: Sequence[PrunableLayer]
    masks: Sequence[torch.Tensor]
    run: Run
    notes: list[str] = field(default_factory=list)
    expected: torch.Tensor | None = None
    """What the masked dense model computes, once it ran."""
    dense_seconds: float = 0.0
    """What that took."""

    def choose(self, shape: patterns.ElementPattern | patterns.GroupPattern) -> dict[str, str]:
        """The format of each prunable layer, by its name."""
        dtype, device = str(self.model.dtype).removeprefix("torch."), self.model.device.type
        names = [n for n, each in FORMATS.items() if n not in NEVER and not each.unsupported(shape, dtype, device)]
        formats = {layer.name: DENSE for layer in self.layers}
        if all(bool(mask.all()) for mask in self.masks):
            return formats
        if isinstance(shape, patterns.GroupPattern):
            self.run_dense()
            return {name: next((whole for whole in WHOLE if whole in names), DENSE) for name in formats}
        groups = alike(units_of(self.model, self.layers), self.layers, self.masks)
        parts = [group[len(group) // 2] for group in groups]
        given = self.given(parts)
        runs = self.runs(parts, [name for name in names if name not in WHOLE], given)
        for group, part in zip(groups, parts, strict=True):
            if part in given:
                best = winner(race(runs[part]), DENSE)
                formats |= {self.layers[i].name: best for unit in group for i in unit.layers}
        return formats

    def call(self, function: Callable[[], torch.Tensor]) -> Call:
        """The function, returning when the device is done."""
        return latency.on_device(function, str(self.model.device))

    def run_dense(self) -> None:
        """Runs the masked dense model."""
        call = self.call(self.run(self.model))  # which may fill a cache
        started = time.perf_counter()
        self.expected = call()  # type: ignore[assignment]  # a call gives whatever it gives
        self.dense_seconds = time.perf_counter() - started

    def given(self, parts: Sequence[Unit]) -> dict[Unit, torch.Tensor]:
        """What each of these parts is given last in the masked dense model; nothing of one that is not called.

        In a generation that is a single token, as nearly always.
        """
        found: dict[Unit, torch.Tensor] = {}

        def keep(part: Unit) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
            return lambda module, args: found.update({part: args[0].clone()})

        hooks = [self.model.get_submodule(part.first[0]).register_forward_pre_hook(keep(part)) for part in parts]
        try:
            self.run_dense()
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def runs(
        self, parts: Sequence[Unit], names: Sequence[str], given: Mapping[Unit, torch.Tensor]
    ) -> dict[Unit, dict[str, Call]]:
        """Calls of each part in every format that changes it and computes what dense does."""
        found = {part: {DENSE: self.part(part.of(self.model), x)} for part, x in given.items()}
        expected = {part: calls[DENSE]() for part, calls in found.items()}
        for name in names:
            try:
                calls = self.calls(name, parts, given)
                for part, call in calls.items():
                    self.check(call(), expected[part], self.layers[part.layers[0]].name)
            except Refused:  # as if it were unsupported
                continue
            except (SparsityError, RuntimeError) as error:  # a kernel refuses a shape when it meets it
                self.notes.append(f"auto left out {name}: {first_line(error)}")
                continue
            for part, call in calls.items():
                found[part][name] = call
        return found

    def calls(self, name: str, parts: Sequence[Unit], given: Mapping[Unit, torch.Tensor]) -> dict[Unit, Call]:
        """Of those parts that are not as in the dense model."""
        places = sorted(i for part in parts for i in part.layers)
        model = FORMATS[name].convert(self.model, [self.layers[i] for i in places], [self.masks[i] for i in places])
        changed = [part for part in given if part.held(model) != part.held(self.model)]
        return {part: self.part(part.of(model), given[part]) for part in changed}

    def check(self, output: Any, expected: Any, what: str) -> None:
        """Raises `SparsityError` where an output is not what dense gives; tokens may change by rounding."""
        if not output.is_floating_point():
            return
        error = relative_error(output, expected)
        if not error <= CLOSE[str(output.dtype).removeprefix("torch.")]:
            raise SparsityError(f"its values for {what} are off by {error:.1e} of their norm")

    def part(self, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Call:
        """A call of a part on its input."""
        import torch

        def forward() -> torch.Tensor:
            with torch.inference_mode():
                return function(x)

        return self.call(forward)

    def held(self, formats: Mapping[str, str]) -> PreTrainedModel | None:
        """The model in these formats; None where it as a whole is not what dense computes, in less time."""
        try:
            result = composed(self.model, self.layers, self.masks, formats)
            if set(formats.values()) == {DENSE} or self.pays(result):
                return result
            why = "as a whole it was not faster in other formats"
        except (SparsityError, RuntimeError) as error:
            why = first_line(error)
        self.notes.append(f"auto left everything dense: {why}")
        return None

    def pays(self, result: PreTrainedModel) -> bool:
        """Whether a model takes less time than the dense one; raises `SparsityError` where its outputs are others."""
        own = self.call(self.run(result))
        started = time.perf_counter()
        output = own()
        seconds = time.perf_counter() - started
        self.check(output, self.expected, "the whole model")
        if self.dense_seconds > max(LONG, CLEAR * seconds):
            return True
        return winner(race({DENSE: self.call(self.run(self.model)), "chosen": own}), DENSE) != DENSE


def first_line(error: Exception) -> str:
    """What an error says, briefly."""
    return (str(error).splitlines() or [type(error).__name__])[0]
