"""What flow runs work with. Apart from the flow, for that needs Prefect, which takes seconds to import."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from domain.ports.unit_of_work import UnitOfWorkFactory
from domain.runs.pipeline import RunPipeline
from domain.runs.queue import RunQueue
from domain.runs.service import RunService


@dataclass(frozen=True, slots=True)
class FlowServices:
    pipeline: RunPipeline
    runs: RunService
    queue: RunQueue
    unit_of_work: UnitOfWorkFactory


_OPEN: ContextVar[FlowServices | None] = ContextVar("flow services", default=None)


@contextlib.contextmanager
def flow_services(services: FlowServices) -> Iterator[None]:
    """Flow runs that begin inside, in this task or in those that it starts, work with these."""
    token = _OPEN.set(services)
    try:
        yield
    finally:
        _OPEN.reset(token)


def open_flow_services() -> FlowServices | None:
    """Those of this process, where it keeps some open."""
    return _OPEN.get()
