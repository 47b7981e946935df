"""The door to lm-evaluation-harness: which tasks there are, loading them, and keeping quiet what it does.

lm-eval's own tasks are part of the installed package, and so is the Python that some of them import; one's own come
from `own_tasks`. Templates, which are texts from outside, are rendered in jinja's sandbox. What lm-eval warns of
becomes a note, once; its log and its progress bars do not reach the terminal.

Refuses a task that nobody knows, a group of tasks, tasks that have code run which models wrote or which is fetched,
and those about more than text.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from sparsity.errors import BadValue, UnknownName, one_line
from sparsity.harness import own_tasks

PREFIX = "harness:"
"""Of the task's name on the axis of tasks."""
FEWSHOT_SEED = 1234
"""Of the examples that stand before a document; lm-eval's own default."""


@dataclass
class Tasks:
    """The tasks of a run, loaded once; their documents are those of every model."""

    loaded: dict[str, Any]
    """lm-eval's task by its name."""
    digests: dict[str, str]
    """Of one's own tasks: what they ask and of which documents."""
    notes: dict[str, None] = field(default_factory=dict)
    """What lm-eval warned of, once each, in order."""

    @classmethod
    def of(cls, names: Sequence[str], folder: str | None) -> Tasks:
        """Raises `SparsityError` with one line where lm-eval, a task or its data cannot be had."""
        refuse_missing()
        own = own_tasks.read(Path(folder)) if folder else {}
        notes: dict[str, None] = {}
        with quiet(notes):
            library = _library() if any(name not in own for name in names) else None
            _refuse(names, own, library.task_index if library else {})
            loaded = {name: _load(name, own.get(name, name), library) for name in names}
        digests = {name: _digest(own[name], loaded[name]) for name in names if name in own}
        return cls(loaded, digests, notes)

    def fingerprint(self) -> dict[str, str]:
        """The library's version, and what each task is: its version, and a digest of one's own."""
        versions = {name: _version(task) for name, task in self.loaded.items()}
        said = {name: f"{version} {self.digests.get(name, '')}".strip() for name, version in versions.items()}
        return {"lm-eval": metadata.version("lm_eval")} | {f"{PREFIX}{name}": text for name, text in said.items()}


def refuse_missing() -> None:
    """Raises `BadValue` where lm-eval is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise BadValue("--harness needs lm-evaluation-harness: pip install 'sparsity-bench[harness]'")


@contextlib.contextmanager
def quiet(notes: dict[str, None]) -> Iterator[None]:
    """lm-eval at work: templates in a sandbox, no metric fetched, log and bars kept from the terminal, warnings noted.

    Of lm-eval's own tasks some fetch a metric by themselves.
    """
    import evaluate
    from jinja2.sandbox import SandboxedEnvironment
    from lm_eval import utils

    usual, fetch = utils.env, evaluate.load
    sandbox = SandboxedEnvironment(undefined=usual.undefined, keep_trailing_newline=usual.keep_trailing_newline)
    sandbox.filters = usual.filters
    log, keeper = logging.getLogger("lm_eval"), _Keeper(notes)
    before = log.level, log.propagate
    utils.env, evaluate.load = sandbox, _refuse_to_fetch
    log.addHandler(keeper)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.level, log.propagate = before
        log.removeHandler(keeper)
        utils.env, evaluate.load = usual, fetch


def _refuse_to_fetch(path: str, *_: Any, **__: Any) -> NoReturn:
    """Stands for `evaluate.load`, which fetches a script and runs it."""
    raise BadValue(f"metric {path!r} would be fetched and run, and nothing from outside is run")


class _Keeper(logging.Handler):
    """Notes a warning once for each place that it comes from: some tell a whole document, and again the next."""

    def __init__(self, notes: dict[str, None]) -> None:
        super().__init__(logging.WARNING)
        self.notes = notes
        self.seen: set[tuple[str, int]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it as one line."""
        place = record.pathname, record.lineno
        if place not in self.seen:
            self.seen.add(place)
            self.notes.setdefault(f"lm-eval: {one_line(Exception(record.getMessage()))}")


