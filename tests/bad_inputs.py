"""Every kind of bad input that a user can give, as one table: what is laid out, what is typed, what must be told.

    python -m tests.bad_inputs        types each as a user would, in a process of its own, and prints the table

Each must end with status 2 or 4, tell one line that names what is wrong, show no traceback and leave every file as it
was. `test_bad_input.py` holds the program to that.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

ROOT = Path(__file__).parents[1]
PYTEST, REPORTS = ("pytest", str(ROOT / "benchmarks"), "-p", "no:cacheprovider", "--profile=smoke"), ("reports",)
FINE_TUNE, DOCTOR = ("sparsity.fine_tune",), ("sparsity.doctor",)
Lay = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One bad input."""

    name: str
    words: tuple[str, ...]
    """Module, then what follows it on the command line."""
    told: str
    """A pattern that the line must hold."""
    lay: Lay = lambda folder: None
    """Lays out the files that are named."""

    @property
    def kind(self) -> str:
        """What of all that can be bad, the first word of the name."""
        return self.name.split(":")[0]


def option(name: str, text: str, told: str) -> Case:
    """A value of an option."""
    return Case(f"option: --{name}={text}", (*PYTEST, f"--{name}={text}"), told)


OPTIONS = [
    option("profile", "nosuch", "unknown profile 'nosuch'"),
    option("models", ",", "models ',' names nothing"),
    option("methods", "l3", "unknown method 'l3'"),
    option("patterns", "5:4", "5:4"),
    option("patterns", "blocky", "unknown pattern 'blocky'"),
    option("scopes", "laier", "did you mean 'layer'"),
    option("sparsities", "1.0", "1.0"),
    option("sparsities", "half", "sparsity 'half' is not a number"),
    option("formats", "cssr", "did you mean 'csr'"),
    option("workloads", "8y64", "8y64"),
    option("tasks", "ner", "unknown task 'ner'"),
    option("recoveries", "distill", "distill"),
    option("seeds", "-1", "seed '-1'"),
    option("dtype", "float8", "unknown dtype 'float8'"),
    option("device", "gpu", "unknown device 'gpu'"),
    option("device", "cuda:99", "cuda:99"),
    option("threads", "0", "threads '0'"),
    option("documents", "7", "documents 7"),
    option("calibration", "3", "calibration 3"),
    option("multiple", "0", "multiple '0'"),
    option("head", "half", "unknown head 'half'"),
    option("learning-rate", "fast", "learning-rate 'fast'"),
    option("device-map", "auto", "device-map auto spreads a model over GPUs, so it needs --device=cuda, not cpu"),
    option("window", "512/1024", "window 512/1024: a stride above the length"),
    option("training-batch", "0", "training-batch '0'"),
    option("accumulate", "x", "accumulate 'x'"),
    option("time-per-cell", "0", "time-per-cell '0'"),
    option("budget", "never", "budget 'never'"),
    option("cell-timeout", "-5", "cell-timeout '-5'"),
    option("fine-tune", "0", "fine-tune '0'"),
    option("harness", ",", "harness ',' names no task"),
    option("harness-limit", "19", "harness-limit '19' without harness"),
    Case("option: too few of a task", (*PYTEST, "--harness=own", "--harness-limit=19"), "harness-limit '19' is not"),
    Case("option: tasks without harness", (*PYTEST, "--harness-tasks=tasks"), "harness-tasks 'tasks' without harness"),
    Case("option: no folder of tasks", (*PYTEST, "--harness=own", "--harness-tasks=nowhere"), "'nowhere' is no folder"),
    Case("option: --resume alone", (*PYTEST, "--resume"), "--resume: needs the --benchmark-json"),
    Case("option: file in no folder", (*PYTEST, "--benchmark-json=nowhere/run.json"), "nowhere/run.json"),
    Case("option: documents without data", (*PYTEST, "--training-data=a.csv"), "training-data"),
    Case("option: columns without data", (*PYTEST, "--text-column=text"), "text-column"),
    Case("option: doctor's threads", (*DOCTOR, "--threads=0"), "threads '0'"),
]


