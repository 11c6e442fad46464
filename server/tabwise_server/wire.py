"""The JSON that clients and the backend exchange, and its strict reading.

Texts are Unicode code points; times are milliseconds. Wrong types, unknown keys and
values out of range raise BadRequest naming the field.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory
from cattrs.errors import (
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from tabwise_server.errors import BadRequest

StopKind = Literal["line", "block", "none"]
FinishKind = Literal["end", "line", "block", "length", "part", "unsure"]

MAX_NEW_TOKENS = 512
MAX_TOP_K = 65_536
MAX_CONTEXT = 64  # chunks
MAX_CANDIDATES = 4
MAX_PATTERNS = 256
MAX_PATH = 4_096  # code points, as the next
MAX_NAME = 256
MAX_DEADLINE_MS = 3_600_000

T = TypeVar("T")


def _mean_probability(answer: Any) -> float:
    """Where a backend does not tell how probable its line is."""
    return math.exp(min(answer.mean_logprob, 0.0)) if answer.text else 0.0


@attrs.frozen
class Between:
    """An attrs validator: None, or low <= value <= high. Raises BadRequest."""

    low: float
    high: float

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and not self.low <= value <= self.high:
            raise BadRequest(
                f"{attribute.name} must be {self.low:g}..{self.high:g}, "
                f"got {reprlib.repr(value)}",
                field=attribute.name,
            )


@attrs.frozen
class AtMost:
    """An attrs validator: None, or len(value) <= length. Raises BadRequest."""

    length: int

    def __call__(self, instance: Any, attribute: Any, value: Any) -> None:
        if value is not None and len(value) > self.length:
            raise BadRequest(
                f"{attribute.name} must be at most {self.length} long, "
                f"got {len(value)}",
                field=attribute.name,
            )


@attrs.frozen(kw_only=True)
class ContextChunk:
    """A piece of another file that may help: its path for the model, its text."""

    path: str = attrs.field(validator=AtMost(MAX_PATH))
    text: str


@attrs.frozen(kw_only=True)
class WorkspaceFolder:
    """A folder on the backend's own machine whose Python files may be copied from; only
    a user's own daemon takes one. unread: patterns of files that are not read, as those
    of `suggest.privacy.matches`."""

    folder: str = attrs.field(validator=AtMost(MAX_PATH))
    unread: list[str] = attrs.field(factory=list, validator=AtMost(MAX_PATTERNS))


@attrs.frozen(kw_only=True)
class CompletionRequest:
    """POST /v1/tabwise/complete: complete between prefix and suffix.

    path: where there is a workspace, from its folder.

    session: names the stream of requests that share a prefix cache (one document).
    deadline_ms: from receipt; after it the work is dropped and the answer is 504.
    candidates: how many distinct completions are wanted, the best first; fewer may
    come back. min_confidence: a line less probable is not wanted; the work ends, with
    an empty text, as soon as none can be as probable. min_part_confidence: then the
    beginning of a line, up to the end of a word, may come instead, if it is as probable
    as this; null: none.
    """

    prefix: str
    suffix: str = ""
    path: str | None = attrs.field(default=None, validator=AtMost(MAX_PATH))
    language: str | None = attrs.field(default=None, validator=AtMost(MAX_NAME))
    context: list[ContextChunk] = attrs.field(
        factory=list, validator=AtMost(MAX_CONTEXT)
    )
    workspace: WorkspaceFolder | None = None
    max_new_tokens: int = attrs.field(default=48, validator=Between(1, MAX_NEW_TOKENS))
    stop: StopKind = "line"
    temperature: float = attrs.field(default=0.0, validator=Between(0, 10))
    top_k: int | None = attrs.field(default=None, validator=Between(1, MAX_TOP_K))
    seed: int | None = attrs.field(default=None, validator=Between(0, 2**63 - 1))
    session: str | None = attrs.field(default=None, validator=AtMost(MAX_NAME))
    deadline_ms: float | None = attrs.field(
        default=None, validator=Between(1, MAX_DEADLINE_MS)
    )
    candidates: int = attrs.field(default=1, validator=Between(1, MAX_CANDIDATES))
    min_confidence: float = attrs.field(default=0.0, validator=Between(0, 1))
    min_part_confidence: float | None = attrs.field(
        default=None, validator=Between(0, 1)
    )


@attrs.frozen(kw_only=True)
class Timings:
    """Where the time went; latency_ms is from receipt to answer."""

    queue_ms: float
    prefill_ms: float
    decode_ms: float
    latency_ms: float


@attrs.frozen(kw_only=True)
class Alternative:
    """Another completion of the same request, less likely than the first."""

    text: str
    finish: FinishKind
    tokens: int
    mean_logprob: float
    min_logprob: float
    confidence: float = attrs.field(
        default=attrs.Factory(_mean_probability, takes_self=True)
    )


@attrs.frozen(kw_only=True)
class CompletionResponse:
    """One completion. mean_logprob, min_logprob: natural logs over its tokens; 0.0
    when there are none. cached_tokens: how much of the prompt the prefix cache held.
    alternatives: what else was found where more than one candidate was asked for.
    confidence: the probability of this very line, or exp(mean_logprob) where the
    backend gives none."""

    text: str
    finish: FinishKind
    tokens: int
    mean_logprob: float
    min_logprob: float
    prompt_tokens: int
    cached_tokens: int
    model: str
    timings: Timings
    alternatives: list[Alternative] = attrs.field(factory=list)
    confidence: float = attrs.field(
        default=attrs.Factory(_mean_probability, takes_self=True)
    )


@attrs.frozen(kw_only=True)
class CodeRequest:
    """POST /complete, the seed's request: continue `code`."""

    code: str
    max_tokens: int = attrs.field(default=50, validator=Between(1, MAX_NEW_TOKENS))
    temperature: float = attrs.field(default=0.8, validator=Between(0, 10))
    top_k: int | None = attrs.field(default=200, validator=Between(1, MAX_TOP_K))


