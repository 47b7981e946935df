"""The options of a run: what the command line and pytest.ini may say, checked and frozen.

Knows names and texts, not pytest: the plugin hands the texts in. Refuses an unknown value with the
list of the known ones and the nearest, before anything is measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sparsity import pattern, recovery, workload
from sparsity.errors import BadValue, UnknownName
from sparsity.formats import NAMES
from sparsity.mask import pruned_count
from sparsity.methods import METHODS
from sparsity.models.spread import WAYS
from sparsity.prune import SCOPES
from sparsity.tasks import strided
from sparsity.tasks.quality import TASKS

LEAST_DOCUMENTS = 20
"""With fewer, a standard error of accuracy is itself a guess."""
MOST_TEXTS = 2
"""Of a pair."""
HEADS = ("full", "none")
DTYPES = ("float32", "bfloat16", "float16", "float64")
SWITCH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
"""What a switch may be in pytest.ini."""
Value = str | float | int
WHOLE = re.compile(r"[0-9]{1,9}")
"""What is read as a whole number; Python itself refuses to read thousands of digits, with an error of its own."""


def _one_of(kind: str, known: Mapping[str, object] | tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise UnknownName(kind, text, known)
        return text

    return parse


def _sparsity(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadValue(f"sparsity {text!r} is not a number in [0, 1)") from None
    pruned_count(value, 1)  # refuses what is outside [0, 1)
    return value


def whole(name: str, text: str, least: int) -> int:
    """A whole number; raises `BadValue` for any other text, and for one below `least`."""
    if not WHOLE.fullmatch(text) or int(text) < least:
        raise BadValue(f"{name} {text!r} is not a whole number from {least}")
    return int(text)


def _seed(text: str) -> int:
    return whole("seed", text, 0)


class Axis(NamedTuple):
    """An axis that the command line can set, as a comma list."""

    parse: Callable[[str], Value]
    help: str


AXES: dict[str, Axis] = {
    "models": Axis(str, "embedded names (bert, gpt2, bart), hub ids, checkpoint folders, random:NAME"),
    "methods": Axis(_one_of("method", METHODS), f"pruning methods: {', '.join(METHODS)}"),
    "patterns": Axis(lambda text: str(pattern.parse(text)), f"patterns of zeros: {', '.join(pattern.EXAMPLES)} …"),
    "scopes": Axis(_one_of("scope", SCOPES), f"where scores compete: {', '.join(SCOPES)}"),
    "sparsities": Axis(_sparsity, "fractions of prunable weights to remove, in [0, 1)"),
    "formats": Axis(_one_of("format", NAMES), f"execution formats: {', '.join(NAMES)}"),
    "workloads": Axis(
        lambda text: str(workload.parse(text)),
        "batch size x sequence length, as in 8x64; of generation 1x16+64, prefill:1x512, decode:1x512",
    ),
    "tasks": Axis(_one_of("task", TASKS), f"quality tasks: {', '.join(TASKS)}"),
    "recoveries": Axis(
        lambda text: str(recovery.parse(text)), f"what follows pruning: {', '.join(recovery.EXAMPLES)} …"
    ),
    "seeds": Axis(_seed, "seeds of masks that are drawn, and of recoveries' training"),
}


SETTINGS = {
    "profile": "set of defaults: smoke, default, frontier, study, full, break-even",
    "dtype": f"of weights and activations: {', '.join(DTYPES)} (float32)",
    "device": "cpu or cuda (cpu)",
    "device-map": f"{', '.join(WAYS)}: a checkpoint spread over all GPUs by accelerate, with --device=cuda",
    "threads": "threads that torch computes with (physical cores)",
    "documents": "documents that quality is measured on, at most; of generated reviews an even number (1000)",
    "data": "your own documents: a CSV, JSONL, Parquet or text file, a data set of the hub, or a name such as sst2",
    "training-data": "documents that calibration and recoveries see, never evaluated; of --data unless given",
    "text-column": "the column of --data that holds the text; two, with a comma between, for tasks about pairs",
    "label-column": "the column of --data that holds the class",
    "harness": "comma list: tasks of lm-evaluation-harness, by its names or those of --harness-tasks (none)",
    "harness-tasks": "a folder of your own tasks for lm-evaluation-harness, YAML files that hold no code",
    "harness-limit": "documents of each task of --harness, at most (all)",
    "window": "LENGTH/STRIDE, as in 1024/512: causal models read long texts in windows that overlap",
    "fine-tune": "steps of fine-tuning for a checkpoint without a classification head; refused unless given",
    "calibration": "documents that methods which look at inputs or gradients see; generated reviews are even (128)",
    "multiple": "the neurons that stay in a block are rounded up to a multiple of it (1)",
    "head": "full, or none: forward passes end with the last hidden states, as the base model's do (full)",
    "compile": "compile the models of latency and memory, pruned and unpruned, by torch.compile",
    "learning-rate": "of recoveries and --fine-tune; 1e-3 for the embedded models, 5e-5 for others, unless given",
    "training-batch": "documents of a training batch of recoveries (32)",
    "accumulate": "batches of a training step of recoveries (1)",
    "training-state": "a folder from which interrupted recoveries go on; none unless given",
    "time-per-cell": "seconds for each latency; the profile's unless given",
    "budget": "seconds after which no cell is begun any more; what is left is skipped",
    "cell-timeout": "seconds after which a cell is given up; it fails with that reason, and the run goes on",
    "ray": "run the cells on the nodes of a Ray cluster; with =ADDRESS on that one, else on one that is started here",
    "resume": "go on with an interrupted run: what the journal beside --benchmark-json holds is not measured again",
}
"""The options that are no axis, each with its help."""


@dataclass(frozen=True)
class Options:
    """What a run was asked for."""

    profile: str = "default"
    axes: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    """Axes that were set, by their plural names; a profile decides the rest."""
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    """None: as many as there are physical cores."""
    documents: int = 1000
    """Documents that quality is measured on."""
    calibration: int = 128
    """Documents that methods which look at inputs or gradients see."""
    multiple: int = 1
    """The neurons that stay in a block are rounded up to a multiple of it."""
    head: str = "full"
    """One of `HEADS`: whether latency and memory are of the whole model, or without its head."""
    compile: bool = False
    """Whether latency and memory are of models compiled by `torch.compile`, pruned and unpruned."""
    learning_rate: float | None = None
    """Of recoveries and `fine_tune`; None: `classifier.LEARNING_RATE`, by what the model is."""
    training_batch: int = 32
    """Documents of a training batch."""
    accumulate: int = 1
    """Batches of a training step."""
    training_state: str | None = None
    """A folder from which interrupted recoveries go on."""
    time_per_cell: float | None = None
    """Seconds for each latency; None: what the profile says."""
    budget: float | None = None
    """Seconds after which no cell is begun."""
    cell_timeout: float | None = None
    """Seconds after which a cell is given up."""
    resume: bool = False
    """Whether to go on with an interrupted run."""
    data: str | None = None
    """Where the user's documents are; None: generated reviews."""
    training_data: str | None = None
    """Where the documents are that calibration and recoveries see; None: wherever `data` says."""
    text_column: tuple[str, ...] = ()
    """One column, or two for pairs; empty: found by its usual names."""
    label_column: str | None = None
    """None: found by its usual names."""
    fine_tune: int | None = None
    """Steps of fine-tuning for a checkpoint without a classification head."""
    harness: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness."""
    harness_tasks: str | None = None
    """A folder of the user's own."""
    harness_limit: int | None = None
    """Documents of each, at most; None: all."""
    ray: str | None = None
    """The address of a Ray cluster that runs the cells, "local" for one of this machine; None: this process does."""
    window: strided.Window | None = None
    """How causal language models read long texts; None: one window after the other, each of which begins anew."""
    device_map: str | None = None
    """How a checkpoint is spread over several GPUs; None: it is on `device`."""


