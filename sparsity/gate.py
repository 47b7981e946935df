"""Is a cell worse than the same cell of a baseline: its counts, bytes and operations, and its quality.

What a run counts is the same in two runs of the same code, so any difference is told: of some numbers every change
is a regression, of others only more. Quality is as exact on the same machine with the same software; elsewhere the
differences from dense are compared, whose standard errors say what may be chance. Both runs saw the same documents, so
the errors of their difference are smaller than is assumed here: a loss is found late, never out of nothing.

Cells of format `auto` choose formats by measurement, so what they hold and multiply is compared only where they chose
the same. Time is judged in `gate_time`, whole files in `comparison`.

Refuses to guess: a number that the baseline has and the other run lacks is a finding, and so is what cannot be
compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from sparsity.judging import CONFIDENCE, MARGINS, Harness
from sparsity.record import Cell, Products, Quality, Record

FINE, REGRESSION, INCOMPLETE, NOISY = 0, 1, 2, 3
"""What a finding means for the whole; also the exit statuses of a comparison."""
FALSE_ALARMS = 0.05
"""Chance of one false alarm over all the cells of a comparison, shared out between them (Bonferroni)."""
EXACT = {
    "pruned": ("prunable_sparsity", "total_sparsity", "prunable_parameters", "total_parameters"),
    "latency": ("dense_flops",),
    "memory": ("dense_weights_bytes",),
}
"""By section, numbers of which any difference is a regression."""
NO_MORE = {
    "pruned": ("extra_bytes",),
    "latency": ("flops", "kept_flops", "read_bytes"),
    "memory": ("weights_bytes", "peak_bytes", "disk_bytes"),
}
"""Numbers of which more is a regression, and less a gain."""
SAME_MACHINE_ONLY = ("extra_bytes", "products")
CHOOSES = "auto"
"""The format that is chosen by measurement, layer by layer."""
JUDGED = ("quality", "recovered", "harness")
"""Sections whose numbers have standard errors."""
ROUNDING = {"mean_nll": 1e-5, "accuracy": 1e-9}
"""Differences up to this much, of the value, are none: the order of a sum makes them."""
HARNESS_ROUNDING = 1e-6
"""The same of a metric of lm-evaluation-harness, of the value where that is above 1."""
_BY_TIME = re.compile(r":\d+s\b")
"""In a recovery: trained for so many seconds, and not for so many steps."""


@dataclass(frozen=True)
class Finding:
    """One thing to tell of a comparison."""

    status: int
    """`FINE` for what is merely worth knowing."""
    kind: str
    """In a word, such as `regression`, `missing`, `improved`."""
    cell: str
    """Empty for what is true of whole files."""
    said: str

    def __str__(self) -> str:
        """One line, whatever the names hold."""
        text = ": ".join(part for part in (self.kind, self.cell, self.said) if part)
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())


@dataclass(frozen=True)
class Terms:
    """Under which cells are compared."""

    same_machine: bool
    """Whether machine and software are the same, so that equal work gives equal numbers."""
    judged: int = 1
    """Numbers of the baseline that are judged by their standard errors."""


def critical(tests: int) -> float:
    """Standard errors beyond which one of so many differences is more than chance."""
    return NormalDist().inv_cdf(1 - FALSE_ALARMS / max(1, tests))


def regression(cell: Cell, said: str) -> Finding:
    """Worse than the baseline."""
    return Finding(REGRESSION, "regression", str(cell), said)


def incomparable(cell: Cell, said: str) -> Finding:
    """Not to be compared, or not measured."""
    return Finding(INCOMPLETE, "not comparable", str(cell), said)


def judged(kind: str, base: Record, head: Record, terms: Terms) -> list[Finding]:
    """What one section of a cell has become, its time left out; nothing for a section that is not gated."""
    if kind in EXACT:
        return list(_counts(kind, base, head, terms))
    if kind == "harness":
        return list(_harness(base, head, terms))
    return list(_quality(kind, base, head, terms)) if kind in JUDGED else []


def _counts(kind: str, base: Record, head: Record, terms: Terms) -> Iterator[Finding]:
    before, after, cell = getattr(base, kind), getattr(head, kind), base.cell
    if before is None:
        return
    if after is None:
        yield incomparable(cell, f"what was {kind} is not recorded")
        return
    for name in EXACT[kind]:
        yield from _number(cell, name, getattr(before, name), getattr(after, name), exact=True)
    if kind != "pruned" and cell.format == CHOOSES and (other := _other_choice(base, head)):
        yield Finding(FINE, "note", str(cell), f"{other}: what it holds and multiplies is not compared")
        return
    for name in NO_MORE[kind]:
        if name in SAME_MACHINE_ONLY and not terms.same_machine:
            continue
        if name == "peak_bytes" and before.source != after.source:
            yield incomparable(cell, f"peak_bytes by the {after.source} where the {before.source} counted")
            continue
        yield from _number(cell, name, getattr(before, name), getattr(after, name), exact=False)
    if kind == "latency" and terms.same_machine and before.products is not None:
        yield from _products(cell, before.products, after.products)


def _number(cell: Cell, name: str, before: float | None, after: float | None, exact: bool) -> Iterator[Finding]:
    if before is None or before == after:
        return
    if after is None:
        yield incomparable(cell, f"{name} is not measured, which was {before}")
        return
    was, form = ("was", ".10g") if isinstance(before, float) else ("were", "d")
    number = f"{name} {after:{form}} where {before:{form}} {was}"
    said = f"{number}{_share(before, after)}"
    if exact or after > before:
        yield regression(cell, said)
    else:
        yield Finding(FINE, "improved", str(cell), said)


def _share(before: float, after: float) -> str:
    text = percent(after / before - 1) if before else ""
    return f" ({text})" if text.strip("+-0. %") else ""


def percent(fraction: float) -> str:
    """A change, as in `+1.0 %`."""
    return f"{100 * fraction:+.1f} %"


def _other_choice(base: Record, head: Record) -> str | None:
    """Why two cells of format auto may hold different things; None where they chose the same."""
    before, after = (record.pruned.choices if record.pruned else None for record in (base, head))
    if before is None or after is None:
        return "what auto chose is not recorded"
    return None if before == after else f"auto chose {_listed(after)} where it had chosen {_listed(before)}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"


def _products(cell: Cell, before: Products, after: Products | None) -> Iterator[Finding]:
    """A sparse operator that no longer runs, or more products of dense matrices: a format fell back to dense."""
    if after is None:
        yield incomparable(cell, "what multiplied matrices is not recorded")
        return
    if gone := sorted(before.sparse.keys() - after.sparse.keys()):
        yield regression(cell, f"no longer runs {', '.join(gone)}")
    was, now = sum(before.dense.values()), sum(after.dense.values())
    if now > was:
        grown = [
            f"{name} {count} where {before.dense.get(name, 0)} ran"
            for name, count in sorted(after.dense.items())
            if count > before.dense.get(name, 0)
        ]
        yield regression(cell, f"{now} dense products where {was} ran: {', '.join(grown)}")


@dataclass(frozen=True)
class _Measure:
    """A number of a quality section, and its difference that a standard error belongs to."""

    name: str
    lower: bool
    """Whether lower is better."""
    rounding: float
    """By which two equal results may differ."""
    margin: float | None
    """Up to which a loss that is not certain is passed over; None where none is agreed on."""
    value: float
    delta: float | None
    stderr: float | None


def _quality(kind: str, base: Record, head: Record, terms: Terms) -> Iterator[Finding]:
    quality, other, cell = base.quality, head.quality, base.cell
    if quality is None or other is None:
        yield incomparable(cell, f"{kind} without a metric")
        return
    if quality.documents != other.documents:
        documents = f"{other.documents} documents where {quality.documents} were"
        yield incomparable(cell, f"{quality.metric} is of {documents}")
        return
    if base.recovered and head.recovered and base.recovered.seeds != head.recovered.seeds:
        yield incomparable(cell, f"trained with seeds {head.recovered.seeds} where {base.recovered.seeds} were")
        return
    exact = terms.same_machine and not _BY_TIME.search(f"{cell.recovery} {cell.after}")
    before, after = _measure(kind, base, quality), _measure(kind, head, other)
    found = _exactly(cell, before, after) if exact else _by_error(cell, before, after, terms)
    if found is not None:
        yield found


def _measure(kind: str, record: Record, quality: Quality) -> _Measure:
    metric, lower = quality.metric, quality.metric == "mean_nll"
    name, numbers = metric, (quality.value, quality.delta, quality.delta_stderr)
    if kind == "recovered" and (own := record.recovered):
        name, numbers = f"{metric} beside the control's", (own.delta, own.delta, own.delta_stderr)
    rounding = ROUNDING[metric] * (abs(numbers[0]) if lower else 1.0)
    return _Measure(name, lower, rounding, MARGINS[metric], *numbers)


def _harness(base: Record, head: Record, terms: Terms) -> Iterator[Finding]:
    """A task of lm-evaluation-harness; on another machine the unpruned model has no difference to be compared."""
    own, other, cell = base.harness, head.harness, base.cell
    if own is None or other is None:
        return
    shown = [(each.documents, each.version, each.shots, each.filter) for each in (own, other)]
    if shown[0] != shown[1]:
        said = "(documents, version, shots, filter)"
        yield incomparable(cell, f"{own.metric} is of {shown[1]} where {shown[0]} was {said}")
    elif own.higher_is_better is None:
        yield incomparable(cell, f"whether more of {own.metric} is better is not known")
    elif terms.same_machine:
        yield from filter(None, [_exactly(cell, _of_harness(own), _of_harness(other))])
    elif own.delta is not None:
        yield from filter(None, [_by_error(cell, _of_harness(own), _of_harness(other), terms)])


def _of_harness(found: Harness) -> _Measure:
    rounding = HARNESS_ROUNDING * max(1.0, abs(found.value))
    margin = None if found.verdict is None else MARGINS["accuracy"]
    name = f"{found.metric} of lm-eval"
    return _Measure(name, not found.higher_is_better, rounding, margin, found.value, found.delta, found.delta_stderr)


def _loss(lower: bool, before: float, after: float) -> float:
    """Positive where it got worse."""
    return after - before if lower else before - after


def _exactly(cell: Cell, before: _Measure, after: _Measure) -> Finding | None:
    lost = _loss(before.lower, before.value, after.value)
    if abs(lost) <= before.rounding:
        return None
    said = f"{before.name} {after.value:.6g} where {before.value:.6g} was"
    return regression(cell, said) if lost > 0 else Finding(FINE, "improved", str(cell), said)


def _by_error(cell: Cell, before: _Measure, after: _Measure, terms: Terms) -> Finding | None:
    if before.delta is None or before.stderr is None or after.delta is None or after.stderr is None:
        return incomparable(cell, f"{before.name} without its difference from dense, so chance cannot be told apart")
    lost = _loss(before.lower, before.delta, after.delta)
    error = math.hypot(before.stderr, after.stderr)
    said = f"{before.name}: lost {lost:.4g} ± {CONFIDENCE * error:.2g} more from dense than before"
    if lost > before.rounding and lost > critical(terms.judged) * error:
        return regression(cell, said)
    if before.margin is not None and lost > before.margin:
        return Finding(NOISY, "noisy", str(cell), f"{said}; beyond {before.margin:g}, and not certain")
    return None