def model(name: str, told: str, lay: Lay = lambda folder: None, reference: str = "./model", *more: str) -> Case:
    """A model that cannot be had."""
    return Case(f"model: {name}", (*PYTEST, f"--models={reference}", *more), told, lay)


def saved(folder: Path, family: str = "bert", task: str = "lm", **changes: Any) -> Path:
    """A tiny checkpoint with a tokenizer."""
    from tests.models import tiny

    tiny.save(folder / "model", family, task, **changes)
    tiny.add_tokenizer(folder / "model", family)
    return folder / "model"


def config(**changes: Any) -> Lay:
    """A checkpoint whose configuration was changed afterwards."""

    def lay(folder: Path) -> None:
        file = saved(folder) / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return lay


def instead(name: str, content: str | bytes) -> Lay:
    """A checkpoint with one file replaced."""

    def lay(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (saved(folder) / name).write_bytes(data)

    return lay


def cut(share: float) -> Lay:
    """A checkpoint whose weights are cut off."""

    def lay(folder: Path) -> None:
        file = saved(folder) / "model.safetensors"
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])

    return lay


def changed_weights(change: Callable[[dict[str, Any]], object]) -> Lay:
    """A checkpoint whose weights were changed."""

    def lay(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = saved(folder) / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, {"format": "pt"})

    return lay


def index(shards: Any) -> Lay:
    """A checkpoint of shards, with this list of them."""

    def lay(folder: Path) -> None:
        (saved(folder) / "model.safetensors").rename(folder / "model" / "model-1.safetensors")
        (folder / "model" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))

    return lay


def pickled(folder: Path) -> None:
    (saved(folder) / "model.safetensors").unlink()
    (folder / "model" / "pytorch_model.bin").write_bytes(b"\x80\x04.")


QUERY = "bert.encoder.layer.0.attention.self.query.weight"
QUALITY = ("-k", "perplexity")
MODELS = [
    model("a name that is nearly one", "did you mean 'bert'", reference="berd"),
    model("an id, and no hub in reach", "owner/unknown", reference="owner/unknown"),
    model("random of nothing known", "random:nothing", reference="random:nothing"),
    model("no id and no path", "a b c", reference="a b c?!"),
    model("a folder that is not there", "./model: no such folder"),
    model("a file", "is a file", lambda folder: (folder / "model").write_text("x")),
    model("an empty folder", "no config.json", lambda folder: (folder / "model").mkdir()),
    model("config: not JSON", "config.json is not readable JSON", instead("config.json", "{not")),
    model("config: a list", "config.json holds no JSON object", instead("config.json", "[]")),
    model("config: no family", "model", instead("config.json", "{}")),
    model("config: an unknown family", "'nosuch'", config(model_type="nosuch")),
    model("config: of no meaning", "config.json", config(num_attention_heads="many")),
    model("config: heads that do not divide", "model", config(num_attention_heads=3)),
    model("config: of another size", "config.json", config(hidden_size=64)),
    model("config: fewer blocks than weights", "blocks", config(num_hidden_layers=1)),
    model("config: more blocks than weights", "lacks", config(num_hidden_layers=3)),
    model("weights: cut off in the header", "is not whole", cut(0.001)),
    model("weights: cut off in the middle", "is not whole", cut(0.5)),
    model("weights: no safetensors", "is not whole", instead("model.safetensors", b"\xff" * 100)),
    model("weights: empty", "is not whole", instead("model.safetensors", b"")),
    model("weights: one is missing", QUERY, changed_weights(lambda tensors: tensors.pop(QUERY))),
    model(
        "weights: one of another shape",
        QUERY,
        changed_weights(lambda tensors: tensors.update({QUERY: tensors[QUERY][:4].contiguous()})),
    ),
    model("weights: a pickle", "pytorch_model.bin", pickled),
    model("weights: none", "no model.safetensors", lambda folder: (saved(folder) / "model.safetensors").unlink()),
    model("shards: one outside of the folder", "outside", index({"a": "../model-1.safetensors"})),
    model("shards: one missing", "missing", index({"a": "model-1.safetensors", "b": "model-2.safetensors"})),
    model("shards: pickles", "which are not read", index({"a": "pytorch_model-1.bin"})),
    model("shards: no list", "model.safetensors.index.json", index([1])),
    model("tokenizer: not JSON", "tokenizer", instead("tokenizer.json", "{not"), "./model", *QUALITY),
    model(
        "tokenizer: of a larger vocabulary",
        "tokenizer",
        lambda folder: saved(folder, vocab_size=100),
        "./model",
        *QUALITY,
    ),
]