def parse(texts: Mapping[str, str]) -> Options:
    """Options from raw texts by option name; absent or empty means not set."""
    axes: dict[str, tuple[Value, ...]] = {}
    for name, axis in AXES.items():
        if text := texts.get(name, "").strip():
            items = [item.strip() for item in text.split(",") if item.strip()]
            if not items:
                raise BadValue(f"{name} {text!r} names nothing, so there would be nothing to measure")
            axes[name] = tuple(dict.fromkeys(axis.parse(item) for item in items))
    data = texts.get("data", "").strip() or None
    dtype = _one_of("dtype", DTYPES)(texts.get("dtype") or "float32")
    return Options(
        profile=texts.get("profile") or "default",
        axes=axes,
        dtype=dtype,
        device=_device(texts.get("device") or "cpu"),
        threads=_count("threads", texts["threads"]) if texts.get("threads") else None,
        documents=_documents("documents", texts.get("documents") or "1000", own=data is not None),
        calibration=_documents("calibration", texts.get("calibration") or "128", own=data is not None),
        multiple=_count("multiple", texts.get("multiple") or "1"),
        head=_one_of("head", HEADS)(texts.get("head") or "full"),
        compile=_switch("compile", texts.get("compile") or "no"),
        learning_rate=_rate(texts.get("learning-rate")),
        training_batch=_count("training-batch", texts.get("training-batch") or "32"),
        accumulate=_count("accumulate", texts.get("accumulate") or "1"),
        training_state=texts.get("training-state") or None,
        time_per_cell=_seconds("time-per-cell", texts.get("time-per-cell")),
        budget=_seconds("budget", texts.get("budget")),
        cell_timeout=_seconds("cell-timeout", texts.get("cell-timeout")),
        ray=texts.get("ray") or None,
        resume=_switch("resume", texts.get("resume") or "no"),
        data=data,
        training_data=_of_data("training-data", texts, data),
        text_column=_text_columns(texts, data),
        label_column=_label_column(texts, data),
        window=strided.parse(texts["window"].strip()) if texts.get("window") else None,
        device_map=_one_of("device-map", WAYS)(texts["device-map"]) if texts.get("device-map") else None,
        fine_tune=_count("fine-tune", texts["fine-tune"]) if texts.get("fine-tune") else None,
        harness=_harness(texts),
        harness_tasks=texts.get("harness-tasks", "").strip() or None,
        harness_limit=_harness_limit(texts.get("harness-limit")),
    )


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", text):
        raise UnknownName("device", text, ("cpu", "cuda", "cuda:0"))
    return text


