"""Reading other servers' request bodies: fields by name, what is wrong by field.

Their clients send what this server does not know; unknown fields are passed over, known
ones are checked.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from tabwise_model.request import Sampling
from tabwise_server.errors import BadRequest
from tabwise_server.wire import MAX_NEW_TOKENS, MAX_TOP_K

MAX_STOPS = 32  # editors send every sentinel that they know
MAX_STOP_CHARS = 256
GREEDY = 0.02  # temperatures up to this are meant as none; Continue sends 0.01

Body = Mapping[str, Any]


def as_body(data: Any) -> Body:
    if not isinstance(data, dict):
        raise BadRequest("the body must be a JSON object")
    return data


def text_of(body: Body, field: str, default: str = "") -> str:
    """A string; null counts as left out."""
    value = body.get(field)
    if value is None:
        return default
    if not isinstance(value, str):
        raise BadRequest(f"{field} must be a string", field=field)
    return value


def number_of(body: Body, field: str, default: float, low: float, high: float) -> float:
    """A number of low..high; null counts as left out."""
    value = body.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{field} must be a number", field=field)
    if not low <= value <= high:
        got = reprlib.repr(value)
        raise BadRequest(f"{field} must be {low:g}..{high:g}, got {got}", field=field)
    return value


def whole_of(body: Body, field: str, default: int, low: int, high: int) -> int:
    value = number_of(body, field, default, low, high)
    if value != int(value):
        raise BadRequest(f"{field} must be a whole number", field=field)
    return int(value)


def flag_of(body: Body, field: str) -> bool:
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"{field} must be true or false", field=field)
    return bool(value)


def names_of(body: Body, field: str) -> list[str] | None:
    """An array of strings; None where it is left out."""
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise BadRequest(f"{field} must be an array of strings", field=field)
    return value


def stops_of(body: Body) -> tuple[bytes, ...]:
    """`stop`: a text or a few of them."""
    value = body.get("stop")
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise BadRequest("stop must be a string or an array of strings", field="stop")
    if len(texts) > MAX_STOPS or any(len(t) > MAX_STOP_CHARS for t in texts):
        raise BadRequest(
            f"stop may hold {MAX_STOPS} texts of {MAX_STOP_CHARS} characters",
            field="stop",
        )
    return tuple(t.encode("utf-8", "replace") for t in texts if t)


def sampling_of(body: Body, temperature: float) -> Sampling:
    """temperature: when the body names none. What chooses the likeliest token all but
    always is made to choose it always, and so may copy from the file."""
    given = number_of(body, "temperature", temperature, 0, 10)
    top_k = whole_of(body, "top_k", 0, -1, MAX_TOP_K)
    seed = body.get("seed")
    if seed == -1:  # llama.cpp's "any"
        seed = None
    return Sampling(
        temperature=0.0 if given <= GREEDY else given,
        top_k=top_k if top_k > 0 else None,
        top_p=number_of(body, "top_p", 1.0, 1e-6, 1),
        seed=None if seed is None else whole_of(body, "seed", 0, 0, 2**63 - 1),
    )


def new_tokens_of(body: Body, field: str, default: int) -> int:
    """How many tokens; more than is allowed counts as the most, below 0 too."""
    wanted = whole_of(body, field, default, -(2**31), 2**31)
    return MAX_NEW_TOKENS if wanted < 0 else min(wanted, MAX_NEW_TOKENS)
