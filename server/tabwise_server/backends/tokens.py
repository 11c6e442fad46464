"""Tokens with their probabilities, as foreign servers tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

NOTHING: Mapping[str, float] = MappingProxyType({})


@attrs.frozen
class Token:
    """One that was generated. logprob: natural; likeliest: the same of those that were
    likeliest in its place, as far as the server tells."""

    text: str
    logprob: float
    likeliest: Mapping[str, float] = NOTHING


def tokens_of(items: Iterable[Mapping[str, Any]]) -> Iterator[Token]:
    """Of the form that llama.cpp's server and OpenAI's chats share; those without a
    probability are left out."""
    for item in items:
        if item.get("logprob") is not None:
            others = item.get("top_logprobs") or ()
            likeliest = known(
                {other.get("token"): other.get("logprob") for other in others}
            )
            yield Token(str(item.get("token", "")), float(item["logprob"]), likeliest)


def known(logprobs: Mapping[Any, Any]) -> Mapping[str, float]:
    """Those that are told."""
    return {str(k): float(v) for k, v in logprobs.items() if v is not None}
