"""The review language: the same text everywhere, and probabilities that are exact."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from sparsity.tasks import review_words as words
from sparsity.tasks import reviews

GOLDEN_TEXT = "d7c6a2ff4e08446f295562331e425a6ee636a40ab3d34b78d6209d82147be0af"
"""SHA-256 of the first 5000 texts of seed 1, joined by newlines."""
GOLDEN_PROBABILITIES = "8258394e5ff3ae1abfc240b13bfa8c7b617f8671bc3d3253305f85495e32b5b0"
"""SHA-256 of what the first 500 reviews of seed 2 say of themselves, every digit of it."""


def test_text_is_the_same_on_every_python() -> None:
    texts = "\n".join(review.text for review in reviews.generate(5000, seed=1))
    assert hashlib.sha256(texts.encode()).hexdigest() == GOLDEN_TEXT


def test_probabilities_are_the_same_on_every_python() -> None:
    digits = "\n".join(f"{r.log_probability!r} {r.posterior!r} {r.label}" for r in reviews.generate(500, seed=2))
    assert hashlib.sha256(digits.encode()).hexdigest() == GOLDEN_PROBABILITIES


class Enumerated(reviews.ReviewGrammar):
    """Takes every way through the grammar instead of a random one."""

    path: list[int]
    taken: list[tuple[int, int, float]]

    def draw(self, choice: reviews.Choice[Any]) -> int:
        """Follow the path as far as it goes, then the first branch that is possible."""
        possible = [i for i, p in enumerate(choice.log_probabilities) if p > -math.inf]
        depth = len(self.taken)
        position = self.path[depth] if depth < len(self.path) else 0
        self.taken.append((position, len(possible), choice.log_probabilities[possible[position]]))
        return possible[position]

    def every_review(self) -> Iterator[tuple[reviews.Review, float]]:
        """Each way through the grammar: the review it gives, and log P(this way, its label included)."""
        self.path = []
        while True:
            self.taken = []
            review = self.review(random.Random())
            yield review, math.fsum(p for _, _, p in self.taken)
            last = next((d for d in reversed(range(len(self.taken))) if self.taken[d][0] + 1 < self.taken[d][1]), None)
            if last is None:
                return
            self.path = [position for position, _, _ in self.taken[:last]] + [self.taken[last][0] + 1]


@pytest.fixture
def small_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of everything, so that the whole language can be written out."""
    for name in ("ADJECTIVES", "VERBS", "FEELINGS"):
        monkeypatch.setattr(words, name, {sign: items[:2] for sign, items in getattr(words, name).items()})
    for name in ("NEUTRAL", "ADVERBS", "OBJECTS", "PREPOSITIONS"):
        monkeypatch.setattr(words, name, getattr(words, name)[:1])
    monkeypatch.setattr(words, "PEOPLE", words.PEOPLE[:1])


@pytest.mark.usefixtures("small_words")
@pytest.mark.parametrize(
    "changes",
    [
        {"contrast": 0.0, "closing": 0.3, "sentences": (1.0,)},
        {"contrast": 1.0, "closing": 0.0, "sentences": (1.0,), "negation": 0.0},
    ],
    ids=["plain-and-closing", "contrast"],
)
def test_probability_and_posterior_are_exact(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if changes["contrast"]:  # two clauses: their verbs alone differ, or it would be three times as many reviews
        for name in ("ADJECTIVES", "FEELINGS"):
            monkeypatch.setattr(words, name, {sign: items[:1] for sign, items in getattr(words, name).items()})
    settings = reviews.GrammarSettings(nouns={"film": ("plot",)}, noun_classes=1, **changes)
    joint: dict[tuple[str, int], float] = defaultdict(float)
    told: dict[str, reviews.Review] = {}
    for review, log_probability in Enumerated(settings).every_review():
        joint[review.text, review.label] += math.exp(log_probability)
        told[review.text] = review
    assert math.isclose(math.fsum(joint.values()), 1.0, rel_tol=1e-9)
    assert len(told) > 100
    for text, review in told.items():
        positive, negative = joint.get((text, 1), 0.0), joint.get((text, 0), 0.0)
        assert math.isclose(math.exp(review.log_probability), positive + negative, rel_tol=1e-9), text
        assert math.isclose(review.posterior, positive / (positive + negative), rel_tol=1e-9, abs_tol=1e-12), text


def test_words_do_not_overlap_where_the_probability_rests_on_it() -> None:
    forms = {domain: {f for noun in nouns for f in (noun, words.plural(noun))} for domain, nouns in words.NOUNS.items()}
    for one, other in itertools.combinations(forms.values(), 2):
        assert not one & other
    groups = [set(words.ADJECTIVES[1]), set(words.ADJECTIVES[-1]), set(words.NEUTRAL), set(words.ADVERBS)]
    for a, b in itertools.combinations(groups, 2):
        assert not a & b
    for table in (words.VERBS, words.FEELINGS):
        positive, negative = ({form for pair in table[sign] for form in pair} for sign in (1, -1))
        assert not positive & negative
    for nouns in words.NOUNS.values():
        assert len({words.plural(noun) for noun in nouns} | set(nouns)) == 2 * len(nouns)


def test_labels_follow_the_posterior() -> None:
    sample = reviews.generate(20_000, seed=3)
    expected = math.fsum(r.posterior for r in sample)
    spread = math.sqrt(math.fsum(r.posterior * (1 - r.posterior) for r in sample))
    assert abs(sum(r.label for r in sample) - expected) < 4 * spread


def test_a_balanced_set_holds_half_of_each_label_and_begins_as_drawn() -> None:
    chosen = reviews.balanced(500, seed=7)
    assert sum(r.label for r in chosen) == 250
    drawn = reviews.generate(100, seed=7)
    assert chosen[:100] == drawn
    with pytest.raises(ValueError, match="positive even count, got 3"):
        reviews.balanced(3, seed=7)


def test_handed_on_as_a_dataset() -> None:
    dataset = reviews.as_dataset(reviews.generate(10, seed=5))
    assert dataset.column_names == ["text", "label", "log_probability", "posterior"]
    assert list(dataset["text"]) == [r.text for r in reviews.generate(10, seed=5)]
    assert list(dataset["log_probability"]) == [r.log_probability for r in reviews.generate(10, seed=5)]
