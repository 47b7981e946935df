"""A data set of the hub, by the real clients: its tables, and one clear line where it cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparsity.data import from_hub
from sparsity.download import patience
from sparsity.download.snapshot import Kind, NotHad
from tests.models.hub_misbehaviour import (
    Fault,
    Send,
    Waits,
    body,
    cut,
    drip,
    ended,
    other_bytes,
    redirect,
    say,
    shorter,
    stall,
    stall_in_the_middle,
)
from tests.models.hub_server import HubServer, use_hub

NAME = "owner/data"
ABOUT = """---
configs:
- config_name: plain
  default: true
  data_files:
  - split: train
    path: plain/train.parquet
  - split: test
    path: plain/test*
- config_name: other
  data_files:
  - split: train
    path: other.parquet
---
A data set.
"""
INFO = r"GET /api/datasets/owner/data(/revision/[^/]+)?"
TREE = r"GET /api/datasets/owner/data/tree/.*"
README = r"GET .*/README\.md"
TABLE = r"GET /sent/.*"
ANY = r".* /(api/datasets|datasets|sent)/.*"


def _table(file: Path, texts: list[str]) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(len(texts))]}).to_parquet(file)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Short time-outs, and sleeps that are over soon."""
    waits = Waits()
    waits.quicken(monkeypatch)
    monkeypatch.setattr(patience, "WINDOW", 1.0)
    return waits


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: Waits) -> Iterator[HubServer]:
    """A hub with one data set, of Parquet files and one of CSV, and empty caches."""
    import datasets

    folder = tmp_path / "served"
    (folder / "plain").mkdir(parents=True)
    datasets.disable_progress_bars()
    for split, count in (("train", 6), ("test", 4)):
        _table(folder / "plain" / f"{split}.parquet", [f"film {split} {i}" for i in range(count)])
    _table(folder / "other.parquet", ["other"])
    (folder / "README.md").write_text(ABOUT)
    (folder / "large.bin").write_bytes(b"not to be downloaded")
    with HubServer(data_sets={NAME: folder}) as running:
        use_hub(monkeypatch, running.url, tmp_path / "cache")
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", running.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "tables")
        yield running


def _read(name: str = NAME, config: str | None = None) -> dict[str, list[str]]:
    """The texts of each split."""
    builder = from_hub.builder(name, config)
    builder.download_and_prepare()
    tables: Any = builder.as_dataset()
    return {split: list(table["text"]) for split, table in tables.items()}


def _refusal(name: str = NAME, config: str | None = None) -> str:
    error = ended(lambda: _read(name, config))
    assert isinstance(error, NotHad), error
    assert str(error).isprintable()
    assert len(str(error)) < 500
    return str(error)


def test_a_data_set_has_its_splits_and_only_its_files_are_fetched(server: HubServer) -> None:
    read = _read()
    assert {split: len(texts) for split, texts in read.items()} == {"train": 6, "test": 4}
    assert read["test"][0] == "film test 0"
    assert server.fetched() == {"README.md", "plain/train.parquet", "plain/test.parquet"}


def test_a_configuration_is_asked_for_by_name(server: HubServer) -> None:
    assert _read(config="other") == {"train": ["other"]}
    assert "Available: ['plain', 'other']" in _refusal(config="third")


