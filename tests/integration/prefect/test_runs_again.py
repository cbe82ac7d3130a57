"""Runs that follow on others, from GraphQL to Prefect and back: retries and refreshes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from pyiceberg.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.orchestration import prefect_worker
from autoloader.settings import Settings
from autoloader.spark.server import SparkFacts
from tests.fixtures.application import Running, open_running
from tests.fixtures.prefect_server import Prefect
from tests.integration.graphql_api.test_refresh import REFRESH
from tests.integration.prefect.test_api import soon
from tests.integration.test_run_retry import retry

RECORD = """
query ($id: ID!) {
  run(id: $id) {
    id status trigger retryCount queuedAt startedAt endedAt errorMessage flowRunId
    filesDiscovered filesProcessed filesFailed rowsWritten bytesProcessed progress retryOf { id }
  }
}
"""
FILES = "query ($id: ID!) { ingestion(id: $id) { generation files(orderBy: PATH) { nodes { path status generation } } } }"


async def record(running: Running, run_id: str) -> dict[str, Any]:
    return dict((await running.client.data(RECORD, {"id": run_id}))["run"])


async def state_of_flow_run(prefect: Prefect, run: dict[str, Any]) -> str:
    flow_run = await soon(lambda: prefect.flow_run(run["flowRunId"]), lambda seen: seen.state.is_final())
    return str(flow_run.state.name)


@pytest.mark.scenario(19)
async def test_a_retry_is_a_run_of_its_own_and_leaves_the_failed_one_as_it_was(orchestrated: Running, prefect: Prefect) -> None:
    (orchestrated.landing / "a.json").write_text(json.dumps({"id": 1}) + "\n")
    id = await orchestrated.create("orders")
    async with prefect_worker(orchestrated.application.settings, orchestrated.application.flow_services):
        assert (await orchestrated.run(id))["status"] == "SUCCESS"
        # What the table cannot be read without is gone for a while.
        metadata = Path(await orchestrated.iceberg("orders", lambda table: table.metadata_location.removeprefix("file://")))
        gone = metadata.rename(metadata.with_suffix(".gone"))
        (orchestrated.landing / "b.json").write_text(json.dumps({"id": 2}) + "\n")
        failed = await orchestrated.run(id)
        assert (failed["status"], failed["filesDiscovered"], failed["filesProcessed"]) == ("FAILED", 1, 0)
        before = await record(orchestrated, failed["id"])
        gone.rename(metadata)

        queued = await retry(orchestrated, failed["id"])
        await orchestrated.ended(queued["id"])

        retried, after = await record(orchestrated, queued["id"]), await record(orchestrated, failed["id"])
        assert (retried["status"], retried["trigger"], retried["retryCount"]) == ("SUCCESS", "RETRY", 1)
        assert (retried["retryOf"], retried["filesProcessed"], retried["rowsWritten"]) == ({"id": failed["id"]}, 1, 1)
        assert after == before
        assert retried["flowRunId"] != before["flowRunId"]
        assert [await state_of_flow_run(prefect, run) for run in (before, retried)] == ["Failed", "Completed"]
    assert sorted((await orchestrated.table("orders"))["id"].to_pylist()) == [1, 2]


@pytest.fixture
async def with_spark(prefect_settings: Settings, database: AsyncEngine, landing: Path, spark_server: SparkFacts) -> AsyncIterator[Running]:
    spark = {"spark_connect_url": spark_server.url, "spark_token": SecretStr(spark_server.token)}
    settings = prefect_settings.model_copy(update=spark)
    async with (
        open_running(settings, database, landing, patience_seconds=200) as running,
        prefect_worker(settings, running.application.flow_services),
    ):
        yield running


@pytest.mark.scenario(20)
async def test_a_full_refresh_drops_the_table_forgets_the_files_and_runs(with_spark: Running, prefect: Prefect) -> None:
    for name in ("a", "b"):
        (with_spark.landing / f"{name}.json").write_text(json.dumps({"id": name}) + "\n")
    id = await with_spark.create("orders", execution={"engine": "SPARK"})
    assert (await with_spark.run(id))["rowsWritten"] == 2

    def look(table: Table) -> tuple[str, list[Path]]:
        files = [Path(urlsplit(task.file.file_path).path) for task in table.scan().plan_files()]
        return str(table.metadata.table_uuid), files

    old_table, old_files = await with_spark.iceberg("orders", look)
    assert all(path.exists() for path in old_files)
    (with_spark.landing / "a.json").unlink()

    input = {"ingestionId": id, "mode": "FULL", "confirm": True}
    answer = (await with_spark.client.data(REFRESH, {"input": input}))["refreshIngestion"]
    await with_spark.ended(answer["run"]["id"])

    assert (answer["plan"]["rowsDropped"], answer["plan"]["filesForgotten"]) == (2, 2)
    run = await record(with_spark, answer["run"]["id"])
    assert (run["status"], run["trigger"], run["filesDiscovered"], run["rowsWritten"]) == ("SUCCESS", "REFRESH", 1, 1)
    assert await state_of_flow_run(prefect, run) == "Completed"
    new_table, _ = await with_spark.iceberg("orders", look)
    assert new_table != old_table
    assert [path for path in old_files if path.exists()] == []
    assert (await with_spark.table("orders"))["id"].to_pylist() == ["b"]
    told = (await with_spark.client.data(FILES, {"id": id}))["ingestion"]
    assert told == {
        "generation": 2,
        "files": {"nodes": [{"path": str(with_spark.landing / "b.json"), "status": "SUCCESS", "generation": 2}]},
    }
