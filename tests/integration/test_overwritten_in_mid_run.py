"""Files that are overwritten while a run has them in hand, or are still being written: never loaded half, never twice.

The real engine reads from real stores; only the ledger is in memory.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from domain.ingestions.entities import ChangedFilePolicy, Ingestion, Policies, Source, SourceType
from domain.ledger.entities import FileStatus
from domain.ports.object_store import ObjectStore, ObjectStores, StagedObject, StoredObject
from domain.runs.entities import RunStatus
from domain.tenants import Grants
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings
from integrations.object_store.credentials import S3Credential
from integrations.object_store.stores import ConfiguredObjectStores
from tests.factories import an_ingestion
from tests.fakes.database import FakeDatabase
from tests.fixtures.s3_server import S3Bucket
from tests.workbench import Workbench, make_fake_workbench

IGNORE, APPEND, REPLACE = ChangedFilePolicy


def lines(*ids: int) -> bytes:
    return b"".join(json.dumps({"id": id}).encode() + b"\n" for id in ids)


@dataclass
class Meddling(ObjectStores):
    """The real stores; somebody else does something right before, or right after, files are staged."""

    stores: ObjectStores
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None

    def open(self, source: Source, grants: Grants) -> ObjectStore:
        store = self.stores.open(source, grants)
        stage = store.stage

        async def meddled_with(objects: Sequence[StoredObject], into: Path) -> Sequence[StagedObject]:
            self.before()
            staged = await stage(objects, into)
            self.after()
            self.before = self.after = lambda: None
            return staged

        store.stage = meddled_with  # type: ignore[method-assign] # the double is the method
        return store


@dataclass
class Place:
    """Somewhere that files land, and what loads them."""

    source: Source
    put: Callable[[str, bytes], object]
    stores: Meddling
    bench: Workbench
    catalog: SqlCatalog

    async def ingestion(self, policy: ChangedFilePolicy, **source: Any) -> Ingestion:
        wanted = an_ingestion(
            tenant_id=self.bench.tenant.id, source=replace(self.source, **source), policies=Policies(changed_files=policy)
        )
        async with self.bench.unit_of_work(self.bench.tenant.id) as tx:
            return await tx.ingestions.create(wanted)

    def ids(self, ingestion: Ingestion) -> list[int]:
        name = (ingestion.destination.database, ingestion.destination.table)
        if not self.catalog.table_exists(name):
            return []
        return sorted(self.catalog.load_table(name).scan().to_arrow()["id"].to_pylist())

    async def status(self, ingestion: Ingestion) -> FileStatus:
        (file,) = await self.bench.files(ingestion)
        return file.status


@pytest.fixture(params=[SourceType.LOCAL, SourceType.S3])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    credentials: dict[str, S3Credential] = {}
    landing = tmp_path / "landing"
    if request.param is SourceType.LOCAL:
        landing.mkdir()
        source = Source(SourceType.LOCAL, str(landing))

        def put(name: str, content: bytes) -> object:
            return (landing / name).write_bytes(content)
    else:
        bucket: S3Bucket = request.getfixturevalue("s3_bucket")
        credentials["default"] = bucket.server.owner
        source = Source(SourceType.S3, f"s3://{bucket.name}/in/")

        def put(name: str, content: bytes) -> object:
            return bucket.put(f"in/{name}", content)

    staging = tmp_path / "staging"
    staging.mkdir()
    stores = ConfiguredObjectStores(credentials)
    meddling = Meddling(stores)
    settings = EmbeddedEngineSettings(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse", staging, threads=2)
    engine = EmbeddedEngine(settings, meddling)
    catalog = SqlCatalog("autoloader", uri=settings.catalog_uri, warehouse=settings.warehouse)
    database = FakeDatabase()
    bench = await make_fake_workbench(database)
    bench.tenant = replace(bench.tenant, grants=Grants(local_roots=(str(landing),), namespaces=("*",), credentials=("*",)))
    database.state.tenants[bench.tenant.id] = bench.tenant
    bench.stores, bench.engine = meddling, engine  # type: ignore[assignment]  # the real ones in the place of the fakes
    yield Place(source, put, meddling, bench, catalog)
    await engine.close()
    catalog.engine.dispose()
    stores.close()


@pytest.mark.parametrize("policy", ChangedFilePolicy)
async def test_overwritten_after_it_was_listed(place: Place, policy: ChangedFilePolicy) -> None:
    ingestion = await place.ingestion(policy)
    place.put("a.json", lines(1, 2))
    place.stores.before = lambda: place.put("a.json", lines(3, 4, 5))
    assert (await place.bench.execute(ingestion)).status is RunStatus.FAILED
    (file,) = await place.bench.files(ingestion)
    what = "object" if place.source.type is SourceType.S3 else "file"
    assert file.error_message == f"The file could not be read: the {what} has changed since it was listed."
    assert place.ids(ingestion) == []
    assert (await place.bench.execute(ingestion)).status is RunStatus.SUCCESS
    assert place.ids(ingestion) == [3, 4, 5]
    assert (await place.bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES


@pytest.mark.parametrize("policy", ChangedFilePolicy)
@pytest.mark.parametrize("cut", [False, True])
async def test_overwritten_while_it_is_loaded(place: Place, policy: ChangedFilePolicy, cut: bool) -> None:
    """Bytes that were copied are those that were listed, and are loaded; what is read in place is left out."""
    ingestion = await place.ingestion(policy)
    place.put("a.json", lines(1, 2))
    after = lines(3) if cut else lines(3, 4, 5)
    place.stores.after = lambda: place.put("a.json", after)
    first = await place.bench.execute(ingestion)
    copied = place.source.type is SourceType.S3
    assert first.status is (RunStatus.SUCCESS if copied else RunStatus.FAILED)
    assert place.ids(ingestion) == ([1, 2] if copied else [])
    await place.bench.execute(ingestion)
    now = [3] if cut else [3, 4, 5]
    assert place.ids(ingestion) == ({IGNORE: [1, 2], APPEND: [1, 2, *now], REPLACE: now}[policy] if copied else now)
    assert (await place.bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_replacing_version_that_is_overwritten_leaves_the_old_rows_until_a_whole_one_is_loaded(place: Place, when: str) -> None:
    ingestion = await place.ingestion(REPLACE)
    place.put("a.json", lines(1, 2))
    await place.bench.execute(ingestion)
    place.put("a.json", lines(3))
    setattr(place.stores, when, lambda: place.put("a.json", lines(4, 5)))
    await place.bench.execute(ingestion)
    copied = place.source.type is SourceType.S3 and when == "after"
    assert place.ids(ingestion) == ([3] if copied else [1, 2])
    await place.bench.execute(ingestion)
    assert place.ids(ingestion) == [4, 5]
    assert await place.status(ingestion) is FileStatus.SUCCESS
    assert (await place.bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES


async def test_an_empty_version_that_is_being_filled_takes_no_row_out(place: Place) -> None:
    """Somebody empties the file and writes it again: what was empty for a moment replaces nothing, if that is seen in time."""
    ingestion = await place.ingestion(REPLACE)
    place.put("a.json", lines(1, 2))
    await place.bench.execute(ingestion)
    place.put("a.json", b"")
    place.stores.after = lambda: place.put("a.json", lines(3))
    await place.bench.execute(ingestion)
    assert place.ids(ingestion) == ([1, 2] if place.source.type is SourceType.LOCAL else [])
    await place.bench.execute(ingestion)
    assert place.ids(ingestion) == [3]


async def test_a_file_that_is_still_being_written_is_left_alone(place: Place) -> None:
    ingestion = await place.ingestion(REPLACE, min_age_seconds=60)
    place.put("a.json", lines(1, 2))
    store = place.stores.open(ingestion.source, place.bench.tenant.grants)

    async def at(seconds: int) -> RunStatus:
        """A run when the file is so old."""
        ((listed,),) = [chunk async for chunk in store.list()]
        place.bench.clock.set(listed.modified_at + timedelta(seconds=seconds))
        return (await place.bench.execute(ingestion)).status

    assert await at(59) is RunStatus.NO_NEW_FILES
    place.put("a.json", lines(1, 2, 3))
    assert await at(59) is RunStatus.NO_NEW_FILES
    assert await at(60) is RunStatus.SUCCESS
    assert place.ids(ingestion) == [1, 2, 3]
    place.put("a.json", b"")
    assert await at(59) is RunStatus.NO_NEW_FILES
    place.put("a.json", lines(4))
    assert await at(59) is RunStatus.NO_NEW_FILES
    assert place.ids(ingestion) == [1, 2, 3]
    assert await at(60) is RunStatus.SUCCESS
    assert place.ids(ingestion) == [4]
