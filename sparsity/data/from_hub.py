"""A data set of the hub, ready to be prepared: its files in the hub client's cache, whole and checked.

`datasets` finds out which files a split consists of, and which reader they need; they are brought here
as those of a model are (`sparsity.download`). What `datasets` then converts is on this machine.

Refuses, each in one line: what `sparsity.download.snapshot` refuses, a data set whose README names
files outside of it (on this machine or on another host), and one that `datasets` cannot make out.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from sparsity.download.snapshot import Kind, NotHad, from_hub, snapshot
from sparsity.errors import one_line

ABOUT = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""Files that say which configurations and splits there are."""
_PLACE = re.compile(r"hf://datasets/(?P<name>[^@]+)@(?P<commit>[^/]+)/(?P<path>.+)")


def builder(name: str, config: str | None = None) -> Any:
    """The `datasets` builder of a configuration; None is the default one.

    Where the hub cannot be reached it is the one that was prepared before. Raises `NotHad`.
    """
    import huggingface_hub

    try:
        from_hub(lambda: huggingface_hub.HfApi().dataset_info(name))
        snapshot(name, ABOUT, "dataset")
        found = from_hub(lambda: _described(name, config))
        files = getattr(found.config, "data_files", None) or {}
        wanted = _inside(name, [str(file) for split in files.values() for file in split])
        snapshot(name, wanted, "dataset", nested=True)
    except NotHad as error:
        if error.kind not in (Kind.UNREACHABLE, Kind.OTHER):
            raise
        return _prepared_before(name, config, error)
    return found


def _described(name: str, config: str | None) -> Any:
    """The builder: which files it needs is asked, and none but those about the data set are fetched."""
    import datasets
    import huggingface_hub

    huggingface_hub.HfFileSystem.clear_instance_cache()  # it would remember what a hub said before it failed
    try:
        return datasets.load_dataset_builder(name, config)
    except json.JSONDecodeError:  # from the hub
        raise
    except (ValueError, RuntimeError) as error:
        raise NotHad(Kind.BROKEN, f"cannot be read: {one_line(error)}") from None


def _prepared_before(name: str, config: str | None, error: NotHad) -> Any:
    """The builder of what is in the cache of `datasets`; raises the error that led here where nothing is."""
    with _offline():
        try:
            return _described(name, config)
        except Exception:
            raise error from None


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """As with `HF_HUB_OFFLINE=1`, which is read but once: `datasets` would ask an unreachable hub for 23 seconds."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _inside(name: str, files: Iterable[str]) -> list[str]:
    """The paths of files in the repository; refuses those that are elsewhere."""
    paths = []
    for file in files:
        place = _PLACE.fullmatch(file)
        if place is None or place["name"] != name or ".." in PurePosixPath(place["path"]).parts:
            raise NotHad(Kind.BROKEN, f"names {file} as its data, and no file outside of the data set is read")
        paths.append(re.sub(r"([*?[])", r"[\1]", place["path"]))  # a name, and not a pattern
    return paths
