"""The plain values that a report is made of."""

from __future__ import annotations

import dataclasses

import pytest

from reports.document import Document, Part, Picture, Table


def test_a_table_without_a_row_is_none() -> None:
    assert not Table(("model", "ms"))
    assert Table(("model", "ms"), (("bert", "4"),))


@pytest.mark.parametrize("kind", [Table, Picture, Part, Document])
def test_nothing_changes_once_it_is_said(kind: type) -> None:
    values = dict.fromkeys([field.name for field in dataclasses.fields(kind)], ())
    whole = kind(**values)
    assert hash(whole) == hash(kind(**values)), "holds nothing that can change"
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(whole, next(iter(values)), "other")
