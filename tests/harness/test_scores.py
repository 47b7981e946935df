"""Scores on lm-eval's tasks: the same as a naive count, paired over documents, judged only where a point is a point."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lm_eval", reason="lm-eval is not installed; the extra harness brings it")

from lm_eval.api.metrics import mean, mean_stderr

from sparsity import prune
from sparsity.bench import CONTROL, Bench
from sparsity.errors import Refused
from sparsity.harness import library, scores
from sparsity.options import Options
from tests.harness import builders

HALF = prune.Recipe("l1", 0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tasks = builders.CHOICE, builders.NLL, builders.WRITE
    return builders.lay(tmp_path_factory.mktemp("harness") / "tasks", *tasks, count=60)


@pytest.fixture(scope="module")
def bench(folder: Path) -> Bench:
    return Bench(Options(threads=1, harness=("topic", "nll", "write"), harness_tasks=str(folder)))


def naive(bench: Bench, recipe: prune.Recipe) -> list[bool]:
    """Of each document, whether the likelier of its two nouns is the right one; one text at a time."""
    subject = bench.subject("gpt2", "lm")
    tokenizer, lm = subject.loaded.tokenizer(), bench.pruned(subject, recipe).model
    found = []
    for row in builders.rows(60):
        values = []
        for noun in row["choices"]:
            context, whole = (tokenizer.encode(f"{row['text']} the{end}") for end in ("", f" {noun}"))
            logits = torch.log_softmax(lm(torch.tensor([whole])).logits[0].double(), -1)
            own = sum(float(logits[place - 1, whole[place]]) for place in range(len(context), len(whole)))
            values.append(own / len(noun))  # acc_norm: by characters
        found.append(int(values[1] > values[0]) == row["label"])
    return found


def test_an_accuracy_is_that_of_a_naive_loop_and_its_difference_paired(bench: Bench) -> None:
    dense, pruned = np.array(naive(bench, CONTROL)), np.array(naive(bench, HALF))
    found = bench.harness("gpt2", "harness:topic", HALF)
    assert (found.metric, found.documents, found.version, found.shots) == ("acc_norm", 60, "1.5", 0)
    assert found.value == pytest.approx(pruned.mean())
    assert found.dense_value == pytest.approx(dense.mean())
    assert found.delta == pytest.approx(pruned.mean() - dense.mean())
    differences = pruned.astype(float) - dense.astype(float)
    assert found.delta_stderr == pytest.approx(differences.std(ddof=1) / math.sqrt(60))
    assert found.stderr == pytest.approx(mean_stderr([float(right) for right in pruned]))  # lm-eval's own
    assert found.verdict == "lost"
    assert found.resampled is None
    assert set(found.also or ()) == {"acc"}
    assert 0.5 <= (found.chance or 0) < 0.6


def test_the_dense_model_is_not_judged_and_each_model_is_asked_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bench.harness("gpt2", "harness:topic", CONTROL)
    assert (found.delta, found.delta_stderr, found.verdict) == (None, None, None)
    assert found.value == found.dense_value
    monkeypatch.delattr(scores, "evaluate")
    assert bench.harness("gpt2", "harness:topic", CONTROL) == found


def test_a_corpus_metric_has_errors_of_documents_drawn_anew_and_no_verdict(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "USUAL_RESAMPLES", 200)
    found = bench.harness("gpt2", "harness:nll", HALF)
    own = bench.harness_score("gpt2", "harness:nll", HALF)
    likelihoods, counts = np.array(list(own.items.values())).T
    assert (found.metric, found.higher_is_better, found.verdict) == ("word_perplexity", False, None)
    assert found.value == pytest.approx(math.exp(-likelihoods.sum() / counts.sum()))
    assert found.resampled == 200
    share = likelihoods / counts.mean() - counts / counts.mean() * (likelihoods.sum() / counts.sum())
    linear = found.value * share.std(ddof=1) / math.sqrt(60)  # by the delta method
    assert found.stderr == pytest.approx(linear, rel=0.25)
    assert 0 < (found.delta_stderr or 0) < 3 * linear
    assert found.delta is not None
    assert found.delta > 0


def test_text_that_is_written_is_scored(bench: Bench) -> None:
    found = bench.harness("gpt2", "harness:write", CONTROL)
    assert (found.metric, found.chance) == ("exact_match", None)
    assert found.value > 0.9  # nothing else is ever said there


def test_a_limit_takes_the_first_documents(bench: Bench) -> None:
    tasks, subject = bench.harness_tasks, bench.subject("gpt2", "lm")
    assert tasks is not None
    found = scores.evaluate(tasks, "topic", subject.loaded.model, subject.loaded.tokenizer(), 25)
    whole = bench.harness_score("gpt2", "harness:topic", CONTROL)
    assert list(found.items.items()) == list(whole.items.items())[:25]


def test_few_shot_examples_are_the_same_for_every_model(tmp_path: Path, bench: Bench) -> None:
    shots = builders.CHOICE | {"num_fewshot": 1, "fewshot_split": "test"}
    tasks = library.Tasks.of(("topic",), str(builders.lay(tmp_path / "tasks", shots, count=20)))
    subject = bench.subject("gpt2", "lm")
    one, other = (
        scores.evaluate(tasks, "topic", subject.loaded.model, subject.loaded.tokenizer(), None) for _ in range(2)
    )
    assert one == other
    assert one.shots == 1


def test_only_causal_models_are_asked(bench: Bench) -> None:
    with pytest.raises(Refused, match="causal language models, which bert is not"):
        bench.harness("bert", "harness:topic", CONTROL)


# -- what is made of scores, without a model ----------------------------------------------------------------


def made(values: list[Any], better: bool | None = True, chance: float | None = None) -> scores.Scores:
    items = dict(enumerate(values))
    return scores.Scores("acc", float(np.mean(values)), items, mean, better, "1", 0, "none", chance)


RIGHT = [1.0] * 36 + [0.0] * 4


@pytest.mark.parametrize(
    ("pruned", "dense", "verdict"),
    [
        (made(RIGHT), made(RIGHT), "kept"),
        (made(RIGHT[::-1]), made(RIGHT), "inconclusive"),
        (made([0.0] * 40), made(RIGHT), "lost"),
        (made([1.0] * 40), made(RIGHT), "kept"),
        (made([0.0] * 40, chance=0.95), made(RIGHT, chance=0.95), "inconclusive"),  # dense only guesses
        (made([0.0] * 40), made([0.0] * 40), "inconclusive"),  # nothing to lose
        (made([0.9] * 40, better=False), made([0.1] * 40, better=False), "lost"),
        (made([0.1] * 40, better=False), made([0.9] * 40, better=False), "kept"),
        (made(RIGHT[30:]), made(RIGHT[30:]), "inconclusive"),  # ten documents
        (made([2.0] * 40), made(RIGHT), None),  # no fraction
        (made(RIGHT, better=None), made(RIGHT, better=None), None),
    ],
)
def test_a_verdict_is_by_one_point_where_there_is_something_to_lose(
    pruned: scores.Scores, dense: scores.Scores, verdict: str | None
) -> None:
    assert scores.compare(pruned, dense).verdict == verdict


def test_models_scored_on_other_documents_have_no_paired_error() -> None:
    other = dataclasses.replace(made(RIGHT), items=dict(enumerate(RIGHT, start=1)))
    found = scores.compare(other, made(RIGHT))
    assert (found.delta, found.delta_stderr, found.verdict) == (0.0, None, None)


def test_an_error_that_cannot_be_drawn_is_absent() -> None:
    ruined = dataclasses.replace(made(RIGHT), aggregate=lambda rows: math.exp(1000 * sum(rows)))
    found = scores.compare(ruined, made(RIGHT))
    assert (found.stderr, found.delta_stderr) == (None, None)
