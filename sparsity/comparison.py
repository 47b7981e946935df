"""Is one run worse than another? Whole result files compared, cell by cell, and what that comes to.

A comparison is fine (0), a regression (1), incomplete (2: something is missing, new, or not to be compared) or too
noisy to tell (3); of several, the first of these that there is. What a cell has become is judged in `gate` and
`gate_time`, which cells belong together in `gate_join`.

Refuses a margin that is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sparsity import gate, gate_time
from sparsity.errors import BadValue
from sparsity.frontier import unpruned
from sparsity.gate import FINE, INCOMPLETE, NOISY, REGRESSION, Finding, Terms, incomparable
from sparsity.gate_join import Joined, join
from sparsity.record import Latency
from sparsity.result_file import Key, Measured, ResultFile

WORST_FIRST = (REGRESSION, INCOMPLETE, NOISY, FINE)
GAINS = ("improved", "faster", "mended")
"""Kinds of findings that are good news."""
ELSEWHERE = "time, on another machine or software"
LARGEST_MARGIN = 10.0
Files = tuple[ResultFile, ResultFile]
"""A baseline, and what is compared with it."""


@dataclass(frozen=True)
class Chances:
    """How many cells of a baseline may give a false alarm; all share one chance of it."""

    times: int
    qualities: int

    @classmethod
    def of(cls, keys: Iterable[Key]) -> Chances:
        """Those of a baseline."""
        own = list(keys)
        return cls(sum(map(_is_timed, own)), sum(key.kind in gate.JUDGED for key in own))


@dataclass(frozen=True)
class Rules:
    """How a user wants it compared."""

    margin: float = gate_time.MARGIN
    time: bool = True
    """Whether time is compared at all."""
    allowed: frozenset[str] = frozenset()
    """Of `gate_join.ALLOWED`, what is merely told."""
    chances: Chances | None = None
    """None: those of the baseline that is given."""


@dataclass(frozen=True)
class Comparison:
    """What came of it."""

    findings: tuple[Finding, ...]
    """Worst first."""
    compared: int
    """Tests of the baseline that measured the same in the other run."""
    timed: int
    """Those whose time was compared."""

    @property
    def status(self) -> int:
        """The exit status."""
        found = {finding.status for finding in self.findings}
        return next((status for status in WORST_FIRST if status in found), FINE)

    def count(self, status: int) -> int:
        """Findings of a status."""
        return sum(finding.status == status for finding in self.findings)

    def __str__(self) -> str:
        """`45 cells compared, 12 of them timed: 1 regression, 2 incomplete, 0 too noisy, 3 improved`."""
        worse = self.count(REGRESSION)
        counts = [
            f"{worse} {'regression' if worse == 1 else 'regressions'}",
            f"{self.count(INCOMPLETE)} incomplete",
            f"{self.count(NOISY)} too noisy",
            f"{sum(finding.kind in GAINS for finding in self.findings)} improved",
        ]
        cells = f"{self.compared} {'cell' if self.compared == 1 else 'cells'} compared"
        return f"{cells}, {self.timed} of them timed: {', '.join(counts)}"


def margin(text: str) -> float:
    """A margin such as `0.05`; raises `BadValue` for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LARGEST_MARGIN:
        raise BadValue(f"margin {text!r} is not a fraction from 0 to {LARGEST_MARGIN:g}, such as 0.05")
    return value


