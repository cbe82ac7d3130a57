"""explainFile: for any path, why it is or is not in the table."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from sqlalchemy import text

from tests.fixtures.application import Running

EXPLAIN = """
query ($id: ID!, $path: String!) {
  explainFile(ingestionId: $id, path: $path) {
    __typename
    ... on FileExplanation { path state explanation sourceProblem atSource { sizeBytes } file { status rows run { status } } }
    ... on Error { code message }
    ... on ValidationError { fields { path } }
  }
}
"""


async def explain(running: Running, ingestion: str, path: str) -> dict[str, Any]:
    return dict((await running.client.data(EXPLAIN, {"id": ingestion, "path": path}))["explainFile"])


async def brought(running: Running) -> list[tuple[Any, ...]]:
    """Run, batch and snapshot of the loaded files, from the ledger."""
    statement = "SELECT DISTINCT run_id, batch_id, snapshot_id FROM processed_files WHERE status = 'SUCCESS'"
    async with running.database.connect() as connection:
        return [tuple(row) for row in (await connection.execute(text(statement))).all()]


async def test_each_way_in_which_a_file_can_stand(running: Running) -> None:
    old = time.time() - 3600
    contents = {"good.json": '{"id": 1}\n', "bad.json": "<html>", "empty.json": "", "notes.txt": "x", "changed.json": '{"id": 2}\n'}
    for name, content in contents.items():
        (running.landing / name).write_text(content)
        os.utime(running.landing / name, (old, old))
    source = {"type": "LOCAL", "path": str(running.landing), "glob": "*.json", "minAgeSeconds": 60}
    ingestion = await running.create("events", source=source)
    await running.run(ingestion)
    (running.landing / "changed.json").write_text('{"id": 22}\n')
    (running.landing / "young.json").write_text('{"id": 3}\n')
    (running.landing / "late.json").write_text('{"id": 4}\n')
    os.utime(running.landing / "late.json", (old, old))

    async def said(name: str) -> tuple[str, str]:
        answer = await explain(running, ingestion, str(running.landing / name))
        assert answer["path"] == str(running.landing / name)
        return answer["state"], answer["explanation"]

    run, batch, snapshot = (await brought(running))[0]
    in_table = f"its 1 rows are in the table, brought by run {run} in batch {batch}, as snapshot {snapshot}"
    assert await said("good.json") == ("LOADED", in_table)
    assert await said("changed.json") == (
        "LOADED_THEN_CHANGED",
        f"{in_table}; it has been overwritten since, and the policy for changed files lets it be",
    )
    state, explanation = await said("bad.json")
    assert state == "WAITING_FOR_RETRY"
    assert explanation.startswith("it has failed once, at last with: ")
    assert (await said("empty.json"))[0] == "SKIPPED"
    assert await said("notes.txt") == ("FILTERED_OUT", "the ingestion takes only what is: a path that matches *.json")
    state, explanation = await said("young.json")
    assert state == "WAITING_FOR_AGE"
    assert explanation.startswith("it is taken once it is at least 60 seconds old, for a younger file may still be being written: from 20")
    assert await said("late.json") == (
        "NOT_LISTED_YET",
        "it has come since the last listing; the next run loads it, which somebody has to ask for: no schedule fires",
    )
    assert (await said("nothing.json"))[0] == "NOT_AT_SOURCE"
    outside = await explain(running, ingestion, "/etc/passwd")
    assert (outside["state"], outside["atSource"], outside["file"]) == ("OUTSIDE_SOURCE", None, None)
    escaping = await explain(running, ingestion, f"{running.landing}/../home/local.key")
    assert (escaping["state"], escaping["atSource"]) == ("NOT_AT_SOURCE", None)

    (running.landing / "good.json").unlink()
    gone = await explain(running, ingestion, str(running.landing / "good.json"))
    assert gone["explanation"] == f"{in_table}; it has gone from the source since"
    assert gone["file"] == {"status": "SUCCESS", "rows": 1, "run": {"status": "PARTIAL"}}


async def test_a_source_that_does_not_answer_is_said(running: Running) -> None:
    folder = running.landing / "sub"
    folder.mkdir()
    ingestion = await running.create("events", source={"type": "LOCAL", "path": str(folder)})
    folder.rmdir()
    answer = await explain(running, ingestion, str(folder / "a.json"))
    assert answer["state"] in ("UNKNOWN", "NOT_AT_SOURCE")


@pytest.mark.parametrize("id", ["nonsense", ""])
async def test_an_ingestion_that_is_not_there(running: Running, id: str) -> None:
    assert (await explain(running, id, "/a"))["code"] == "NOT_FOUND"


async def test_a_path_that_cannot_be_one(running: Running) -> None:
    ingestion = await running.create("events")
    assert (await explain(running, ingestion, "a\0b"))["fields"] == [{"path": ["path"]}]
    assert (await explain(running, ingestion, "x" * 5_000))["fields"] == [{"path": ["path"]}]
