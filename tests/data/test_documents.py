"""Documents: selections that are the same everywhere, halves that share no text, digests that tell data apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.data.documents import Documents, counted, halves, whole
from sparsity.errors import BadValue

TEXTS = tuple(f"text {i}" for i in range(40))


def of(count: int = 40, **changes: object) -> Documents:
    fields: dict[str, object] = {"labels": tuple(i % 3 for i in range(count))} | changes
    return Documents("mine", TEXTS[:count], **fields)  # type: ignore[arg-type]  # of any field


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(BadValue, match=r"columns of \[2, 3\] documents"):
        Documents("mine", ("a", "b", "c"), labels=(0, 1))


def test_a_selection_keeps_columns_and_order_and_hangs_on_the_seed_alone() -> None:
    documents = of(pairs=tuple(f"pair {i}" for i in range(40)))
    found = documents.chosen(10, 3)
    assert found == documents.chosen(10, 3) != documents.chosen(10, 4)
    places = [TEXTS.index(text) for text in found.texts]
    assert places == sorted(set(places))
    assert found.labels == tuple(i % 3 for i in places)
    assert found.pairs == tuple(f"pair {i}" for i in places)


def test_never_more_than_there_are() -> None:
    assert of().chosen(1000, 0) is not None
    assert len(of().chosen(1000, 0)) == len(of().chosen(40, 0)) == 40


@pytest.mark.parametrize(
    "other",
    [
        of(39),
        of(labels=None),
        of(labels=(1,) * 40),
        of(pairs=("",) * 40),
        of(classes=("a", "b", "c")),
        of().at(reversed(range(40))),
    ],
)
def test_the_digest_is_that_of_the_content_alone(other: Documents) -> None:
    assert of().digest == Documents("yours", of().texts, labels=of().labels, notes=("x",)).digest
    assert of().digest != other.digest
    assert len(of().digest) == 64


@given(st.lists(st.text(max_size=3), min_size=1, max_size=60))
def test_halves_hold_every_document_once_and_no_text_is_in_both(texts: list[str]) -> None:
    documents = Documents("mine", tuple(texts), labels=tuple(range(len(texts))))
    first, second = halves(documents)
    assert not set(first.texts) & set(second.texts)
    assert sorted([*(first.labels or ()), *(second.labels or ())]) == list(range(len(texts)))


def test_another_row_changes_nothing_for_the_rest_and_halves_are_about_half() -> None:
    documents = of(labels=None)
    more = Documents("mine", ("new", *TEXTS))
    assert set(halves(documents).evaluated.texts) <= set(halves(more).evaluated.texts)
    assert 8 <= len(halves(documents).evaluated) <= 32


def test_what_others_hold_is_left_out_pairs_as_a_whole() -> None:
    pairs = Documents("mine", ("a", "a", "b"), ("x", "y", "x"))
    assert pairs.without({("a", "y")}).rows() == [("a", "x"), ("b", "x")]
    assert of().without(set(TEXTS[5:])).texts == TEXTS[:5]


def test_a_pair_as_one_text() -> None:
    assert (whole("a"), whole(("a", "b"))) == ("a", "a b")


def test_a_note_says_how_many_of_how_many() -> None:
    assert counted(3, TEXTS, "rows") == ("3 of 40 rows",)
    assert counted(0, TEXTS, "rows") == ()
