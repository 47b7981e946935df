"""Where a data set is: a file, a folder, a data set of the hub, or one by name; opened as tables by split.

    ./mine.csv  .tsv  .jsonl  .json  .parquet  .txt    one split; of a text file every line is a document,
                                                       or all of it
    ./folder                                           split by its files' names, or saved by save_to_disk
    owner/name   owner/name:config                     a data set of the hub
    sst2, wikitext2 …                                  see `known`

Any of them may end in `@split`. Files are converted in a folder that is gone afterwards, so an edited file is read as
it is now; data sets of the hub are kept in the cache of `datasets`, which writes it beside and then renames.

Nothing from outside is run: no loading script, no pickle. Refuses, each in one line: what is not there, may not be
read, is broken or in no format of these, and a hub that cannot be reached.
"""

from __future__ import annotations

import contextlib
import difflib
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity.data import from_hub
from sparsity.data.known import KNOWN, REFUSED, Known
from sparsity.download.snapshot import Kind, NotHad
from sparsity.errors import BadValue, one_line, shown

if TYPE_CHECKING:
    import datasets

Splits = Mapping[str, Any]
"""Tables, `datasets.Dataset`, by the name of their split."""
PLAIN: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "index_col": False}
"""Of CSV: a text such as "None" or "NA" is a text, only nothing is nothing, and the first column is a column."""
BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", PLAIN),
    ".tsv": ("csv", {**PLAIN, "sep": "\t"}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".parquet": ("parquet", {}),
    ".txt": ("text", {}),
}
"""What reads a file, by its suffix."""
TABLES = ("csv", "json", "parquet", "text", "arrow", "cache")
"""Builders whose tables may hold texts; the last is what was brought here before."""
SAVED = ("dataset_dict.json", "state.json")
"""Files by which a folder is known as saved by `save_to_disk`."""
ONLY = "train"
"""What the one split of a file is called."""


@dataclass(frozen=True)
class Source:
    """A reference, taken apart."""

    reference: str
    name: str
    """A path, a hub id, or a name of `KNOWN`."""
    config: str | None = None
    split: str | None = None
    """The one that was asked for."""
    known: Known | None = None
    path: Path | None = None
    """Where it is on this machine; None for the hub."""
    whole: bool = False
    """Whether all of a text file is one document."""

    def of(self, split: str) -> str:
        """The reference of one split."""
        return f"{self.reference.partition('@')[0] if self.split else self.reference}@{split}"


def parse(reference: str, whole: bool = False) -> Source:
    """The reference, taken apart; with `whole` all of a text file is one document.

    Raises `BadValue` for a name that cannot be one.
    """
    if not reference or not reference.isprintable():
        raise BadValue(f"data {reference!r} names no data set; give a file, a folder, a hub id, or one of {_by_name()}")
    if (path := _there(reference)) is not None:
        return Source(reference, reference, path=path, whole=whole)
    rest, _, split = reference.partition("@")
    if rest in REFUSED:
        raise BadValue(f"data {REFUSED[rest]}")
    if rest in KNOWN:
        return Source(reference, rest, KNOWN[rest].config, split or None, KNOWN[rest])
    if (path := _there(rest)) is not None:
        return Source(reference, rest, split=split or None, path=path, whole=whole)
    if rest.startswith((".", "/", "~")) or Path(rest).suffix.lower() in BUILDERS:
        raise BadValue(f"data {reference}: no such file or folder")
    name, _, config = rest.partition(":")
    return Source(reference, name, config or None, split or None)


def _there(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError):  # too long for a file, behind a closed folder, a home of nobody
        return None


