"""A Llama-like checkpoint, from its folder to its records: shared heads, kinds of zeros, both parts of a generation."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sparsity.record import Record, from_json
from tests import tiny
from tests.tasks.test_encoding import tokenizer_of

ROOT = Path(__file__).parents[1]
METHODS, PATTERNS = ("l1", "wanda", "sparsegpt"), ("unstructured", "2:4", "neurons", "heads")
GROUPS = ("neurons", "heads")
FORMATS = ("dense", "masked", "csr", "packed", "compact")
WORDS = 400
PHASES = ("prefill:1x16", "decode:1x16")
ASKED = "(memory and (decode or none or l1)) or (latency and (packed or compact or none) and (none or l1)) or metric"
"""Time is asked of one method, and so is the prompt's memory; the trend of a random model is no trend."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result file of one run."""
    folder = tmp_path_factory.mktemp("llama")
    tiny.model("llama", num_hidden_layers=2, max_position_embeddings=64).save_pretrained(folder)
    tokenizer_of("llama").save_pretrained(folder)
    source = random.Random(0)
    for name, words in (("book.txt", WORDS), ("other.txt", 900)):
        (folder / name).write_text(" ".join(f"w{source.randrange(50)}" for _ in range(words)))
    axes = {"methods": METHODS, "patterns": PATTERNS, "formats": FORMATS, "workloads": PHASES}
    options = {name: ",".join(values) for name, values in axes.items()} | {
        "profile": "smoke", "models": folder, "sparsities": "0.5", "tasks": "lm", "window": "32/16", "threads": "1",
        "data": folder / "book.txt", "training-data": folder / "other.txt", "calibration": "8", "time-per-cell": "0.02",
        "benchmark-json": folder / "run.json",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "benchmarks", "-q", "-p", "no:cacheprovider", "-k", ASKED]
    command += [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def records(run: Any) -> list[Record]:
    found = [from_json(entry["extra_info"]["sparsity"], entry["name"]) for entry in run["benchmarks"]]
    assert {each.outcome for each in found} == {"passed"}
    return found


def possible(method: str, pattern: str, kind: str) -> bool:
    """Whether these go together: sparsegpt has no groups, compact nothing else, packed none."""
    if pattern in GROUPS:
        return method != "sparsegpt" and kind != "packed"
    return kind != "compact"


EVERY = {(m, p, f) for m in METHODS for p in PATTERNS for f in FORMATS if possible(m, p, f)} | {("none", None, "dense")}


def choices(records: list[Record]) -> Counter[tuple[Any, ...]]:
    return Counter((r.cell.method, r.cell.pattern, r.cell.format) for r in records)


def test_every_choice_is_stored_and_computes_what_the_masked_model_computes(records: list[Record]) -> None:
    """So the test of memory asks of each."""
    held = [r for r in records if r.memory]
    assert choices(held) == {each: 2 if each[0] in ("none", "l1") else 1 for each in EVERY}
    assert {r.cell.workload for r in held} == set(PHASES)


def test_every_choice_is_timed_and_multiplied_as_it_is_stored(records: list[Record]) -> None:
    timed = [r for r in records if r.latency]
    kinds = {each for each in EVERY if each[0] == "none" or (each[0] == "l1" and each[2] in ("packed", "compact"))}
    assert choices(timed) == dict.fromkeys(kinds, 2)
    for record in timed:
        assert record.latency is not None
        assert record.latency.products is not None
        assert bool(record.latency.products.sparse) is (record.cell.format == "packed")


def test_a_token_costs_less_than_a_prompt(records: list[Record]) -> None:
    flops = {(r.cell.workload, r.cell.format, r.cell.pattern): r.latency.flops for r in records if r.latency}
    for (workload, kind, pattern), count in flops.items():
        if workload == "decode:1x16":
            assert count is not None
            assert 8 * count < (flops["prefill:1x16", kind, pattern] or 0)


def test_shared_heads_go_with_those_that_share_them(records: list[Record]) -> None:
    """One of two key-value heads takes with it its two of four query heads, which is half of each matrix."""
    weights = {r.cell.pattern: r.memory.weights_bytes for r in records if r.memory and r.cell.format == "compact"}
    (dense,) = {r.memory.dense_weights_bytes for r in records if r.memory}
    assert dense is not None
    width, key_value, neurons, layers, number = 16, 8, 32, 2, 4
    assert dense - weights["heads"] == layers * number * (2 * width * width + 2 * key_value * width) / 2
    assert dense - weights["neurons"] == layers * number * 3 * width * neurons / 2


def test_a_long_text_is_scored_once_window_by_window(run: Any, records: list[Record]) -> None:
    assert run["sparsity"]["fingerprint"]["window"] == "32/16"
    judged = [r for r in records if r.quality]
    assert {(r.cell.method, r.cell.pattern) for r in judged} == {(m, p) for m, p, _ in EVERY}
    windows = 1 + -(-(WORDS + 1 - 32) // 16)
    assert {r.quality.documents for r in judged if r.quality} == {windows}


def test_what_is_not_there_says_why(run: Any) -> None:
    known = ("compact takes out whole", "packed leaves out single weights", "sparsegpt sweeps single columns")
    reasons = [each["reason"] for each in run["sparsity"]["not_measured"]]
    assert {next((text for text in known if reason.startswith(text)), reason) for reason in reasons} == set(known)
