"""What an operator does when something went wrong: cancel, retry, skip."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from sqlalchemy import text

from domain.ledger import state_service
from tests.fixtures.application import Running

CANCEL = "mutation ($id: ID!) { cancelRun(id: $id) { __typename ... on Run { id status endedAt } ... on Error { code message } } }"
RETRY = """
mutation ($input: RetryRunInput!) {
  retryRun(input: $input) {
    __typename
    ... on Run { id trigger retryCount retryOf { id status } }
    ... on Error { code message }
    ... on ConflictError { reason }
  }
}
"""
RETRY_FILES = """
mutation ($input: RetryFilesInput!) {
  retryFiles(input: $input) {
    __typename
    ... on FilesChanged { count more }
    ... on Error { message }
    ... on ValidationError { fields { path } }
  }
}
"""
SKIP_FILES = """
mutation ($input: SkipFilesInput!) {
  skipFiles(input: $input) {
    __typename
    ... on FilesChanged { count more }
    ... on Error { message }
    ... on ValidationError { fields { path } }
  }
}
"""
FILES = "query ($id: ID!) { ingestion(id: $id) { files { nodes { id path status errorMessage retryCount } } } }"


async def do(running: Running, document: str, **input: Any) -> dict[str, Any]:
    [answer] = (await running.client.data(document, {"input": input})).values()
    return dict(answer)


async def files(running: Running, ingestion: str) -> dict[str, dict[str, Any]]:
    nodes = (await running.client.data(FILES, {"id": ingestion}))["ingestion"]["files"]["nodes"]
    return {node["path"].rpartition("/")[2]: node for node in nodes}


def lay(running: Running, name: str, content: str) -> None:
    (running.landing / name).write_text(content)


async def a_partial_run(running: Running) -> tuple[str, dict[str, Any]]:
    lay(running, "good.json", '{"id": 1}\n')
    lay(running, "bad.json", '{"id": 2}\n{"id"')
    ingestion = await running.create("events")
    return ingestion, await running.run(ingestion)


async def test_a_retry_takes_the_unloaded_files_of_its_run_and_nothing_else(running: Running) -> None:
    ingestion, partial = await a_partial_run(running)
    assert partial["status"] == "PARTIAL"
    lay(running, "later.json", '{"id": 3}\n')
    retry = await do(running, RETRY, runId=partial["id"], idempotencyKey="again")
    assert (retry["trigger"], retry["retryCount"], retry["retryOf"]) == ("RETRY", 1, {"id": partial["id"], "status": "PARTIAL"})
    assert (await do(running, RETRY, runId=partial["id"], idempotencyKey="again"))["id"] == retry["id"]
    ended = await running.ended(retry["id"])
    # The file is as bad as it was; the one that came later is not the retry's.
    assert (ended["status"], ended["filesDiscovered"], ended["filesFailed"], ended["filesProcessed"]) == ("FAILED", 0, 1, 0)
    assert [edge["node"]["path"].rpartition("/")[2] for edge in ended["files"]["edges"]] == ["bad.json"]
    assert (await files(running, ingestion))["bad.json"]["retryCount"] == 2
    assert "later.json" not in await files(running, ingestion)
    assert (await running.table("events"))["id"].to_pylist() == [1]
    unchanged = await running.ended(partial["id"])
    assert unchanged == partial | {"files": unchanged["files"]}


async def test_a_retry_reads_what_was_listed(running: Running) -> None:
    lay(running, "a.json", '{"id": 1}\n')
    ingestion = await running.create("events")
    lay(running, "b.json", '{"id": ')
    partial = await running.run(ingestion)
    assert partial["filesFailed"] == 1
    lay(running, "b.json", '{"id": 2}\n')
    # What changed is found by a listing; a retry reads what was listed, and says so.
    retry = await running.ended((await do(running, RETRY, runId=partial["id"]))["id"])
    assert "changed" in next(e["node"]["errorMessage"] for e in retry["files"]["edges"] if e["node"]["path"].endswith("b.json"))
    assert (await running.run(ingestion))["status"] == "SUCCESS"
    assert sorted((await running.table("events"))["id"].to_pylist()) == [1, 2]


async def test_what_has_nothing_to_retry_is_a_conflict(running: Running) -> None:
    lay(running, "good.json", '{"id": 1}\n')
    ingestion = await running.create("events")
    run = await running.run(ingestion)
    answer = await do(running, RETRY, runId=run["id"])
    assert (answer["__typename"], answer["reason"]) == ("ConflictError", "WRONG_STATE")


async def test_a_person_retries_files_past_their_limit(running: Running) -> None:
    lay(running, "bad.json", "<html>")
    ingestion = await running.create("events", policies={"maxFileRetries": 1})
    await running.run(ingestion)
    assert (await running.run(ingestion))["status"] == "NO_NEW_FILES"
    bad = (await files(running, ingestion))["bad.json"]
    assert await do(running, RETRY_FILES, ids=[bad["id"], bad["id"]]) == {"__typename": "FilesChanged", "count": 1, "more": False}
    assert (await files(running, ingestion))["bad.json"]["status"] == "PENDING"
    again = await running.run(ingestion)
    assert (again["status"], again["filesFailed"]) == ("FAILED", 1)


async def test_a_person_skips_files_and_takes_them_back(running: Running) -> None:
    ingestion, _ = await a_partial_run(running)
    skipped = await do(running, SKIP_FILES, ingestionId=ingestion, filter={"status": ["FAILED"]}, reason="  known to be broken ")
    assert skipped == {"__typename": "FilesChanged", "count": 1, "more": False}
    bad = (await files(running, ingestion))["bad.json"]
    assert (bad["status"], bad["errorMessage"]) == ("SKIPPED", "known to be broken")
    assert (await running.run(ingestion))["status"] == "NO_NEW_FILES"
    assert (await do(running, RETRY_FILES, ingestionId=ingestion, filter={"status": ["SKIPPED"]}))["count"] == 1
    assert (await running.run(ingestion))["status"] == "FAILED"
    assert (await files(running, ingestion))["good.json"]["status"] == "SUCCESS"


async def test_of_very_many_files_a_part_is_changed_at_once(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        lay(running, f"{name}.json", "<html>")
    ingestion = await running.create("events")
    await running.run(ingestion)
    monkeypatch.setattr(state_service, "MOST_AT_ONCE", 2)
    for document, status in ((RETRY_FILES, "PENDING"), (SKIP_FILES, "SKIPPED")):
        first, second = [await do(running, document, ingestionId=ingestion) for _ in range(2)]
        assert first == {"__typename": "FilesChanged", "count": 2, "more": True}
        assert second == {"__typename": "FilesChanged", "count": 1, "more": False}
        assert {file["status"] for file in (await files(running, ingestion)).values()} == {status}


async def test_selections_are_checked(running: Running) -> None:
    ingestion = await running.create("events")
    somebody = base64.urlsafe_b64encode(b"ProcessedFile:1").decode()
    for document in (RETRY_FILES, SKIP_FILES):
        assert (await do(running, document))["fields"] == [{"path": ["ids"]}]
        assert (await do(running, document, ids=[somebody], ingestionId=ingestion))["fields"] == [{"path": ["ids"]}]
        assert (await do(running, document, ids=[somebody] * 1_001))["fields"] == [{"path": ["ids"]}]
        assert (await do(running, document, ids=[somebody], filter={"pathPrefix": "a"}))["fields"] == [{"path": ["filter"]}]
        assert await do(running, document, ids=["nonsense"]) == {"__typename": "FilesChanged", "count": 0, "more": False}
        assert (await do(running, document, ingestionId="nonsense"))["__typename"] == "NotFoundError"
    assert (await do(running, SKIP_FILES, ingestionId=ingestion, reason="\0"))["fields"] == [{"path": ["reason"]}]


async def test_a_queued_run_is_cancelled_at_once_and_an_ended_one_stays(running: Running) -> None:
    lay(running, "a.json", '{"id": 1}\n')
    ingestion = await running.create("events")
    run = await running.run(ingestion)
    ended = (await running.client.data(CANCEL, {"id": run["id"]}))["cancelRun"]
    assert (ended["__typename"], ended["message"]) == ("ConflictError", "a run that is SUCCESS cannot become CANCELLING")
    assert (await running.client.data(CANCEL, {"id": "nonsense"}))["cancelRun"]["code"] == "NOT_FOUND"


async def test_a_running_run_is_cancelled_and_its_files_wait(running: Running, monkeypatch: Any) -> None:
    for i in range(3):
        lay(running, f"{i}.json", json.dumps({"id": i}) + "\n")
    ingestion = await running.create("events")
    loading, release = asyncio.Event(), asyncio.Event()
    engine = running.application.engine
    load = type(engine).load

    async def slow(self: Any, *arguments: Any) -> Any:
        loading.set()
        await release.wait()
        return await load(self, *arguments)

    monkeypatch.setattr(type(engine), "load", slow)
    document = "mutation ($input: RunIngestionInput!) { runIngestion(input: $input) { ... on Run { id } } }"
    run = (await running.client.data(document, {"input": {"ingestionId": ingestion}}))["runIngestion"]["id"]
    async with asyncio.timeout(20):
        await loading.wait()
        cancelled = (await running.client.data(CANCEL, {"id": run}))["cancelRun"]
        assert cancelled["status"] in ("CANCELLING", "CANCELLED")
        ended = await running.ended(run)
    assert (ended["status"], ended["filesProcessed"], ended["errorMessage"]) == ("CANCELLED", 0, None)
    assert {file["status"] for file in (await files(running, ingestion)).values()} == {"PENDING"}
    async with running.database.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM batches WHERE status = 'CLAIMED'")) == 0
    release.set()
    assert (await running.run(ingestion))["rowsWritten"] == 3
    assert sorted((await running.table("events"))["id"].to_pylist()) == [0, 1, 2]
