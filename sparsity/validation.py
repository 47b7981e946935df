"""Whether what stands in a file obeys the published schema of result files, `sparsity/result-file.schema.json`.

Refuses whatever the schema does not allow, with its place in the file, what is wrong and what to do, in one line; of
several mistakes the first. The validator is built once, and imported only when a file is read.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity.errors import ResultNotReadable

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

FILE = Path(__file__).with_name("result-file.schema.json")
MEND = "measure again, or give the file as --benchmark-json wrote it"
LONGEST = 60
"""Characters of a value that an error shows."""
TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list", "object": "object"}
"""As the reader's own errors call them."""
SAID = {
    "enum": "is none of {}",
    "minimum": "is less than {}",
    "maximum": "is more than {}",
    "exclusiveMinimum": "is not above {}",
    "exclusiveMaximum": "is not below {}",
    "minItems": "has fewer than {} entries",
    "minProperties": "has fewer than {} entries",
    "pattern": "is not of the form {}",
    "maxLength": "is longer than {} characters",
}
"""What is wrong with a value, by the keyword that it breaks."""


def check(data: Any, where: str) -> None:
    """Raises `ResultNotReadable` for what no result file holds; `where`, the file, begins the message."""
    try:
        error = next(validator().iter_errors(data), None)
    except RecursionError:  # an error's message holds the value
        raise ResultNotReadable(f"{where}: nested too deeply for a result file; {MEND}") from None
    if error is not None:
        raise ResultNotReadable(f"{where}: {_place(data, error)}{_wrong(error)}; {MEND}")


@functools.cache
def validator() -> Draft202012Validator:
    """Of the packaged schema."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(FILE.read_text(encoding="utf-8")))


def _place(data: Any, error: ValidationError) -> str:
    """Such as `benchmarks[3].extra_info.sparsity.latency.low (test_x): `; empty for the whole file."""
    path = list(error.absolute_path)
    keys = (f"[{key}]" if isinstance(key, int) else f".{_short(key)}" for key in path)
    place = "".join(keys).removeprefix(".")
    if path[:1] == ["benchmarks"] and len(path) > 1 and isinstance(entry := data["benchmarks"][path[1]], dict):
        place += f" ({_short(str(entry.get('fullname')), 200)})"
    return f"{place}: " if place else ""


def _wrong(error: ValidationError) -> str:
    value: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else [kind for kind in wanted if kind != "null"]
            return f"expected {' or '.join(TYPES[kind] for kind in kinds)}, got {type(value).__name__}"
        case "required":
            return f"{next(name for name in wanted if name not in value)!r} is missing"
        case "const":
            return f"schema {_short(repr(value))}, but this version reads schema {wanted}"
        case "contains":
            return "holds no record of ours"
    bound = ", ".join(wanted) if isinstance(wanted, list) else f"{wanted:g}" if isinstance(wanted, float) else wanted
    return f"{_short(repr(value))} {SAID[str(error.validator)].format(bound)}"


def _short(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
