"""Looking before leaping: what files would give, and what loading them would cost. Nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

from pydantic import Field

from domain.clock import Clock
from domain.costs.estimator import CostEstimate, CostEstimator, SourceMeasure
from domain.errors import UnavailableError, ValidationError
from domain.ingestions.entities import EngineType
from domain.ingestions.inputs import ExecutionInput, FormatInput, InputModel, ScheduleInput, SourceInput
from domain.ingestions.service import source_errors_named
from domain.ledger.discovery import FileDiscoveryService
from domain.ports.engine import Engine, Preview
from domain.ports.object_store import StoredObject
from domain.tenants import Principal

PREVIEWED_FILES = 5
"""A preview reads so many files at most, the first of the listing, ..."""
PREVIEWED_BYTES = 64 * 2**20
"""... and stops before these bytes, but for the first file."""
MEASURED_FILES = 200_000
"""An estimate counts so many files at most."""
RECENT = timedelta(days=30)
_PATIENCE_SECONDS = 30.0


class PreviewRequest(InputModel):
    source: SourceInput
    format: FormatInput
    limit: int = Field(default=20, ge=0, le=100)


class EstimateRequest(InputModel):
    source: SourceInput
    format: FormatInput
    schedule: ScheduleInput | None = None
    execution: ExecutionInput = ExecutionInput()


class ExplorationService:
    def __init__(
        self, discovery: FileDiscoveryService, engines: Mapping[EngineType, Engine], estimator: CostEstimator, clock: Clock
    ) -> None:
        self._discovery = discovery
        self._engines = engines
        self._estimator = estimator
        self._clock = clock

    async def preview(self, principal: Principal, request: PreviewRequest) -> Preview:
        """Schema and first rows of what lies at the source.

        Raises `ValidationError` when the source cannot be listed, no file passes its filters, or none can be read.
        """
        source, grants = request.source.to_source(), principal.tenant.grants
        chosen: list[StoredObject] = []
        async with _bounded():
            with source_errors_named():
                async for files in self._discovery.list_files(source, grants, max_files=PREVIEWED_FILES):
                    chosen += files
            if not chosen:
                raise ValidationError.of("source", "path", message="no file there passes the filters")
            fitting = [file for i, file in enumerate(chosen) if i == 0 or sum(f.size_bytes for f in chosen[: i + 1]) <= PREVIEWED_BYTES]
            engine = self._engines[EngineType.EMBEDDED]
            return await engine.preview(source, grants, request.format.to_format(), fitting, limit=request.limit)

    async def estimate(self, principal: Principal, request: EstimateRequest) -> CostEstimate:
        """What loading the source would cost, from its listing. Raises `ValidationError` when it cannot be listed."""
        recently = self._clock.now() - RECENT
        files = size = recent_files = recent_bytes = 0
        async with _bounded():
            with source_errors_named():
                async for chunk in self._discovery.list_files(
                    request.source.to_source(), principal.tenant.grants, max_files=MEASURED_FILES + 1
                ):
                    fresh = [file.size_bytes for file in chunk if file.modified_at > recently]
                    files += len(chunk)
                    size += sum(file.size_bytes for file in chunk)
                    recent_files += len(fresh)
                    recent_bytes += sum(fresh)
        measure = SourceMeasure(files, size, recent_files, recent_bytes, complete=files <= MEASURED_FILES)
        schedule = request.schedule.to_schedule() if request.schedule else None
        # Counting a year of firings takes tens of milliseconds.
        return await asyncio.to_thread(
            self._estimator.estimate, measure, request.format.type, request.execution.cluster_size, schedule, now=self._clock.now()
        )


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            yield
    except TimeoutError:
        raise UnavailableError(f"looking at the source took longer than {_PATIENCE_SECONDS:.0f} seconds") from None
