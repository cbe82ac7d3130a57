"""How measuring is put together: metrics always, traces where a collector is named, and the backlog for those who scrape."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from autoloader.recently import Recently
from autoloader.settings import Settings
from domain.backlog import Backlog
from domain.errors import UnavailableError
from domain.ports.telemetry import Telemetry
from integrations.telemetry.metrics import Metrics
from integrations.telemetry.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Measuring:
    telemetry: Telemetry
    metrics: Metrics


@contextlib.asynccontextmanager
async def open_measuring(settings: Settings) -> AsyncIterator[Measuring]:
    metrics = Metrics()
    if settings.otlp_endpoint is None:
        yield Measuring(Recorder(metrics, None), metrics)
        return
    # OpenTelemetry is loaded for those who use it.
    from integrations.telemetry.spans import open_spans

    async with open_spans(settings.otlp_endpoint) as spans:
        yield Measuring(Recorder(metrics, spans), metrics)


async def metrics_page(metrics: Metrics, backlog: Recently[Backlog]) -> bytes:
    """What a scrape gets; without the backlog when the database does not tell it in time."""
    try:
        return metrics.page(await backlog())
    except UnavailableError:
        return metrics.page(None)
