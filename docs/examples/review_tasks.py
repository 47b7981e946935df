"""Makes two tasks for lm-evaluation-harness out of generated reviews, with no network.

    python docs/examples/review_tasks.py --out tasks

`review_topic`: which of two nouns goes on with a review, one of its own topic or one of another? `review_verdict`: does
its author recommend the thing? 200 documents each, the same everywhere.

Refuses: nothing is read from outside.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from sparsity.tasks import review_words as words
from sparsity.tasks import reviews

DOCUMENTS = 200
SEED = 77
CLOSING = "overall ,"
"""Begins the verdict that some reviews end on."""
COMMON = """\
dataset_path: json
test_split: test
output_type: multiple_choice
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
TASKS = {
    "review_topic": """\
doc_to_text: "{{text}} the"
doc_to_choice: choices
""",
    "review_verdict": f"""\
doc_to_text: "{{{{text}}}} {CLOSING} i"
doc_to_choice: [cannot, recommend]
""",
}


def topics() -> list[dict[str, Any]]:
    """Each review with two nouns that it does not hold, and the place of that of its own topic."""
    draw = random.Random(SEED)
    found: list[dict[str, Any]] = []
    for review in reviews.balanced(4 * DOCUMENTS, SEED):
        said = {form for word in review.text.split() for form in (word, word.removesuffix("s"))}
        own = next((topic for topic, nouns in words.NOUNS.items() if said & set(nouns)), None)
        if own is not None and len(found) < DOCUMENTS:
            other = draw.choice([topic for topic in words.NOUNS if topic != own])
            nouns = [draw.choice([noun for noun in words.NOUNS[topic] if noun not in said]) for topic in (own, other)]
            label = draw.randrange(2)
            found.append({"text": review.text, "choices": nouns[::-1] if label else nouns, "label": label})
    return found


def verdicts() -> list[dict[str, Any]]:
    """Reviews without a verdict, half of each label, by turns."""
    open_ = [review for review in reviews.balanced(4 * DOCUMENTS, SEED) if CLOSING not in review.text]
    halves = ([review for review in open_ if review.label == label][: DOCUMENTS // 2] for label in (0, 1))
    return [{"text": each.text, "label": each.label} for pair in zip(*halves, strict=True) for each in pair]


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description="Makes two tasks for lm-evaluation-harness out of generated reviews.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, documents in (("review_topic", topics()), ("review_verdict", verdicts())):
        lines = [json.dumps(document) + "\n" for document in documents]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        data = f"task: {name}\ndataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}\n"
        (folder / f"{name}.yaml").write_text(data + COMMON + TASKS[name], encoding="utf-8")
        print(f"{folder / name}.yaml: {len(documents)} documents")


if __name__ == "__main__":
    main()
