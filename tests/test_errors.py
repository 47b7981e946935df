"""Errors: one line that lists what is known and names the nearest."""

from __future__ import annotations

from sparsity import errors


def test_an_unknown_name_comes_with_the_nearest_and_all_known() -> None:
    message = str(errors.UnknownName("format", "maskd", ("dense", "masked")))
    assert message == "unknown format 'maskd'; did you mean 'masked'? Known: dense, masked"


def test_without_a_near_one_only_the_known_are_listed() -> None:
    assert str(errors.UnknownName("format", "zzz", ("dense",))) == "unknown format 'zzz'. Known: dense"


def test_every_kind_can_be_caught_as_one() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(kind, errors.SparsityError) for kind in kinds)
