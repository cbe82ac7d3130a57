"""Refresh, clear and delete with everything behind them: real tables, and rows counted in them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pyiceberg.exceptions import NoSuchTableError
from sqlalchemy import text

from domain.ingestions.entities import Destination
from tests.fixtures.application import Running
from tests.integration.graphql_api.test_refresh import CLEAR, DELETE, REFRESH

EXPLAIN = """
query ($id: ID!, $path: String!) {
  explainFile(ingestionId: $id, path: $path) { ... on FileExplanation { state explanation } ... on Error { message } }
}
"""
PENDING = "query ($id: ID!) { ingestion(id: $id) { status resetPending generation } }"


async def do(running: Running, document: str, **input: Any) -> dict[str, Any]:
    [answer] = (await running.client.data(document, {"input": input})).values()
    return dict(answer)


async def explained(running: Running, ingestion: str, name: str) -> dict[str, Any]:
    answer = await running.client.data(EXPLAIN, {"id": ingestion, "path": str(running.landing / name)})
    return dict(answer["explainFile"])


async def when_done(running: Running, ingestion: str) -> dict[str, Any] | None:
    """The ingestion once its reset is done; None when it is gone."""
    async with asyncio.timeout(60):
        while True:
            found = (await running.client.data(PENDING, {"id": ingestion}))["ingestion"]
            if found is None or not found["resetPending"]:
                return found
            # The background work ends it; this asks at a bounded rate.
            await asyncio.sleep(0.02)


async def ids(running: Running) -> list[int]:
    return sorted((await running.table("events"))["id"].to_pylist())


async def loaded(running: Running) -> str:
    """An ingestion with a run behind it: two files loaded, one failed."""
    for name, content in {"a": '{"id": 1}\n{"id": 2}\n', "b": '{"id": 3}\n', "bad": "<html>\n"}.items():
        (running.landing / f"{name}.json").write_text(content)
    ingestion = await running.create("events")
    assert (await running.run(ingestion))["status"] == "PARTIAL"
    return ingestion


@pytest.mark.scenario(118)
async def test_a_full_refresh_loads_everything_anew(running: Running) -> None:
    ingestion = await loaded(running)
    planned = await do(running, REFRESH, ingestionId=ingestion, mode="FULL", dryRun=True)
    assert planned["plan"] == {
        "mode": "FULL",
        "tableExists": True,
        "rowsDropped": 3,
        "filesForgotten": 3,
        "filesAbsent": 0,
        "filesWaiting": 0,
        "generation": 2,
    }
    (running.landing / "bad.json").write_text('{"id": "4", "note": "no number any more"}\n')
    (running.landing / "b.json").unlink()

    queued = await do(running, REFRESH, ingestionId=ingestion, mode="FULL", confirm=True)
    ended = await running.ended(queued["run"]["id"])

    assert (queued["run"]["trigger"], queued["run"]["refresh"]) == ("REFRESH", {"mode": "FULL", "load": True})
    # The table is a new one, so its columns are those of what lies there now: the file says 1 and "4".
    assert (ended["status"], ended["filesDiscovered"], ended["rowsWritten"]) == ("SUCCESS", 2, 3)
    assert sorted((await running.table("events"))["id"].to_pylist()) == ["1", "2", "4"]
    assert await when_done(running, ingestion) == {"status": "DRAFT", "resetPending": False, "generation": 2}
    # It was loaded, and is forgotten.
    assert (await explained(running, ingestion, "b.json"))["state"] == "NOT_AT_SOURCE"
    assert (await running.run(ingestion))["status"] == "NO_NEW_FILES"


async def test_a_new_only_refresh_says_of_files_that_they_are_absent(running: Running) -> None:
    ingestion = await loaded(running)
    (running.landing / "c.json").write_text('{"id": 9}\n')
    (running.landing / "bad.json").write_text('{"id": 8}\n')

    queued = await do(running, REFRESH, ingestionId=ingestion, mode="NEW_ONLY", confirm=True)
    assert queued["plan"]["filesAbsent"] == 2
    assert (await running.ended(queued["run"]["id"]))["status"] == "SUCCESS"

    assert await ids(running) == [8, 9]
    assert await explained(running, ingestion, "a.json") == {
        "state": "ABSENT_BY_REFRESH",
        "explanation": "it was loaded in generation 1; the table has been begun anew since (generation 2), without what was loaded before",
    }
    assert (await explained(running, ingestion, "c.json"))["state"] == "LOADED"


@pytest.mark.scenario(15)
async def test_cleared_files_are_loaded_again_and_nothing_is_doubled(running: Running) -> None:
    ingestion = await loaded(running)
    cleared = await do(running, CLEAR, ingestionId=ingestion, pathPrefix=str(running.landing / "a"), confirm=True)
    assert cleared == {"__typename": "FilesCleared", "count": 1}
    assert await when_done(running, ingestion) == {"status": "DRAFT", "resetPending": False, "generation": 1}
    assert await ids(running) == [3]

    run = await running.run(ingestion)

    assert (run["status"], run["filesDiscovered"], run["rowsWritten"]) == ("SUCCESS", 1, 2)
    assert await ids(running) == [1, 2, 3]


async def test_a_run_that_comes_at_once_finds_what_was_cleared(running: Running) -> None:
    ingestion = await loaded(running)
    await do(running, CLEAR, ingestionId=ingestion, confirm=True)
    run = await running.run(ingestion)
    assert (run["filesDiscovered"], run["filesProcessed"], run["filesFailed"]) == (3, 2, 1)
    assert await ids(running) == [1, 2, 3]


async def test_rows_stay_when_that_is_asked(running: Running) -> None:
    ingestion = await loaded(running)
    await do(running, CLEAR, ingestionId=ingestion, confirm=True, keepRows=True)
    await when_done(running, ingestion)
    assert await ids(running) == [1, 2, 3]


@pytest.mark.scenario(10)
@pytest.mark.parametrize("with_table", [False, True])
async def test_a_deleted_ingestion_is_gone_and_its_table_if_asked(running: Running, with_table: bool) -> None:
    ingestion = await loaded(running)
    deleting = await do(running, DELETE, id=ingestion, deleteTable=with_table)
    assert deleting["status"] == "DELETING"
    assert await when_done(running, ingestion) is None
    async with running.database.connect() as connection:
        for table in ("ingestions", "runs", "processed_files", "file_attempts", "batches", "schema_versions"):
            assert await connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table
    if with_table:
        with pytest.raises(NoSuchTableError):
            await running.table("events")
    else:
        assert await ids(running) == [1, 2, 3]
    # Name and destination are free again.
    again = await running.create("events")
    assert (await running.run(again))["filesProcessed"] == 2
    assert len(await ids(running)) == (3 if with_table else 6)


async def test_rows_of_a_partitioned_table_go_by_their_file(running: Running) -> None:
    for day in (1, 2):
        for half in ("am", "pm"):
            rows = [{"id": day * 10 + number, "day": f"2026-03-0{day}"} for number in range(3)]
            (running.landing / f"{half}-{day}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingestion = await running.create("events", destination={"database": "lake", "table": "events", "partitionBy": ["day"]})
    await running.run(ingestion)

    await do(running, CLEAR, ingestionId=ingestion, pathPrefix=str(running.landing / "am-1"), confirm=True)
    await when_done(running, ingestion)

    assert await ids(running) == [10, 11, 12, 20, 20, 21, 21, 22, 22]


async def test_a_table_that_somebody_has_dropped_is_not_made_anew_in_silence(running: Running) -> None:
    ingestion = await loaded(running)
    (running.landing / "bad.json").unlink()
    assert await running.application.engine.drop_table(Destination("autoloader", "lake", "events"))
    (running.landing / "c.json").write_text('{"id": 5}\n')
    failed = await running.run(ingestion)
    gone = "autoloader.lake.events, which was loaded into before, is gone; a refresh makes it anew"
    assert (failed["status"], failed["errorMessage"]) == ("FAILED", gone)
    with pytest.raises(NoSuchTableError):
        await ids(running)
    refreshed = await running.ended((await do(running, REFRESH, ingestionId=ingestion, mode="FULL", confirm=True))["run"]["id"])
    assert (refreshed["status"], await ids(running)) == ("SUCCESS", [1, 2, 3, 5])
