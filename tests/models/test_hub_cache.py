"""The cache of hub files: a file that is not what its name says is fetched again, and no link leads out of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sparsity.download import verify
from sparsity.errors import ModelNotLoaded
from sparsity.models import hub
from tests.models import tiny
from tests.models.hub_misbehaviour import Fault, other_bytes
from tests.models.hub_server import COMMIT, HubServer, use_hub

NAME = "owner/name"
FILES = pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub with one model, which is in the cache."""
    folder = tiny.save(tmp_path / "served", "bert", "lm")
    tiny.add_tokenizer(folder, "bert")
    with HubServer({NAME: folder}) as running:
        use_hub(monkeypatch, running.url, tmp_path / "cache")
        hub.check(NAME)
        running.requests.clear()
        yield running


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The folder of the model in the cache."""
    return tmp_path / "cache" / "models--owner--name" / "snapshots" / COMMIT


@pytest.fixture
def offline(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def _load() -> hub.Loaded:
    return hub.load(NAME, "lm", torch.float32, tiny.CPU)


def _spoil(file: Path) -> bytes:
    """Turn a byte of the file; what it was before."""
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    return before


@FILES
def test_a_file_that_was_spoilt_is_fetched_again(server: HubServer, cached: Path, name: str) -> None:
    before = _spoil(cached / name)
    _load().tokenizer()
    assert server.fetched() == {name}
    assert (cached / name).read_bytes() == before
    server.requests.clear()
    _load().tokenizer()
    assert not server.fetched()


def test_a_file_of_the_right_length_is_read_once(
    server: HubServer, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load()
    monkeypatch.setattr(verify, "_digest", lambda path, of_git: pytest.fail("is hashed again"))
    _load()
    os.utime((cached / "model.safetensors").resolve())
    with pytest.raises(pytest.fail.Exception):
        _load()


@FILES
def test_a_file_that_stays_wrong_is_refused_and_not_kept(server: HubServer, cached: Path, name: str) -> None:
    _spoil(cached / name)
    server.faults.append(Fault(f"GET .*{name}", other_bytes))
    message = tiny.refusal(ModelNotLoaded, _load)
    why = f"{name} came with other bytes than its hash says, twice, and was removed"
    assert message.startswith(f"{NAME} cannot be had from the hub: {why}")
    assert not (cached / name).exists()
    server.faults.clear()
    assert _load().source == "checkpoint"


@pytest.mark.usefixtures("offline")
@FILES
def test_a_file_that_was_spoilt_is_refused_offline(server: HubServer, cached: Path, name: str) -> None:
    _spoil(cached / name)
    message = tiny.refusal(ModelNotLoaded, _load)
    assert message.startswith(f"{NAME} had a broken {name} in the cache, which was removed, and now i")
    assert "not in the local cache, and the hub cannot be reached" in message
    assert not server.requests


@pytest.mark.usefixtures("offline")
def test_offline_the_cache_is_enough(server: HubServer) -> None:
    shutil.rmtree(server.repositories[NAME])
    hub.check(NAME)
    loaded = _load()
    assert torch.equal(tiny.logits(loaded.model), tiny.logits(tiny.model("bert", "lm")))
    assert loaded.tokenizer()("the film")["input_ids"]
    assert not server.requests


def test_a_link_that_leads_out_of_the_cache_is_refused(server: HubServer, cached: Path) -> None:
    elsewhere = server.repositories[NAME] / "model.safetensors"
    (cached / "model.safetensors").unlink()
    (cached / "model.safetensors").symlink_to(elsewhere)
    message = tiny.refusal(ModelNotLoaded, _load)
    assert message.startswith(f"{NAME} is not read from the cache: model.safetensors in the cache leads out of it, to ")
    assert elsewhere.exists()


def test_a_ring_of_links_is_refused(server: HubServer, cached: Path) -> None:
    (cached / "extra.json").symlink_to("extra.json")
    assert tiny.refusal(ModelNotLoaded, _load).startswith(f"{NAME} is not read from the cache: ")


def test_a_cache_without_links_is_used_as_it_is(server: HubServer, cached: Path) -> None:
    """As on Windows: no name says what such a file holds."""
    for link in list(cached.iterdir()):
        content = link.read_bytes()
        link.unlink()
        link.write_bytes(content)
    assert _load().source == "checkpoint"
    assert not server.fetched()


def test_a_cache_on_another_disk_is_used(server: HubServer, tmp_path: Path) -> None:
    shutil.move(tmp_path / "cache" / "models--owner--name", tmp_path / "disk" / "models--owner--name")
    (tmp_path / "cache" / "models--owner--name").symlink_to(tmp_path / "disk" / "models--owner--name")
    assert _load().source == "checkpoint"
    assert not server.fetched()


def test_a_blob_that_repositories_share_is_checked_by_its_name_here(tmp_path: Path) -> None:
    """A newer client keeps one file for several repositories, under a name of another kind."""
    content = b"weights"
    name = "9e8e5a7a1b5d0ad2a2b0ed2b3c4a8a9a1e1c5c3bb1d4a2b1a2b3c4d5e6f70819"
    shared, repository = tmp_path / "blobs" / "9e" / name, tmp_path / "models--o--n"
    for folder in (shared.parent, repository / "blobs", repository / "snapshots" / COMMIT):
        folder.mkdir(parents=True)
    shared.write_bytes(content)
    import hashlib

    right, wrong = hashlib.sha256(content).hexdigest(), hashlib.sha256(b"others").hexdigest()
    for file, blob in (("a.safetensors", right), ("b.safetensors", wrong)):
        (repository / "blobs" / blob).symlink_to(shared)
        (repository / "snapshots" / COMMIT / file).symlink_to(Path("../../blobs") / blob)
    found = verify.wrong(repository / "snapshots" / COMMIT, ["*.safetensors"])
    assert [path.name for path in found] == ["b.safetensors"]
    verify.remove(found[0])
    assert not shared.exists()
    assert not found[0].is_symlink()


def test_a_broken_file_that_cannot_be_removed_is_refused(
    server: HubServer, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _spoil(cached / "model.safetensors")

    def denied(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(f"Read-only file system: {self.name!r}")

    monkeypatch.setattr(Path, "unlink", denied)
    message = tiny.refusal(ModelNotLoaded, _load)
    assert f"{NAME} is not read: model.safetensors is broken in the cache and cannot be removed: Read-only" in message
