"""Spark sessions and sources for whoever works with them: pooled by what they may read, and given back whatever happens."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from domain.ingestions.entities import Source, SourceType
from domain.ports.object_store import StoredObject
from domain.tenants import Grants
from integrations.engines.embedded import EmbeddedEngineSettings
from integrations.engines.embedded.settings import LOOKUPS_AT_ONCE
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.spark.catalog import catalog_settings
from integrations.engines.spark.client import SparkConnectClient
from integrations.engines.spark.opened_source import OpenedSource, open_source
from integrations.engines.spark.session_pool import SessionPool
from integrations.engines.spark.settings import SparkServer
from integrations.object_store.credentials import S3Credential
from integrations.object_store.stores import ConfiguredObjectStores


class SparkSessions:
    """`threads` are where blocking calls belong; close it when the process ends."""

    def __init__(self, server: SparkServer, settings: EmbeddedEngineSettings, stores: ConfiguredObjectStores) -> None:
        self._settings = settings
        self._stores = stores
        self.threads = WorkerThreads(settings.concurrent_operations)
        self.lookups = WorkerThreads(LOOKUPS_AT_ONCE)
        own = replace(server, session={**server.session, **catalog_settings(settings)})
        self.pool: SessionPool[SparkConnectClient] = SessionPool(lambda: SparkConnectClient(own), size=settings.concurrent_operations)

    async def close(self) -> None:
        """Wait for what is under way, and let the server forget our sessions."""
        await self.threads.run(self.pool.close)
        await self.threads.close()
        await self.lookups.close()

    async def admitted(self, source: Source, grants: Grants) -> S3Credential | None:
        """What Spark needs to list a source by itself: the keys of an S3 source; None for a folder, which is there and is granted.

        Raises `ValidationError`, `SourceUnavailableError`.
        """
        store = self._stores.open(source, grants)
        if source.type is SourceType.LOCAL:
            await store.check_access()
        return await self._credential(source, grants)

    @asynccontextmanager
    async def client(self, key: Hashable = None) -> AsyncIterator[SparkConnectClient]:
        client = await self.threads.run(self.pool.get_client, key)
        try:
            yield client
        except BaseException:
            # Nobody knows what the session was in the middle of.
            await asyncio.shield(self.threads.run(client.close))
            raise
        await asyncio.shield(self.threads.run(self.pool.return_client, client, key))

    @asynccontextmanager
    async def opened(
        self, source: Source, grants: Grants, objects: Sequence[StoredObject]
    ) -> AsyncIterator[tuple[OpenedSource, SparkConnectClient]]:
        store = self._stores.open(source, grants)
        credential = await self._credential(source, grants)
        folder = Path(await self.threads.run(tempfile.mkdtemp, dir=self._settings.staging_dir, prefix="spark-"))
        try:
            async with self.client(grants) as client:
                yield await open_source(store, source, credential, objects, folder, client), client
        finally:
            await asyncio.shield(self.threads.run(shutil.rmtree, folder, ignore_errors=True))

    async def _credential(self, source: Source, grants: Grants) -> S3Credential | None:
        return await self.threads.run(self._stores.s3_credential, source, grants) if source.type is SourceType.S3 else None
