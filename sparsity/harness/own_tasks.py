"""One's own tasks: the YAML files of a folder, in lm-evaluation-harness's format, read as plain data.

lm-eval imports Python files that a YAML file names, and fetches and runs metrics that it does not know. Here nothing
of a folder is run, so its files are not read by lm-eval: what they say is handed to it once it is found harmless.
Paths of data files are relative to the YAML file's folder.

Refuses the whole folder for one file in it that would have code run (`!function`, `class`, …), includes a file from
outside, asks for images or sound, takes its data from a kind of file that can hold code, or is no YAML.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparsity.errors import BadValue, one_line

CODE = ("class", "custom_dataset", "unsafe_code", "use_prompt", "hf_evaluate", "trust_remote_code")
"""Keys by which a task has code run, wherever they stand in a file."""
MEDIA = ("doc_to_image", "doc_to_audio")
PLAIN = ("csv", "json", "parquet", "text", "arrow")
"""What `dataset_path` may say of local files; `pandas`, for one, reads pickles."""
LARGEST = 2**20
"""Bytes of a YAML file."""
Config = dict[str, Any]


def read(folder: Path) -> dict[str, Config]:
    """The tasks of a folder and what is below it by name, includes merged. Raises `BadValue`."""
    if not folder.is_dir():
        raise BadValue(f"harness-tasks {str(folder)!r} is no folder; give the one that holds the tasks' YAML files")
    found: dict[str, Config] = {}
    files = sorted(folder.rglob("*.yaml"))
    for file in files:
        config = _merged(file, folder.resolve(), ())
        _refuse_code(file, config)
        name = config.get("task")
        if not isinstance(name, str):  # what others include, or a group
            continue
        if name in found:
            raise BadValue(f"{file}: another file of the folder holds a task {name!r} too; rename one")
        found[name] = _with_data(file, config)
    if not found:
        raise BadValue(f"harness-tasks {str(folder)!r} holds {len(files)} YAML files and no task; give another folder")
    return found


def _merged(file: Path, root: Path, above: tuple[Path, ...]) -> Config:
    """What a file says, upon what it includes. As lm-eval has it, but nothing from outside the folder."""
    path = file.resolve()
    if not path.is_relative_to(root):
        raise BadValue(f"{file}: lies outside of {root}, so it is not read; copy it into the folder")
    if path in above:
        raise BadValue(f"{file}: includes itself; take the include out")
    config, merged = _loaded(file), Config()
    includes = config.pop("include", [])
    for name in includes if isinstance(includes, list) else [includes]:
        merged |= _merged(path.parent / str(name), root, (*above, path))
    return merged | config


def _loaded(file: Path) -> Config:
    import yaml

    try:
        if file.stat().st_size > LARGEST:
            raise BadValue(f"{file}: larger than {LARGEST >> 20} MiB, which no task is")
        config = yaml.safe_load(file.read_bytes())
    except yaml.constructor.ConstructorError as error:  # a tag: `!function` and its like
        said = one_line(error.problem or error)
        raise BadValue(f"{file}: would have code run ({said}), and nothing from outside is run; take it out") from None
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise BadValue(f"{file}: cannot be read as YAML: {one_line(error)}") from None
    if not isinstance(config, dict):
        raise BadValue(f"{file}: holds a {type(config).__name__}, and a task is a table of keys")
    return config


def _refuse_code(file: Path, config: Config) -> None:
    for key, value in _pairs(config):
        if key in CODE and value:
            raise BadValue(f"{file}: {key!r} would have code run, and nothing from outside is run; take it out")
        if key in MEDIA and value:
            raise BadValue(f"{file}: {key!r} asks for more than text, which language models here do not read")


def _pairs(config: Config) -> Iterator[tuple[object, object]]:
    """Every key with its value, at any depth; what stands in several places once."""
    pending: list[object] = [config]
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            yield from value.items()
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _with_data(file: Path, config: Config) -> Config:
    """The same task, its local data files found from the YAML file's folder."""
    source = config.get("dataset_path")
    if not isinstance(source, str) or not (source in PLAIN or "/" in source):
        known = ", ".join(PLAIN)
        raise BadValue(f"{file}: dataset_path {source!r} is none of {known}, and no data set of the hub (owner/name)")
    settings = config.get("dataset_kwargs") or {}
    if source not in PLAIN or not isinstance(settings, dict) or "data_files" not in settings:
        return config
    return config | {"dataset_kwargs": settings | {"data_files": _located(file, settings["data_files"])}}


def _located(file: Path, files: Any) -> Any:
    if isinstance(files, dict):
        return {split: _located(file, each) for split, each in files.items()}
    if isinstance(files, list):
        return [_located(file, each) for each in files]
    path = file.resolve().parent / str(files)
    if "://" in str(files) or any(c in str(files) for c in "*?["):  # an address, a pattern
        return str(files) if "://" in str(files) else str(path)
    if not path.is_file():
        raise BadValue(f"{file}: its data file {files!r} is not there; paths are relative to {file.parent}")
    return str(path)
