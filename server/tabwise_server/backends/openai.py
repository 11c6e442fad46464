"""Any server with OpenAI's /v1/completions: vLLM, llama.cpp, Ollama, TGI, ours.

The answer is read as it streams, and the connection closed where the line or block
ends: that stops the server's work. Log-probabilities, where the server gives them, are
the confidence; without them every completion counts as sure.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from tabwise_server.backends.answer import Answer
from tabwise_server.backends.http import GRACE_S, HEALTH_TIMEOUT_S, Endpoint
from tabwise_server.backends.protocol import Health
from tabwise_server.backends.reading import read_events
from tabwise_server.backends.templates import Template
from tabwise_server.backends.tokens import Token, known, tokens_of
from tabwise_server.errors import BadRequest
from tabwise_server.wire import CompletionRequest, CompletionResponse

logger = logging.getLogger(__name__)

MAX_STOPS = 4  # what OpenAI's own API takes
# Beyond its oldest form. Sentinels are asked for as text and cut here: vLLM never finds
# a sentinel in `stop`, and holds text back for as long as one might be beginning.
EXTRAS: Mapping[str, Any] = MappingProxyType(
    {
        "logprobs": 5,  # likeliest in each place; the most that OpenAI's own API tells
        "skip_special_tokens": False,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
)


class OpenAIBackend:
    """A client of one server and one of its models."""

    def __init__(self, endpoint: Endpoint, model: str, template: Template) -> None:
        """endpoint: with or without the /v1 of OpenAI's base addresses."""
        self._endpoint = endpoint
        self._model = model
        self._template = template
        path = urlsplit(endpoint.url).path
        self._base = "" if path.rstrip("/").endswith("/v1") else "/v1"
        self._extras = True  # fields beyond OpenAI's oldest form are understood

    async def start(self) -> None:
        await self.health()

    async def complete(self, request: CompletionRequest) -> CompletionResponse:
        return (await self._ask(request)).response()

    async def health(self) -> Health:
        """Ready if the server lists its models; ours should be among them."""
        path = f"{self._base}/models"
        data = await self._endpoint.call("GET", path, None, HEALTH_TIMEOUT_S)
        names = [m.get("id") for m in data.get("data") or () if isinstance(m, dict)]
        known = self._model in names
        status = "healthy" if known or not names else "model not listed"
        return Health(ready=True, status=status, model=self._model)

    async def close(self) -> None:
        await self._endpoint.close()

    async def _ask(self, request: CompletionRequest) -> Answer:
        """Ask; a server that refuses our extra fields is asked again without, and not
        given them any more."""
        extras = self._extras
        try:
            return await self._stream(request, extras)
        except BadRequest as error:
            if not extras:
                raise
            logger.info("asking again in the oldest form: %s", error)
        answer = await self._stream(request, False)
        self._extras = False
        return answer

    async def _stream(self, request: CompletionRequest, extras: bool) -> Answer:
        answer = Answer(request, self._template.signs, self._model)
        deadline_s = None
        if request.deadline_ms is not None:
            deadline_s = request.deadline_ms / 1000 + GRACE_S
        body = self._body(request, extras)
        path = self._base + self._template.route
        headers = self._endpoint.session_headers(request.session)
        async with self._endpoint.open(
            "POST", path, body, deadline_s, headers
        ) as response:
            async for event in read_events(response):
                if take_event(answer, event):
                    response.close()
                    break
        return answer

    def _body(self, request: CompletionRequest, extras: bool) -> dict[str, Any]:
        template = self._template
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": template.render(
                request.prefix, request.suffix, request.path, request.context
            ),
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "stream": True,
        }
        if template.fim is None and request.suffix:
            body["suffix"] = request.suffix
        if request.seed is not None:
            body["seed"] = request.seed
        if extras and request.top_k is not None:
            body["top_k"] = request.top_k
        if extras:
            return {**body, **EXTRAS}
        stops = list(template.signs[:MAX_STOPS])
        return {**body, "stop": stops} if stops else body


def take_event(answer: Answer, event: dict[str, Any]) -> bool:
    """Add one streamed event, or a whole response, to `answer`; True when it is done.

    Also understands `message` and `delta`, which Mistral's FIM route answers with.
    """
    usage = event.get("usage") or {}
    answer.prompt_tokens = usage.get("prompt_tokens") or answer.prompt_tokens
    details = usage.get("prompt_tokens_details") or {}
    answer.cached_tokens = details.get("cached_tokens") or answer.cached_tokens
    choices = event.get("choices") or ()
    if not choices or not isinstance(choices[0], dict):
        return False
    choice = choices[0]
    chat = choice.get("delta") or choice.get("message") or {}
    text = choice.get("text") or chat.get("content") or ""
    done = answer.add(text, list(logprobs_of(choice.get("logprobs") or {})))
    if not done and choice.get("finish_reason"):
        answer.end(by_length=choice["finish_reason"] == "length")
    return done


def logprobs_of(given: dict[str, Any]) -> Iterator[Token]:
    """The tokens in either of OpenAI's forms; those without a probability are left
    out."""
    yield from tokens_of(given.get("content") or ())
    texts, logs = given.get("tokens") or (), given.get("token_logprobs") or ()
    others = given.get("top_logprobs") or ()
    for text, log, likeliest in zip_longest(texts, logs, others):
        if text is not None and log is not None:
            yield Token(str(text), float(log), known(likeliest or {}))
