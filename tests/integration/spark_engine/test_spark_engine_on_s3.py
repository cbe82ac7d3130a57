"""Sources and tables in S3, each read with its own credential."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from autoloader.spark.server import SparkFacts
from domain.ingestions.entities import BadRowPolicy, Destination, FormatSpec, FormatType, Policies, Source, SourceType
from domain.ports.engine import BatchFile, FileOutcome, LoadBatch, OutcomeStatus, TableUnavailableError
from domain.ports.object_store import StoredObject
from domain.ports.streaming import StreamMetrics, StreamOrder
from domain.tenants import Grants
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings
from integrations.engines.spark.engine import SparkEngine
from integrations.engines.spark.settings import SparkServer
from integrations.object_store.stores import ConfiguredObjectStores
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import open_guard
from tests.fixtures.s3_server import S3Bucket

DESTINATION = Destination("autoloader", "lake", "events")


@dataclass
class World:
    bucket: S3Bucket
    stores: ConfiguredObjectStores
    engine: SparkEngine
    catalog: SqlCatalog

    def source(self, credential: str) -> Source:
        return Source(SourceType.S3, f"s3://{self.bucket.name}/landing/", credential=credential)

    async def listed(self) -> list[StoredObject]:
        store = self.stores.open(self.source("owner"), Grants(credentials=("*",)))
        return [stored async for chunk in store.list() for stored in chunk]

    async def load(self, credential: str = "owner", objects: list[StoredObject] | None = None) -> dict[str, FileOutcome]:
        files = [BatchFile(number, stored) for number, stored in enumerate(objects or await self.listed())]
        source, grants = self.source(credential), Grants(credentials=(credential,))
        batch = LoadBatch(uuid4(), 1, uuid4(), None, source, grants, FormatSpec(FormatType.JSON), DESTINATION, Policies(), files)
        outcome = await self.engine.load(batch, open_guard)
        return {file.object.path.rpartition("/landing/")[2]: told for file, told in zip(files, outcome.files, strict=True)}

    async def stream(
        self, checkpoint: str, credential: str = "owner", *, folder: str = "landing", glob: str = "**/*.json", samples: bool = True
    ) -> StreamMetrics:
        order = StreamOrder(
            run_id=uuid4(),
            source=replace(self.source(credential), path=f"s3://{self.bucket.name}/{folder}/", glob=glob),
            grants=Grants(credentials=(credential,)),
            format=FormatSpec(FormatType.JSON, {"layout": "LINES"}),
            destination=DESTINATION,
            policies=Policies(bad_rows=BadRowPolicy.RESCUE),
            checkpoint=checkpoint,
            samples=await self.listed() if samples else (),
            max_files=100,
        )

        async def committed() -> None:
            return None

        return await self.engine.streams.execute(order, committed)

    def rows(self) -> list[tuple[str, int]]:
        found = self.catalog.load_table(("lake", "events")).scan().to_arrow().to_pylist()
        return sorted((row["_source_file"].rpartition("/landing/")[2], row["id"]) for row in found)


@pytest.fixture
async def world(tmp_path: Path, empty_database_url: str, s3_bucket: S3Bucket, spark_server: SparkFacts) -> AsyncIterator[World]:
    """All of it in a bucket that the Spark server's own credential cannot use."""
    async with opened_world(tmp_path, empty_database_url, s3_bucket, spark_server) as world:
        yield world


@pytest.fixture
async def warehouse_world(
    tmp_path: Path, empty_database_url: str, s3_warehouse: S3Bucket, spark_server_with_s3: SparkFacts
) -> AsyncIterator[World]:
    """All of it in a bucket that the Spark server's own credential may use."""
    async with opened_world(tmp_path, empty_database_url, s3_warehouse, spark_server_with_s3) as world:
        yield world


@pytest.fixture
async def told_world(tmp_path: Path, empty_database_url: str, s3_bucket: S3Bucket, spark_server: SparkFacts) -> AsyncIterator[World]:
    """Spark has been told by somebody how it reaches the bucket."""
    owner, prefix = s3_bucket.server.owner, f"fs.s3a.bucket.{s3_bucket.name}"
    told = {
        f"{prefix}.endpoint": owner.endpoint_url or "",
        f"{prefix}.access.key": owner.access_key_id or "",
        f"{prefix}.secret.key": owner.secret_access_key or "",
    }
    async with opened_world(tmp_path, empty_database_url, s3_bucket, spark_server, told) as world:
        yield world


