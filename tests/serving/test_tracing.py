"""Traces, as a collector receives them."""

import asyncio
import builtins
import threading
from collections.abc import AsyncIterator

import attrs
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.backend import HeldRunner, RunningBackend, running_backend
from tabwise_server.errors import SettingsError
from tabwise_server.serving.observing import tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@attrs.define
class Collector:
    """An OTLP collector that keeps what it receives."""

    url: str = ""
    bodies: list[bytes] = attrs.Factory(list)

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    def spans(self) -> dict[str, Span]:
        received = map(ExportTraceServiceRequest.FromString, self.bodies)
        scopes = (s for r in received for x in r.resource_spans for s in x.scope_spans)
        return {span.name: span for scope in scopes for span in scope.spans}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_a_request_is_a_span_of_its_clients_trace_and_tells_where_time_went(
    collector: Collector,
) -> None:
    async with running_backend(HeldRunner(), otlp_endpoint=collector.url) as backend:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "17"}
        body = {"code": "s3cret = ", "max_tokens": 3}
        assert (await backend.post("/complete", body, headers=headers))[0] == 200
        await sent(backend)
    assert b"s3cret" not in b"".join(collector.bodies)
    spans = collector.spans()
    root = spans["POST /complete"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    known = {a.key: a.value for a in root.attributes}
    assert known["http.response.status_code"].int_value == 200
    assert known["tabwise.request_id"].string_value == "17"
    parts = [spans[f"tabwise.{name}"] for name in ("queue", "prefill", "decode")]
    for part in parts:
        assert part.parent_span_id == root.span_id
        assert part.start_time_unix_nano <= part.end_time_unix_nano
    tokens = {a.key: a.value.int_value for a in parts[2].attributes}
    assert tokens["tabwise.tokens"] == 3


async def test_a_refused_request_is_a_span_too(collector: Collector) -> None:
    async with running_backend(HeldRunner(), otlp_endpoint=collector.url) as backend:
        await backend.post("/complete", {"code": 5})
        await sent(backend)
    [root] = collector.spans().values()
    known = {a.key: a.value for a in root.attributes}
    assert known["http.response.status_code"].int_value == 422


async def sent(backend: RunningBackend) -> None:
    """Return once the collector has all spans so far."""
    assert backend.service.tracing is not None
    await asyncio.to_thread(backend.service.tracing._provider.force_flush)


async def test_a_collector_that_is_gone_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracing, "FLUSH_S", 0.1)
    before = set(threading.enumerate())
    async with running_backend(
        HeldRunner(), otlp_endpoint="http://127.0.0.1:1"
    ) as backend:
        assert (await backend.post("/complete", {"code": "x"}))[0] == 200
        assert exporting(before)
    assert not exporting(before)


def exporting(before: set[threading.Thread]) -> list[str]:
    """The names of the threads that send spans, of those that are new."""
    new = set(threading.enumerate()) - before
    return [thread.name for thread in new if "Otel" in thread.name]


def test_traces_without_their_library_are_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: object) -> object:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SettingsError, match=r"pip install 'tabwise\[otel\]'"):
        tracing.Tracing("http://127.0.0.1:1")