def compare(pairs: Sequence[Files], rules: Rules | None = None) -> Comparison:
    """A baseline and a run, or several pairs of them, each of two fresh processes.

    Everything but time is compared in each pair; a cell's time over all of them.
    """
    rules = rules or Rules()
    joined = [join(base, head, rules.allowed) for base, head in pairs]
    chances = rules.chances or Chances.of(joined[0].base)
    places: dict[Finding, list[int]] = {}
    for place, each in enumerate(joined, start=1):
        for finding in dict.fromkeys([*each.findings, *_but_time(each, chances), *_elsewhere(each, rules)]):
            places.setdefault(finding, []).append(place)
    findings = [_placed(finding, seen, len(joined)) for finding, seen in places.items()]
    timed = 0
    if rules.time:
        found, timed = _times(joined, rules, chances)
        findings += found
    compared = {base for each in joined for base, _ in each.pairs}
    told = any(finding.status != FINE or finding.kind in GAINS for finding in findings)
    if not compared and not told and any(base.entries for base, _ in pairs):  # as where all failed, and fails again
        findings.append(Finding(INCOMPLETE, "not comparable", "", "no cell was measured in both runs"))
    findings.sort(key=lambda finding: WORST_FIRST.index(finding.status))  # else in the order of the baseline
    return Comparison(tuple(findings), len(compared), timed)


def _placed(finding: Finding, places: Sequence[int], pairs: int) -> Finding:
    """Says in which pairs of runs, where it was not in all."""
    if len(places) == pairs:
        return finding
    return replace(finding, said=f"{finding.said} (in pair {', '.join(map(str, places))} of {pairs})")


def _but_time(joined: Joined, chances: Chances) -> list[Finding]:
    found = []
    for match, keys in ((match, keys) for matches, keys in joined.pairs.values() for match in matches):
        terms = Terms(not match.elsewhere, chances.qualities)
        for kind in dict.fromkeys(["pruned", *(key.kind for key in keys)]):
            found += gate.judged(kind, match.before.record, match.after.record, terms)
    return found


def _is_timed(key: Key) -> bool:
    """Whether its time can get worse: that of the control, the unpruned model beside its own copy, is noise alone."""
    if key.kind == "training":
        return True
    control = unpruned(key.cell) and key.cell.format in ("dense", None) and key.cell.plain.recovery is None
    return key.kind == "latency" and not control


def _elsewhere(joined: Joined, rules: Rules) -> list[Finding]:
    """What times cannot be compared: one finding for all of two runs of one machine each, else one for each cell."""
    if not rules.time or not any(map(_is_timed, joined.base)):
        return []
    if joined.elsewhere:
        said = f"{ELSEWHERE}: {'; '.join(joined.elsewhere)}"
        return [Finding(INCOMPLETE, "not comparable", "", said)]
    apart = {key: matches[0] for key, matches in joined.matches.items() if _is_timed(key) and matches[0].elsewhere}
    return [incomparable(key.cell, f"{ELSEWHERE}: {'; '.join(match.elsewhere)}") for key, match in apart.items()]


def _times(joined: Sequence[Joined], rules: Rules, chances: Chances) -> tuple[list[Finding], int]:
    """What became of the times, and of how many cells they were compared."""
    here = [each for each in joined if not each.elsewhere]
    keys = dict.fromkeys(key for each in here for key in each.base if _is_timed(key))
    findings, timed = [], 0
    for key in keys:
        by_run = [own for each in here if (own := _latencies(each, key))]
        if not by_run:
            continue
        absent = any(key not in each.base and key not in each.head for each in here)  # else it was told
        if absent and "missing" not in rules.allowed:
            said = f"its time is in {len(by_run)} of {len(here)} pairs of runs"
            findings.append(Finding(INCOMPLETE, "missing", str(key.cell), said))
        pairs = [pair for own in by_run for pair in own]
        found = gate_time.judged(key.cell, pairs, chances.times, rules.margin)
        timed += gate_time.change(pairs) is not None
        findings += [found] if found else []
    return findings, timed


def _latencies(joined: Joined, key: Key) -> list[tuple[Latency, Latency]]:
    """Of each machine that measured it in both runs."""
    matches = [match for match in joined.matches.get(key, ()) if not match.elsewhere]
    both = [(_latency(match.before, key), _latency(match.after, key)) for match in matches]
    return [(before, after) for before, after in both if before and after]


def _latency(measured: Measured, key: Key) -> Latency | None:
    record = measured.record
    if key.kind == "training":
        return gate_time.of_training(record.training) if record.training else None
    return record.latency