@asynccontextmanager
async def opened_world(
    folder: Path, database_url: str, bucket: S3Bucket, spark: SparkFacts, told: Mapping[str, str] | None = None
) -> AsyncIterator[World]:
    owner = bucket.server.owner
    properties = {
        "s3.endpoint": owner.endpoint_url or "",
        "s3.region": owner.region or "",
        "s3.access-key-id": owner.access_key_id or "",
        "s3.secret-access-key": owner.secret_access_key or "",
    }
    uri = database_url.replace("+asyncpg", "+psycopg2")
    settings = EmbeddedEngineSettings(uri, f"s3://{bucket.name}/warehouse", folder, catalog_properties=properties, threads=2)
    stores = ConfiguredObjectStores({"owner": owner, "stranger": bucket.server.stranger, "reader": bucket.server.reader})
    lake = EmbeddedEngine(settings, stores)
    server = SparkServer(spark.url, spark.token, {"spark.sql.shuffle.partitions": "1", **(told or {})})
    engine = SparkEngine(server, settings, lake, stores)
    catalog = SqlCatalog("autoloader", uri=uri, warehouse=settings.warehouse, **properties)
    yield World(bucket, stores, engine, catalog)
    await engine.close()
    await lake.close()
    stores.close()
    catalog.engine.dispose()


async def test_objects_are_loaded_by_their_names_as_they_are(world: World) -> None:
    names = ["a.json", "with space%20+.json", "b[1]*{x}?.json", "dt=2024-01-01/é.json"]
    for number, name in enumerate(names):
        world.bucket.put(f"landing/{name}", lines({"id": number}).encode())
    for name in ("_hidden.json", ".dot.json"):
        world.bucket.put(f"landing/{name}", lines({"id": 99}).encode())

    outcomes = await world.load()

    assert {name: outcome.status for name, outcome in outcomes.items() if name in names} == dict.fromkeys(names, OutcomeStatus.LOADED)
    assert world.rows() == sorted((name, number) for number, name in enumerate(names))
    for name in ("_hidden.json", ".dot.json"):
        assert outcomes[name].status is OutcomeStatus.FAILED
        assert 'begin with "_" or "."' in (outcomes[name].message or "")


async def test_so_many_objects_that_spark_asks_for_them_in_tasks(world: World) -> None:
    """Each with the ingestion's own credential, and one that has gone by then keeps no other out."""
    for number in range(70):
        world.bucket.put(f"landing/{number:03}.json", lines({"id": number}).encode())
    objects = await world.listed()
    world.bucket.delete("landing/033.json")

    by_stranger = await world.load("stranger", objects)
    outcomes = await world.load(objects=objects)

    assert {outcome.status for outcome in by_stranger.values()} == {OutcomeStatus.FAILED}
    assert [name for name, outcome in outcomes.items() if outcome.status is not OutcomeStatus.LOADED] == ["033.json"]
    assert world.rows() == [(f"{number:03}.json", number) for number in range(70) if number != 33]


async def test_a_credential_does_not_read_with_another_ones_keys(world: World) -> None:
    world.bucket.put("landing/a.json", lines({"id": 1}).encode())
    objects = await world.listed()
    # Now Spark holds a file system for the bucket, opened with the owner's keys.
    await world.load("owner")

    outcomes = await world.load("stranger", objects)

    assert outcomes["a.json"].status is OutcomeStatus.FAILED
    assert world.rows() == [("a.json", 1)]


async def test_what_spark_knows_of_a_bucket_gives_way_to_the_credential(told_world: World, tmp_path: Path) -> None:
    world = told_world
    world.bucket.put("landing/a.json", lines({"id": 1}).encode())
    # The table is there, so that a stream has something to write into.
    await world.load("owner")

    outcomes = await world.load("stranger", await world.listed())
    with pytest.raises(TableUnavailableError, match=r"^Spark failed "):
        await world.stream(f"file://{tmp_path}/checkpoint", "stranger", samples=False)

    assert outcomes["a.json"].status is OutcomeStatus.FAILED
    assert world.rows() == [("a.json", 1)]


async def test_an_object_that_is_not_the_listed_one_is_left_out(world: World) -> None:
    world.bucket.put("landing/a.json", lines({"id": 1}).encode())
    world.bucket.put("landing/b.json", lines({"id": 2}).encode())
    world.bucket.put("landing/c.json", lines({"id": 3}).encode())
    objects = await world.listed()
    world.bucket.put("landing/b.json", lines({"id": 7}).encode())
    world.bucket.delete("landing/c.json")

    outcomes = await world.load(objects=objects)

    assert {name: (outcome.status, outcome.transient) for name, outcome in outcomes.items()} == {
        "a.json": (OutcomeStatus.LOADED, False),
        "b.json": (OutcomeStatus.FAILED, True),
        "c.json": (OutcomeStatus.FAILED, False),
    }
    assert world.rows() == [("a.json", 1)]


