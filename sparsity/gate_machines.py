"""Which measurements of two result files are of one machine, and what of a fingerprint is machine and software at all.

The machine is that which measured the very cell: of a run on several nodes its node, of any other the one of the run. A
cell that several nodes measured is matched node by node, each with one of the same machine and software in the other
file. Where there is none its times stay apart, and all else of it is matched as from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sparsity.result_file import Key, Measured, ResultFile


def _pruned(key: Key) -> bool:
    return key.cell.method not in (None, "none")


def _trained(key: Key) -> bool:
    return key.kind == "training" or key.cell.plain.recovery is not None or key.cell.after is not None


def _of_harness(key: Key) -> bool:
    return key.kind == "harness"


def _judged(key: Key) -> bool:
    return key.kind in ("quality", "recovered")


SETTINGS: dict[str, Callable[[Key], bool]] = {
    "dtype": lambda key: True,
    "head": lambda key: key.kind in ("latency", "memory"),
    "compile": lambda key: key.kind in ("latency", "memory"),
    "calibration documents": _pruned,
    "multiple": _pruned,
    "learning rate": _trained,
    "training batch": _trained,
    "accumulate": _trained,
    **dict.fromkeys(("lm-eval", "harness limit"), _of_harness),
    **dict.fromkeys(("window", "data", "data digest", "data documents"), _judged),
    **dict.fromkeys(("training data", "training digest", "training documents"), _pruned),
}
"""What of a fingerprint was chosen for the run, and what hangs on it. All else of it is machine and software."""
OF_A_TASK = "harness:"
"""So begins what a fingerprint tells of one task of lm-evaluation-harness; its cells hang on it."""


@dataclass(frozen=True)
class Match:
    """A measurement in the baseline, and the same in the other file."""

    before: Measured
    after: Measured
    elsewhere: tuple[str, ...]
    """How machine and software differ."""


def matched(was: Sequence[Measured], now: Sequence[Measured], base: ResultFile, head: ResultFile) -> list[Match]:
    """Each of the baseline with one of the same machine and software, each once; without any the first of both."""
    left, found = list(now), []
    for before in was:
        here = base.fingerprint(before.record)
        like = next((each for each in left if not unlike(here, head.fingerprint(each.record))), None)
        if like is not None:
            left.remove(like)
            found.append(Match(before, like, ()))
    if found:
        return found
    apart = unlike(base.fingerprint(was[0].record), head.fingerprint(now[0].record))
    return [Match(was[0], now[0], tuple(apart))]


def unlike(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """How machine and software differ, by two fingerprints."""
    names = sorted((before.keys() | after.keys()) - SETTINGS.keys())
    return [
        f"{name} {shown(after, name)} where {shown(before, name)} was"
        for name in names
        if before.get(name) != after.get(name) and not name.startswith(OF_A_TASK)
    ]


def shown(fingerprint: Mapping[str, object], name: str) -> str:
    """A value of a fingerprint as it is told."""
    return repr(fingerprint[name]) if name in fingerprint else "none"
