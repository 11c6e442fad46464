import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabwise_server.errors import BadRequest
from tabwise_server.wire import (
    CodeRequest,
    CompletionRequest,
    ContextChunk,
    structure,
    unstructure,
)

CODE = {"code": "x"}
FIM: dict[str, Any] = {"prefix": "x"}


def context(*chunks: Any) -> dict[str, Any]:
    return {"prefix": "x", "context": list(chunks)}


@pytest.mark.parametrize(
    ("kind", "data", "field", "said"),
    [
        (CodeRequest, {}, "code", "is required"),
        (CodeRequest, {"code": 1}, "code", "must be a string, got a number"),
        (CodeRequest, {"code": None}, "code", "must be a string, got null"),
        (CodeRequest, CODE | {"max_tokens": 0}, "max_tokens", "1..512, got 0"),
        (CodeRequest, CODE | {"max_tokens": 513}, "max_tokens", "1..512, got 513"),
        (CodeRequest, CODE | {"max_tokens": True}, "max_tokens", "must be an integer"),
        (CodeRequest, CODE | {"max_tokens": 1.5}, "max_tokens", "must be an integer"),
        (CodeRequest, CODE | {"temperature": -1}, "temperature", "0..10, got -1"),
        (CodeRequest, CODE | {"temperature": math.nan}, "temperature", "got nan"),
        (CodeRequest, CODE | {"temperature": math.inf}, "temperature", "got inf"),
        (CodeRequest, CODE | {"temperature": "1"}, "temperature", "must be a number"),
        (CodeRequest, CODE | {"top_k": 0}, "top_k", "must be 1..65536"),
        (CodeRequest, CODE | {"top": 0}, "top", "unknown key 'top'; known: code"),
        (CodeRequest, [], None, "must be a JSON object, got an array"),
        (CodeRequest, "x", None, "must be a JSON object, got a string"),
        (CompletionRequest, FIM | {"stop": "x"}, "stop", "one of line, block, none"),
        (CompletionRequest, FIM | {"stop": ["line"]}, "stop", "one of line"),
        (CompletionRequest, FIM | {"seed": -1}, "seed", "got -1"),
        (CompletionRequest, FIM | {"deadline_ms": 0}, "deadline_ms", "got 0"),
        (CompletionRequest, FIM | {"path": "x" * 5000}, "path", "at most 4096 long"),
        (CompletionRequest, FIM | {"context": "x"}, "context", "must be an array"),
        (CompletionRequest, context(1), "context[0]", "must be an object"),
        (CompletionRequest, context({"path": "a"}), "context[0].text", "is required"),
        (
            CompletionRequest,
            context({"path": "a", "text": "b"}, {"path": "a", "text": "b", "c": 1}),
            "context[1].c",
            "unknown key 'context[1].c'",
        ),
        (
            CompletionRequest,
            context({"path": "x" * 5000, "text": "b"}),
            "context[0].path",
            "context[0].path must be at most 4096 long",
        ),
        (
            CompletionRequest,
            context(*[{"path": "a", "text": "b"}] * 65),
            "context",
            "at most 64 long, got 65",
        ),
    ],
)
def test_what_is_wrong_is_named(
    kind: type, data: Any, field: str | None, said: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        structure(kind, data)
    assert caught.value.field == field
    assert said in str(caught.value)
    assert (field or "") in str(caught.value)


def test_defaults_are_the_seeds() -> None:
    request = structure(CodeRequest, CODE)
    assert (request.max_tokens, request.temperature, request.top_k) == (50, 0.8, 200)


def test_a_request_survives_the_wire() -> None:
    request = CompletionRequest(
        prefix="a\U0001f40d",
        suffix="b",
        context=[ContextChunk(path="c.py", text="d")],
        stop="block",
        top_k=3,
        seed=4,
        deadline_ms=5,
    )
    assert structure(CompletionRequest, unstructure(request)) == request


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["prefix", "suffix", "context", "stop", "seed", "path", "deadline_ms", "?"]
)


@given(st.dictionaries(KEYS, JSON) | JSON)
def test_no_json_raises_anything_but_a_bad_request(data: Any) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(structure(CompletionRequest, data), CompletionRequest)
