"""The whole application with Spark as its second engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pyiceberg.exceptions import NoSuchTableError
from sqlalchemy import text

from tests.contracts.engine_contract import lines
from tests.fixtures.application import Running
from tests.integration.graphql_api.test_refresh import REFRESH

DELETE = """
mutation ($input: DeleteIngestionInput!) {
  deleteIngestion(input: $input) { ... on Ingestion { id status } ... on Error { code message } }
}
"""
FILES = """
query ($id: ID!) {
  ingestion(id: $id) {
    generation stats { filesAbsentByRefresh }
    files { totalCount nodes { id path status rows generation processedAt snapshotId attempts { nodes { outcome rows run { id } } } } }
  }
}
"""
SYSTEM = "{ system { components { name status version message } } }"


@pytest.mark.scenario(11, 28, 49, 114, 117)
async def test_files_are_loaded_by_spark_and_the_table_goes_with_its_ingestion(running: Running, tmp_path: Path) -> None:
    (running.landing / "good.json").write_text(lines({"id": 1}, {"id": 2}))
    (running.landing / "bad.json").write_text("<html>\n")
    (running.landing / "empty.json").write_text("")
    id = await running.create("events", execution={"engine": "SPARK"})

    run = await running.run(id)

    assert (run["status"], run["rowsWritten"], run["filesProcessed"], run["filesFailed"]) == ("PARTIAL", 2, 1, 1)
    files = {Path(edge["node"]["path"]).name: edge["node"] for edge in run["files"]["edges"]}
    assert {name: (file["status"], file["rows"]) for name, file in files.items()} == {
        "good.json": ("SUCCESS", 2),
        "bad.json": ("FAILED", 0),
        "empty.json": ("SKIPPED", 0),
    }
    assert "no JSON object" in files["bad.json"]["errorMessage"]
    assert (await running.table("events")).column("id").to_pylist() == [1, 2]
    assert (await running.run(id))["status"] == "NO_NEW_FILES"

    deleted = await running.client.data(DELETE, {"input": {"id": id, "deleteTable": True}})

    assert deleted["deleteIngestion"]["status"] == "DELETING"
    await _gone(running)
    with pytest.raises(NoSuchTableError):
        await running.table("events")
    assert list((tmp_path / "home" / "warehouse").rglob("*.parquet")) == []


@pytest.mark.scenario(21)
async def test_a_new_only_refresh_drops_the_table_and_keeps_the_history_of_its_files(running: Running) -> None:
    (running.landing / "a.json").write_text(lines({"id": 1}))
    id = await running.create("events", execution={"engine": "SPARK"})
    assert (await running.run(id))["rowsWritten"] == 1
    known = (await running.client.data(FILES, {"id": id}))["ingestion"]
    assert (known["files"]["totalCount"], known["stats"]["filesAbsentByRefresh"]) == (1, 0)

    input = {"ingestionId": id, "mode": "NEW_ONLY", "confirm": True, "autoRun": False}
    dropping = (await running.client.data(REFRESH, {"input": input}))["refreshIngestion"]["run"]
    assert dropping["refresh"] == {"mode": "NEW_ONLY", "load": False}
    assert (await running.ended(dropping["id"]))["status"] == "SUCCESS"

    with pytest.raises(NoSuchTableError):
        await running.table("events")
    kept = (await running.client.data(FILES, {"id": id}))["ingestion"]
    assert (kept["generation"], kept["files"]) == (2, known["files"])
    assert kept["stats"]["filesAbsentByRefresh"] == 1
    # What was loaded before stays out of the new table.
    (running.landing / "b.json").write_text(lines({"id": 2}))
    run = await running.run(id)
    assert (run["status"], run["filesDiscovered"], run["rowsWritten"]) == ("SUCCESS", 1, 1)
    assert (await running.table("events")).column("id").to_pylist() == [2]


async def test_spark_is_among_the_components(running: Running) -> None:
    components = (await running.client.data(SYSTEM))["system"]["components"]

    told = {component["name"]: component for component in components}
    assert list(told) == ["database", "engine", "spark", "orchestrator"]
    assert (told["spark"]["status"], told["spark"]["message"]) == ("UP", None)
    assert told["spark"]["version"].startswith("Spark 4.1.")


async def _gone(running: Running) -> None:
    async with asyncio.timeout(200):
        while True:
            async with running.database.connect() as connection:
                if await connection.scalar(text("SELECT count(*) FROM ingestions")) == 0:
                    return
            # The end of a deletion is told by nobody; this asks at a bounded rate.
            await asyncio.sleep(0.05)
