"""The port `domain.ports.engine.Engine`, served inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

import duckdb
import pyiceberg

from domain.errors import ValidationError
from domain.ingestions.entities import Destination, FormatSpec, Policies, Source
from domain.ports.engine import (
    NONE_REPLACED,
    BatchEvidence,
    BatchOutcome,
    CommitGuard,
    LoadBatch,
    Preview,
    Replaced,
    TableSchema,
    TableState,
)
from domain.ports.object_store import ObjectStores, StagedObject, StoredObject
from domain.tenants import Grants
from integrations.engines.embedded.batch_files import load_files
from integrations.engines.embedded.batch_load import BatchLoad
from integrations.engines.embedded.fencing import fence
from integrations.engines.embedded.loading import Loading
from integrations.engines.embedded.maintenance import optimize
from integrations.engines.embedded.previews import json_ready_rows
from integrations.engines.embedded.row_count import RowCount
from integrations.engines.embedded.row_removal import remove_rows
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.settings import LOOKUPS_AT_ONCE, EmbeddedEngineSettings
from integrations.engines.embedded.tables import Tables, catalog_errors, table_schema
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.embedded.workspaces import Workspace


class EmbeddedEngine:
    """Works in threads of its own; close it when the process ends."""

    def __init__(self, settings: EmbeddedEngineSettings, stores: ObjectStores) -> None:
        self._settings = settings
        self._stores = stores
        self._tables = Tables(settings)
        self._threads = WorkerThreads(settings.concurrent_operations)
        self._lookups = WorkerThreads(LOOKUPS_AT_ONCE)

    async def close(self) -> None:
        """Wait for what is under way, and let go of the catalog."""
        await self._threads.close()
        await self._lookups.close()
        self._tables.close()

    async def infer(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject]) -> TableSchema:
        return (await self.preview(source, grants, format, objects, limit=0)).schema

    async def preview(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject], *, limit: int) -> Preview:
        store = self._stores.open(source, grants)
        work = await self._threads.run(Workspace, self._settings)
        try:
            staged = await store.stage(objects, work.staged)
            return await self._threads.run_to_end(lambda: self._preview(work, staged, format, limit), stop=work.stop)
        finally:
            await asyncio.shield(self._threads.run(work.close))

    async def load(self, batch: LoadBatch, guard: CommitGuard) -> BatchOutcome:
        store = self._stores.open(batch.source, batch.grants)
        work = await self._threads.run(Workspace, self._settings)
        try:
            return await BatchLoad(self._settings, self._tables, self._threads, batch, store, work).run(guard)
        finally:
            await asyncio.shield(self._threads.run(work.close))

    async def fence(
        self, destination: Destination, *, table_uuid: UUID | None, batch_id: UUID, epoch: int, replaces: Replaced = NONE_REPLACED
    ) -> BatchEvidence | None:
        return await self._lookups.run_to_end(lambda: fence(self._tables, destination, table_uuid, batch_id, epoch, replaces))

    async def version(self) -> str:
        """The readers' and the writers' versions, once the catalog has answered. Raises `TableUnavailableError`."""
        with catalog_errors():
            await self._lookups.run(self._tables.ping)
        return f"DuckDB {duckdb.__version__}, PyIceberg {pyiceberg.__version__}"

    async def table_state(self, destination: Destination) -> TableState | None:
        with catalog_errors():
            return await self._lookups.run(self._tables.state, destination)

    async def rows_by_file(self, destination: Destination, *, table_uuid: UUID | None) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        work = await self._threads.run(Workspace, self._settings)
        try:
            counted = await self._threads.run_to_end(lambda: RowCount(work, self._tables, destination, table_uuid), stop=work.stop)
            while chunk := await self._threads.run_to_end(counted.next_chunk):
                yield chunk
        finally:
            await asyncio.shield(self._threads.run(work.close))

    async def remove_rows(self, destination: Destination, *, table_uuid: UUID | None, path_prefix: str, guard: CommitGuard) -> int:
        work = await self._threads.run(Workspace, self._settings)
        try:
            return await remove_rows(work, self._tables, self._threads, destination, table_uuid, path_prefix, guard)
        finally:
            await asyncio.shield(self._threads.run(work.close))

    async def drop_table(self, destination: Destination, *, table_uuid: UUID | None = None) -> bool:
        with catalog_errors():
            return await self._threads.run_to_end(lambda: self._tables.drop(destination, table_uuid))

    async def optimize(self, destination: Destination) -> None:
        work = await self._threads.run(Workspace, self._settings)
        try:
            await self._threads.run_to_end(lambda: optimize(work, self._tables, destination), stop=work.stop)
        finally:
            await asyncio.shield(self._threads.run(work.close))

    def _preview(self, work: Workspace, staged: Sequence[StagedObject], format_: FormatSpec, limit: int) -> Preview:
        files = load_files(staged)
        policies = Policies()
        target = TargetColumns(None, format_.hints, policies.schema_evolution)
        loading = Loading(work, self._settings, format_, target, RowRules.of(policies))
        loading.read(files)
        if not any(file.failure is None for file in files):
            message = "; ".join(f"{file.path}: {file.failure}" for file in files[:3]) or "there is no file to look at"
            raise ValidationError.of("source", "path", message=message)
        return Preview(table_schema(target.columns), json_ready_rows(work.connection, loading.statement(), limit))
