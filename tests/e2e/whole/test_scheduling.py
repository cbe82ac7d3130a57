"""Runs that nobody asks for: Prefect fires them, and rests while the ingestion does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fixtures.prefect_server import Prefect
from tests.fixtures.whole_stack import Whole, lines
from tests.integration.graphql_api.documents import CHANGE_STATUS, RUN
from tests.integration.prefect.test_api import deployed, soon, uuid_of

# The first of them starts everything.
pytestmark = pytest.mark.timeout(600)

RUNS = """
query ($id: ID!) {
  ingestion(id: $id) { status runs { nodes { id status trigger dueAt flowRunId rowsWritten filesDiscovered filesProcessed } } }
}
"""


def this_minute() -> tuple[datetime, dict[str, str]]:
    """The minute that has begun, and a schedule that fires then and not again for a year."""
    due = datetime.now(UTC).replace(second=0, microsecond=0)
    return due, {"cron": f"{due.minute} {due.hour} {due.day} {due.month} *", "timezone": "UTC"}


async def runs(whole: Whole, id: str, good: int) -> list[dict[str, Any]]:
    """The ingestion's runs, the newest first, once so many have ended."""
    seen = await whole.seen(RUNS, id, lambda seen: sum(run["status"] not in ("QUEUED", "RUNNING") for run in seen["runs"]["nodes"]) >= good)
    nodes: list[dict[str, Any]] = seen["runs"]["nodes"]
    return nodes


@pytest.mark.scenario(121)
async def test_what_is_due_by_the_schedule_is_loaded(whole: Whole, prefect: Prefect) -> None:
    whole.land("a.json", lines([{"id": 1}, {"id": 2}]))
    due, schedule = this_minute()
    id = await whole.create(schedule=schedule, activate=True)
    await deployed(prefect, id)

    await prefect.lay_out(uuid_of(id), due)

    [run] = await runs(whole, id, 1)
    assert (run["status"], run["trigger"], run["filesProcessed"], run["rowsWritten"]) == ("SUCCESS", "SCHEDULED", 1, 2)
    assert datetime.fromisoformat(run["dueAt"]) == due
    assert [row["id"] for row in await whole.rows("id")] == [1, 2]
    flow_run = await soon(lambda: prefect.flow_run(run["flowRunId"]), lambda seen: seen.state.is_final())
    assert (flow_run.auto_scheduled, flow_run.state.name) == (True, "Completed")


@pytest.mark.scenario(126)
async def test_what_comes_while_an_ingestion_is_paused_is_loaded_when_it_is_resumed(whole: Whole, prefect: Prefect) -> None:
    whole.land("a.json", lines([{"id": 1}]))
    due, schedule = this_minute()
    id = await whole.create(schedule=schedule, activate=True)
    first = await whole.run(id)
    assert first["rowsWritten"] == 1

    await whole.data(CHANGE_STATUS % "pauseIngestion", {"id": id})
    await deployed(prefect, id, lambda seen: seen.paused)
    for number in (2, 3, 4):
        whole.land(f"{number}.json", lines([{"id": number}]))
    # What fires it when it is not paused; and somebody who asks.
    await prefect.lay_out(uuid_of(id), due)
    refused = (await whole.data(RUN, {"input": {"ingestionId": id}}))["runIngestion"]

    assert (refused["__typename"], refused["reason"]) == ("ConflictError", "WRONG_STATE")
    assert [run["id"] for run in await runs(whole, id, 1)] == [first["id"]]
    assert len(await prefect.flow_runs(uuid_of(id))) == 1
    assert [row["id"] for row in await whole.rows("id")] == [1]

    await whole.data(CHANGE_STATUS % "resumeIngestion", {"id": id})
    await deployed(prefect, id, lambda seen: not seen.paused)
    await prefect.lay_out(uuid_of(id), due)

    backlog, _ = await runs(whole, id, 2)
    assert (backlog["status"], backlog["trigger"]) == ("SUCCESS", "SCHEDULED")
    assert (backlog["filesDiscovered"], backlog["filesProcessed"], backlog["rowsWritten"]) == (3, 3, 3)
    assert sorted(row["id"] for row in await whole.rows("id")) == [1, 2, 3, 4]
