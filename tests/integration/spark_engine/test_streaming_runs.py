"""The whole application with a streamed ingestion: documents in, rows in the table, files in the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.spark.server import SparkFacts
from domain.ingestions.entities import Ingestion
from domain.ports.streaming import StreamOrder
from graphql_api.relay.ids import required_key
from tests.contracts.engine_contract import lines
from tests.fixtures.application import Running, running_with
from tests.fixtures.s3_server import S3Bucket

CREATE = """
mutation ($input: CreateIngestionInput!) {
  createIngestion(input: $input) {
    __typename
    ... on Ingestion { id checkpointPath execution { engine mode } }
    ... on ValidationError { fields { path message } }
  }
}
"""
REFRESH = """
mutation ($input: RefreshIngestionInput!) { refreshIngestion(input: $input) { ... on Refresh { run { id } } ... on Error { message } } }
"""
REFUSED = """
mutation ($retry: RetryFilesInput!, $skip: SkipFilesInput!, $clear: ClearProcessedFilesInput!) {
  retryFiles(input: $retry) { __typename ... on Error { code message } }
  skipFiles(input: $skip) { __typename ... on Error { code message } }
  clearProcessedFiles(input: $clear) { __typename ... on Error { code message } }
}
"""
STREAMED = {
    "format": {"type": "JSON", "options": {"layout": "LINES"}},
    "policies": {"badRows": "RESCUE"},
    "execution": {"engine": "SPARK", "mode": "STREAMING"},
}


def files_of(run: dict[str, Any]) -> dict[str, tuple[str, int]]:
    nodes = [edge["node"] for edge in run["files"]["edges"]]
    return {Path(node["path"]).name: (node["status"], node["rows"]) for node in nodes}


CHECKPOINT = "query ($id: ID!) { ingestion(id: $id) { checkpointPath } }"


@pytest.fixture
async def running_on_s3(
    database_url: str,
    database: AsyncEngine,
    tmp_path: Path,
    s3_bucket: S3Bucket,
    s3_warehouse: S3Bucket,
    spark_server_with_s3: SparkFacts,
) -> AsyncIterator[Running]:
    """Sources and warehouse are in buckets of their own; the Spark server's own credential may use the warehouse's alone."""
    owner, spark = s3_bucket.server.owner, spark_server_with_s3
    given: dict[str, Any] = {
        "warehouse": f"s3://{s3_warehouse.name}/warehouse",
        "catalog_properties": {
            "s3.endpoint": owner.endpoint_url,
            "s3.region": owner.region,
            "s3.access-key-id": owner.access_key_id,
            "s3.secret-access-key": owner.secret_access_key,
        },
        "credentials": {"landing": {name: value for name, value in asdict(owner).items() if value is not None}},
        "spark_connect_url": spark.url,
        "spark_token": SecretStr(spark.token),
    }
    async with running_with(database_url, database, tmp_path, patience_seconds=200, lease_seconds=30.0, **given) as running:
        yield running


async def test_files_are_streamed_into_the_table_and_told_of(running: Running, tmp_path: Path) -> None:
    (running.landing / "a.json").write_text(lines({"id": 1}, {"id": 2}) + "no JSON\n")
    (running.landing / "b.json").write_text(lines({"id": 3}))
    (running.landing / "empty.json").write_text("")
    id = await running.create("events", **STREAMED)

    run = await running.run(id)

    assert (run["status"], run["errorMessage"]) == ("SUCCESS", None)
    assert (run["filesDiscovered"], run["filesProcessed"], run["filesSkipped"]) == (3, 2, 1)
    assert (run["rowsWritten"], run["rowsRescued"], run["progress"]) == (4, 1, 1.0)
    assert run["bytesProcessed"] == sum((running.landing / name).stat().st_size for name in ("a.json", "b.json"))
    assert files_of(run) == {"a.json": ("SUCCESS", 3), "b.json": ("SUCCESS", 1), "empty.json": ("SKIPPED", 0)}
    [snapshot] = {edge["node"]["snapshotId"] for edge in run["files"]["edges"]} - {None}
    assert int(snapshot) == await running.iceberg("events", lambda table: table.current_snapshot().snapshot_id)
    rows = (await running.table("events")).select(["id", "_rescued_data"]).to_pylist()
    assert sorted(rows, key=repr) == [
        {"id": 1, "_rescued_data": None},
        {"id": 2, "_rescued_data": None},
        {"id": 3, "_rescued_data": None},
        {"id": None, "_rescued_data": "no JSON"},
    ]
    assert (await running.run(id))["status"] == "NO_NEW_FILES"
    assert list((tmp_path / "home" / "warehouse" / "_checkpoints").glob("*/*/1/metadata"))

    (running.landing / "c.json").write_text(lines({"id": 4, "new": "x"}))
    more = await running.run(id)

    assert (more["status"], files_of(more)) == ("SUCCESS", {"c.json": ("SUCCESS", 1)})
    assert (await running.table("events")).column("new").drop_null().to_pylist() == ["x"]


@pytest.mark.parametrize("how", ["by the next run", "by the recovery"])
async def test_what_was_committed_and_not_recorded_is_mended(running: Running, how: str) -> None:
    """The worker has died between the table's commit and the ledger's."""
    (running.landing / "a.json").write_text(lines({"id": 1}))
    id = await running.create("events", **STREAMED)
    tenant = await running.application.ensure_local_tenant()
    unit_of_work = running.application.flow_services.unit_of_work
    async with unit_of_work(tenant.id) as tx:
        ingestion = await tx.ingestions.get_by_id(required_key(Ingestion, id, "ingestion"))
    assert ingestion is not None
    streams = running.application.pipeline._streams
    samples = [stored async for chunk in streams._stores.open(ingestion.source, tenant.grants).list() for stored in chunk]

    async def dead() -> None:
        return None

    order = StreamOrder(
        run_id=uuid4(),
        source=ingestion.source,
        grants=tenant.grants,
        format=ingestion.format,
        destination=ingestion.destination,
        policies=ingestion.policies,
        checkpoint=ingestion.checkpoint_path,
        samples=samples,
        max_files=100,
    )
    metrics = await streams._engines[ingestion.execution.engine].execute(order, dead)
    assert (metrics.rows, metrics.files) == (1, 1)

    if how == "by the recovery":
        await _lose_a_run(running, ingestion.id)
        # The background work may have come first.
        await running.application.pipeline.recover_lost()
        await _none_active(running)
    else:
        assert (await running.run(id))["status"] == "SUCCESS"

    assert (await running.run(id))["status"] == "NO_NEW_FILES"
    assert (await running.table("events")).column("id").to_pylist() == [1]
    async with running.database.connect() as connection:
        stored = (await connection.execute(text("SELECT status, rows, size_bytes FROM processed_files"))).all()
        counted = (await connection.execute(text("SELECT status, files_processed FROM runs WHERE files_processed > 0"))).all()
    assert [tuple(row) for row in stored] == [("SUCCESS", 1, len(lines({"id": 1})))]
    assert [tuple(row) for row in counted] == [("FAILED" if how == "by the recovery" else "SUCCESS", 1)]


async def _lose_a_run(running: Running, ingestion_id: UUID) -> None:
    """A run that is under way, and whose worker's lease has passed."""
    async with running.database.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO runs (id, tenant_id, ingestion_id, status, trigger, retry_count, queued_at, started_at, lease_expires_at)"
                " SELECT gen_random_uuid(), tenant_id, id, 'RUNNING', 'MANUAL', 0, now(), now(), now() - interval '1 minute'"
                " FROM ingestions WHERE id = :id"
            ),
            {"id": ingestion_id},
        )


