"""Which trace a run's spans are in, so that others can point there.

A run begins after the request that asked for it has been answered, often in another process, and the outbox carries no trace's
context: its entries are merged by subject. None is needed: a run's trace has the run's id. Whoever knows a run can find its trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext, TraceFlags

_run: ContextVar[UUID | None] = ContextVar("run_whose_span_is_opened", default=None)


class RunIds(RandomIdGenerator):
    """Random ids, but for the first span of a run: its trace's id is the run's, and its own the run's second half."""

    def generate_trace_id(self) -> int:
        run = _run.get()
        return super().generate_trace_id() if run is None else run.int

    def generate_span_id(self) -> int:
        run = _run.get()
        return super().generate_span_id() if run is None else first_span(run).span_id


@contextmanager
def opening(run_id: UUID) -> Iterator[None]:
    """A span without a parent that is started in the block is the run's first."""
    token = _run.set(run_id)
    try:
        yield
    finally:
        _run.reset(token)


def first_span(run_id: UUID) -> SpanContext:
    """The run's, whether it has been started yet or not."""
    return SpanContext(run_id.int, run_id.int & (2**64 - 1), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
