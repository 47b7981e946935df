"""Generated reviews: unlimited text whose exact probability and exact label posterior are known.

One probabilistic grammar gives, for each review, its text, its label (1 = the author likes it),
log p(text) in nats and P(label = 1 | text). So a language model trained on it has a computable
floor, and a classifier a computable ceiling (the Bayes accuracy).

The text is the same on every Python and every machine: `random.Random(seed).random()` is the only
source of chance (its stream is guaranteed), every choice goes through an explicit cumulative table,
and sums that reach a result use `math.fsum` (`sum` changed its rounding in Python 3.12).

The grammar is unambiguous: a text tells every choice that made it except the label, whose two
values are summed out. `tests/test_reviews.py` checks that by enumerating a small grammar whole.

Refuses: nothing is read from outside; the datasets library is imported only to hand a set on.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from sparsity.data.documents import Documents
from sparsity.tasks import review_words as words

if TYPE_CHECKING:
    import datasets

POSITIVE, NEGATIVE = +1, -1
T = TypeVar("T")


class Review(NamedTuple):
    """One generated review."""

    text: str
    label: int
    """1 when the author likes the thing, 0 when not."""
    log_probability: float
    """log p(text), nats, the label summed out."""
    posterior: float
    """P(label = 1 | text), in [0, 1]."""


class Choice(Generic[T]):
    """A finite distribution: items with their probabilities, drawn by index."""

    def __init__(self, items: Sequence[T], weights: Sequence[float]) -> None:
        total = math.fsum(weights)
        self.items = tuple(items)
        self.log_probabilities = [math.log(w / total) if w else -math.inf for w in weights]
        self.cumulative = [math.fsum(weights[: i + 1]) / total for i in range(len(weights))]
        self.cumulative[-1] = 1.0  # so that no draw below 1 falls off the end

    def index(self, uniform: float) -> int:
        """The index that a uniform draw from [0, 1) picks."""
        return bisect.bisect_right(self.cumulative, uniform)


def zipf(count: int, exponent: float) -> list[float]:
    """Unnormalised weights 1 / rank^exponent for ranks 1 … count."""
    return [1.0 / (rank + 1) ** exponent for rank in range(count)]


def _shuffled_ranks(count: int, key: str) -> list[int]:
    """A permutation of range(count) fixed by a name, the same on every platform."""

    def digest(i: int) -> bytes:
        return hashlib.sha256(f"{key}/{i}".encode()).digest()

    return sorted(range(count), key=digest)


@dataclass(frozen=True)
class GrammarSettings:
    """The knobs of the review language; the defaults are what the embedded models learned."""

    fidelity: float = 0.92
    """P(a plain clause speaks the author's mind): sets the Bayes ceiling."""
    contrast_fidelity: float = 0.98
    """The same for the main clause of a "but" / "although" sentence."""
    negation: float = 0.2
    contrast: float = 0.25
    hearsay: float = 0.15
    """P(a later sentence reports somebody else's opinion, which says nothing of the label)."""
    closing: float = 0.25
    """P(the review ends on "overall , i (cannot) recommend it")."""
    sentences: tuple[float, ...] = (0.35, 0.4, 0.25)
    """P(1, 2, 3 … sentences)."""
    noun_classes: int = 5
    """Nouns of a domain fall into this many classes, each with its own favourite adjectives."""
    nouns: Mapping[str, Sequence[str]] = field(default_factory=lambda: words.NOUNS)


@dataclass
class _Draft:
    """What has been decided of one review so far."""

    label: int
    log_probability: float = 0.0
    """Sum over the choices that the text shows and that do not depend on the label."""
    log_given: dict[int, float] = field(default_factory=lambda: dict.fromkeys((1, -1), math.log(0.5)))
    """log P(label, the opinions shown) for both labels."""


class ReviewGrammar:
    """Draws reviews. One `random.Random` in, a deterministic sequence of reviews out."""

    def __init__(self, settings: GrammarSettings | None = None) -> None:
        self.settings = s = settings or GrammarSettings()
        self.noun_class = {
            noun: f"{(domain, i % s.noun_classes)}" for domain, nouns in s.nouns.items() for i, noun in enumerate(nouns)
        }
        domains = list(s.nouns)
        self.domain = Choice(domains, [1.0] * len(domains))
        self.sentence_count = Choice(range(1, len(s.sentences) + 1), s.sentences)
        self.noun = {d: Choice(nouns, zipf(len(nouns), 0.8)) for d, nouns in s.nouns.items()}
        self.adjective = {
            POSITIVE: self._by_class(words.ADJECTIVES[POSITIVE], "pos"),
            NEGATIVE: self._by_class(words.ADJECTIVES[NEGATIVE], "neg"),
        }
        self.neutral = self._by_class(words.NEUTRAL, "neu")
        self.verb = {sign: self._by_class(words.VERBS[sign], f"v{sign}") for sign in (1, -1)}
        self.feeling = {sign: Choice(words.FEELINGS[sign], zipf(len(words.FEELINGS[sign]), 0.7)) for sign in (1, -1)}
        self.adverb = Choice(words.ADVERBS, zipf(len(words.ADVERBS), 1.0))
        self.object = Choice(words.OBJECTS, zipf(len(words.OBJECTS), 1.0))
        self.person = Choice(words.PEOPLE, zipf(len(words.PEOPLE), 0.7))
        self.preposition = Choice(words.PREPOSITIONS, zipf(len(words.PREPOSITIONS), 1.0))
        self.negation = Choice(words.NEGATIONS, [0.6, 0.2, 0.2])
        self.template = Choice(["is", "verb", "feeling", "has"], [0.45, 0.2, 0.2, 0.15])

    def _by_class(self, items: Sequence[T], name: str) -> dict[str, Choice[T]]:
        """Each noun class ranks the same items in an order of its own."""
        weights = zipf(len(items), 1.0)
        table = {}
        for noun_class in sorted(set(self.noun_class.values())):
            by_item = [0.0] * len(items)
            for rank, item in enumerate(_shuffled_ranks(len(items), f"{name}{noun_class}")):
                by_item[item] = weights[rank]
            table[noun_class] = Choice(items, by_item)
        return table

    # -- the three kinds of chance: seen, yes-or-no, and tied to the label -----------------------

    def draw(self, choice: Choice[Any]) -> int:
        """The index of the next choice. The one place where chance enters."""
        return choice.index(self._random.random())

    def pick(self, choice: Choice[T]) -> T:
        """The next item, its probability counted: the text will show it."""
        index = self.draw(choice)
        self._draft.log_probability += choice.log_probabilities[index]
        return choice.items[index]

    def flip(self, probability: float) -> bool:
        """The next yes or no, its probability counted."""
        return self.pick(Choice((True, False), (probability, 1 - probability)))

    def opinion(self, fidelity: float) -> int:
        """The sign a clause shows: the author's own with P = fidelity."""
        agrees = self.draw(Choice((True, False), (fidelity, 1 - fidelity))) == 0
        shown = self._draft.label if agrees else -self._draft.label
        self._draft.log_given[shown] += math.log(fidelity)
        self._draft.log_given[-shown] += math.log(1 - fidelity)
        return shown

    # -- phrases, as lists of words ---------------------------------------------------------------

    def noun_phrase(self, domain: str) -> tuple[list[str], str, bool]:
        """("the old plots near the scene", its head noun, whether the head is plural)."""
        noun = self.pick(self.noun[domain])
        many = self.flip(0.35)
        phrase = ["the"]
        if self.flip(0.2):
            phrase.append(self.pick(self.neutral[self.noun_class[noun]]))
        phrase.append(words.plural(noun) if many else noun)
        if self.flip(0.25):
            other = self.pick(self.noun[domain])
            other = words.plural(other) if self.flip(0.5) else other
            phrase += [self.pick(self.preposition), "the", other]
        return phrase, noun, many

    def clause(self, domain: str, opinion: int) -> list[str]:
        """A clause that expresses the opinion, directly or by negating its opposite."""
        template = self.pick(self.template)
        negated = self.flip(self.settings.negation)
        sign = -opinion if negated else opinion
        if template == "is":
            return self._is_clause(domain, sign, negated)
        if template == "verb":
            phrase, noun, _ = self.noun_phrase(domain)
            past, base = self.pick(self.verb[sign][self.noun_class[noun]])
            action = ["did", self.pick(self.negation), base] if negated else [past]
            return [*phrase, *action, self.pick(self.object)]
        if template == "feeling":
            past, base = self.pick(self.feeling[sign])
            action = ["did", self.pick(self.negation), base] if negated else [past]
            return ["i", *action, *self.noun_phrase(domain)[0]]
        noun = self.pick(self.noun[domain])
        many = self.flip(0.35)
        adjective = self.pick(self.adjective[sign][self.noun_class[noun]])
        denial, claim = ["there", "were" if many else "was", "no"], ["it", "had", "some" if many else "a"]
        return [*(denial if negated else claim), adjective, words.plural(noun) if many else noun]

    def _is_clause(self, domain: str, sign: int, negated: bool) -> list[str]:
        phrase, noun, many = self.noun_phrase(domain)
        past = self.flip(0.5)
        verb = ("were" if many else "was") if past else ("are" if many else "is")
        clause = [*phrase, verb]
        if negated:
            clause.append(self.pick(self.negation))
        if self.flip(0.3):
            clause.append(self.pick(self.adverb))
        return [*clause, self.pick(self.adjective[sign][self.noun_class[noun]])]

    def sentence(self, domain: str, first: bool) -> list[str]:
        """A plain clause, a contrast of two, or hearsay."""
        s = self.settings
        if self.flip(s.contrast):  # only the main clause speaks for the author
            mind = self.opinion(s.contrast_fidelity)
            if self.flip(0.5):
                return [*self.clause(domain, -mind), ",", "but", *self.clause(domain, mind), "."]
            return ["although", *self.clause(domain, -mind), ",", *self.clause(domain, mind), "."]
        if not first and self.flip(s.hearsay):
            opinion = POSITIVE if self.flip(0.5) else NEGATIVE
            return [*self.pick(self.person).split(), "said", "that", *self.clause(domain, opinion), "."]
        return [*self.clause(domain, self.opinion(s.fidelity)), "."]

    def review(self, source: random.Random) -> Review:
        """The next review from a source of chance."""
        self._random = source
        fair = Choice((POSITIVE, NEGATIVE), (0.5, 0.5))
        self._draft = draft = _Draft(label=fair.items[self.draw(fair)])
        domain = self.pick(self.domain)
        text: list[str] = []
        for index in range(self.pick(self.sentence_count)):
            text += self.sentence(domain, first=index == 0)
        if self.flip(self.settings.closing):
            likes = self.opinion(self.settings.fidelity) == POSITIVE
            text += ["overall", ",", "i", *([] if likes else ["cannot"]), "recommend", "it", "."]
        positive, negative = draft.log_given[POSITIVE], draft.log_given[NEGATIVE]
        most = max(positive, negative)
        either = most + math.log(math.exp(positive - most) + math.exp(negative - most))
        return Review(
            " ".join(text),
            int(draft.label == POSITIVE),
            draft.log_probability + either,
            math.exp(positive - either),
        )


def generate(count: int, seed: int) -> list[Review]:
    """`count` reviews of the default grammar; the same for the same seed, everywhere."""
    grammar, source = ReviewGrammar(), random.Random(seed)
    return [grammar.review(source) for _ in range(count)]


def balanced(count: int, seed: int) -> list[Review]:
    """`count` (even) reviews, half of each label, in the order drawn.

    Balanced because a collapsed classifier predicts one class and scores exactly its share:
    only with halves is that share chance.
    """
    if count <= 0 or count % 2:
        raise ValueError(f"a balanced set needs a positive even count, got {count}")
    grammar, source = ReviewGrammar(), random.Random(seed)
    room = {0: count // 2, 1: count // 2}
    chosen: list[Review] = []
    while len(chosen) < count:
        review = grammar.review(source)
        if room[review.label]:
            room[review.label] -= 1
            chosen.append(review)
    return chosen


def documents(count: int, seed: int) -> Documents:
    """`count` balanced reviews with all that is known of them."""
    chosen = balanced(count, seed)
    return Documents(
        "generated reviews",
        tuple(each.text for each in chosen),
        labels=tuple(each.label for each in chosen),
        log_probability=tuple(each.log_probability for each in chosen),
        posteriors=tuple(each.posterior for each in chosen),
    )


def as_dataset(reviews: Sequence[Review]) -> datasets.Dataset:
    """The reviews as a `datasets.Dataset` with one column per field of `Review`."""
    import datasets

    return datasets.Dataset.from_dict({name: [getattr(r, name) for r in reviews] for name in Review._fields})