ROWS = "text,label\n" + "".join(f"film {i} was {w},{i % 2}\n" for i, w in enumerate(["bad", "good"] * 30))


def data(name: str, told: str, content: str | bytes | None, file: str = "mine.csv", *more: str) -> Case:
    """A file of documents."""

    def lay(folder: Path) -> None:
        if content is not None:
            (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    words = (*PYTEST, "--models=bert", f"--data={file}", "-k", "perplexity or classification", *more)
    return Case(f"data: {name}", words, told, lay)


DATA = [
    data("a file that is not there", r"mine\.csv", None),
    data("a name that is nearly one", "did you mean 'sst2'", None, "sst3"),
    data("a regression task", "regression", None, "stsb"),
    data("a hub set, and no hub in reach", "owner/nothing", None, "owner/nothing"),
    data("of no known kind", r"mine\.xlsx", "PK", "mine.xlsx"),
    data("empty", r"mine\.csv", ""),
    data("a header alone", r"mine\.csv", "text,label\n"),
    data("not UTF-8", r"mine\.csv", "text,label\nd\xe9j\xe0,1\n".encode("latin-1") * 30),
    data("rows of other lengths", r"mine\.csv", ROWS + 'a,b,c,d,"e\n'),
    data("JSONL that is broken", r"mine\.jsonl", '{"text": "a", "label": 1}\n{"text": \n', "mine.jsonl"),
    data("JSONL of numbers", r"mine\.jsonl", "1\n2\n3\n", "mine.jsonl"),
    data("Parquet that is cut off", r"mine\.parquet", b"PAR1" + b"\0" * 40, "mine.parquet"),
    data("no such text column", "did you mean 'text'", ROWS, "mine.csv", "--text-column=txt"),
    data("no such label column", "did you mean 'label'", ROWS, "mine.csv", "--label-column=lable"),
    data("three text columns", "text-column", ROWS, "mine.csv", "--text-column=a,b,c"),
    data("labels that are no classes", "label", ROWS.replace(",1\n", ",1.5\n"), "mine.csv", "--label-column=label"),
    data("every text empty", r"mine\.csv", "text,label\n" + "  ,1\n,0\n" * 30),
    data("training data that are not there", r"other\.csv", ROWS, "mine.csv", "--training-data=other.csv"),
    data("texts alone, to be classified", "mine", "a text\n" * 40, "mine.txt", "--tasks=classification"),
]


def record(**changes: Any) -> str:
    """A result file of one memory cell, changed."""
    cell = {"model": "bert", "method": "l1", "sparsity": 0.9, "format": "csr"}
    memory = {"weights_bytes": 10, "peak_bytes": 1, "source": "cpu profiler"}
    extra: dict[str, Any] = {"schema": 1, "cell": cell, "memory": memory, "outcome": "passed"}
    for name, value in changes.items():
        where, _, key = name.partition("__")
        if key:
            extra[where] = {**extra[where], key: value}
        else:
            extra[where] = value
    part = {"schema": 1, "profile": "default", "fingerprint": {}, "models": {}, "not_measured": []}
    entry = {"fullname": "t.py::test[a]", "name": "test[a]", "extra_info": {"sparsity": extra}, "stats": {"data": [1]}}
    return json.dumps({"machine_info": {}, "benchmarks": [entry], "sparsity": part})


def result(name: str, told: str, content: str | bytes | None, *words: str) -> Case:
    """A result file for the reports."""

    def lay(folder: Path) -> None:
        if content is not None:
            (folder / "run.json").write_bytes(content.encode() if isinstance(content, str) else content)
        (folder / "fine.json").write_text(record())

    return Case(f"result: {name}", (*REPORTS, *(words or ("run.json", "--out", "report"))), told, lay)


COMPARE = ("compare", "fine.json", "run.json")
RESULTS = [
    result("not there", "no such file", None),
    result("not JSON", "not a JSON file", "{not"),
    result("cut off", "not a JSON file", record()[:-40]),
    result("a list", "list", "[]"),
    result("bytes", r"run\.json", b"\xff\xfe\x00\x01" * 30),
    result("of somebody else", "pytest-benchmark did not write this", "{}"),
    result(
        "without our records",
        "no sparsity records",
        record().replace('"extra_info": {"sparsity"', '"extra_info": {"x"'),
    ),
    result("of another version", "schema 99", record(schema=99)),
    result("NaN", "NaN", record().replace("0.9", "NaN")),
    result("a number beyond all", r"run\.json", record().replace("0.9", "1e999")),
    result("a text for a number", r"run\.json", record(memory__weights_bytes="many")),
    result("a sparsity of 1.5", "sparsity", record(cell__sparsity=1.5)),
    result("bytes below none", "weights_bytes", record(memory__weights_bytes=-1)),
    result("an unknown verdict", "verdict", record(memory__verdict="tiny")),
    result("an unknown outcome", "outcome", record(outcome="fine")),
    result("a cell without a model", "model", record(cell={"method": "l1"})),
    result("a section that is a list", "memory", record(memory=[])),
    result("nested without end", r"run\.json", "[" * 100_000),
    result("a key twice", r"run\.json", record().replace('"method": "l1"', '"method": "l1", "method": "l2"')),
    result("an output that is a file", "fine.json", record(), "run.json", "--out", "fine.json"),
    result("compare: a base that is not there", "no such file", record(), "compare", "nothing.json", "run.json"),
    result("compare: a head that is broken", r"run\.json", "{", *COMPARE),
    result("compare: a margin below none", "margin", record(), *COMPARE, "--margin=-1"),
    result("compare: one file", "compare", record(), "compare", "run.json"),
    result("across: a broken file", r"run\.json", "{", "across", "fine.json", "run.json"),
    Case(
        "result: a baseline that is not there",
        (*PYTEST, "--models=bert", "--sparsity-baseline=nothing.json"),
        r"nothing\.json",
    ),
    Case(
        "result: a baseline that is broken",
        (*PYTEST, "--models=bert", "--sparsity-baseline=base.json"),
        r"base\.json",
        lambda folder: (folder / "base.json").write_text("{"),
    ),
]


def journal(name: str, told: str, content: str, *more: str) -> Case:
    """A journal that was left behind."""
    words = (*PYTEST, "--models=bert", "-k", "perplexity", "--benchmark-json=run.json", *more)
    return Case(f"journal: {name}", words, told, lambda folder: (folder / "run.json.journal").write_text(content))


HEAD = '{"journal": 1, "settings": {"torch": "0.1"}}\n'
DONE = '{"done": {"test": "t", "outcome": "passed"}}\n'
JOURNALS = [
    journal("left behind", "holds 1 finished tests", HEAD + DONE),
    journal("of other settings", "go on with the same settings", HEAD + DONE, "--resume"),
    journal("broken", "line 2 is broken", HEAD + "{\n" + DONE, "--resume"),
    journal("of another kind", "not a journal that this version writes", "{}\n", "--resume"),
]


def tuned(name: str, told: str, *words: str, lay: Lay = lambda folder: None) -> Case:
    """A classifier that cannot be made."""
    return Case(f"fine-tune: {name}", (*FINE_TUNE, *words), told, lay)


def rows(folder: Path, content: str = ROWS) -> None:
    (folder / "mine.csv").write_text(content)


FINE_TUNED = [
    tuned("no data", "--data", "bert", "--out=made"),
    tuned("data that are not there", r"mine\.csv", "bert", "--data=mine.csv", "--out=made"),
    tuned("no such model", "./nowhere", "./nowhere", "--data=mine.csv", "--out=made", lay=rows),
    tuned("steps that are none", "steps", "bert", "--data=mine.csv", "--out=made", "--steps=0", lay=rows),
    tuned("a folder that is not empty", "is there already", "bert", "--data=mine.csv", "--out=.", lay=rows),
    tuned(
        "one class",
        "class",
        *("bert", "--data=mine.csv", "--out=made"),
        lay=lambda folder: rows(folder, ROWS.replace(",0\n", ",1\n")),
    ),
]

CASES = [*OPTIONS, *MODELS, *DATA, *RESULTS, *JOURNALS, *FINE_TUNED]


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with its time and content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@dataclass(frozen=True)
class Answer:
    """What the program answered."""

    status: int
    output: str
    changed: frozenset[str]
    """Files that are new, gone or otherwise."""

    def line(self, case: Case) -> str:
        """The line that says what is wrong, or the end of what was said instead."""
        lines = [text for text in self.output.splitlines() if re.match(r"(ERROR|error|usage|.*: error): ?", text)]
        found = [text for text in lines if re.search(case.told, text)]
        return found[0] if found else self.output.strip()[-300:]

    def complaints(self, case: Case) -> list[str]:
        """Everything that is not as it must be."""
        found = []
        if self.status not in (2, 4):
            found.append(f"status {self.status}")
        if "Traceback" in self.output or "INTERNALERROR" in self.output:
            found.append("a traceback")
        said = [text for text in self.output.splitlines() if re.match(r"(ERROR|error|.*: error): ", text)]
        if len(said) != 1:
            found.append(f"{len(said)} lines that tell an error")
        elif not re.search(case.told, said[0]):
            found.append(f"a line without {case.told!r}")
        if self.changed:
            found.append(f"files changed: {', '.join(sorted(self.changed))}")
        return found


@contextlib.contextmanager
def laid_out(case: Case) -> Iterator[tuple[Path, dict[str, tuple[int, bytes]]]]:
    """A folder with the case's files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.lay(folder)
        yield folder, tree(folder)


def answer(status: int, output: str, folder: Path, before: dict[str, tuple[int, bytes]]) -> Answer:
    """What a program left."""
    after = tree(folder)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return Answer(status, output, frozenset(changed))


NO_HUB = "http://127.0.0.1:9"
"""Where nothing listens: whatever is on the hub today, nobody asks there."""
ENVIRONMENT = {"HF_ENDPOINT": NO_HUB, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}


def typed(case: Case) -> Answer:
    """The case as a user types it."""
    with laid_out(case) as (folder, before):
        environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", *case.words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return answer(done.returncode, done.stdout + done.stderr, folder, before)


def main() -> int:
    """Types every case and prints the table; 0 when all are as they must be."""
    table, bad = [], 0
    for number, case in enumerate(CASES, 1):
        found = typed(case)
        wrong = found.complaints(case)
        bad += bool(wrong)
        table.append([number, case.name, found.status, "; ".join(wrong) or "one line", found.line(case)[:160]])
        print(f"{number}/{len(CASES)} {case.name}: {'; '.join(wrong) or 'fine'}", file=sys.stderr)
    print(tabulate(table, ("", "input", "status", "told by", "line"), tablefmt="github", disable_numparse=True))
    print(f"\n{len(CASES)} bad inputs, {bad} not answered as they must be.")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
