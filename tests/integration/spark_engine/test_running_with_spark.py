"""The whole application with Spark as its second engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from pyiceberg.exceptions import NoSuchTableError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.application import background_work, open_application
from autoloader.local_key import ensure_local_key
from autoloader.settings import Settings
from autoloader.spark.server import SparkFacts
from graphql_api.app import create_app
from tests.contracts.engine_contract import lines
from tests.fixtures.api import Client
from tests.fixtures.application import Running

DELETE = """
mutation ($input: DeleteIngestionInput!) {
  deleteIngestion(input: $input) { ... on Ingestion { id status } ... on Error { code message } }
}
"""
SYSTEM = "{ system { components { name status version message } } }"


@pytest.fixture
async def running(database_url: str, database: AsyncEngine, tmp_path: Path, spark_server: SparkFacts) -> AsyncIterator[Running]:
    landing = tmp_path / "landing"
    landing.mkdir()
    settings = Settings(
        home=tmp_path / "home",
        database_url=SecretStr(database_url),
        local_roots=(landing,),
        spark_connect_url=spark_server.url,
        spark_token=SecretStr(spark_server.token),
    )
    async with open_application(settings, database_url) as application, background_work(application):
        key = await ensure_local_key(application)
        app = create_app(application.services, ready=application.ready)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as http:
            yield Running(application, Client(http, await application.ensure_local_tenant(), key), landing, database, patience_seconds=200)


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
