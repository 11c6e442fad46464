"""What is kept of an answer, under which key, and how it is written down.

The key is a digest of everything that the answer depends on, and of whose question it
is, so that no owner finds another's. It is keyed with a secret: whoever sees it cannot
try out which prompt it stands for.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs
import cattrs.preconf.json

from tabwise_model.request import Generation
from tabwise_server.serving.engine.engines import Model
from tabwise_server.serving.question import Question

KEY_BYTES = 32

_converter = cattrs.preconf.json.make_converter()


def key_of(question: Question, owner: str, model: Model, secret: bytes) -> bytes | None:
    """KEY_BYTES that stand for the question; None if its answer may vary."""
    if not question.repeatable:
        return None
    question, texts = _without_texts(question)
    asked = [
        model.checkpoint.digest,
        model.checkpoint.bits,
        model.facts.runner,
        model.facts.window,
        model.facts.width,
        owner,
        _written(question),
        *map(len, texts),
    ]
    text = json.dumps(asked).encode()
    digest = hashlib.blake2b(text, key=secret, digest_size=KEY_BYTES)
    for part in texts:
        digest.update(part)
    return digest.digest()


@functools.lru_cache(maxsize=1_024)
def _written(question: Question) -> str:
    """A question without texts; of these there are few, as editors ask alike."""
    return json.dumps(attrs.asdict(question, value_serializer=_plain), sort_keys=True)


def _without_texts(question: Question) -> tuple[Question, list[bytes]]:
    """The question without its texts, and these: as JSON they would take long."""
    about = question.about
    if isinstance(about, str):
        return attrs.evolve(question, about=""), [_encoded(about)]
    texts = [about.prefix, about.suffix]
    texts += [text for chunk in about.context for text in chunk]
    bare = attrs.evolve(about, prefix="", suffix="", context=())
    return attrs.evolve(question, about=bare), list(map(_encoded, texts))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def as_kept(result: Generation) -> Generation:
    """An answer as it will be given again: nothing is computed for it."""
    return attrs.evolve(
        result,
        id="",
        cached_tokens=result.prompt_tokens,
        queue_s=0.0,
        prefill_s=0.0,
        decode_s=0.0,
    )


def pack(result: Generation) -> bytes:
    return _converter.dumps(result).encode()


def unpack(data: bytes) -> Generation:
    """Raises ValueError for what `pack` did not write."""
    try:
        return _converter.loads(data, Generation)
    except cattrs.BaseValidationError as error:
        raise ValueError("not an answer") from error


def _plain(instance: Any, field: Any, value: Any) -> Any:
    """For JSON: enumerations by value, bytes byte by byte."""
    if hasattr(value, "value") and not isinstance(value, Mapping):
        return value.value
    return value.hex() if isinstance(value, bytes) else value
