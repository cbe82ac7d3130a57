"""Files that change once they are loaded: through the API, to the rows of a real table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fixtures.application import Running
from tests.integration.test_audit import audit

EXPLAIN = """
query ($id: ID!, $path: String!) {
  explainFile(ingestionId: $id, path: $path) {
    ... on FileExplanation { state explanation file { status current rows } earlierVersions { status rows generation } }
    ... on Error { message }
  }
}
"""
LOOK = """
query ($id: ID!) {
  ingestion(id: $id) {
    files { nodes { path status current } }
    stats { files earlierVersions rowsLoaded byStatus { status files } }
  }
}
"""
UPDATE = """
mutation ($input: UpdateIngestionInput!) {
  updateIngestion(input: $input) { ... on Ingestion { policies { changedFiles } } ... on Error { message } }
}
"""


def lay(running: Running, name: str, *ids: int) -> str:
    path = running.landing / name
    path.write_text("".join(json.dumps({"id": id}) + "\n" for id in ids))
    return str(path)


async def explained(running: Running, ingestion: str, path: str) -> dict[str, Any]:
    return dict((await running.client.data(EXPLAIN, {"id": ingestion, "path": path}))["explainFile"])


async def ids(running: Running) -> list[int]:
    return sorted((await running.table("events"))["id"].to_pylist())


async def test_replaced(running: Running) -> None:
    changing = lay(running, "changing.json", 1, 2, 3)
    lay(running, "staying.json", 9)
    ingestion = await running.create("events", policies={"changedFiles": "REPLACE"})
    await running.run(ingestion)
    lay(running, "changing.json", 4, 5)
    waiting = await explained(running, ingestion, changing)
    assert waiting["state"] == "LOADED_THEN_CHANGED"
    by_policy = "; it has been overwritten since, and its rows take the place of those by the policy for changed files; "
    assert by_policy + "the next run loads it" in waiting["explanation"]

    run = await running.run(ingestion)

    assert (run["status"], run["filesDiscovered"], run["filesProcessed"], run["rowsWritten"]) == ("SUCCESS", 1, 1, 2)
    assert await ids(running) == [4, 5, 9]
    found = await explained(running, ingestion, changing)
    assert (found["state"], found["file"]) == ("LOADED", {"status": "SUCCESS", "current": True, "rows": 2})
    assert found["earlierVersions"] == [{"status": "SUPERSEDED", "rows": 3, "generation": 1}]
    ledger = (await running.client.data(LOOK, {"id": ingestion}))["ingestion"]
    assert [(node["status"], node["current"]) for node in ledger["files"]["nodes"]] == [("SUCCESS", True)] * 2
    stats = ledger["stats"]
    by_status = {count["status"]: count["files"] for count in stats["byStatus"] if count["files"]}
    assert (stats["files"], stats["earlierVersions"], stats["rowsLoaded"], by_status) == (2, 0, 3, {"SUCCESS": 2, "SUPERSEDED": 1})
    assert (await running.run(ingestion))["status"] == "NO_NEW_FILES"
    found = await audit(running, ingestion)
    assert (found["consistent"], found["ledgerRows"], found["tableRows"], found["differences"]) == (True, 3, 3, [])


async def test_appended(running: Running) -> None:
    path = lay(running, "a.json", 1)
    ingestion = await running.create("events", policies={"changedFiles": "APPEND"})
    await running.run(ingestion)
    lay(running, "a.json", 2, 3)
    assert (await running.run(ingestion))["rowsWritten"] == 2
    assert await ids(running) == [1, 2, 3]
    found = await explained(running, ingestion, path)
    assert found["explanation"].endswith("; 1 rows of earlier versions are in the table too")
    assert found["earlierVersions"] == [{"status": "SUCCESS", "rows": 1, "generation": 1}]
    stats = (await running.client.data(LOOK, {"id": ingestion}))["ingestion"]["stats"]
    assert (stats["files"], stats["earlierVersions"], stats["rowsLoaded"]) == (1, 1, 3)
    found = await audit(running, ingestion)
    assert (found["consistent"], found["ledgerRows"], found["tableRows"]) == (True, 3, 3)


@pytest.mark.parametrize(("content", "status"), [("<html>\n", "FAILED"), ("", "SKIPPED")])
async def test_a_bad_version_leaves_the_old_rows_and_an_empty_one_takes_them_out(running: Running, content: str, status: str) -> None:
    path = lay(running, "a.json", 1, 2)
    lay(running, "b.json", 3)
    ingestion = await running.create("events", policies={"changedFiles": "REPLACE"})
    await running.run(ingestion)
    (running.landing / "a.json").write_text(content)
    await running.run(ingestion)
    found = await explained(running, ingestion, path)
    assert found["file"]["status"] == status
    assert await ids(running) == ([1, 2, 3] if status == "FAILED" else [3])
    assert ("until it is loaded, the 2 rows of earlier versions stay in the table" in found["explanation"]) == (status == "FAILED")
    assert (await audit(running, ingestion))["consistent"]
    lay(running, "a.json", 7)
    await running.run(ingestion)
    assert await ids(running) == [3, 7]
    assert (await audit(running, ingestion))["consistent"]


async def test_what_changed_while_it_was_ignored_is_found_once_the_policy_is_another(running: Running) -> None:
    lay(running, "a.json", 1)
    ingestion = await running.create("events")
    await running.run(ingestion)
    lay(running, "a.json", 2)
    assert (await running.run(ingestion))["status"] == "NO_NEW_FILES"
    changed = await running.client.data(UPDATE, {"input": {"id": ingestion, "policies": {"changedFiles": "REPLACE"}}})
    assert changed["updateIngestion"] == {"policies": {"changedFiles": "REPLACE"}}
    assert (await running.run(ingestion))["status"] == "SUCCESS"
    assert await ids(running) == [2]
