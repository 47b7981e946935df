"""The JSON schema of a result file (draft 2020-12), made from the classes of `sparsity.record`.

    python -m sparsity.schema        prints it; sparsity/result-file.schema.json is what it printed

It holds the classes' types, rules and docstrings, so it says what the reader reads; `validation` holds files to it.
Unknown fields are allowed wherever they stand: a later version may write more. What ties several values together, such
as bins that must ascend, no such schema can say; the classes refuse it afterwards.

Refuses a field whose type has no place in JSON, with a `KeyError`: a mistake of ours.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import sys
import typing
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from sparsity.record import KEY, SCHEMA, Record, RunPart
from sparsity.rules import hints, inner, optional, rules

TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
_TEXT: dict[str, Any] = {"type": ["string", "null"]}
_ACCURATE = {"properties": {"metric": {"const": "accuracy"}}}
_AT_MOST_1 = {"maximum": 1}
CONDITIONS: dict[str, dict[str, Any]] = {
    "Quality": {"if": _ACCURATE, "then": {"properties": {"value": _AT_MOST_1}}},
    "Record": {
        "if": {"required": ["quality", "recovered"], "properties": {"quality": _ACCURATE}},
        "then": {
            "properties": {
                "recovered": {
                    "properties": {
                        "one_shot": _AT_MOST_1,
                        "control": _AT_MOST_1,
                        "values": {"items": _AT_MOST_1},
                    }
                }
            }
        },
    },
}
"""What the classes say of several fields, as far as a schema can: an accuracy is a fraction."""


def generated() -> dict[str, Any]:
    """The schema, made anew from the classes."""
    defs: dict[str, Any] = {}
    record, run = _of(Record, defs), _of(RunPart, defs)
    for name in (Record.__name__, RunPart.__name__):
        defs[name]["properties"] = {"schema": {"const": SCHEMA}, **defs[name]["properties"]}
        defs[name]["required"] = ["schema", *defs[name]["required"]]
    for name, condition in CONDITIONS.items():
        defs[name] |= condition
    holds = {"type": "object", "required": [KEY]}
    ours = {"type": "object", "required": ["extra_info"], "properties": {"extra_info": holds}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:sparsity-bench:result-file:{SCHEMA}",
        "title": "Result file of sparsity-bench",
        "description": "What pytest-benchmark writes, with our records in it. Unknown fields are passed over.",
        "type": "object",
        "properties": {
            KEY: run,
            "machine_info": _maybe({"cpu": _maybe({"brand_raw": _TEXT}), "machine": _TEXT, "system": _TEXT}),
            "commit_info": _maybe({"id": _TEXT}),
            "datetime": _TEXT,
            "benchmarks": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"fullname": _TEXT, "extra_info": _maybe({KEY: record})},
                },
                "contains": ours,
            },
        },
        "required": ["machine_info", "benchmarks", KEY],
        "$defs": dict(sorted(defs.items())),
    }


def _maybe(properties: dict[str, Any]) -> dict[str, Any]:
    """An object of pytest-benchmark's, or null."""
    return {"type": ["object", "null"], "properties": properties}


def _of(hint: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field's type; what classes it meets is added to `defs`."""
    kind, _ = optional(hint)
    found = _plain(inner(kind), defs)
    for rule in rules(kind):
        lists = found["type"] == "array"
        dropped = {"minProperties" if lists else "minItems"}  # each means something for the other kind alone
        found |= {name: value for name, value in rule.schema().items() if name not in dropped}
    return found


def _plain(kind: Any, defs: dict[str, Any]) -> dict[str, Any]:
    arguments = typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        name = typing.cast(type, kind).__name__
        if name not in defs:
            defs[name] = {}
            defs[name] |= _class(typing.cast(type, kind), defs)
        return {"$ref": f"#/$defs/{name}"}
    if typing.get_origin(kind) is list:
        return {"type": "array", "items": _of(arguments[0], defs)}
    if typing.get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], defs)}
    if arguments:  # of scalars
        return {"type": [TYPES[each] for each in arguments]}
    return {"type": TYPES[kind]}


def _class(kind: type, defs: dict[str, Any]) -> dict[str, Any]:
    about = _field_docstrings(kind)
    properties, known = {}, hints(kind)
    fields = dataclasses.fields(kind)
    for field in fields:
        said = {"description": about[field.name]} if field.name in about else {}
        properties[field.name] = _of(known[field.name], defs) | said
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    described = {"description": inspect.cleandoc(kind.__doc__ or "")}
    return {**described, "type": "object", "properties": properties, "required": required}


def _field_docstrings(kind: type) -> Mapping[str, str]:
    """The string that stands under each field; Python itself forgets it, so the source is read."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef))
    found = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return found


def text() -> str:
    """The schema as it stands in its file."""
    return json.dumps(generated(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
