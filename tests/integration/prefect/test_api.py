"""From GraphQL to Prefect and back, by the whole application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import pytest
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from sqlalchemy import text

from autoloader.orchestration import prefect_worker
from domain.ingestions.entities import IngestionStatus
from graphql_api.relay.ids import decode_any_id
from tests.fixtures.application import Running
from tests.fixtures.prefect_server import Prefect
from tests.integration.graphql_api.documents import CHANGE_STATUS, RUN

T = TypeVar("T")

UPDATE = """
mutation ($input: UpdateIngestionInput!) {
  updateIngestion(input: $input) { __typename ... on Error { message } ... on ValidationError { fields { path message } } }
}
"""
DELETE = "mutation ($id: ID!) { deleteIngestion(input: { id: $id }) { __typename ... on Error { message } } }"
FLOW_RUN = "query ($id: ID!) { run(id: $id) { status trigger dueAt flowRunId rowsWritten ingestion { nextDueAt } } }"
RUNS = "query ($id: ID!) { ingestion(id: $id) { nextDueAt runs(first: 5) { nodes { status trigger dueAt flowRunId rowsWritten } } } }"
YEARLY = {"cron": "0 0 1 1 *", "timezone": "Europe/Berlin"}


async def soon(look: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """What is seen once the outbox has been emptied."""
    async with asyncio.timeout(60):
        while True:
            try:
                if good(seen := await look()):
                    return seen
            except ObjectNotFound:
                pass
            await asyncio.sleep(0.05)


def uuid_of(id: str) -> UUID:
    decoded = decode_any_id(id)
    assert decoded is not None
    return UUID(str(decoded[1]))


async def deployed(prefect: Prefect, ingestion_id: str, good: Callable[[DeploymentResponse], bool] = lambda _: True) -> DeploymentResponse:
    return await soon(lambda: prefect.deployment(uuid_of(ingestion_id)), good)


@pytest.mark.scenario(2, 26, 113)
async def test_create_ingestion_makes_its_deployment(orchestrated: Running, prefect: Prefect) -> None:
    id = await orchestrated.create("orders", schedule=YEARLY, activate=True)
    deployment = await deployed(prefect, id)
    assert deployment.name == str(uuid_of(id))
    (schedule,) = deployment.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone, schedule.active) == ("0 0 1 1 *", "Europe/Berlin", True)
    assert {f"tenant:{orchestrated.client.tenant.id}", f"ingestion:{uuid_of(id)}"} <= set(deployment.tags)
    assert (deployment.work_pool_name, deployment.work_queue_name) == (prefect.work_pool, "small")


@pytest.mark.scenario(8)
async def test_update_ingestion_changes_when_its_deployment_fires(orchestrated: Running, prefect: Prefect) -> None:
    id = await orchestrated.create("orders", schedule=YEARLY, activate=True)
    made = await deployed(prefect, id)
    changed = await orchestrated.client.data(UPDATE, {"input": {"id": id, "schedule": {"cron": "30 5 2 2 *", "timezone": "UTC"}}})
    assert changed["updateIngestion"] == {"__typename": "Ingestion"}
    deployment = await deployed(prefect, id, lambda seen: [s.schedule.cron for s in seen.schedules] == ["30 5 2 2 *"])
    assert (deployment.id, deployment.schedules[0].schedule.timezone, deployment.schedules[0].active) == (made.id, "UTC", True)


async def test_pause_resume_and_delete_reach_the_deployment(orchestrated: Running, prefect: Prefect) -> None:
    id = await orchestrated.create("orders", schedule=YEARLY, activate=True)
    for verb, paused in (("pauseIngestion", True), ("resumeIngestion", False)):
        changed = (await orchestrated.client.data(CHANGE_STATUS % verb, {"id": id}))[verb]
        assert changed["status"] == (IngestionStatus.PAUSED if paused else IngestionStatus.ACTIVE)
        await deployed(prefect, id, lambda seen, paused=paused: (seen.paused, seen.schedules[0].active) == (paused, not paused))
    assert (await orchestrated.client.data(DELETE, {"id": id}))["deleteIngestion"]["__typename"] == "Ingestion"

    async def gone() -> bool:
        try:
            await prefect.deployment(uuid_of(id))
        except ObjectNotFound:
            return True
        return False

    await soon(gone, bool)


@pytest.mark.scenario(12)
async def test_run_ingestion_makes_a_flow_run_and_returns_the_run(orchestrated: Running, prefect: Prefect) -> None:
    id = await orchestrated.create("orders")
    queued = (await orchestrated.client.data(RUN, {"input": {"ingestionId": id}}))["runIngestion"]

    async def look() -> dict[str, Any]:
        return dict((await orchestrated.client.data(FLOW_RUN, {"id": queued["id"]}))["run"])

    run = await soon(look, lambda seen: seen["flowRunId"] is not None)
    assert (run["status"], run["trigger"]) == ("QUEUED", "MANUAL")
    flow_run = await prefect.flow_run(run["flowRunId"])
    assert (flow_run.state.name, flow_run.parameters["run_id"]) == ("Scheduled", str(uuid_of(queued["id"])))


@pytest.mark.scenario(115)
async def test_runs_asked_for_here_and_in_prefect_are_executed_by_a_worker(orchestrated: Running, prefect: Prefect) -> None:
    (orchestrated.landing / "a.json").write_text(json.dumps({"id": 1}) + "\n")
    id = await orchestrated.create("orders", schedule=YEARLY, activate=True)
    async with prefect_worker(orchestrated.application.settings, orchestrated.application.flow_services):
        by_hand = await orchestrated.run(id)
        assert (by_hand["status"], by_hand["rowsWritten"]) == ("SUCCESS", 1)
        flow_run_id = (await orchestrated.client.data(FLOW_RUN, {"id": by_hand["id"]}))["run"]["flowRunId"]
        flow_run = await soon(lambda: prefect.flow_run(flow_run_id), lambda seen: seen.state.is_final())
        assert (flow_run.state.name, flow_run.state.message) == ("Completed", "1 files loaded, 0 failed, 1 rows written")

        # Somebody starts it in Prefect: a run comes of it.
        (orchestrated.landing / "b.json").write_text(json.dumps({"id": 2}) + "\n")
        deployment = await deployed(prefect, id)
        fired = await prefect.client.create_flow_run_from_deployment(deployment.id)
        fired = await soon(lambda: prefect.flow_run(fired.id), lambda seen: seen.state.is_final())
    assert (fired.state.name, fired.state.message) == ("Completed", "1 files loaded, 0 failed, 1 rows written")
    assert (await orchestrated.table("orders")).num_rows == 2


async def test_what_prefects_schedule_fires_is_a_run_of_its_moment(orchestrated: Running, prefect: Prefect) -> None:
    (orchestrated.landing / "a.json").write_text(json.dumps({"id": 1}) + "\n")
    due = datetime.now(UTC).replace(second=0, microsecond=0)
    once_a_year = {"cron": f"{due.minute} {due.hour} {due.day} {due.month} *", "timezone": "UTC"}
    id = await orchestrated.create("orders", schedule=once_a_year, activate=True)
    await deployed(prefect, id)
    await prefect.lay_out(uuid_of(id), due)

    async def look() -> list[dict[str, Any]]:
        ingestion = (await orchestrated.client.data(RUNS, {"id": id}))["ingestion"]
        return [run | {"nextDueAt": ingestion["nextDueAt"]} for run in ingestion["runs"]["nodes"]]

    async with prefect_worker(orchestrated.application.settings, orchestrated.application.flow_services):
        (run,) = await soon(look, lambda seen: [run["status"] for run in seen] == ["SUCCESS"])
    assert (run["trigger"], run["rowsWritten"]) == ("SCHEDULED", 1)
    assert datetime.fromisoformat(run["dueAt"]) == due
    assert datetime.fromisoformat(run["nextDueAt"]) == due.replace(year=due.year + 1)
    assert (await prefect.flow_run(run["flowRunId"])).auto_scheduled


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chores go round a hundred times a second."""
    monkeypatch.setattr("autoloader.background._TICK_SECONDS", 0.01)


async def test_the_databases_own_schedules_rest(hasty: None, orchestrated: Running, prefect: Prefect) -> None:
    id = await orchestrated.create("orders", schedule=YEARLY, activate=True)
    async with orchestrated.database.begin() as connection:
        await connection.execute(text("UPDATE ingestions SET next_due_at = now() - interval '1 minute'"))
    # As long as it takes to deploy another, many firings would have been looked for.
    await deployed(prefect, await orchestrated.create("others"))
    assert (await orchestrated.client.data(RUNS, {"id": id}))["ingestion"]["runs"]["nodes"] == []
