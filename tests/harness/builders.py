"""A folder of tasks for lm-evaluation-harness, made of generated reviews: what to choose, and what to predict."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from sparsity.tasks import review_words as words
from sparsity.tasks import reviews

CHOICE: dict[str, Any] = {
    "task": "topic",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "topics.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{text}} the",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
    "metadata": {"version": 1.5},
}
"""Which of two nouns goes on with a review: one of its own topic, or of another."""
NLL: dict[str, Any] = {
    **{key: CHOICE[key] for key in ("dataset_path", "dataset_kwargs", "test_split")},
    "task": "nll",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}],
}
WRITE: dict[str, Any] = {
    **{key: CHOICE[key] for key in ("dataset_path", "dataset_kwargs", "test_split")},
    "task": "write",
    "output_type": "generate_until",
    "doc_to_text": "{{text}} overall ,",
    "doc_to_target": " i",
    "generation_kwargs": {"until": [" recommend", " cannot"], "max_gen_toks": 6, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def rows(count: int) -> list[dict[str, Any]]:
    """Documents, each with the two nouns and the place of the right one."""
    draw = random.Random(5)
    found: list[dict[str, Any]] = []
    for review in reviews.balanced(8 * count, 78):
        said = {form for word in review.text.split() for form in (word, word.removesuffix("s"))}
        own = next((topic for topic, nouns in words.NOUNS.items() if said & set(nouns)), None)
        if own is not None and len(found) < count:
            other = draw.choice([topic for topic in words.NOUNS if topic != own])
            nouns = [draw.choice([n for n in words.NOUNS[topic] if n not in said]) for topic in (own, other)]
            label = draw.randrange(2)
            found.append({"text": review.text, "choices": nouns[::-1] if label else nouns, "label": label})
    return found


def lay(folder: Path, *tasks: dict[str, Any], count: int = 40) -> Path:
    """A folder with these tasks over as many documents; JSON is YAML too."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(row) + "\n" for row in rows(count)]
    (folder / "topics.jsonl").write_text("".join(lines), encoding="utf-8")
    for task in tasks or (CHOICE,):
        (folder / f"{task['task']}.yaml").write_text(json.dumps(task), encoding="utf-8")
    return folder
