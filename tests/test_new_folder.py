"""A new folder is there when it is whole, and what took its name meanwhile is left alone."""

from __future__ import annotations

from pathlib import Path

from sparsity.errors import BadValue
from sparsity.new_folder import whole_or_nothing
from tests.models import tiny


def test_what_took_the_name_meanwhile_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "made"

    def meanwhile() -> None:
        with whole_or_nothing(out) as folder:
            (folder / "weights").touch()
            out.mkdir()
            (out / "precious").touch()

    assert "is there already" in tiny.refusal(BadValue, meanwhile)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["precious"]
