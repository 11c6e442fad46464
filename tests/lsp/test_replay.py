"""Thousands of messages in no sensible order: every request has one answer.

TABWISE_REPLAY_MESSAGES=50000 makes it as long as a day's work.
"""

import asyncio
import os
import random
import re
from typing import Any

import pytest

from support.language_server import language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import LspClient, ResponseError, inline_params
from tabwise_server.lsp.framing import frame

MESSAGES = int(os.environ.get("TABWISE_REPLAY_MESSAGES", "3000"))
HEADER = re.compile(rb"Content-Length: (\d+)\r\n(?:Content-Type: [^\r]*\r\n)?\r\n")
URIS = [f"file:///project/{name}.py" for name in "abc"]
CELL = "vscode-notebook-cell:/project/book.ipynb#1"
TYPED = ["a", "(", "\n", "😀", "\r\n", "suggested", "    ", '"', "", "\ud83d", "\x0c"]
NOISE = [b"{", b"[]", b"null", b'{"jsonrpc": "2.0", "method": "x", "params": 3}']
NOISE += [b'{"jsonrpc": "2.0", "id": [1], "method": "shutdown"}', b"\xff" * 9, b""]
OPTIONS: list[Any] = [
    {"level": "quiet"},
    {"level": 3},
    {"enabled": True, "contextChars": 300},
    {"files": {"a.py": {"maxNewTokens": 5}}},
    {"prefetch": True, "secretPatterns": ["c.py"]},
    [],
    None,
]
ANSWERS = ["suggested()", "", "x)", "<|endoftext|>", "a\n\n\nb", "😀('é')"]
STATUSES = [200, 200, 200, 500, 503, 504]
# -32800 cancelled, -32601 unknown method, -32602 wrong parameters
EXPECTED = {-32800, -32601, -32602}


class StrictReader:
    """Sees every byte of a server's stdout; `stray` are those of no message."""

    def __init__(self, client: LspClient) -> None:
        assert client.process.stdout is not None
        self.stray = 0
        self._held = bytearray()
        self._feed = client.process.stdout.feed_data
        client.process.stdout.feed_data = self.take  # type: ignore[method-assign]

    def take(self, data: Any) -> None:
        self._held += data
        while (head := HEADER.search(self._held)) is not None:
            end = head.end() + int(head.group(1))
            if len(self._held) < end:
                break
            self.stray += head.start()
            del self._held[:end]
        self._feed(data)


class Typist:
    """Does one random thing after another; counts the answers."""

    def __init__(self, client: LspClient, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.waiting: set[asyncio.Future[Any]] = set()
        self.ids: list[int] = []
        self.answered = 0
        self.unexpected: list[object] = []

    def act(self, version: int) -> None:
        pick, uri = self.random.random(), self.random.choice([*URIS, CELL, "file:///z"])
        place = (self.random.randrange(40), self.random.randrange(30))
        if pick < 0.4:
            end = (place[0], place[1] + self.random.randrange(4))
            self.client.change(uri, version, self.random.choice(TYPED), place, end)
        elif pick < 0.7:
            self.ask_inline(uri, place)
        elif pick < 0.78:
            self.ask("textDocument/completion", inline_params(uri, place))
        elif pick < 0.86 and self.ids:
            recent = self.random.choice(self.ids[-3:])
            self.client.notify("$/cancelRequest", {"id": recent})
        elif pick < 0.9:
            self.client.send_raw(frame(self.random.choice(NOISE)))
        elif pick < 0.92:
            self.ask("no/such", {})
        elif pick < 0.94:
            options = {"settings": {"tabwise": self.random.choice(OPTIONS)}}
            self.client.notify("workspace/didChangeConfiguration", options)
        elif pick < 0.96:
            self.report()
        elif pick < 0.98:
            text = "x = 1\n" * self.random.randrange(60)
            self.client.open(uri, text)
        else:
            closed = {"textDocument": {"uri": uri}}
            self.client.notify("textDocument/didClose", closed)

    def ask_inline(self, uri: str, place: tuple[int, int]) -> None:
        params = inline_params(uri, place)
        params["context"] = {"triggerKind": self.random.choice([0, 1, 2, 2, 2, "x"])}
        if self.random.random() < 0.2:
            options = {"tabSize": self.random.randrange(-1, 9), "insertSpaces": False}
            params["formattingOptions"] = options
        if self.random.random() < 0.1:
            params["position"] = {"line": -1}
        self.ask("textDocument/inlineCompletion", params)

    def report(self) -> None:
        id = self.random.choice(["no-such-id", 3, None])
        item = {"command": {"arguments": [id]}}
        method = self.random.choice(["didShow", "didPartiallyAccept"])
        report = {"item": item, "acceptedLength": self.random.choice([1, "x"])}
        self.client.notify(f"textDocument/{method}Completion", report)
        command = self.random.choice(["accepted", "rejected", "status", "unheard"])
        arguments = {"command": f"tabwise.{command}", "arguments": [id]}
        self.ask("workspace/executeCommand", arguments)

    def ask(self, method: str, params: Any) -> None:
        id, answer = self.client.ask(method, params)
        self.ids = [*self.ids[-9:], id]
        self.waiting.add(answer)
        answer.add_done_callback(self.take)

    def take(self, answer: asyncio.Future[Any]) -> None:
        self.waiting.discard(answer)
        self.answered += 1
        error = answer.exception()
        expected = isinstance(error, ResponseError) and error.error_code in EXPECTED
        if error is not None and not expected:
            self.unexpected.append(error)


@pytest.mark.slow
@pytest.mark.timeout(120 + MESSAGES // 20)
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_random_replay_leaves_no_request_unanswered_and_does_not_grow(
    environment: dict[str, str], backend: ScriptedBackend, seed: int
) -> None:
    psutil = pytest.importorskip("psutil")
    chance = random.Random(seed)

    backend.answer = lambda request: chance.choice(ANSWERS)
    async with language_server(environment) as client:
        for uri in URIS:
            client.open(uri, "x = 1\n" * 40)
        typist, reader = Typist(client, seed), StrictReader(client)
        process = psutil.Process(client.process.pid)
        early, told = 0, 0
        for number in range(MESSAGES):
            backend.status = chance.choice(STATUSES)
            typist.act(number + 2)
            if number % 20 == 0:  # as fast as the server takes it, not faster
                await client.inline_completion(URIS[0], (0, 0))
            if number == MESSAGES // 3:
                early = process.memory_info().rss
            if number % 500 == 0:
                methods = {method for method, _ in client.notifications}
                assert methods <= {"$/tabwise/status", "window/showMessage"}
                messages = [m for m, _ in client.notifications if "show" in m]
                told += len(messages)
                client.notifications.clear()
                backend.requests.clear()
        async with asyncio.timeout(60):
            await asyncio.gather(*typist.waiting, return_exceptions=True)
        late = process.memory_info().rss
        assert not typist.waiting
        assert reader.stray == 0
        assert typist.unexpected == []
        assert typist.answered > MESSAGES // 4
        assert told <= len(OPTIONS)  # what is wrong with options is said once each
        assert late < early + 8 * 2**20
        print(
            f"{typist.answered} answers of {MESSAGES} messages; resident: "
            f"{early / 2**20:.1f} MB after a third, {late / 2**20:.1f} MB at the end"
        )
