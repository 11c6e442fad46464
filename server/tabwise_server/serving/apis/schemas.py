"""JSON schemas: of our wire types from the types themselves, of other servers' bodies
as `fields.py` reads them."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, get_args, get_origin

import attrs

from tabwise_server.serving.apis.fields import MAX_STOP_CHARS, MAX_STOPS
from tabwise_server.wire import (
    MAX_CONTEXT,
    MAX_NAME,
    MAX_TOP_K,
    AtMost,
    Between,
)

Schema = dict[str, Any]

_KINDS: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    dict: {"type": "object"},
}


def schema_of(cls: type) -> Schema:
    """The schema of an attrs class, as `wire.structure` reads it."""
    hints = typing.get_type_hints(cls)
    fields = attrs.fields(cls)
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {f.name: _property(hints[f.name], f) for f in fields},
    }
    required = [f.name for f in fields if f.default is attrs.NOTHING]
    return {**schema, "required": required} if required else schema


def _property(kind: Any, field: attrs.Attribute[Any]) -> Schema:
    schema = _schema(kind)
    if isinstance(field.validator, Between):
        schema |= {"minimum": field.validator.low, "maximum": field.validator.high}
    if isinstance(field.validator, AtMost):
        items = "Items" if schema["type"] == "array" else "Length"
        schema[f"max{items}"] = field.validator.length
    return schema


def _schema(kind: Any) -> Schema:
    if isinstance(kind, types.UnionType):
        [other] = [arg for arg in get_args(kind) if arg is not type(None)]
        schema = _schema(other)
        return {**schema, "type": [schema["type"], "null"]}
    if get_origin(kind) is Literal:
        return {"type": "string", "enum": list(get_args(kind))}
    if get_origin(kind) is list:
        return {"type": "array", "items": _schema(*get_args(kind))}
    return schema_of(kind) if attrs.has(kind) else dict(_KINDS[kind])


def number(low: float, high: float, kind: str = "number") -> Schema:
    return {"type": [kind, "null"], "minimum": low, "maximum": high}


def whole(low: int, high: int) -> Schema:
    return number(low, high, "integer")


TEXT: Schema = {"type": ["string", "null"]}
FLAG: Schema = {"type": ["boolean", "null"]}
NAME: Schema = {"type": "string", "maxLength": MAX_NAME}
NAMES: Schema = {"type": ["array", "null"], "items": {"type": "string"}}
ANY_COUNT = whole(-(2**31), 2**31)
_STOP: Schema = {"type": "string", "maxLength": MAX_STOP_CHARS}
SAMPLING: Schema = {
    "temperature": number(0, 10),
    "top_k": whole(-1, MAX_TOP_K),
    "top_p": number(1e-6, 1),
    "seed": whole(-1, 2**63 - 1),
    "stop": {
        "anyOf": [
            {"type": "null"},
            _STOP,
            {"type": "array", "maxItems": MAX_STOPS, "items": _STOP},
        ]
    },
    "stream": FLAG,
}
EXTRA: Schema = {
    "type": ["array", "null"],
    "maxItems": MAX_CONTEXT,
    "items": {"type": "object", "properties": {"filename": TEXT, "text": TEXT}},
}
ERROR: Schema = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "field"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "field": TEXT,
            },
        },
        "detail": {"type": "string"},
    },
}
