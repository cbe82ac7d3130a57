"""The port's adapter: what is measured goes to metrics, and to traces where they are wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from domain.ports.telemetry import DeliveryOutcome, EventOutcome, Fact, Observation, Recovered, Work, outcome_of
from domain.runs.entities import Run, RunMetrics
from integrations.telemetry.metrics import Metrics

if TYPE_CHECKING:
    # Its libraries are loaded where traces are wanted, and nowhere else.
    from integrations.telemetry.spans import Spans


class Recorder:
    def __init__(self, metrics: Metrics, spans: Spans | None) -> None:
        self._metrics = metrics
        self._spans = spans

    @contextmanager
    def during(self, work: Work, name: str, **facts: Fact) -> Iterator[Observation]:
        observation = Observation(name, facts)
        self._metrics.begun(work)
        began = time.perf_counter()
        error: BaseException | None = None
        with self._spans.around(work, observation) if self._spans else nullcontext():
            try:
                yield observation
            except BaseException as raised:
                error = raised
                raise
            finally:
                observation.outcome = observation.outcome or outcome_of(error)
                self._metrics.observe(work, observation, observation.outcome.value, time.perf_counter() - began)

    def continuing(self, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        return self._spans.continuing(headers) if self._spans else nullcontext()

    def loaded(self, metrics: RunMetrics) -> None:
        self._metrics.loaded(metrics)

    def ended(self, run: Run) -> None:
        self._metrics.ended(run)

    def recovered(self, what: Recovered) -> None:
        self._metrics.recovered(what)

    def delivery_tried(self, outcome: DeliveryOutcome) -> None:
        self._metrics.delivery_tried(outcome)

    def events(self, outcome: EventOutcome, count: int) -> None:
        self._metrics.events(outcome, count)

    def owns_background(self, owns: bool) -> None:
        self._metrics.owns_background(owns)