@pytest.mark.parametrize("how", ["offline", "gone", "broken"])
def test_what_was_read_once_is_read_from_the_cache(
    server: HubServer, waits: Waits, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    import datasets
    from huggingface_hub import constants

    before = _read()
    server.requests.clear()
    waits.seconds = 0
    if how == "offline":
        for settings in (constants, datasets.config):
            monkeypatch.setattr(settings, "HF_HUB_OFFLINE", True)
    elif how == "gone":
        server.data_sets.clear()
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    else:
        server.broken = True
    assert _read() == before
    assert waits.seconds < 10  # `datasets` alone would retry for longer
    assert how == "broken" or not server.requests
    assert constants.HF_HUB_OFFLINE is (how == "offline")


def test_offline_what_was_never_read_is_refused(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in _refusal()
    assert not server.requests


@pytest.mark.parametrize(("status", "kind"), [(401, Kind.UNKNOWN), (404, Kind.UNKNOWN)])
def test_an_unknown_data_set_is_refused(server: HubServer, status: int, kind: Kind) -> None:
    server.unknown = status
    error = ended(lambda: _read("owner/nothing"))
    assert isinstance(error, NotHad)
    assert error.kind is kind


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_data_set_is_refused(server: HubServer, status: int) -> None:
    server.gated[NAME] = status
    assert _refusal().startswith("is gated on the hub; ask for access there")


@pytest.mark.parametrize("path", ["/secret.parquet", "hf://datasets/owner/more@main/x.parquet"])
def test_a_data_set_names_no_file_outside_of_itself(server: HubServer, tmp_path: Path, path: str) -> None:
    for file in ("secret.parquet", "more/x.parquet"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        _table(tmp_path / file, ["secret"])
    server.data_sets["owner/more"] = tmp_path / "more"
    path = str(tmp_path) + path if path.startswith("/") else path
    (server.data_sets[NAME] / "README.md").write_text(ABOUT.replace("plain/train.parquet", path))
    message = _refusal()
    assert (
        "no file outside of the data set is read" in message or "Data files don't belong to" in message
    )  # of `datasets`
    assert server.fetched() == {"README.md"}


@pytest.mark.parametrize(
    "file",
    [
        "/etc/passwd",
        "https://localhost/x.csv",
        "hf://datasets/owner/more@main/x.csv",
        "hf://datasets/owner/data@main/../x.csv",
        "hf://buckets/owner/data/x.csv",
        "zip://x.csv::hf://datasets/owner/data@main/x.zip",
    ],
)
def test_a_file_outside_is_refused_whatever_datasets_thinks(file: str) -> None:
    with pytest.raises(NotHad, match="no file outside of the data set is read"):
        from_hub._inside(NAME, ["hf://datasets/owner/data@main/x.csv", file])


@pytest.mark.parametrize("path", ["../../secret.parquet", "https://127.0.0.1:1/x.parquet", "plain/nothing.parquet"])
def test_a_file_that_is_not_there_is_refused(server: HubServer, path: str) -> None:
    (server.data_sets[NAME] / "README.md").write_text(ABOUT.replace("plain/train.parquet", path))
    assert _refusal()


CASES: dict[str, tuple[str, Send, int | None, str]] = {
    "says nothing": (ANY, stall, None, "the hub said nothing for 0.3 s"),
    "says nothing once": (INFO, stall, 1, ""),
    "says nothing when asked for a listing": (TREE, stall, None, "the hub said nothing for 0.3 s"),
    "stalls in the middle of a table once": (TABLE, stall_in_the_middle, 1, ""),
    "drips a table": (TABLE, drip(10, 0.1), None, "bytes came within"),
    "cuts a table once": (TABLE, cut(0.5), 1, ""),
    "cuts a table always": (TABLE, cut(0.5), None, "the line was cut in the middle of a file"),
    "lacks a table that it lists": (r"HEAD .*/train\.parquet", say(404, code="EntryNotFound"), None, "(404)"),
    "forbids": (ANY, say(403), None, "does not allow it (403)"),
    "has too many requests once": (ANY, say(429, Retry_After="2"), 1, ""),
    "asks to wait for an hour": (ANY, say(429, Retry_After="3600"), None, "asks to be left alone for 3600 s"),
    "asks to wait for an hour for a listing": (TREE, say(429, Retry_After="3600"), None, "left alone for 3600 s"),
    "fails twice": (ANY, say(500), 2, ""),
    "fails twice when asked for a listing": (TREE, say(500), 2, ""),
    "fails twice when asked for a table": (TABLE, say(500), 2, ""),
    "is down": (ANY, say(503), None, "the hub is in trouble (503)"),
    "is down where files are": (TABLE, say(503), None, "the hub is in trouble (503) for /sent/datasets/"),
    "sends another table": (TABLE, other_bytes, None, "came with other bytes than its hash says, twice"),
    "sends another table once": (TABLE, other_bytes, 1, ""),
    "sends another README once": (README, other_bytes, 1, ""),
    "sends half a table as all of it": (TABLE, shorter, None, ".parquet came with "),
    "redirects to no one": (INFO, redirect("http://127.0.0.1:1/{}"), None, "the hub cannot be reached"),
    "says what is no JSON": (INFO, body(b"{"), None, "does not answer as a hub does"),
    "answers with a page of HTML": (ANY, body(b"<html>", "text/html"), None, "does not answer as a hub does"),
    "lists no file": (TREE, body(b"[]"), None, "cannot be had from the hub: "),
}


@pytest.mark.parametrize("does", CASES)
def test_a_hub_that(does: str, server: HubServer, waits: Waits) -> None:
    where, what, times, says = CASES[does]
    server.faults.append(Fault(where, what, times))
    error = ended(_read)
    print(f"| {does} | {error or 'read'} | {waits.seconds:.0f} |")
    if not says:
        assert error is None, error
        return
    assert isinstance(error, NotHad), repr(error)
    assert str(error).isprintable()
    assert says in str(error)
