"""The words of the generated reviews, and nothing else.

Order matters: it is part of the distribution (Zipf ranks), so adding a word in the middle changes
every text that was ever generated. The nouns of two domains never overlap, and no word is both
positive and negative; `tests/test_reviews.py` holds both, because the exact probability of a text
in `reviews.py` rests on them.
"""

from __future__ import annotations

NOUNS: dict[str, tuple[str, ...]] = {
    "film": tuple(
        "plot actor scene script ending director camera costume score dialogue villain hero "
        "sequel trailer effect joke stunt chapter title subtitle".split()
    ),
    "hotel": tuple(
        "room bed lobby pool towel shower receptionist view corridor elevator breakfast balcony "
        "pillow carpet garden spa minibar curtain manager key".split()
    ),
    "food": tuple(
        "soup waiter dessert menu sauce steak salad table chef wine starter pasta pizza burger "
        "bill portion napkin noodle curry pie".split()
    ),
    "phone": tuple(
        "screen battery charger button speaker app lens signal cable update icon keyboard widget "
        "sensor case processor microphone antenna firmware socket".split()
    ),
    "book": tuple(
        "novel author page cover sentence poem paragraph preface index appendix illustration "
        "narrator essay metaphor prologue epilogue verse memoir font margin".split()
    ),
    "car": tuple(
        "engine seat brake wheel door mirror gearbox dashboard clutch trunk window tyre handle "
        "belt headlight roof pedal wiper bumper radiator".split()
    ),
}

# Adjectives that carry an opinion, by its sign.
ADJECTIVES: dict[int, tuple[str, ...]] = {
    +1: tuple(
        "good great superb lovely charming brilliant delightful solid elegant clever fresh bright "
        "smooth warm graceful generous reliable vivid polished crisp stunning pleasant inspired "
        "witty tasteful sharp sturdy tender rich comfortable joyful flawless".split()
    ),
    -1: tuple(
        "bad awful terrible dull clumsy boring cheap ugly weak broken stale noisy rude shallow "
        "flimsy bland messy sloppy dreadful tedious lazy crude grim cold hollow faulty greasy "
        "dirty cramped pointless painful horrid".split()
    ),
}
# Adjectives that carry none.
NEUTRAL = tuple(
    "old new large small red blue green second first main local usual modern black white tiny "
    "long short wooden round".split()
)
ADVERBS = tuple("very really quite truly rather extremely fairly so".split())
NEGATIONS = ("not", "never", "hardly")

# (past form, base form): "the plot impressed me", "the plot did not impress me".
VERBS: dict[int, tuple[tuple[str, str], ...]] = {
    +1: (
        ("impressed", "impress"),
        ("delighted", "delight"),
        ("charmed", "charm"),
        ("amused", "amuse"),
        ("thrilled", "thrill"),
        ("pleased", "please"),
        ("surprised", "surprise"),
        ("moved", "move"),
    ),
    -1: (
        ("annoyed", "annoy"),
        ("bored", "bore"),
        ("disappointed", "disappoint"),
        ("irritated", "irritate"),
        ("shocked", "shock"),
        ("offended", "offend"),
        ("tired", "tire"),
        ("confused", "confuse"),
    ),
}
# "i loved the plot", "i did not love the plot".
FEELINGS: dict[int, tuple[tuple[str, str], ...]] = {
    +1: (
        ("loved", "love"),
        ("liked", "like"),
        ("enjoyed", "enjoy"),
        ("praised", "praise"),
        ("admired", "admire"),
    ),
    -1: (
        ("hated", "hate"),
        ("disliked", "dislike"),
        ("regretted", "regret"),
        ("cursed", "curse"),
        ("avoided", "avoid"),
    ),
}
OBJECTS = tuple("me us everyone him her them".split())
PEOPLE = (
    "my brother",
    "my friend",
    "the critic",
    "our neighbour",
    "her boss",
    "his uncle",
    "one blogger",
    "my colleague",
)
PREPOSITIONS = tuple("of near with behind beside under".split())


def plural(noun: str) -> str:
    """The English plural of a noun from `NOUNS`."""
    if noun.endswith(("s", "x", "ch")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"