async def _none_active(running: Running) -> None:
    """The lost run is retried by itself."""
    async with asyncio.timeout(running.patience_seconds):
        while True:
            async with running.database.connect() as connection:
                if not await connection.scalar(text("SELECT count(*) FROM runs WHERE ended_at IS NULL")):
                    return
            # The end of a run that nobody has asked for is told by nobody; this asks at a bounded rate.
            await asyncio.sleep(0.05)


async def test_source_checkpoint_and_table_in_s3(running_on_s3: Running, s3_bucket: S3Bucket, s3_warehouse: S3Bucket) -> None:
    running = running_on_s3

    async def loaded() -> list[tuple[str, int]]:
        rows = (await running.table("events")).select(["_source_file", "id"]).to_pylist()
        return sorted((row["_source_file"].removeprefix(f"s3://{s3_bucket.name}/landing/"), row["id"]) for row in rows)

    async def checkpoint() -> str:
        path = str((await running.client.data(CHECKPOINT, {"id": id}))["ingestion"]["checkpointPath"])
        return path.removeprefix(f"s3://{s3_warehouse.name}/")

    s3_bucket.put("landing/a.json", lines({"id": 1}).encode())
    s3_bucket.put("landing/x/b.json", lines({"id": 2}).encode())
    source = {"type": "S3", "path": f"s3://{s3_bucket.name}/landing/", "credential": "landing"}
    id = await running.create("events", source=source, **STREAMED)

    run = await running.run(id)

    assert (run["status"], run["errorMessage"]) == ("SUCCESS", None)
    assert files_of(run) == {"a.json": ("SUCCESS", 1), "b.json": ("SUCCESS", 1)}
    first = await checkpoint()
    assert {"metadata", "offsets/0", "commits/0", "sources/0/0"} <= s3_warehouse.keys(f"{first}/")
    assert (await running.run(id))["status"] == "NO_NEW_FILES"

    s3_bucket.put("landing/c.json", lines({"id": 3}).encode())
    more = await running.run(id)

    assert files_of(more) == {"c.json": ("SUCCESS", 1)}
    assert await loaded() == [("a.json", 1), ("c.json", 3), ("x/b.json", 2)]
    assert "sources/0/1" in s3_warehouse.keys(f"{first}/")

    queued = await running.client.data(REFRESH, {"input": {"ingestionId": id, "mode": "FULL", "confirm": True}})
    anew = await running.ended(queued["refreshIngestion"]["run"]["id"])

    assert files_of(anew) == {"a.json": ("SUCCESS", 1), "b.json": ("SUCCESS", 1), "c.json": ("SUCCESS", 1)}
    assert await loaded() == [("a.json", 1), ("c.json", 3), ("x/b.json", 2)]
    assert await checkpoint() != first
    assert {"offsets/0", "commits/0", "sources/0/0"} <= s3_warehouse.keys(f"{await checkpoint()}/")


