"""Several result files as one run.

Where one of them had several nodes, machines may differ: a file without nodes is a node of its own, by the name of the
file, and nodes of two files that are called the same are kept apart, each with the name of its file.

Refuses files that do not belong together: other settings, another machine or software where they say of no nodes,
another model under the same name, or the same cell measured in both, for then it is open which number is meant; of
nodes only where name and fingerprint are the same too.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reports.run import Run
from sparsity.errors import ResultNotReadable
from sparsity.gate_machines import SETTINGS
from sparsity.nodes import common
from sparsity.record import Model, Node


def joined(runs: Sequence[Run]) -> Run:
    """All runs as one, in their order; raises `ResultNotReadable` as the module says."""
    several = any(run.nodes for run in runs)
    if several and len(runs) > 1:
        _no_cell_twice(runs)
        runs = _own_names([_with_nodes(run) for run in runs])
    first = runs[0]
    for other in runs[1:]:
        prints = [{k: v for k, v in run.fingerprint.items() if not several or k in SETTINGS} for run in (first, other)]
        _same(first, other, "fingerprint", *prints)
        shared = first.models.keys() & other.models.keys()
        both = [first, other]
        own, theirs = ({m: _known(m, both, run.models[m]) for m in shared} for run in both)
        _same(first, other, "model", own, theirs)
    if not several:
        _no_cell_twice(runs)
    return Run(
        paths=tuple(path for run in runs for path in run.paths),
        records=tuple(record for run in runs for record in run.records),
        fingerprint=first.fingerprint if not several else common([run.fingerprint for run in runs]),
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
        nodes={name: node for run in runs for name, node in run.nodes.items()},
    )


def _with_nodes(run: Run) -> Run:
    """The run, as that of a single node where it had one machine."""
    if run.nodes:
        return run
    name = run.paths[0].stem
    return replace(_renamed(run, {None: name}), nodes={name: Node(dict(run.fingerprint), run.noise_floor)})


def _own_names(runs: Sequence[Run]) -> list[Run]:
    """The runs with nodes of which no two are called the same."""
    counts = Counter(name for run in runs for name in run.nodes)
    taken = set(counts)
    found = []
    for run in runs:
        names: dict[str | None, str] = {}
        for name in run.nodes:
            new = name
            for i in itertools.count(1) if counts[name] > 1 else ():
                new = f"{name} ({run.paths[0].stem}{f' {i}' if i > 1 else ''})"
                if new not in taken:
                    break
            taken.add(new)
            names[name] = new
        nodes = {str(names[name]): node for name, node in run.nodes.items()}
        found.append(replace(_renamed(run, names), nodes=nodes))
    return found


def _renamed(run: Run, names: Mapping[str | None, str]) -> Run:
    """The run, its records on nodes of other names."""
    records = tuple(
        replace(each, record=replace(each.record, node=names[each.record.node])) if each.record.node in names else each
        for each in run.records
    )
    return replace(run, records=records)


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
            name = measured.record.node
            node = run.nodes.get(name) if name is not None else None
            where = sorted(node.fingerprint.items()) if node else None
            for key in measured.keys:
                earlier = holder.setdefault((key, name, repr(where)), run)
                if earlier is not run:
                    raise ResultNotReadable(
                        f"{earlier.paths[0]} and {run.paths[0]} both hold {measured.record.cell} "
                        f"({measured.fullname}); make a report of each"
                    )


def _distinct(values: Iterable[str | None]) -> str | None:
    return "; ".join(dict.fromkeys(value for value in values if value)) or None