@contextlib.contextmanager
def opened(source: Source) -> Iterator[Splits]:
    """Its tables, while they may be read. Raises `BadValue` with one line for whatever goes wrong."""
    with _quiet(), tempfile.TemporaryDirectory(prefix="sparsity-data-", ignore_cleanup_errors=True) as folder:
        try:
            found = _from_hub(source) if source.path is None else _from_disk(source, source.path, Path(folder))
            if not isinstance(found, Mapping):
                found = {ONLY: found}
        except BadValue:
            raise
        except Exception as error:  # each reader has errors of its own
            raise BadValue(f"data {source.reference} cannot be read: {_why(error)}") from None
        yield found


def table(columns: Mapping[str, list[Any]]) -> datasets.Dataset:
    """Columns as a table in memory."""
    import datasets

    return datasets.Dataset.from_dict(dict(columns))


def _from_disk(source: Source, path: Path, folder: Path) -> Any:
    """Tables of a file or a folder; converted below `folder`."""
    import datasets

    if path.is_dir() and any((path / name).is_file() for name in SAVED):
        return datasets.load_from_disk(str(path))
    suffix = "" if path.is_dir() else path.suffix.lower()
    if (suffix and suffix not in BUILDERS) or (not path.is_dir() and not suffix):
        raise BadValue(f"data {source.reference}: of files, {' '.join(BUILDERS)} are read; save it as one of them")
    if path.is_file() and not path.stat().st_size:
        raise BadValue(f"data {source.reference} is empty")
    plain = _by_a_plain_name(path, folder / f"data{suffix}")  # `datasets` takes [ and * in a path for patterns
    kind, settings = BUILDERS[suffix] if suffix else (str(plain), {})
    files = {"data_files": {ONLY: str(plain)}} if suffix else {}
    if source.whole and kind == "text":
        settings = settings | {"sample_by": "document"}
    builder = datasets.load_dataset_builder(kind, cache_dir=str(folder / "cache"), **files, **settings)
    return _prepared(source, builder)


def _by_a_plain_name(path: Path, link: Path) -> Path:
    try:
        link.symlink_to(path.resolve())
    except OSError:  # not on every file system
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, link)
    return link


def _from_hub(source: Source) -> Any:
    """Tables of a data set of the hub, whose files are in the cache and checked before they are read."""
    name = source.known.repository if source.known else source.name
    try:
        found = from_hub.builder(name, source.config)
    except NotHad as error:
        why = str(error)
        if error.kind is Kind.NO_ID:
            why = "is no file, no folder and no hub id"
        if error.kind is Kind.UNKNOWN:
            why = "is no file or folder, and no data set on the hub or a private one (`hf auth login`)"
        if error.kind is Kind.UNREACHABLE:
            why = f"is no file or folder, and {why}"
        nearest = difflib.get_close_matches(source.name, KNOWN, n=1, cutoff=0.75)
        hint = f"; did you mean {nearest[0]!r}?" if nearest and nearest[0] != source.name else ""
        raise BadValue(f"data {shown(source.reference)} {why}{hint}; by name: {_by_name()}") from None
    return _prepared(source, found)


def _prepared(source: Source, builder: Any) -> Any:
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in TABLES:
        raise BadValue(f"data {source.reference} holds no tables of texts, but is read as {kind}; save it as JSONL")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Length of header or names does not match length of data")  # it would cut rows
        builder.download_and_prepare()
    return builder.as_dataset()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither bars nor log lines of `datasets`: what goes wrong is said in one line. As it was, afterwards."""
    import datasets
    from datasets.utils import logging

    bars, verbosity = datasets.are_progress_bars_disabled(), logging.get_verbosity()
    datasets.disable_progress_bars()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


def _why(error: BaseException) -> str:
    """The cause, in one line; `datasets` says little more than that something failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start}; save it as UTF-8"
    if isinstance(error, StopIteration) or "corresponds to no data" in str(error) or "SchemaInference" in repr(error):
        return "it holds no row"
    if isinstance(error, PermissionError):
        return "it may not be read; mend its permissions"
    return one_line(error)


def _by_name() -> str:
    return ", ".join(KNOWN)
