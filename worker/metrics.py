"""Prometheus metrics of a host: vLLM's names under ``roost:``, one label ``model`` with names of the catalogue alone.

Source of the shapes: https://docs.vllm.ai/en/latest/design/metrics.html. What an engine counts is told under every name
that its weights answer for: steps are shared, so these series are not to be summed over models.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.engine import EngineStats
from runtime.pool import LoadedModel
from worker.bindings import AI
from worker.recent import Entry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN = "(not in the catalogue)"
"""The label of requests for names that aren't: what others send must not make series."""
_LATENCIES = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counts what requests to ``ai`` come to, and reads its engines when it is asked."""

    def __init__(self, ai: AI) -> None:
        self._ai = ai
        self._registry = CollectorRegistry()
        self._registry.register(_Engines(ai))
        label = ("model",)

        def histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"roost:{name}", what, label, buckets=buckets, registry=self._registry)

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"roost:{name}", what, (*label, *labels), registry=self._registry)

        self._first = histogram("time_to_first_token_seconds", "From the request to its first token.", _LATENCIES)
        self._per_token = histogram("time_per_output_token_seconds", "For each token behind the first.", _PER_TOKEN)
        self._queue = histogram("request_queue_time_seconds", "Until a step took the request up.", _LATENCIES)
        self._whole = histogram("e2e_request_latency_seconds", "From the request to its answer's end.", _LATENCIES)
        self._prompt = counter("prompt_tokens", "Prompt tokens of answered requests.")
        self._cached = counter("prompt_tokens_cached", "Those of them that were kept from an earlier prompt.")
        self._generated = counter("generation_tokens", "Tokens written in answers that came to their end.")
        self._success = counter("request_success", "Answers that came to their end, or were left.", "finished_reason")
        self._failure = counter("request_failure", "Requests refused or broken off, by the platform's code.", "code")
        ai.recent.listen(end=self._count)

    def exposition(self) -> bytes:
        """Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)

    def _count(self, entry: Entry) -> None:
        model = entry.model if entry.model in self._ai.catalog.cards else UNKNOWN
        if entry.outcome == "failed":
            self._failure.labels(model, str(entry.code)).inc()
            return
        self._success.labels(model, (entry.reason or "stop") if entry.outcome == "done" else "abort").inc()
        for series, seconds in (
            (self._first, entry.first),
            (self._per_token, entry.per_token),
            (self._queue, entry.progress.queue_seconds),
            (self._whole, entry.took if entry.outcome == "done" else None),
        ):
            if seconds is not None:
                series.labels(model).observe(seconds)
        if entry.usage is not None:
            self._prompt.labels(model).inc(entry.usage.prompt_tokens)
            self._cached.labels(model).inc(entry.usage.cached_tokens)
            self._generated.labels(model).inc(entry.usage.completion_tokens)


class _Engines(Collector):
    """What is true at the moment of asking."""

    def __init__(self, ai: AI) -> None:
        self._ai = ai

    def collect(self) -> Iterator[Metric]:
        """The families, each with a series per model that is loaded or asked for."""
        yield from self._requests()
        loaded = [(model, model.stats(), sorted(model.names)) for model in self._ai.loaded()]
        yield _gauge("kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.", loaded, _kv_use)
        yield _gauge("weights_bytes", "Bytes of the weights that answer.", loaded, _weights)
        steps = CounterMetricFamily("roost:engine_steps", "Steps that the engine ran.", labels=["model"])
        preempted = CounterMetricFamily("roost:num_preemptions", "Rows that had to yield.", labels=["model"])
        batches = HistogramMetricFamily("roost:batch_size", "Requests in a step.", labels=["model"])
        for _, stats, names in loaded:
            for name in names:
                steps.add_metric([name], stats.steps)
                preempted.add_metric([name], stats.preemptions)
                batches.add_metric([name], *_buckets(stats.batches))
        yield from (steps, preempted, batches)

    def _requests(self) -> Iterable[Metric]:
        known = [entry for entry in self._ai.recent.running() if entry.model in self._ai.catalog.cards]
        names = {name for model in self._ai.loaded() for name in model.names} | {entry.model for entry in known}
        waiting = Tally(entry.model for entry in known if entry.state == "waiting")
        all_of = Tally(entry.model for entry in known)
        running = GaugeMetricFamily("roost:num_requests_running", "Requests being computed.", labels=["model"])
        queued = GaugeMetricFamily("roost:num_requests_waiting", "Requests that wait for their turn.", labels=["model"])
        for name in sorted(names):
            running.add_metric([name], all_of[name] - waiting[name])
            queued.add_metric([name], waiting[name])
        return running, queued


_Loaded: TypeAlias = list[tuple[LoadedModel, EngineStats, list[str]]]


def _gauge(name: str, what: str, loaded: _Loaded, value: Callable[[LoadedModel, EngineStats], float]) -> Metric:
    family = GaugeMetricFamily(f"roost:{name}", what, labels=["model"])
    for model, stats, names in loaded:
        for one in names:
            family.add_metric([one], value(model, stats))
    return family


def _kv_use(_: LoadedModel, stats: EngineStats) -> float:
    return stats.cached_tokens / stats.kv_tokens if stats.kv_tokens else 0.0  # encoders have none


def _weights(model: LoadedModel, _: EngineStats) -> float:
    return float(model.artifact.size)


def _buckets(batches: tuple[int, ...]) -> tuple[list[tuple[str, float]], float]:
    """Prometheus' cumulative buckets, and the sum, of how many steps took how many requests."""
    cumulative = [(str(float(bound)), float(sum(batches[: bound + 1]))) for bound in _BATCHES]
    return [*cumulative, ("+Inf", float(sum(batches)))], float(sum(size * count for size, count in enumerate(batches)))