def _library() -> Any:
    """lm-eval's index of its thousands of tasks, which takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _refuse(names: Sequence[str], own: Mapping[str, own_tasks.Config], index: Mapping[str, Any]) -> None:
    """Raises `BadValue` for the first task that cannot be had or must not be run, before any is loaded."""
    for name in names:
        if name in own:
            _refuse_unknown_metrics(name, own[name])
        elif name in index:
            _refuse_group(name, index)
            _refuse_unsafe(name, index[name].cfg or {})
        else:
            raise BadValue(_nearest(name, [*own, *index]))


def _nearest(name: str, known: Sequence[str]) -> str:
    """As `UnknownName` says it, but thousands of names are not listed."""
    import difflib

    if len(known) < 50:
        return str(UnknownName("harness task", name, known))
    nearest = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {', '.join(map(repr, nearest))}?" if nearest else "; lm-eval ls tasks lists all"
    return f"unknown harness task {name!r}{hint}"


def _refuse_group(name: str, index: Mapping[str, Any]) -> None:
    """A name that stands for several tasks: each is a cell of its own, so each is to be named."""
    kind = index[name].kind.name
    if kind not in ("GROUP", "TAG"):
        return
    config = index[name].cfg or {}
    members = sorted(index[name].tags) if kind == "TAG" else [str(each) for each in config.get("task", [])]
    listed = ", ".join(members[:5]) + (", …" if len(members) > 5 else "")
    raise BadValue(f"harness task {name!r} is a {kind.lower()} of {len(members)} tasks; name some of them: {listed}")


def _refuse_unsafe(name: str, config: Mapping[str, Any]) -> None:
    if config.get("unsafe_code"):
        raise BadValue(f"harness task {name!r} runs code that a model wrote, and nothing from outside is run")
    if (config.get("dataset_kwargs") or {}).get("trust_remote_code"):
        raise BadValue(f"harness task {name!r} has its data set's code run, and nothing from outside is run")
    if not config.get("process_results"):
        _refuse_unknown_metrics(name, config)


def _refuse_unknown_metrics(name: str, config: Mapping[str, Any]) -> None:
    """A metric that lm-eval does not have it fetches from the hub, and runs it."""
    import lm_eval
    import lm_eval.api.metrics  # registers them
    from lm_eval.api.registry import metric_registry

    package = str(Path(lm_eval.__file__).parent)
    listed = config.get("metric_list") or []
    for each in listed if isinstance(listed, list) else [listed]:
        asked = each if isinstance(each, dict) else {"metric": each}
        metric = str(asked.get("metric"))
        of_the_package = metric.startswith(package)
        if asked.get("hf_evaluate") or not (metric in metric_registry or of_the_package):
            what = f"harness task {name!r}: metric {metric!r} would be fetched"
            raise BadValue(f"{what} and run, and nothing from outside is run; take one of lm-eval's own")


def _load(name: str, spec: str | own_tasks.Config, library: Any) -> Any:
    """lm-eval's task with its documents; of local files in memory, without a trace in any cache."""
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory(prefix="sparsity-harness-") as cache:
        if not isinstance(spec, str) and spec["dataset_path"] in own_tasks.PLAIN:
            settings = spec.get("dataset_kwargs") or {}
            spec = spec | {"dataset_kwargs": settings | {"cache_dir": cache, "keep_in_memory": True}}
        try:
            manager = library if isinstance(spec, str) else TaskManager(include_defaults=False)
            task = manager.load([spec])["tasks"][name]
            documents = len(task.eval_docs)
        except Exception as error:
            raise BadValue(f"harness task {name!r} cannot be loaded: {one_line(error)}") from None
    if getattr(task, "MULTIMODAL", False):
        raise BadValue(f"harness task {name!r} asks for more than text, which language models here do not read")
    if getattr(task, "UNSAFE_CODE", False):
        raise BadValue(f"harness task {name!r} runs code that a model wrote, and nothing from outside is run")
    if documents < 2:
        raise BadValue(f"harness task {name!r} has {documents} documents, which tell nothing of a model")
    return task


def _version(task: Any) -> str:
    return str(task.VERSION)


def _digest(config: own_tasks.Config, task: Any) -> str:
    """Of what a task asks and its documents; where its files lie is left out."""
    asked = {key: value for key, value in config.items() if key != "dataset_kwargs"}
    found = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode())
    for document in task.eval_docs:
        found.update(json.dumps(document, sort_keys=True, default=str).encode())
    return found.hexdigest()[:16]
