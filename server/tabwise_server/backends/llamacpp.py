"""llama.cpp's own server: POST /infill, which makes the prompt from the model's
sentinels.

The cursor's line is sent as `prompt`: the server puts it at the prefix's end, and never
cuts it off. Behind the prefix stands the suffix, which each keystroke computes anew but
for a server that was started with --spm-infill. A document keeps one of the server's
slots for as long as there are enough.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from tabwise_server.backends.answer import Answer
from tabwise_server.backends.ending import block_indent
from tabwise_server.backends.http import GRACE_S, HEALTH_TIMEOUT_S, Endpoint
from tabwise_server.backends.protocol import Health
from tabwise_server.backends.reading import read_events
from tabwise_server.backends.tokens import tokens_of
from tabwise_server.wire import CompletionRequest, CompletionResponse

LIKELIEST = 5  # tokens told of in each place
TOP_K = 40  # as llama.cpp's own default, for sampled completions


class LlamaCppBackend:
    """A client of one llama-server and its one model."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._slots = Slots(0)
        self._model = "llama.cpp"

    async def start(self) -> None:
        await self.health()

    async def health(self) -> Health:
        """Also learns how many slots there are. A loading server answers 503."""
        data = await self._endpoint.call("GET", "/health", None, HEALTH_TIMEOUT_S)
        props = await self._endpoint.call("GET", "/props", None, HEALTH_TIMEOUT_S)
        count = props.get("total_slots")
        self._slots = self._slots.resized(count if isinstance(count, int) else 0)
        self._model = str(props.get("model_alias") or props.get("model_path") or "")
        return Health(
            ready=data.get("status") == "ok",
            status=str(data.get("status")),
            model=self._model,
        )

    async def close(self) -> None:
        await self._endpoint.close()

    async def complete(self, request: CompletionRequest) -> CompletionResponse:
        answer = Answer(request, model=self._model)
        deadline_s = None
        if request.deadline_ms is not None:
            deadline_s = request.deadline_ms / 1000 + GRACE_S
        body = infill_body(request) | {"id_slot": self._slots.of(request.session)}
        async with self._endpoint.open("POST", "/infill", body, deadline_s) as response:
            async for event in read_events(response):
                if take_event(answer, event):
                    response.close()
                    break
        return answer.response()


class Slots:
    """Which slot is whose: each session keeps its own while there are enough, else the
    one that was longest unused is given on."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._sessions: OrderedDict[str, int] = OrderedDict()

    def resized(self, count: int) -> Slots:
        return self if count == self._count else Slots(count)

    def of(self, session: str | None) -> int:
        """The session's slot; -1, the server's own choice, where there is only one or
        nobody has asked how many."""
        if session is None or self._count < 2:
            return -1
        if session not in self._sessions:
            self._sessions[session] = self._free(session)
        self._sessions.move_to_end(session)
        return self._sessions[session]

    def _free(self, session: str) -> int:
        """A slot of nobody's, by preference that of the session's hash, which other
        editors on the same server are likely to leave alone."""
        if len(self._sessions) >= self._count:
            return self._sessions.popitem(last=False)[1]
        digest = hashlib.blake2b(session.encode(), digest_size=4).digest()
        first = int.from_bytes(digest) % self._count
        taken = set(self._sessions.values())
        order = ((first + n) % self._count for n in range(self._count))
        return next(slot for slot in order if slot not in taken)


def infill_body(request: CompletionRequest) -> dict[str, Any]:
    """The JSON of POST /infill, but for its slot."""
    line_start = request.prefix.rfind("\n") + 1
    greedy = request.temperature == 0
    body: dict[str, Any] = {
        "input_prefix": request.prefix[:line_start],
        "prompt": request.prefix[line_start:],
        "input_suffix": request.suffix,
        "input_extra": [
            {"filename": chunk.path, "text": chunk.text} for chunk in request.context
        ],
        "n_predict": request.max_new_tokens,
        "temperature": request.temperature,
        "top_k": 1 if greedy else request.top_k or TOP_K,
        "samplers": ["top_k"] if greedy else ["top_k", "temperature"],
        "n_probs": LIKELIEST,
        "cache_prompt": True,
        "stream": True,
        "timings_per_token": True,
    }
    if request.stop == "block":
        body["n_indent"] = block_indent(request.prefix)
    if request.seed is not None:
        body["seed"] = request.seed
    if request.deadline_ms is not None:
        body["t_max_predict_ms"] = int(request.deadline_ms)
    return body


def take_event(answer: Answer, event: dict[str, Any]) -> bool:
    """Add one streamed event to `answer`; True when the rest is not wanted."""
    timings = event.get("timings") or {}
    cached = timings.get("cache_n") or answer.cached_tokens
    answer.cached_tokens = cached
    if timings.get("prompt_n"):
        answer.prompt_tokens = cached + timings["prompt_n"]
    probabilities = event.get("completion_probabilities") or ()
    tokens = list(tokens_of(probabilities))
    done = answer.add(str(event.get("content") or ""), tokens)
    if not done and event.get("stop"):
        answer.end(by_length=event.get("stop_type") == "limit")
    return done
