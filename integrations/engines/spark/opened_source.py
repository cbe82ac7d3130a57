"""The files of one batch where Spark finds them, and whether they are still the listed ones."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from domain.ingestions.entities import Source, SourceType
from domain.ports.object_store import ObjectStore, SourceUnavailableError, StagedObject, StoredObject
from integrations.engines.embedded.batch_files import LoadFile, load_files
from integrations.engines.spark.client import SparkConnectClient
from integrations.engines.spark.frames import SparkSource
from integrations.engines.spark.source_files import s3_options, s3_scheme, s3_uris
from integrations.object_store.credentials import S3Credential

_LOOKS_AT_ONCE = 32


@dataclass(slots=True)
class OpenedSource:
    """`files` are in the order of the objects; those that Spark cannot be sent to have failed."""

    store: ObjectStore
    objects: Mapping[str, StoredObject]
    files: Sequence[LoadFile]
    uris: Mapping[int, str]
    options: Mapping[str, str] = field(repr=False)
    staged: bool
    client: SparkConnectClient
    _spark: SparkSource | None = None

    @property
    def spark(self) -> SparkSource:
        """Blocks when the session has to be opened first."""
        if self._spark is None:
            self._spark = SparkSource(self.client.connect(), self.uris, self.options)
        return self._spark

    async def changed(self, paths: Collection[str]) -> frozenset[str]:
        """The paths whose object is not, or cannot be shown to be, the listed one; read with the ingestion's own credential."""
        objects = [self.objects[path] for path in paths]
        if self.staged:
            return await self.store.changed_since_staged(objects)
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def same(stored: StoredObject) -> bool:
            async with slots:
                try:
                    now = await self.store.stat(stored.path)
                except SourceUnavailableError:
                    return False
            return now is not None and (now.etag, now.size_bytes) == (stored.etag, stored.size_bytes)

        answers = await asyncio.gather(*(same(stored) for stored in objects))
        return frozenset(stored.path for stored, is_same in zip(objects, answers, strict=True) if not is_same)


async def open_source(
    store: ObjectStore,
    source: Source,
    credential: S3Credential | None,
    objects: Sequence[StoredObject],
    folder: Path,
    client: SparkConnectClient,
) -> OpenedSource:
    """Local files are staged, which for a folder of this machine is a link; objects of S3 are left where they are."""
    by_path = {stored.path: stored for stored in objects}
    if source.type is SourceType.LOCAL or credential is None:
        files = load_files(await store.stage(objects, folder))
        uris = {file.index: f"file://{file.local}" for file in files if file.is_open}
        return OpenedSource(store, by_path, files, uris, {}, True, client)
    files = load_files(StagedObject(stored, Path()) for stored in objects)
    scheme, bucket = s3_scheme(credential), source.path.removeprefix("s3://").partition("/")[0]
    return OpenedSource(store, by_path, files, s3_uris(files, scheme), s3_options(credential, scheme, bucket), False, client)