@attrs.frozen(kw_only=True)
class CodeResponse:
    """The seed's answer: `tokens` generated, latency in milliseconds."""

    completion: str
    tokens: int
    latency_ms: float


def structure(cls: type[T], data: Any) -> T:
    """Read `data` (parsed JSON) as `cls`. Raises BadRequest naming the field."""
    if not isinstance(data, dict):
        raise BadRequest(f"the body must be a JSON object, got {_json_name(data)}")
    try:
        return _converter.structure(data, cls)
    except BaseValidationError as error:
        raise _first_cause(error, "") from error


def unstructure(value: Any) -> dict[str, Any]:
    """The JSON form of a wire type."""
    result: dict[str, Any] = _converter.unstructure(value)
    return result


def _first_cause(error: BaseException, path: str) -> BadRequest:
    """The first leaf of cattrs' error tree as a BadRequest with its field's path."""
    if isinstance(error, BaseValidationError):
        first = error.exceptions[0]
        for note in getattr(first, "__notes__", ()):
            name = getattr(note, "name", None) or getattr(note, "index", None)
            if name is not None:
                step = f"[{name}]" if isinstance(note, IterableValidationNote) else name
                path = f"{path}.{step}".strip(".").replace(".[", "[")
        return _first_cause(first, path)
    if isinstance(error, ForbiddenExtraKeysError):
        key = sorted(error.extra_fields)[0]
        field = f"{path}.{key}".strip(".")
        known = sorted(a.name for a in attrs.fields(error.cl))
        return BadRequest(f"unknown key {field!r}; known: {', '.join(known)}", field)
    if isinstance(error, BadRequest):
        if not path or path == error.field:
            return error
        return BadRequest(f"{path}.{error}", f"{path}.{error.field}")
    if isinstance(error, KeyError):
        field = path or str(error.args[0])
        return BadRequest(f"{field} is required", field)
    return BadRequest(f"{path}: {error}", path)


def _json_name(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "an array"}
    names[dict] = "an object"
    return names.get(type(value), "a number")


def _exactly(kind: type, name: str, *also: type) -> Callable[[Any, Any], Any]:
    def read(value: Any, _: Any) -> Any:
        if isinstance(value, bool) is not (kind is bool) or not isinstance(
            value, (kind, *also)
        ):
            raise TypeError(f"must be {name}, got {_json_name(value)}")
        return kind(value)

    return read


def _whole(value: Any, kind: Any) -> Any:
    """An integer; JSON does not tell 1 from 1.0."""
    whole = isinstance(value, float) and value.is_integer()
    return _exactly(int, "an integer")(int(value) if whole else value, kind)


def _object(cls: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    read_fields = make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )

    def read(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError(f"must be an object, got {_json_name(value)}")
        return read_fields(value, kind)

    return read


def _array(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    read_items = list_structure_factory(kind, converter)

    def read(value: Any, kind: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"must be an array, got {_json_name(value)}")
        return read_items(value, kind)

    return read


def _one_of(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        raise TypeError(f"must be one of {', '.join(get_args(kind))}")
    return value


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_structure_hook(str, _exactly(str, "a string"))
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(float, _exactly(float, "a number", int))
    converter.register_structure_hook(bool, _exactly(bool, "a boolean"))
    converter.register_structure_hook_factory(attrs.has, _object)
    converter.register_structure_hook_factory(_is_list, _array)
    converter.register_structure_hook_func(_is_literal, _one_of)
    return converter


_converter = _make_converter()