def _count(name: str, text: str) -> int:
    return whole(name, text, 1)


def _seconds(name: str, text: str | None) -> float | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or not float(text):
        raise BadValue(f"{name} {text!r} is not a number of seconds above 0, such as 2 or 0.5")
    return float(text)


def _rate(text: str | None) -> float | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,12})?(e-?[0-9]{1,2})?", text) or not 0 < float(text) < math.inf:
        raise BadValue(f"learning-rate {text!r} is not a number above 0, such as 0.001 or 5e-5")
    return float(text)


def _harness(texts: Mapping[str, str]) -> tuple[str, ...]:
    """The tasks; what else is said of them says nothing without one."""
    text = texts.get("harness", "").strip()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if text and not names:
        raise BadValue(f"harness {text!r} names no task")
    for other in ("harness-tasks", "harness-limit"):
        if texts.get(other, "").strip() and not names:
            raise BadValue(f"{other} {texts[other]!r} without harness; name tasks by --harness")
    return names


def _harness_limit(text: str | None) -> int | None:
    return whole("harness-limit", text, LEAST_DOCUMENTS) if text else None


def _switch(name: str, text: str) -> bool:
    if text.lower() not in SWITCH:
        raise UnknownName(name, text, SWITCH)
    return SWITCH[text.lower()]


def _documents(name: str, text: str, own: bool) -> int:
    """Of generated reviews half carry each label; the user's own are what they are."""
    count = _count(name, text)
    if own:
        if name == "documents" and count < LEAST_DOCUMENTS:
            raise BadValue(f"documents {count} is not a number from {LEAST_DOCUMENTS}; fewer tell nothing of a model")
    elif count % 2 or count < LEAST_DOCUMENTS:
        raise BadValue(f"{name} {count} is not an even number from {LEAST_DOCUMENTS}; half of them carry each label")
    return count


def _of_data(name: str, texts: Mapping[str, str], data: str | None) -> str | None:
    """An option that says something of `data`, and nothing without it."""
    text = texts.get(name, "").strip()
    if text and data is None:
        raise BadValue(f"{name} {text!r} without data; generated reviews need none, own documents are named by --data")
    return text or None


def _text_columns(texts: Mapping[str, str], data: str | None) -> tuple[str, ...]:
    text = _of_data("text-column", texts, data)
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if len(names) > MOST_TEXTS or not all(names) or len(set(names)) < len(names):
        raise BadValue(f"text-column {text!r} is not one column, or two different ones with a comma between for pairs")
    return names


def _label_column(texts: Mapping[str, str], data: str | None) -> str | None:
    name = _of_data("label-column", texts, data)
    if name is not None and name in _text_columns(texts, data):
        raise BadValue(f"label-column {name!r} is the text column as well; the class stands in another")
    return name
