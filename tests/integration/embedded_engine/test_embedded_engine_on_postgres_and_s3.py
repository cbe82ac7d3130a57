"""The same contract with the catalog in PostgreSQL and the warehouse in S3, as it is in service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from domain.errors import LeaseLostError
from domain.ingestions.entities import Destination
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings
from integrations.engines.embedded.orphans import ORPHAN_AGE, remove_orphans
from integrations.object_store.stores import ConfiguredObjectStores
from tests.contracts.engine_contract import EngineContract, lines
from tests.fixtures.engine_bench import EngineBench, open_guard
from tests.fixtures.s3_server import S3Bucket


@pytest.fixture
def settings(tmp_path: Path, empty_database_url: str, s3_bucket: S3Bucket) -> EmbeddedEngineSettings:
    staging = tmp_path / "staging"
    staging.mkdir()
    owner = s3_bucket.server.owner
    return EmbeddedEngineSettings(
        empty_database_url.replace("+asyncpg", "+psycopg2"),
        f"s3://{s3_bucket.name}/warehouse",
        staging,
        catalog_properties={
            "s3.endpoint": owner.endpoint_url or "",
            "s3.region": owner.region or "",
            "s3.access-key-id": owner.access_key_id or "",
            "s3.secret-access-key": owner.secret_access_key or "",
        },
        threads=2,
    )


@pytest.fixture
async def bench(tmp_path: Path, settings: EmbeddedEngineSettings) -> AsyncIterator[EngineBench]:
    folder = tmp_path / "landing"
    folder.mkdir()
    stores = ConfiguredObjectStores({})
    engine = EmbeddedEngine(settings, stores)
    catalog = SqlCatalog("autoloader", uri=settings.catalog_uri, warehouse=settings.warehouse, **settings.catalog_properties)

    def read_rows(destination: Destination) -> Sequence[Mapping[str, Any]]:
        return catalog.load_table((destination.database, destination.table)).scan().to_arrow().to_pylist()

    yield EngineBench(engine, stores, folder, read_rows)
    await engine.close()
    stores.close()
    catalog.engine.dispose()
    assert list(settings.staging_dir.iterdir()) == [], "the engine left scratch files behind"


def keys_under(bucket: S3Bucket, prefix: str) -> list[str]:
    listed = bucket.server.client.list_objects_v2(Bucket=bucket.name, Prefix=prefix)
    return [item["Key"] for item in listed.get("Contents", []) if not item["Key"].endswith("/")]


class TestEmbeddedEngineOnPostgresAndS3(EngineContract):
    async def test_partitions_lie_in_s3_and_go_with_the_table(self, bench: EngineBench, s3_bucket: S3Bucket) -> None:
        bench.destination = Destination("autoloader", "lake", "flights", partition_by=("bucket(4, id)",))
        bench.land("a.json", lines(*({"id": number} for number in range(100))))
        await bench.load()

        stored = [key for key in keys_under(s3_bucket, "warehouse/lake/flights/data/") if key.endswith(".parquet")]
        assert len(stored) == 4
        assert sorted(bench.rows("id")) == list(range(100))

        await bench.engine.drop_table(bench.destination)
        assert keys_under(s3_bucket, "warehouse/") == []

    async def test_what_was_left_behind_goes_once_it_is_old(
        self, bench: EngineBench, s3_bucket: S3Bucket, settings: EmbeddedEngineSettings
    ) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load()
        known = keys_under(s3_bucket, "warehouse/")
        orphans = [f"warehouse/lake/flights/{name}" for name in ("data/abc/data_0.parquet", "metadata/x-m0.avro")]
        for key in orphans:
            s3_bucket.server.client.put_object(Bucket=s3_bucket.name, Key=key, Body=b"left behind")
        catalog = SqlCatalog("autoloader", uri=settings.catalog_uri, warehouse=settings.warehouse, **settings.catalog_properties)
        table = catalog.load_table(("lake", "flights"))

        assert remove_orphans(table, now=datetime.now(UTC) + ORPHAN_AGE / 2) == 0
        assert remove_orphans(table, now=datetime.now(UTC) + 2 * ORPHAN_AGE) == 2

        assert sorted(keys_under(s3_bucket, "warehouse/")) == sorted(known)
        assert bench.rows("id") == [1]
        catalog.engine.dispose()

    async def test_a_lost_lease_leaves_no_data_files(self, bench: EngineBench, s3_bucket: S3Bucket) -> None:
        bench.land("a.json", lines({"id": 1}))

        async def guard() -> None:
            assert len([key for key in keys_under(s3_bucket, "warehouse/") if key.endswith(".parquet")]) == 1
            raise LeaseLostError

        with pytest.raises(LeaseLostError):
            await bench.engine.load(await bench.batch(), guard)

        assert [key for key in keys_under(s3_bucket, "warehouse/") if key.endswith(".parquet")] == []

    async def test_the_engine_goes_on_after_the_database_closed_its_connections(
        self, bench: EngineBench, postgres_administration: Any, settings: EmbeddedEngineSettings
    ) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.engine.load(await bench.batch(), open_guard)
        database = settings.catalog_uri.rsplit("/", 1)[1].split("?")[0]

        postgres_administration.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])

        state = await bench.engine.table_state(bench.destination)
        assert state is not None
        assert state.rows == 1
