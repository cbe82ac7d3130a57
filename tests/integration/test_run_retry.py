"""A run that failed is retried: its record stays as it was, and what it has left is loaded, once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from domain.ports.engine import BatchOutcome, CommitGuard, Engine, LoadBatch, TableUnavailableError
from tests.fixtures.application import Running

RETRY = """
mutation ($input: RetryRunInput!) {
  retryRun(input: $input) { __typename ... on Run { id } ... on Error { code message } ... on ConflictError { reason } }
}
"""
RUNS = """
query ($id: ID!) {
  ingestion(id: $id) {
    runs { nodes { id status trigger retryCount errorMessage filesProcessed rowsWritten retryOf { id } } }
    files(orderBy: PATH) { nodes {
      path status retryCount errorMessage rows attempts { nodes { outcome errorMessage run { id } } }
    } }
  }
}
"""


class Failing:
    """An engine that loads its first batch, and fails as a whole after that for as long as it is told to."""

    def __init__(self, engine: Engine) -> None:
        self._load = engine.load
        self.loaded: list[list[str]] = []
        self.broken = True

    async def load(self, batch: LoadBatch, guard: CommitGuard) -> BatchOutcome:
        if self.broken and self.loaded:
            raise TableUnavailableError("the warehouse does not answer")
        self.loaded.append([file.object.path.rpartition("/")[2] for file in batch.files])
        return await self._load(batch, guard)


async def retry(running: Running, run_id: str) -> dict[str, Any]:
    return dict((await running.client.data(RETRY, {"input": {"runId": run_id}}))["retryRun"])


async def test_a_failed_run_is_retried_and_only_what_it_left_is_loaded(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a run that has loaded one of three files when its engine failed.
    processor = running.application.pipeline._processor
    monkeypatch.setattr(processor, "_settings", replace(processor._settings, max_files=1))
    failing = Failing(running.application.engine)
    monkeypatch.setattr(running.application.engine, "load", failing.load)
    for number in range(3):
        (running.landing / f"{number}.json").write_text(json.dumps({"id": number}) + "\n")
    ingestion = await running.create("events")
    failed = await running.run(ingestion)
    assert (failed["status"], failed["errorMessage"]) == ("FAILED", "the warehouse does not answer")
    assert (failed["filesProcessed"], failed["rowsWritten"]) == (1, 1)
    [[first]] = failing.loaded
    assert [f"{id}.json" for id in (await running.table("events"))["id"].to_pylist()] == [first]

    # WHEN it is retried while the engine still fails, and again when it does not.
    still = await running.ended((await retry(running, failed["id"]))["id"])
    assert (still["status"], still["errorMessage"]) == ("FAILED", "the warehouse does not answer")
    failing.broken = False
    good = await running.ended((await retry(running, still["id"]))["id"])

    # THEN the last one has loaded what was left, and nothing twice.
    assert (good["status"], good["filesProcessed"], good["rowsWritten"]) == ("SUCCESS", 2, 2)
    assert sorted(failing.loaded) == [["0.json"], ["1.json"], ["2.json"]]
    assert sorted((await running.table("events"))["id"].to_pylist()) == [0, 1, 2]
    told = (await running.client.data(RUNS, {"id": ingestion}))["ingestion"]
    # And the records of the failed ones are as they were, linked and counted.
    message = "the warehouse does not answer"
    assert [tuple(run.values()) for run in told["runs"]["nodes"]] == [
        (good["id"], "SUCCESS", "RETRY", 2, None, 2, 2, {"id": still["id"]}),
        (still["id"], "FAILED", "RETRY", 1, message, 0, 0, {"id": failed["id"]}),
        (failed["id"], "FAILED", "MANUAL", 0, message, 1, 1, None),
    ]
    # A store that does not answer is no fault of the files: none of them has used up a try.
    assert [(node["status"], node["retryCount"], node["errorMessage"], node["rows"]) for node in told["files"]["nodes"]] == [
        ("SUCCESS", 0, None, 1)
    ] * 3
    assert {
        node["path"].rpartition("/")[2]: [attempt["run"]["id"] for attempt in node["attempts"]["nodes"]] for node in told["files"]["nodes"]
    } == {name: [failed["id"] if name == first else good["id"]] for [name] in failing.loaded}


async def test_what_succeeded_is_not_retried(running: Running) -> None:
    (running.landing / "a.json").write_text('{"id": 1}\n')
    run = await running.run(await running.create("events"))
    refused = await retry(running, run["id"])
    assert (refused["__typename"], refused["code"], refused["reason"]) == ("ConflictError", "CONFLICT", "WRONG_STATE")
