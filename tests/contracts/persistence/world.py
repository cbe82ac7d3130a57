"""What a contract of the persistence ports is run in: one adapter of each port over the same data, and two tenants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from domain.ingestions.entities import ChangedFilePolicy, Ingestion
from domain.ledger.entities import Batch, FileAttempt, FileStatus, ProcessedFile
from domain.ports.object_store import StoredObject
from domain.ports.reader import Reader, Window
from domain.ports.unit_of_work import Directory, UnitOfWorkFactory
from domain.relations import FILE_ATTEMPTS, NoFilter
from domain.runs.entities import Run, RunStatus
from domain.tenants import Tenant
from tests.factories import NOW, a_run, a_tenant, an_ingestion, stored_objects


@dataclass
class World:
    """Leases given here run for a minute unless a test says otherwise; one of 0 seconds has expired at once."""

    unit_of_work: UnitOfWorkFactory
    directory: Directory
    reader_of: Callable[[UUID], Reader]
    tenant: Tenant
    other: Tenant

    @property
    def reader(self) -> Reader:
        return self.reader_of(self.tenant.id)

    def begin(self, tenant: Tenant | None = None) -> Any:
        """A transaction of the tenant (the first one unless another is given)."""
        return self.unit_of_work((tenant or self.tenant).id)

    async def ingestion(self, tenant: Tenant | None = None, **fields: Any) -> Ingestion:
        async with self.begin(tenant) as tx:
            created: Ingestion = await tx.ingestions.create(an_ingestion(tenant_id=(tenant or self.tenant).id, **fields))
            return created

    async def run(self, ingestion: Ingestion, *, started: bool = False, lease_seconds: float = 60, **fields: Any) -> Run:
        async with self.unit_of_work(ingestion.tenant_id) as tx:
            run = await tx.runs.create(a_run(tenant_id=ingestion.tenant_id, ingestion_id=ingestion.id, **fields))
            if started:
                run = await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=lease_seconds)
            return run

    async def discover(
        self,
        ingestion: Ingestion,
        objects: Sequence[StoredObject] | int,
        *,
        changed_files: ChangedFilePolicy = ChangedFilePolicy.IGNORE,
    ) -> list[StoredObject]:
        found = stored_objects(objects) if isinstance(objects, int) else list(objects)
        async with self.unit_of_work(ingestion.tenant_id) as tx:
            await tx.files.record_discovered(ingestion.id, found, changed_files=changed_files)
        return found

    async def open_batch(self, ingestion: Ingestion, *, run_id: UUID | None = None, lease_seconds: float = 60) -> Batch:
        async with self.unit_of_work(ingestion.tenant_id) as tx:
            return await tx.batches.open(
                id=uuid4(), ingestion_id=ingestion.id, run_id=run_id or uuid4(), table_uuid=None, lease_seconds=lease_seconds
            )

    async def claim(self, ingestion: Ingestion, *, files: int = 1_000, **batch: Any) -> tuple[Batch, list[ProcessedFile]]:
        opened = await self.open_batch(ingestion, **batch)
        async with self.unit_of_work(ingestion.tenant_id) as tx:
            claimed = {file.id for file in await tx.files.claim(opened, max_files=files, max_bytes=2**40)}
        return opened, [file for file in await self.files(ingestion) if file.id in claimed]

    async def files(self, ingestion: Ingestion) -> list[ProcessedFile]:
        """All of the ingestion's files, each as its current version, by id."""
        async with self.unit_of_work(ingestion.tenant_id) as tx:
            return list(await tx.files.get_processed_files(ingestion.id, status=list(FileStatus), limit=100_000))

    async def attempts(self, file: ProcessedFile) -> list[FileAttempt]:
        """What was tried with the file, latest first."""
        window = Window(limit=1_000, order="NEWEST", filter=NoFilter())
        (page,) = await self.reader_of(file.tenant_id).pages(FILE_ATTEMPTS, [file.id], window)
        return [edge.node for edge in page.edges]


async def make_world(unit_of_work: UnitOfWorkFactory, directory: Directory, reader_of: Callable[[UUID], Reader]) -> World:
    tenant, other = await directory.ensure_tenant(a_tenant()), await directory.ensure_tenant(a_tenant())
    return World(unit_of_work, directory, reader_of, tenant, other)
