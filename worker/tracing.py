"""OpenTelemetry spans: one for each run of a model, a child of whoever sent a ``traceparent`` header.

Names of attributes: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/, and vLLM's for latencies, where
the convention has none. On where the environment names an exporter and the extra ``roost[otel]`` is installed.
"""

from __future__ import annotations

import importlib.metadata
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runtime.errors import Refused
from worker.bindings import AI
from worker.recent import Entry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Spans of the runs of ``ai``, sent by ``provider``."""

    def __init__(self, ai: AI, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("roost", importlib.metadata.version("roost"))
        self._spans: dict[Entry, Span] = {}
        self._lock = threading.Lock()
        ai.recent.listen(begin=self._begin, end=self._end)

    @contextmanager
    def caller(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Spans that begin in here are children of the one that ``headers`` name (W3C trace context)."""
        from opentelemetry import context, propagate

        token = context.attach(propagate.extract(headers))
        try:
            yield
        finally:
            context.detach(token)

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()

    def _begin(self, entry: Entry) -> None:
        from opentelemetry.trace import SpanKind

        attributes = {"gen_ai.provider.name": "roost", "gen_ai.request.model": entry.model}
        span = self._tracer.start_span(f"run {entry.model}", kind=SpanKind.SERVER, attributes=attributes)
        with self._lock:
            self._spans[entry] = span

    def _end(self, entry: Entry) -> None:
        from opentelemetry.trace import Status, StatusCode

        with self._lock:
            span = self._spans.pop(entry)
        span.set_attribute("gen_ai.response.id", entry.request_id)
        span.set_attribute("roost.outcome", entry.outcome)
        if entry.code is not None:
            span.set_attribute("error.type", str(entry.code))
            span.set_status(Status(StatusCode.ERROR))
        if entry.served_by is not None:
            span.set_attribute("gen_ai.response.model", entry.served_by.weights)
        if entry.usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", entry.usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", entry.usage.completion_tokens)
        if entry.reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [entry.reason])
        for name, seconds in (
            ("time_in_queue", entry.progress.queue_seconds),
            ("time_to_first_token", entry.first),
            ("e2e", entry.took),
        ):
            if seconds is not None:
                span.set_attribute(f"gen_ai.latency.{name}", seconds)
        span.end()


def tracing_from_environment(ai: AI) -> Tracing | None:
    """Tracing to where OpenTelemetry's variables say; ``None`` where they say nothing, :class:`Refused` without it."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(os.environ.get, SWITCHES)):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Refused(f"{SWITCHES[0]} asks for spans, which need another package: pip install 'roost[otel]'") from error
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "roost"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(ai, provider)
