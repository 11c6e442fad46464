"""A small LSP client: what an editor does, for measuring and for trying out."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from tabwise_server.errors import TabwiseError
from tabwise_server.lsp.framing import Framer, frame

READ_BYTES = 1 << 16
STATUS = "$/tabwise/status"


class ServerGone(TabwiseError):
    """The language server ended, or answered with something that is not LSP."""


class ResponseError(TabwiseError):
    """The language server answered a request with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error.get('message')} ({error.get('code')})")
        self.error_code = error.get("code")


@attrs.frozen
class Suggestion:
    """What an editor would show, and how long after asking."""

    text: str | None
    latency_ms: float


class LspClient:
    """Speaks to one `tabwise lsp` over its stdin and stdout.

    answers: to come, by id. notifications: all that came, (method, params), oldest
    first. handlers: what answers the server's own requests; others get null.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.notifications: list[tuple[str, Any]] = []
        self.handlers: dict[str, Callable[[Any], Any]] = {}
        self.server_info: Mapping[str, Any] = {}
        self.capabilities: Mapping[str, Any] = {}
        self.answers: dict[int | str, asyncio.Future[Any]] = {}
        self._next_id = 0
        self._arrived = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stderr: int | None = None,
    ) -> LspClient:
        """Start a language server, by default this Python's `tabwise lsp`."""
        command = command or (sys.executable, "-P", "-m", "tabwise_server", "lsp")
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=None if environment is None else dict(environment),
        )
        return cls(process)

    async def initialize(
        self,
        options: Any = None,
        encodings: Sequence[str] = ("utf-16",),
        more: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> dict[str, Any]:
        """Shake hands; returns the server's answer. more: capabilities."""
        capabilities = {
            "general": {"positionEncodings": list(encodings)},
            "textDocument": {"inlineCompletion": {}, "completion": {}},
            "notebookDocument": {"synchronization": {}},
            **(more or {}),
        }
        result: dict[str, Any] = await self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": None,
                "capabilities": capabilities,
                "initializationOptions": options,
                **params,
            },
        )
        self.server_info = result.get("serverInfo", {})
        self.capabilities = result["capabilities"]
        self.notify("initialized", {})
        return result

    def open(self, uri: str, text: str, language: str = "python") -> None:
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": item})

    def change(
        self,
        uri: str,
        version: int,
        text: str,
        start: tuple[int, int],
        end: tuple[int, int] | None = None,
    ) -> None:
        """Replace from start to end, (line, character) each, by `text`."""
        span = {"start": _position(start), "end": _position(end or start)}
        self.notify(
            "textDocument/didChange",
            {
                "textDocument": {"uri": uri, "version": version},
                "contentChanges": [{"range": span, "text": text}],
            },
        )

    async def inline_completion(
        self, uri: str, at: tuple[int, int], explicit: bool = False
    ) -> Suggestion:
        """Ask for ghost text at (line, character); explicit: by a key, not typing."""
        began = time.perf_counter()
        items = await self.request(
            "textDocument/inlineCompletion", inline_params(uri, at, explicit)
        )
        latency_ms = (time.perf_counter() - began) * 1000
        return Suggestion(items[0]["insertText"] if items else None, latency_ms)

    async def wait_until_ready(self, timeout_s: float) -> None:
        """Return when the backend is ready. Raises ServerGone with its reason."""

        def settled() -> Any:
            states = [p for method, p in self.notifications if method == STATUS]
            wanted = ("ready", "offline")
            return next((p for p in reversed(states) if p["state"] in wanted), None)

        try:
            async with asyncio.timeout(timeout_s), self._arrived:
                await self._arrived.wait_for(
                    lambda: settled() is not None or self._reading.done()
                )
        except TimeoutError as error:
            raise ServerGone(f"no backend within {timeout_s:g} s") from error
        status = settled()
        if status is None:
            raise ServerGone("the language server ended")
        if status["state"] != "ready":
            raise ServerGone(f"the backend did not start: {status['reason']}")

    def notify(self, method: str, params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def request(self, method: str, params: Any) -> Any:
        """The result. Raises ResponseError or ServerGone."""
        return await self.ask(method, params)[1]

    def ask(self, method: str, params: Any) -> tuple[int, asyncio.Future[Any]]:
        """Send a request; its id, and the result to come."""
        self._next_id += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            future.set_exception(ServerGone("the language server ended"))
            return self._next_id, future
        self.answers[self._next_id] = future
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method}
        self.send({**message, "params": params})
        return self._next_id, future

    def send(self, message: Any) -> None:
        self.send_raw(frame(json.dumps(message).encode()))

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are; for what an editor should not do."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    async def stop(self, timeout_s: float = 10.0) -> int:
        """Shut down as an editor does; returns the exit status. Kills what hangs."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.request("shutdown", None)
                self.notify("exit", None)
                return await self.process.wait()
        except (TimeoutError, ServerGone, ConnectionError):
            if self.process.returncode is None:
                self.process.kill()
            return await self.process.wait()
        finally:
            await self._reading

    async def _read(self) -> None:
        """Take in messages until the server's stdout ends."""
        assert self.process.stdout is not None
        framer = Framer()
        try:
            while data := await self.process.stdout.read(READ_BYTES):
                for body in framer.feed(data):
                    await self._take(json.loads(body))
        finally:
            for future in self.answers.values():
                if not future.done():
                    future.set_exception(ServerGone("the language server ended"))
            async with self._arrived:
                self._arrived.notify_all()

    def _answer(self, message: dict[str, Any]) -> None:
        """Answer a request of the server's."""
        handler = self.handlers.get(message["method"])
        result = handler(message.get("params")) if handler else None
        self.send({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            if "id" in message:
                self._answer(message)
                return
            self.notifications.append((message["method"], message.get("params")))
            async with self._arrived:
                self._arrived.notify_all()
            return
        future = self.answers.pop(message["id"], None)
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(ResponseError(message["error"]))
        else:
            future.set_result(message["result"])


def inline_params(
    uri: str, at: tuple[int, int], explicit: bool = False
) -> dict[str, Any]:
    return {
        "textDocument": {"uri": uri},
        "position": _position(at),
        "context": {"triggerKind": 1 if explicit else 2},
    }


def _position(at: tuple[int, int]) -> dict[str, int]:
    return {"line": at[0], "character": at[1]}
