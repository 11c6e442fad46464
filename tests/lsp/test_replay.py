"""Thousands of messages in no sensible order: every request has one answer."""

import asyncio
import random
from typing import Any

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import LspClient, ResponseError, inline_params
from tabwise_server.lsp.framing import frame

MESSAGES = 3_000
NOISE = [b"{", b"[]", b"null", b'{"jsonrpc": "2.0", "method": "x", "params": 3}']
TYPED = ["a", "(", "\n", "😀", "\r\n", "suggested", "    ", '"', ""]


class Typist:
    """Does one random thing after another; keeps the answers to come."""

    def __init__(self, client: LspClient, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.answers: list[asyncio.Future[Any]] = []
        self.ids: list[int] = []

    def act(self, version: int) -> None:
        kind = self.random.random()
        place = (self.random.randrange(40), self.random.randrange(30))
        if kind < 0.4:
            end = (place[0], place[1] + self.random.randrange(4))
            self.client.change(URI, version, self.random.choice(TYPED), place, end)
        elif kind < 0.75:
            self.ask("textDocument/inlineCompletion", inline_params(URI, place))
        elif kind < 0.85:
            self.ask("textDocument/completion", inline_params(URI, place))
        elif kind < 0.93 and self.ids:
            recent = self.random.choice(self.ids[-3:])
            self.client.notify("$/cancelRequest", {"id": recent})
        elif kind < 0.96:
            self.client.send_raw(frame(self.random.choice(NOISE)))
        elif kind < 0.98:
            self.ask("no/such", {})
        else:
            self.client.open(URI, "x = 1\n" * self.random.randrange(60))

    def ask(self, method: str, params: Any) -> None:
        id, answer = self.client.ask(method, params)
        self.ids.append(id)
        self.answers.append(answer)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_random_replay_leaves_no_request_unanswered(
    environment: dict[str, str], backend: ScriptedBackend, seed: int
) -> None:
    psutil = pytest.importorskip("psutil")
    chance = random.Random(seed)

    def answer(request: Any) -> str:
        backend.status = chance.choice([200, 200, 200, 500, 503])
        return chance.choice(["suggested()", "", "x)", "<|endoftext|>", "a\n\n\nb"])

    backend.answer = answer
    async with language_server(environment) as client:
        client.open(URI, "x = 1\n" * 40)
        typist = Typist(client, seed)
        process = psutil.Process(client.process.pid)
        early = 0
        for number in range(MESSAGES):
            typist.act(number + 2)
            if number % 20 == 0:  # as fast as the server takes it, not faster
                await client.inline_completion(URI, (0, 0))
            if number == MESSAGES // 3:
                early = process.memory_info().rss
        results = await asyncio.gather(*typist.answers, return_exceptions=True)
        failures = [r for r in results if isinstance(r, BaseException)]
        codes = {getattr(failure, "error_code", None) for failure in failures}
        assert all(isinstance(failure, ResponseError) for failure in failures)
        assert codes <= {-32800, -32601}
        assert len(results) > MESSAGES // 3
        assert process.memory_info().rss < early + 8 * 2**20
        methods = {method for method, _ in client.notifications}
        assert methods <= {"$/tabwise/status"}
