"""What the backend counts, in Prometheus' text form. Labels never hold user text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from tabwise_model.engine import Engine
from tabwise_model.request import Generation

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """One app's metrics; the seed's four under the seed's names."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(engine))
        self.requests = Counter(
            "code_completion_requests",
            "Completion requests answered",
            ["status"],
            registry=self._registry,
        )
        for status in ("success", "error"):
            self.requests.labels(status)
        self.duration = self._histogram(
            "code_completion_duration_seconds", "Receipt to answer"
        )
        self.tokens = Counter(
            "tokens_generated", "Tokens generated", registry=self._registry
        )
        self.active = Gauge(
            "active_requests", "Requests being answered", registry=self._registry
        )
        self.queue_time = self._histogram("tabwise_queue_seconds", "Receipt to a slot")
        self.first_token = self._histogram(
            "tabwise_first_token_seconds", "A slot to the first token"
        )
        self.rejected = Counter(
            "tabwise_rejected_requests",
            "Requests refused, by reason",
            ["reason"],
            registry=self._registry,
        )

    def observe(self, result: Generation) -> None:
        """Count one finished generation."""
        self.tokens.inc(len(result.tokens))
        self.queue_time.observe(result.queue_s)
        self.first_token.observe(result.prefill_s)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=SECONDS, registry=self._registry)


class _EngineCollector(Collector):
    """The engine's own counters, read when asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> list[CounterMetricFamily]:
        counters = self._engine.counters
        names = {
            "steps": "Forward passes",
            "prefill_tokens": "Prompt tokens computed",
            "decode_tokens": "Tokens decoded",
            "prompt_tokens": "Prompt tokens admitted",
            "cached_tokens": "Prompt tokens found in the prefix cache",
            "cancelled": "Requests cancelled",
            "expired": "Requests past their deadline",
            "failed": "Requests the engine failed",
        }
        return [
            CounterMetricFamily(f"tabwise_engine_{name}", text, getattr(counters, name))
            for name, text in names.items()
        ]