async def test_objects_are_streamed_by_their_names_as_they_are(world: World, tmp_path: Path) -> None:
    names = ["a.json", "with space%20+.json", "b[1]*{x}?.json", "dt=2024-01-01/é.json"]
    for number, name in enumerate(names):
        world.bucket.put(f"landing/{name}", lines({"id": number}).encode())
    world.bucket.put("landing/other.txt", b"no")

    metrics = await world.stream(f"file://{tmp_path}/checkpoint")

    assert (metrics.rows, metrics.files) == (4, 4)
    assert world.rows() == sorted((name, number) for number, name in enumerate(names))
    assert await world.stream(f"file://{tmp_path}/checkpoint") == StreamMetrics()


async def test_a_stream_does_not_read_with_another_ones_keys(world: World, tmp_path: Path) -> None:
    world.bucket.put("landing/a.json", lines({"id": 1}).encode())
    await world.stream(f"file://{tmp_path}/owners")

    with pytest.raises(TableUnavailableError, match=r"^Spark failed "):
        await world.stream(f"file://{tmp_path}/strangers", "stranger", samples=False)

    assert world.rows() == [("a.json", 1)]


async def test_a_checkpoint_in_s3_is_the_servers_own(warehouse_world: World) -> None:
    """In the bucket of the source, whose credential may only read there."""
    world = warehouse_world
    checkpoint = f"s3://{world.bucket.name}/warehouse/_checkpoints/1"
    world.bucket.put("landing/a.json", lines({"id": 1}).encode())
    await world.stream(checkpoint, "reader")
    world.bucket.put("landing/b.json", lines({"id": 2}).encode())

    metrics = await world.stream(checkpoint, "reader")

    assert (metrics.rows, metrics.files, metrics.epochs) == (1, 1, 1)
    assert world.rows() == [("a.json", 1), ("b.json", 2)]
    kept = world.bucket.keys("warehouse/_checkpoints/1/")
    assert {"metadata", "offsets/0", "offsets/1", "commits/0", "commits/1", "sources/0/0", "sources/0/1"} <= kept
    # Each is written under another name first.
    assert not {name for name in kept if "tmp" in name}
    # Spark's choice would open the bucket anew for each query, and leave it open.
    client = world.engine._sessions.pool.get_client(Grants(credentials=("reader",)))
    assert str(client.connect().conf.get("spark.sql.streaming.checkpointFileManagerClass")).endswith(
        ".FileSystemBasedCheckpointFileManager"
    )
    client.close()


async def test_a_prefix_without_objects_is_an_empty_source(world: World, tmp_path: Path) -> None:
    """Where files are taken away once they are loaded."""
    world.bucket.put("landing/a.json", lines({"id": 1}).encode())
    await world.stream(f"file://{tmp_path}/checkpoint")

    assert await world.stream(f"file://{tmp_path}/another", folder="nothing") == StreamMetrics()
    assert world.rows() == [("a.json", 1)]


async def test_a_checkpoint_is_not_written_with_the_sources_credential(world: World) -> None:
    world.bucket.put("landing/a.json", lines({"id": 1}).encode())

    with pytest.raises(TableUnavailableError, match=r"^Spark failed "):
        await world.stream(f"s3://{world.bucket.name}/warehouse/_checkpoints/1")

    assert world.bucket.keys("warehouse/_checkpoints/") == set()
    assert world.rows() == []


@pytest.mark.parametrize("glob", ["**/*.json", "*/[a-z].json"])
async def test_another_credential_for_the_same_source_loads_nothing_again(warehouse_world: World, glob: str) -> None:
    """Keys change; roles have others each hour."""
    world = warehouse_world
    checkpoint = f"s3://{world.bucket.name}/warehouse/_checkpoints/1"
    world.bucket.put("landing/x/a.json", lines({"id": 1}).encode())
    await world.stream(checkpoint, "owner", glob=glob)
    world.bucket.put("landing/x/b.json", lines({"id": 2}).encode())

    metrics = await world.stream(checkpoint, "reader", glob=glob)

    assert (metrics.rows, metrics.files) == (1, 1)
    assert world.rows() == [("x/a.json", 1), ("x/b.json", 2)]
