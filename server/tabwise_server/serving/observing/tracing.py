"""Traces for OpenTelemetry, where an address for them is set.

A span for each completion request, which continues its client's trace, and in it one
each for the time in the queue, in the prompt and in decoding. Ids, counts and durations
only. Sampling, headers and so on follow the SDK's own OTEL_* variables.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tabwise_model.request import Generation
from tabwise_server import __version__
from tabwise_server.errors import SettingsError
from tabwise_server.serving.observing.requests import request_id, route_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

FLUSH_S = 2.0  # at the end, for what is not yet sent


class Tracing:
    """Sends spans to an OTLP collector over HTTP, from a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        """endpoint: like http://collector:4318. Raises SettingsError without the
        library."""
        self._exporter, self._provider = _exporter_and_provider(endpoint)
        self._tracer = self._provider.get_tracer("tabwise", __version__)

    @property
    def middleware(self) -> Any:
        """A span around each POST."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        @web.middleware
        async def trace(
            request: web.Request,
            handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        ) -> web.StreamResponse:
            if request.method != "POST":
                return await handler(request)
            route = route_of(request)
            with self._tracer.start_as_current_span(
                f"POST {route}",
                context=extract(request.headers),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": "POST", "http.route": route},
                record_exception=False,  # its text may quote the request
            ) as span:
                span.set_attribute("tabwise.request_id", request_id() or "")
                response = await handler(request)
                span.set_attribute("http.response.status_code", response.status)
                return response

        return trace

    def observe(self, result: Generation) -> None:
        """Spans of a generation that has just ended, in the current request's."""
        for name, start, end in _times(result, time.time_ns()):
            span = self._tracer.start_span(f"tabwise.{name}", start_time=start)
            if name == "prefill":
                span.set_attribute("tabwise.prompt_tokens", result.prompt_tokens)
                span.set_attribute("tabwise.cached_tokens", result.cached_tokens)
            if name == "decode":
                span.set_attribute("tabwise.tokens", len(result.tokens))
                span.set_attribute("tabwise.finish", result.finish.value)
            span.end(end_time=end)

    def close(self) -> None:
        """Send what is left; a collector that does not answer holds nobody up."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(FLUSH_S)
        if closing.is_alive():
            self._exporter.shutdown()  # else it tries again, for up to ten seconds
            closing.join(FLUSH_S)


def _times(result: Generation, now_ns: int) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of a generation's parts, in nanoseconds since the epoch."""
    parts = {
        "queue": result.queue_s,
        "prefill": result.prefill_s,
        "decode": result.decode_s,
    }
    start = now_ns - int(sum(parts.values()) * 1e9)
    for name, seconds in parts.items():
        end = start + int(seconds * 1e9)
        yield name, start, end
        start = end


def _exporter_and_provider(endpoint: str) -> tuple[SpanExporter, TracerProvider]:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise SettingsError(
            "otlp_endpoint needs a library: pip install 'tabwise[otel]'"
        ) from error
    named = {"service.name": "tabwise", "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(named))
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return exporter, provider
