"""What the backend counts, in Prometheus' text form. Labels never hold user text."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tabwise_model.engine import EngineCounters
from tabwise_model.request import Generation
from tabwise_server.serving.admission.limits import Places
from tabwise_server.serving.caching.answers import PLACES, AnswerCache
from tabwise_server.serving.caching.shared import FAILURES
from tabwise_server.serving.engine.engines import RESTART_REASONS, Figures

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.5, 1, 2, 5)
TOKEN_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


class Metrics:
    """One app's metrics; the seed's four under the seed's names."""

    def __init__(self, cache: AnswerCache, places: Places) -> None:
        self._registry = CollectorRegistry()
        for name, text, read in (
            ("tabwise_places", "Requests that there is room for", "room"),
            ("tabwise_places_taken", "Requests in the house", "taken"),
            ("tabwise_places_tokens", "Prompt tokens they may have", "tokens"),
        ):
            gauge = Gauge(name, text, registry=self._registry)
            gauge.set_function(partial(operator.attrgetter(read), places))
        ProcessCollector(registry=self._registry)  # memory, CPU time, open files
        self._engines = _EngineCollector()
        self._registry.register(self._engines)
        self._registry.register(_CacheCollector(cache))
        self.requests = self._counter(
            "code_completion_requests", "Completion requests answered", "status"
        )
        for status in ("success", "error"):
            self.requests.labels(status)
        self.duration = self._histogram(
            "code_completion_duration_seconds", "Receipt to a successful answer"
        )
        self.tokens = self._counter("tokens_generated", "Tokens generated")
        self.active = Gauge(
            "active_requests", "Requests being answered", registry=self._registry
        )
        self.rejected = self._counter(
            "tabwise_rejected_requests", "Requests refused, by error code", "reason"
        )
        self.disconnects = self._counter(
            "tabwise_client_disconnects", "Clients that left before their answer"
        )
        self.queue_time = self._histogram("tabwise_queue_seconds", "Receipt to a slot")
        self.first_token = self._histogram(
            "tabwise_first_token_seconds", "Receipt to the first token"
        )
        self.token_time = self._histogram(
            "tabwise_token_seconds", "Between a request's tokens", TOKEN_SECONDS
        )

    def observe(self, result: Generation) -> None:
        """Count one finished generation."""
        tokens = len(result.tokens)
        self.tokens.inc(tokens)
        self.queue_time.observe(result.queue_s)
        self.first_token.observe(result.queue_s + result.prefill_s)
        if tokens > 1:
            self.token_time.observe(result.decode_s / (tokens - 1))

    def render(self, engines: Figures) -> bytes:
        self._engines.figures = engines
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...] = SECONDS
    ) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self._registry)


_ENGINE_COUNTERS: Mapping[str, str] = MappingProxyType(
    {
        "steps": "Forward passes",
        "prefill_tokens": "Prompt tokens computed",
        "decode_tokens": "Tokens decoded",
        "prompt_tokens": "Prompt tokens admitted",
        "cached_tokens": "Prompt tokens found in the prefix cache",
        "finished": "Requests that ended by themselves",
        "cancelled": "Requests cancelled",
        "expired": "Requests past their deadline",
        "failed": "Requests the engine failed",
    }
)


class _EngineCollector(Collector):
    """What the engines tell; those that were replaced are in their counters."""

    def __init__(self) -> None:
        self.figures = Figures()

    def collect(self) -> Iterator[Metric]:
        figures = self.figures
        counters = figures.counters
        for name, text in _ENGINE_COUNTERS.items():
            value = getattr(counters, name)
            yield CounterMetricFamily(f"tabwise_engine_{name}", text, value)
        yield _by_label(
            "tabwise_engine_restarts",
            "Engines that were replaced",
            "reason",
            {reason: figures.restarts[reason] for reason in RESTART_REASONS},
        )
        yield _batch_sizes(counters)
        yield CounterMetricFamily(
            "tabwise_engine_cpu_seconds",
            "Processor time of the engines' own processes",
            figures.cpu_s,
        )
        gauges = {
            "tabwise_engine_queued": ("Requests waiting for a slot", figures.queued),
            "tabwise_engine_running": ("Requests in a slot", figures.running),
            "tabwise_engine_slots": ("Slots", figures.slots),
            "tabwise_remembered_tokens": (
                "Tokens of workspaces that are copied from",
                figures.remembered_tokens,
            ),
            "tabwise_engine_resident_memory_bytes": (
                "Memory of the engines' own processes",
                figures.resident_bytes,
            ),
        }
        for name, (text, number) in gauges.items():
            yield GaugeMetricFamily(name, text, number)


class _CacheCollector(Collector):
    """How the response cache does, read when asked."""

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        yield _by_label(
            "tabwise_response_cache",
            "Questions by where their answer was found",
            "found",
            {place: self._cache.found[place] for place in PLACES},
        )
        yield _by_label(
            "tabwise_redis_failures",
            "Times that Redis could not be used",
            "reason",
            {reason: self._cache.failures[reason] for reason in FAILURES},
        )


def _by_label(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _batch_sizes(counters: EngineCounters) -> Metric:
    """A bucket for each number of bits: sizes up to 1, 3, 7, ..."""
    *steps, _ = counters.batches.cumsum()[1:].tolist()
    buckets = [(str(2**bits - 1), n) for bits, n in enumerate(steps, start=1)]
    return HistogramMetricFamily(
        "tabwise_engine_batch_size",
        "Requests in a step",
        buckets=[*buckets, ("+Inf", int(counters.batches.sum()))],
        sum_value=counters.batched,
    )