async def test_a_full_refresh_loads_all_anew_from_another_checkpoint(running: Running) -> None:
    (running.landing / "a.json").write_text(lines({"id": 1}))
    id = await running.create("events", **STREAMED)
    await running.run(id)
    before = (await running.client.data(CHECKPOINT, {"id": id}))["ingestion"]["checkpointPath"]

    queued = await running.client.data(REFRESH, {"input": {"ingestionId": id, "mode": "FULL", "confirm": True}})
    run = await running.ended(queued["refreshIngestion"]["run"]["id"])

    assert (run["status"], files_of(run)) == ("SUCCESS", {"a.json": ("SUCCESS", 1)})
    assert (await running.client.data(CHECKPOINT, {"id": id}))["ingestion"]["checkpointPath"] != before
    assert (await running.table("events")).column("id").to_pylist() == [1]


async def test_what_the_mode_cannot_do_is_refused(running: Running) -> None:
    id = await running.create("events", **STREAMED)
    refused = await running.client.data(
        REFUSED,
        {"retry": {"ingestionId": id}, "skip": {"ingestionId": id}, "clear": {"ingestionId": id, "pathPrefix": "/a", "confirm": True}},
    )

    assert {name: (told["__typename"], told["code"]) for name, told in refused.items()} == dict.fromkeys(
        ("retryFiles", "skipFiles", "clearProcessedFiles"), ("UnsupportedError", "UNSUPPORTED")
    )
    assert refused["retryFiles"]["message"].startswith("files cannot be retried in STREAMING mode: ")

    asked = {
        "name": "other",
        "source": {"type": "LOCAL", "path": str(running.landing), "glob": "a/**/b/*.json", "minAgeSeconds": 5},
        "format": {"type": "JSON"},
        "destination": {"database": "lake", "table": "other"},
        "policies": {"changedFiles": "REPLACE", "schemaEvolution": "FAIL_ON_NEW_COLUMNS", "maxFilesPerRun": 1},
        "execution": {"engine": "SPARK", "mode": "STREAMING"},
    }
    created = (await running.client.data(CREATE, {"input": asked}))["createIngestion"]

    assert created["__typename"] == "ValidationError"
    assert {tuple(field["path"]): field["message"] for field in created["fields"]} == {
        ("source", "glob"): (
            "in STREAMING mode, '**' may only stand for all folders above a name ('**/*.json'); "
            "braces hold no folders, and there is no '\\'"
        ),
        ("source", "minAgeSeconds"): "in STREAMING mode, a file is loaded as soon as it is seen: move files in when they are whole",
        ("format", "options", "layout"): "in STREAMING mode, the layout has to be said: LINES or ARRAY",
        ("policies", "badRows"): "in STREAMING mode, bad rows can only be kept, raw: RESCUE, and not FAIL_FILE",
        ("policies", "changedFiles"): "in STREAMING mode, a path is loaded once: IGNORE, and not REPLACE",
        ("policies", "schemaEvolution"): ("in STREAMING mode, FAIL_ON_NEW_COLUMNS cannot be done; ADD_NEW_COLUMNS, RESCUE, IGNORE can"),
        ("policies", "maxFilesPerRun"): "in STREAMING mode, a run loads all that has landed",
    }
