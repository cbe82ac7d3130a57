"""The Spark engine over a folder, with a catalog in PostgreSQL and a warehouse on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.spark.server import SparkFacts
from domain.ingestions.entities import Destination
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings
from integrations.engines.spark.engine import SparkEngine
from integrations.engines.spark.settings import SparkServer
from integrations.object_store.stores import ConfiguredObjectStores
from tests.fixtures.application import Running, running_with
from tests.fixtures.engine_bench import EngineBench


@pytest.fixture
def settings(tmp_path: Path, empty_database_url: str) -> EmbeddedEngineSettings:
    staging = tmp_path / "staging"
    staging.mkdir()
    return EmbeddedEngineSettings(empty_database_url.replace("+asyncpg", "+psycopg2"), f"file://{tmp_path}/warehouse", staging, threads=2)


@pytest.fixture
def catalog(settings: EmbeddedEngineSettings) -> Iterator[SqlCatalog]:
    """A second client of the same catalog: another process, as far as the engine can tell."""
    catalog = SqlCatalog("autoloader", uri=settings.catalog_uri, warehouse=settings.warehouse)
    yield catalog
    catalog.engine.dispose()


@pytest.fixture
def spark(spark_server: SparkFacts) -> SparkServer:
    # The tests' data is small: one task for each shuffle.
    return SparkServer(spark_server.url, spark_server.token, {"spark.sql.shuffle.partitions": "1"})


@pytest.fixture
async def running(database_url: str, database: AsyncEngine, tmp_path: Path, spark_server: SparkFacts) -> AsyncIterator[Running]:
    """The application with Spark as its second engine. Spark's first session takes a while on a busy machine."""
    spark = {"spark_connect_url": spark_server.url, "spark_token": SecretStr(spark_server.token)}
    async with running_with(database_url, database, tmp_path, patience_seconds=200, lease_seconds=30.0, **spark) as running:
        yield running


@pytest.fixture
async def bench(tmp_path: Path, settings: EmbeddedEngineSettings, catalog: SqlCatalog, spark: SparkServer) -> AsyncIterator[EngineBench]:
    folder = tmp_path / "landing"
    folder.mkdir()
    stores = ConfiguredObjectStores({})
    lake = EmbeddedEngine(settings, stores)
    engine = SparkEngine(spark, settings, lake, stores)

    def read_rows(destination: Destination) -> Sequence[Mapping[str, Any]]:
        return catalog.load_table((destination.database, destination.table)).scan().to_arrow().to_pylist()

    yield EngineBench(engine, stores, folder, read_rows)
    await engine.close()
    await lake.close()
    stores.close()
    assert list(settings.staging_dir.iterdir()) == [], "the engine left scratch files behind"
