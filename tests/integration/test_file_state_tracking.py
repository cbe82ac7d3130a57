"""A run works through its files, and at each moment the API tells how far it is with each of them."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from domain.ports.engine import BatchOutcome, CommitGuard, LoadBatch
from tests.fixtures.application import RUN, Running

STATE = """
query ($id: ID!) {
  ingestion(id: $id) {
    lastRun { id }
    runs { nodes {
      id status trigger startedAt endedAt filesDiscovered filesProcessed filesFailed filesSkipped rowsWritten bytesProcessed
    } }
    files(orderBy: PATH) { nodes { path status rows sizeBytes snapshotId processedAt discoveredAt errorMessage run { id } } }
    stats { backlog { files } byStatus { status files } }
  }
}
"""


async def state_of(running: Running, ingestion: str) -> dict[str, Any]:
    """Of the counts by status those that are none are left out."""
    state: dict[str, Any] = (await running.client.data(STATE, {"id": ingestion}))["ingestion"]
    state["stats"]["byStatus"] = {counted["status"]: counted["files"] for counted in state["stats"]["byStatus"] if counted["files"]}
    return state


async def test_a_run_takes_files_from_pending_over_processing_to_success(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (running.landing / f"{number}.json").write_text(json.dumps({"id": number}) + "\n")
    # GIVEN an active ingestion whose runs take two files each, and an engine that waits with the files in hand.
    ingestion = await running.create("events", activate=True, policies={"maxFilesPerRun": 2})
    loading, go_on = asyncio.Event(), asyncio.Event()
    load = running.application.engine.load

    async def waits(batch: LoadBatch, guard: CommitGuard) -> BatchOutcome:
        loading.set()
        await go_on.wait()
        return await load(batch, guard)

    monkeypatch.setattr(running.application.engine, "load", waits)
    nothing = {"lastRun": None, "runs": {"nodes": []}, "files": {"nodes": []}, "stats": {"backlog": {"files": 0}, "byStatus": {}}}
    assert await state_of(running, ingestion) == nothing

    # WHEN a run is asked for.
    queued = (await running.client.data(RUN, {"input": {"ingestionId": ingestion}}))["runIngestion"]
    async with asyncio.timeout(60):
        await loading.wait()

    # THEN the run is under way, with two files in hand and one that waits.
    during = await state_of(running, ingestion)
    assert during["stats"] == {"backlog": {"files": 1}, "byStatus": {"PENDING": 1, "PROCESSING": 2}}
    [run] = during["runs"]["nodes"]
    assert (run["id"], run["status"], run["trigger"], run["endedAt"]) == (queued["id"], "RUNNING", "MANUAL", None)
    assert (run["filesDiscovered"], run["filesProcessed"], run["rowsWritten"]) == (3, 0, 0)
    assert all(node["rows"] is None and node["snapshotId"] is None for node in during["files"]["nodes"])
    in_hand = {node["path"] for node in during["files"]["nodes"] if node["status"] == "PROCESSING"}

    # And in the end its counters are what became of the files.
    go_on.set()
    await running.ended(queued["id"])
    after = await state_of(running, ingestion)
    assert after["stats"] == {"backlog": {"files": 1}, "byStatus": {"PENDING": 1, "SUCCESS": 2}}
    [run] = after["runs"]["nodes"]
    assert (run["status"], run["filesProcessed"], run["filesFailed"], run["filesSkipped"]) == ("SUCCESS", 2, 0, 0)
    assert (run["rowsWritten"], run["bytesProcessed"]) == (2, sum(Path(path).stat().st_size for path in in_hand))
    assert after["lastRun"] == {"id": run["id"]}
    loaded = [node for node in after["files"]["nodes"] if node["status"] == "SUCCESS"]
    assert {node["path"] for node in loaded} == in_hand
    assert [(node["rows"], node["run"], node["errorMessage"]) for node in loaded] == [(1, {"id": run["id"]}, None)] * 2
    assert loaded[0]["snapshotId"] == loaded[1]["snapshotId"] is not None
    started, ended = (datetime.fromisoformat(run[name]) for name in ("startedAt", "endedAt"))
    for node in loaded:
        assert started <= datetime.fromisoformat(node["discoveredAt"]) <= datetime.fromisoformat(node["processedAt"]) <= ended
    assert set((await running.table("events"))["_source_file"].to_pylist()) == in_hand

    # The next run takes what waited, and nothing again.
    assert (await running.run(ingestion))["filesProcessed"] == 1
    assert sorted((await running.table("events"))["id"].to_pylist()) == [0, 1, 2]
