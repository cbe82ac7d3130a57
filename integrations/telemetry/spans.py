"""Traces, by OpenTelemetry: a span for each piece of work, sent to a collector over OTLP/HTTP by a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from uuid import UUID

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from domain.ports.telemetry import Observation, Outcome, Work
from integrations.telemetry.run_traces import RunIds, first_span, opening

_PREFIX = "autoloader."
_EXPORT_SECONDS = 5.0


class Spans:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def around(self, work: Work, observation: Observation) -> Iterator[None]:
        """A span, current while the block runs. What the observation tells is read at its end.

        Of an error it tells the kind alone: its words may hold anything.
        """
        span = self._started(work, observation)
        with _current(set_span_in_context(span)):
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                raise
            finally:
                span.update_name(f"{work.value} {observation.name}")
                span.set_attributes({_PREFIX + name: value for name, value in observation.facts.items()})
                if work is Work.SERVICE_CALL and "run_id" in observation.facts:
                    span.add_link(first_span(UUID(str(observation.facts["run_id"]))))
                if observation.outcome is not None:
                    span.set_attribute(f"{_PREFIX}outcome", observation.outcome.value)
                if observation.outcome is Outcome.ERROR:
                    span.set_status(Status(StatusCode.ERROR))
                span.end()

    def _started(self, work: Work, observation: Observation) -> Span:
        if work is not Work.RUN:
            return self._tracer.start_span(work.value, kind=SpanKind.SERVER if work is Work.OPERATION else SpanKind.INTERNAL)
        # Part of nothing else, whoever executes it.
        with opening(UUID(str(observation.facts["run_id"]))):
            return self._tracer.start_span(work.value, context=Context(), kind=SpanKind.CONSUMER)

    def continuing(self, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        return _current(self._propagator.extract(headers))


@contextmanager
def _current(entered: Context) -> Iterator[None]:
    before = context.get_current()
    context.attach(entered)
    try:
        yield
    finally:
        # Not by a token: a stream may be closed by another task than the one that began it.
        context.attach(before)


@asynccontextmanager
async def open_spans(endpoint: str) -> AsyncIterator[Spans]:
    """`endpoint` is the collector's base URL. What has not been sent is sent when the block ends, for a bounded time."""
    # No globals: nothing else of this process is traced.
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "autoloader"}), id_generator=RunIds(), shutdown_on_exit=False)
    provider.add_span_processor(processor_to(endpoint))
    try:
        yield Spans(provider.get_tracer("autoloader"))
    finally:
        await asyncio.to_thread(provider.shutdown)


def processor_to(endpoint: str) -> SpanProcessor:
    """Sends batches from a thread; when the collector does not keep up, spans are dropped."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS))
