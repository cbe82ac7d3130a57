"""The domain's services over fakes, wired as the application wires them over the real things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.ingestions.checkpoints import Checkpoints
from domain.ingestions.entities import EngineType, Ingestion
from domain.ingestions.refresh import RefreshService
from domain.ingestions.resets import ResetService
from domain.ledger.batch_processor import BatchFileProcessor, BatchSettings
from domain.ledger.discovery import FileDiscoveryService
from domain.ledger.entities import FileStatus, ProcessedFile
from domain.ledger.stream_processor import StreamProcessor
from domain.ports.engine import Engine
from domain.ports.telemetry import NO_TELEMETRY, Telemetry
from domain.ports.unit_of_work import Directory, Subject, UnitOfWorkFactory
from domain.runs.entities import Run
from domain.runs.pipeline import PipelineSettings, RunPipeline
from domain.tenants import Tenant
from tests.factories import BUCKET, a_run, a_tenant, an_ingestion
from tests.fakes.clock import FakeClock
from tests.fakes.database import FakeDatabase
from tests.fakes.directory import FakeDirectory
from tests.fakes.event_queue import FakeEventQueue
from tests.fakes.object_store import FakeObjectStores
from tests.fakes.scripted_engine import ScriptedEngine, Table
from tests.fakes.scripted_stream import ScriptedStream
from tests.fakes.unit_of_work import FakeUnitOfWorkFactory

CHECKPOINTS = Checkpoints("file:///checkpoints")


@dataclass
class Workbench:
    """Batches hold three files unless a test says otherwise; leases run for a minute of the database's own clock."""

    unit_of_work: UnitOfWorkFactory
    directory: Directory
    tenant: Tenant
    expire_leases: Callable[[], Awaitable[None]]
    """Ends all leases that run, as time would."""
    clock: FakeClock = field(default_factory=FakeClock)
    stores: FakeObjectStores = field(default_factory=FakeObjectStores)
    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    stream: ScriptedStream = field(init=False)
    batches: BatchSettings = field(default_factory=lambda: BatchSettings(max_files=3, lease_seconds=60, retry_base_seconds=60))
    settings: PipelineSettings = field(default_factory=lambda: PipelineSettings(lease_seconds=60, failures_until_error=3))
    telemetry: Telemetry = NO_TELEMETRY

    def __post_init__(self) -> None:
        self.stream = ScriptedStream(self.engine, self.stores)

    @property
    def engines(self) -> Mapping[EngineType, Engine]:
        return {EngineType.EMBEDDED: self.engine, EngineType.SPARK: self.engine}

    @property
    def processor(self) -> BatchFileProcessor:
        return BatchFileProcessor(self.unit_of_work, self.engines, self.batches)

    @property
    def streams(self) -> StreamProcessor:
        return StreamProcessor(self.unit_of_work, {EngineType.SPARK: self.stream}, self.stores, self.batches)

    @property
    def discovery(self) -> FileDiscoveryService:
        return FileDiscoveryService(self.unit_of_work, self.stores, self.clock, self.telemetry)

    @property
    def resets(self) -> ResetService:
        return ResetService(self.unit_of_work, self.engines, self.processor)

    @property
    def refreshes(self) -> RefreshService:
        return RefreshService(self.unit_of_work, self.engines, self.processor, self.clock, CHECKPOINTS)

    @property
    def pipeline(self) -> RunPipeline:
        return RunPipeline(
            self.unit_of_work,
            self.directory,
            self.discovery,
            self.processor,
            self.streams,
            self.refreshes,
            self.resets,
            self.clock,
            self.settings,
        )

    def land(self, *names: str, content: bytes = b"{}") -> list[str]:
        """Put files into the bucket; their paths."""
        paths = [BUCKET + name for name in names]
        for path in paths:
            self.stores.put(path, content)
        return paths

    def event_queue(self, name: str = "notifications", *, dead_after: int | None = None) -> FakeEventQueue:
        """A new queue at the store, on this bench's clock."""
        return self.stores.queues.setdefault(name, FakeEventQueue(name, self.clock, dead_after))

    async def ingestion(self, **fields: Any) -> Ingestion:
        self.stores.add_location(BUCKET)
        async with self.unit_of_work(self.tenant.id) as tx:
            return await tx.ingestions.create(an_ingestion(tenant_id=self.tenant.id, **fields))

    async def queue(self, ingestion: Ingestion, **fields: Any) -> Subject:
        async with self.unit_of_work(self.tenant.id) as tx:
            run = await tx.runs.create(a_run(ingestion_id=ingestion.id, **fields))
        return Subject(run.tenant_id, run.id)

    async def start(self, ingestion: Ingestion) -> Run:
        """A RUNNING run that has done nothing yet."""
        return (await self.pipeline.start(await self.queue(ingestion)))[0]

    async def execute(self, ingestion: Ingestion) -> Run:
        """Queue a run, take it to its end, and say how it ended."""
        subject = await self.queue(ingestion)
        await self.pipeline.execute(subject)
        return await self.run(subject)

    async def run(self, subject: Subject) -> Run:
        async with self.unit_of_work(subject.tenant_id) as tx:
            run = await tx.runs.get_by_id(subject.id)
        assert run is not None
        return run

    async def active(self, ingestion: Ingestion) -> Run | None:
        async with self.unit_of_work(self.tenant.id) as tx:
            return await tx.runs.get_active(ingestion.id)

    async def stored(self, ingestion: Ingestion) -> Ingestion:
        async with self.unit_of_work(self.tenant.id) as tx:
            found = await tx.ingestions.get_by_id(ingestion.id)
        assert found is not None
        return found

    async def files(self, ingestion: Ingestion) -> Sequence[ProcessedFile]:
        async with self.unit_of_work(self.tenant.id) as tx:
            return await tx.files.get_processed_files(ingestion.id, status=list(FileStatus), limit=100_000)

    async def statuses(self, ingestion: Ingestion) -> dict[str, FileStatus]:
        """By name below the bucket's prefix."""
        return {file.path.removeprefix(BUCKET): file.status for file in await self.files(ingestion)}

    def table(self, ingestion: Ingestion) -> Table:
        return self.engine.table(ingestion.destination)


async def make_workbench(unit_of_work: UnitOfWorkFactory, directory: Directory, expire_leases: Callable[[], Awaitable[None]]) -> Workbench:
    return Workbench(unit_of_work, directory, await directory.ensure_tenant(a_tenant()), expire_leases)


async def make_fake_workbench(database: FakeDatabase | None = None) -> Workbench:
    kept = database or FakeDatabase()

    async def expire_leases() -> None:
        kept.clock.advance(seconds=3_600)

    return await make_workbench(FakeUnitOfWorkFactory(kept), FakeDirectory(kept), expire_leases)
