"""Several result files as one run.

Refuses files that do not belong together: another machine or software, another model under the
same name, or the same cell measured in both, for then it is open which number is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reports.run import Run
from sparsity.errors import ResultNotReadable
from sparsity.record import Model


def joined(runs: Sequence[Run]) -> Run:
    """All runs as one, in their order; raises `ResultNotReadable` as the module says."""
    first = runs[0]
    for other in runs[1:]:
        _same(first, other, "fingerprint", first.fingerprint, other.fingerprint)
        shared = first.models.keys() & other.models.keys()
        both = [first, other]
        own, theirs = ({m: _known(m, both, run.models[m]) for m in shared} for run in both)
        _same(first, other, "model", own, theirs)
    _no_cell_twice(runs)
    return Run(
        paths=tuple(path for run in runs for path in run.paths),
        records=tuple(record for run in runs for record in run.records),
        fingerprint=first.fingerprint,
        models={name: _known(name, runs, model) for run in runs for name, model in run.models.items()},
        machine=_distinct(run.machine for run in runs),
        profile=_distinct(run.profile for run in runs),
        datetime=_distinct(run.datetime for run in runs),
        commit=_distinct(run.commit for run in runs),
        not_measured=tuple(dict.fromkeys(item for run in runs for item in run.not_measured)),
        noise_floor=max((run.noise_floor for run in runs if run.noise_floor is not None), default=None),
        roofline=_distinct(run.roofline for run in runs),
        not_run=sum(run.not_run for run in runs),
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
        resumed=sum(run.resumed for run in runs),
        repeated=tuple(name for run in runs for name in run.repeated),
    )


def _known(name: str, runs: Sequence[Run], model: Model) -> Model:
    """The model with what only some runs know of it: its classifier, the digest of its weights."""
    met = [run.models[name] for run in runs if name in run.models]
    classifier = next((each.classifier for each in met if each.classifier), None)
    digest = next((each.digest for each in met if each.digest), None)
    return replace(model, classifier=model.classifier or classifier, digest=model.digest or digest)


def _same(a: Run, b: Run, what: str, left: Mapping[str, object], right: Mapping[str, object]) -> None:
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            raise ResultNotReadable(
                f"{a.paths[0]} and {b.paths[0]} differ in {what} {key!r}: {left.get(key)!r} and {right.get(key)!r}; "
                "make a report of each"
            )


def _no_cell_twice(runs: Sequence[Run]) -> None:
    holder: dict[object, Run] = {}
    for run in runs:
        for measured in run.records:
            for key in measured.keys:
                earlier = holder.setdefault(key, run)
                if earlier is not run:
                    raise ResultNotReadable(
                        f"{earlier.paths[0]} and {run.paths[0]} both hold {measured.record.cell} "
                        f"({measured.fullname}); make a report of each"
                    )


def _distinct(values: Iterable[str | None]) -> str | None:
    return "; ".join(dict.fromkeys(value for value in values if value)) or None
