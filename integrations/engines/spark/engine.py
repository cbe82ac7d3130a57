"""The port `domain.ports.engine.Engine`, served by a Spark Connect server over the embedded engine's catalog.

What is pure metadata (fences, evidence, a table's state) is one code for both engines: a table may have been loaded by either.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from uuid import UUID

from pyspark.errors import PySparkException

from domain.ingestions.entities import Destination, FormatSpec, Source
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
    TableUnavailableError,
)
from domain.ports.object_store import StoredObject
from domain.tenants import Grants
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings
from integrations.engines.embedded.tables import Tables, catalog_errors
from integrations.engines.spark.batch_load import SparkBatchLoad
from integrations.engines.spark.client import SparkConnectClient, unavailable
from integrations.engines.spark.ingestion_executor import IngestionExecutor
from integrations.engines.spark.maintenance import optimize
from integrations.engines.spark.sessions import SparkSessions
from integrations.engines.spark.settings import SparkServer
from integrations.engines.spark.types import identifier
from integrations.object_store.stores import ConfiguredObjectStores


class SparkEngine:
    """Works in threads of its own; close it when the process ends, and `lake` after it."""

    def __init__(self, server: SparkServer, settings: EmbeddedEngineSettings, lake: EmbeddedEngine, stores: ConfiguredObjectStores) -> None:
        self._settings = settings
        self._lake = lake
        self._tables = Tables(settings)
        self._sessions = SparkSessions(server, settings, stores)
        self._threads = self._sessions.threads
        self.streams = IngestionExecutor(self._sessions, self._tables)
        # Whoever wants to know how it is does not wait until it may be well again.
        self._probed = replace(server, tries=1, connect_seconds=3.0)

    async def close(self) -> None:
        """Wait for what is under way, and let the server forget our sessions."""
        await self._sessions.close()
        self._tables.close()

    async def version(self) -> str:
        """Spark's version, once it has answered. Raises `SparkUnavailableError`."""
        return await self._sessions.lookups.run(self._ask)

    async def infer(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject]) -> TableSchema:
        return (await self.preview(source, grants, format, objects, limit=0)).schema

    async def preview(self, source: Source, grants: Grants, format: FormatSpec, objects: Sequence[StoredObject], *, limit: int) -> Preview:
        return await self.streams.preview(source, grants, format, objects, limit=limit)

    async def load(self, batch: LoadBatch, guard: CommitGuard) -> BatchOutcome:
        objects = [file.object for file in batch.files]
        async with self._sessions.opened(batch.source, batch.grants, objects) as (opened, client):
            return await SparkBatchLoad(self._settings, self._tables, self._threads, batch, opened, client).run(guard)

    async def fence(
        self, destination: Destination, *, table_uuid: UUID | None, batch_id: UUID, epoch: int, replaces: Replaced = NONE_REPLACED
    ) -> BatchEvidence | None:
        return await self._lake.fence(destination, table_uuid=table_uuid, batch_id=batch_id, epoch=epoch, replaces=replaces)

    async def table_state(self, destination: Destination) -> TableState | None:
        return await self._lake.table_state(destination)

    async def rows_by_file(self, destination: Destination, *, table_uuid: UUID | None) -> AsyncGenerator[Sequence[tuple[str, int]], None]:
        async for chunk in self._lake.rows_by_file(destination, table_uuid=table_uuid):
            yield chunk

    async def remove_rows(self, destination: Destination, *, table_uuid: UUID | None, path_prefix: str, guard: CommitGuard) -> int:
        return await self._lake.remove_rows(destination, table_uuid=table_uuid, path_prefix=path_prefix, guard=guard)

    async def drop_table(self, destination: Destination, *, table_uuid: UUID | None = None) -> bool:
        async with self._sessions.client() as client:
            return await self._threads.run_to_end(lambda: self._drop(client, destination, table_uuid))

    async def optimize(self, destination: Destination) -> None:
        async with self._sessions.client() as client:
            await self._threads.run_to_end(lambda: optimize(client, self._tables, destination), stop=client.interrupt)

    def _ask(self) -> str:
        client = SparkConnectClient(self._probed)
        try:
            return f"Spark {client.test_connection().version}"
        finally:
            client.close()

    def _drop(self, client: SparkConnectClient, destination: Destination, table_uuid: UUID | None) -> bool:
        with catalog_errors():
            aside = self._tables.set_aside(destination, table_uuid)
        if aside is None:
            return False
        name = ".".join(identifier(part) for part in (destination.catalog, *aside))
        try:
            client.connect().sql(f"DROP TABLE IF EXISTS {name} PURGE").collect()
        except PySparkException as error:
            raise TableUnavailableError(unavailable(error).message) from error
        return True
