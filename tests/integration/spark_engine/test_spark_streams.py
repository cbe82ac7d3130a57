"""Streams of files, from and to a real server; for Databricks, of which there is none here, what it would be told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from domain.ingestions.entities import FormatSpec, FormatType
from integrations.engines.embedded import EmbeddedEngineSettings
from integrations.engines.spark.catalog import catalog_settings
from integrations.engines.spark.client import SparkConnectClient
from integrations.engines.spark.settings import SparkServer
from integrations.engines.spark.stream_source import FileStream, lines_of
from integrations.object_store.credentials import S3Credential
from tests.factories import a_source

TABLE = "autoloader.lake.events"


@pytest.fixture
def client(spark: SparkServer, settings: EmbeddedEngineSettings) -> Iterator[SparkConnectClient]:
    client = SparkConnectClient(replace(spark, session={**spark.session, **catalog_settings(settings)}))
    yield client
    client.close()


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


def source_of(rows: DataFrame) -> Any:
    """What the plan says of the files, as it would be sent."""
    return rows._plan.to_proto(rows.sparkSession.client).root.read  # type: ignore[attr-defined]


@pytest.fixture
def create(client: SparkConnectClient) -> Callable[[str], None]:
    """Makes the table `TABLE`, by the rest of its definition."""

    def create(definition: str) -> None:
        client.connect().sql("CREATE NAMESPACE autoloader.lake").collect()
        client.connect().sql(f"CREATE TABLE {TABLE} {definition}").collect()

    return create


def load(client: SparkConnectClient, rows: DataFrame, checkpoint: Path) -> StreamingQuery:
    query = client.write_stream(rows, TABLE, checkpoint=f"file://{checkpoint}", properties={"autoloader.checkpoint": "mine"})
    assert query.awaitTermination(120)
    return query


@pytest.mark.scenario(88)
def test_for_databricks_the_stream_is_read_by_its_own_source(spark: SparkServer, landing: Path) -> None:
    stream = FileStream("json", f"file://{landing}", "id BIGINT", {"maxFilesPerTrigger": "7", "maxFileAge": "36500d", "multiLine": "true"})
    of_databricks = SparkConnectClient(replace(spark, url=f"{spark.url}/;x-databricks-cluster-id=0101-abc"))
    ours = SparkConnectClient(spark)

    told, plain = source_of(of_databricks.read_stream(stream)), source_of(ours.read_stream(stream))

    assert (told.is_streaming, told.data_source.format, list(told.data_source.paths)) == (True, "cloudFiles", [f"file://{landing}"])
    assert dict(told.data_source.options) == {
        "cloudFiles.format": "json",
        "cloudFiles.maxFilesPerTrigger": "7",
        "cloudFiles.includeExistingFiles": "true",
        "cloudFiles.allowOverwrites": "false",
        "cloudFiles.useStrictGlobber": "true",
        "multiLine": "true",
    }
    assert (plain.is_streaming, plain.data_source.format, dict(plain.data_source.options)) == (True, "json", dict(stream.options))
    of_databricks.close()
    ours.close()


def test_databricks_reads_objects_by_their_own_names_and_by_its_own_grants(spark: SparkServer) -> None:
    source = a_source(path="s3://bucket/a/b", credential="lab", glob="**/*.json")
    credential = S3Credential("http://store.test", access_key_id="key", secret_access_key="s3cr3t")
    of_databricks = SparkConnectClient(replace(spark, url=f"{spark.url}/;x-databricks-cluster-id=0101-abc"))

    told = source_of(of_databricks.read_stream(lines_of(source, FormatSpec(FormatType.JSON), credential, max_files=7)))

    assert list(told.data_source.paths) == ["s3://bucket/a/b"]
    assert set(told.data_source.options) == {
        *("cloudFiles.format", "cloudFiles.includeExistingFiles", "cloudFiles.allowOverwrites", "cloudFiles.useStrictGlobber"),
        *("cloudFiles.maxFilesPerTrigger", "recursiveFileLookup", "ignoreMissingFiles", "pathGlobFilter", "lineSep"),
    }
    of_databricks.close()


@pytest.mark.scenario(88, 90)
def test_what_has_landed_is_appended_and_then_the_stream_ends(
    client: SparkConnectClient, create: Callable[[str], None], catalog: SqlCatalog, landing: Path, tmp_path: Path
) -> None:
    create("(id BIGINT) USING iceberg")
    rows = client.read_stream(FileStream("json", f"file://{landing}", "id BIGINT", {"maxFilesPerTrigger": "1"}))
    for number in (1, 2):
        (landing / f"{number}.json").write_text(json.dumps({"id": number}))

    query = load(client, rows, tmp_path / "checkpoint")

    table = catalog.load_table(("lake", "events"))
    assert not query.isActive
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == [1, 2]
    told = [snapshot.summary.additional_properties for snapshot in table.snapshots() if snapshot.summary]
    assert [(one["spark.sql.streaming.epochId"], one["spark.sql.streaming.queryId"]) for one in told] == [("0", query.id), ("1", query.id)]
    assert {one["autoloader.checkpoint"] for one in told} == {"mine"}

    (landing / "3.json").write_text('{"id": 3}')
    load(client, rows, tmp_path / "checkpoint")

    assert sorted(catalog.load_table(("lake", "events")).scan().to_arrow()["id"].to_pylist()) == [1, 2, 3]


@pytest.mark.scenario(89)
def test_options_of_the_format_are_the_readers(
    client: SparkConnectClient, create: Callable[[str], None], catalog: SqlCatalog, landing: Path, tmp_path: Path
) -> None:
    create("(id BIGINT, name STRING) USING iceberg")
    (landing / "people.csv").write_text("id;name\n1;'a;b'\n2;NULL\n")
    options = {"header": "true", "sep": ";", "quote": "'", "nullValue": "NULL"}

    load(client, client.read_stream(FileStream("csv", f"file://{landing}", "id BIGINT, name STRING", options)), tmp_path / "checkpoint")

    rows = catalog.load_table(("lake", "events")).scan().to_arrow().to_pylist()
    assert rows == [{"id": 1, "name": "a;b"}, {"id": 2, "name": None}]


@pytest.mark.scenario(91)
def test_rows_go_into_the_tables_partitions(
    client: SparkConnectClient, create: Callable[[str], None], catalog: SqlCatalog, landing: Path, tmp_path: Path
) -> None:
    create("(day DATE, id BIGINT) USING iceberg PARTITIONED BY (month(day), truncate(10, id))")
    # In no order of the partitions.
    lines = [("2026-01-01", 1), ("2026-02-01", 11), ("2026-01-02", 2), ("2026-02-02", 12)]
    (landing / "days.json").write_text("\n".join(json.dumps({"day": day, "id": id}) for day, id in lines))

    load(client, client.read_stream(FileStream("json", f"file://{landing}", "day DATE, id BIGINT", {})), tmp_path / "checkpoint")

    files = catalog.load_table(("lake", "events")).inspect.files().to_pylist()
    month = 12 * (2026 - 1970)
    assert sorted((tuple(file["partition"].values()), file["record_count"]) for file in files) == [((month, 0), 2), ((month + 1, 10), 2)]
