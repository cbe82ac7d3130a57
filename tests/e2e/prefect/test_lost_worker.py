"""A worker that is killed in the middle of a flow run: its run is settled and retried, and its places in Prefect are given back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.actions import WorkPoolCreate

from domain.steps import Step
from integrations.prefect.worker import WarmWorker
from tests.chaos.workers import Order, Workers, workers
from tests.fixtures.api import Api, Client
from tests.fixtures.application import ENDED
from tests.fixtures.prefect_server import Prefect
from tests.integration.graphql_api.documents import RUN, create

RUNS = """
query ($id: ID!) {
  ingestion(id: $id) {
    runs(first: 10) { edges { node { status trigger rowsWritten errorMessage flowRunId retryOf { flowRunId } } } }
  }
}
"""
_LEASE_SECONDS = 5


@pytest.fixture
async def processes() -> AsyncIterator[Workers]:
    async with workers() as started:
        yield started


@pytest.fixture
async def room_for_one(prefect: Prefect) -> Prefect:
    """Of the test's work pool and its queue, each by itself."""
    template = WarmWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=prefect.work_pool, type=WarmWorker.type, base_job_template=template, concurrency_limit=1)
    await prefect.client.create_work_pool(pool)
    await prefect.client.create_work_queue("small", work_pool_name=prefect.work_pool, concurrency_limit=1)
    return prefect


async def land_and_run(api: Api, client: Client, name: str) -> str:
    """The id of a new ingestion, with a row at its source and a queued run."""
    source = api.landing / name
    source.mkdir()
    (source / "a.json").write_text(json.dumps({"id": 1}) + "\n")
    ingestion = await create(api, client, name=name, source={"type": "LOCAL", "path": str(source)})
    await client.data(RUN, {"input": {"ingestionId": ingestion["id"]}})
    return str(ingestion["id"])


async def runs_of(client: Client, ingestion_id: str) -> list[dict[str, Any]]:
    """Its runs, the oldest first."""
    found = (await client.data(RUNS, {"id": ingestion_id}))["ingestion"]["runs"]["edges"]
    return [edge["node"] for edge in reversed(found)]


async def all_ended(client: Client, ingestion_ids: Sequence[str], log: Path) -> list[list[dict[str, Any]]]:
    runs: list[list[dict[str, Any]]] = []
    try:
        async with asyncio.timeout(180):
            while not runs or any(run["status"] not in ENDED for of_one in runs for run in of_one):
                await asyncio.sleep(0.1)
                runs = [await runs_of(client, id) for id in ingestion_ids]
    except TimeoutError:
        raise AssertionError(f"{runs}\n{log.read_text()}") from None
    return runs


async def test_a_killed_workers_run_is_retried_and_its_places_are_free_for_the_next(
    api: Api, client: Client, room_for_one: Prefect, database_url: str, processes: Workers, tmp_path: Path
) -> None:
    prefect = room_for_one
    environment = {
        "AUTOLOADER_DATABASE_URL": database_url,
        "AUTOLOADER_HOME": str(tmp_path / "home"),
        "AUTOLOADER_LEASE_SECONDS": str(_LEASE_SECONDS),
        "AUTOLOADER_PREFECT_API_URL": prefect.connection.api_url,
        "AUTOLOADER_PREFECT_AUTH_STRING": prefect.connection.auth_string or "",
        "AUTOLOADER_PREFECT_WORK_POOL": prefect.work_pool,
    }
    struck = await land_and_run(api, client, "struck")
    killed = await processes.start(environment, tmp_path / "killed.log", Order(Step.CLAIMED))
    await killed.ended()
    (run,) = await runs_of(client, struck)
    assert run["status"] == "RUNNING", killed.told()
    assert (await prefect.flow_run(run["flowRunId"])).state.is_running()

    other = await land_and_run(api, client, "other")
    log = tmp_path / "next.log"
    worker = await processes.start(environment, log)
    (lost, retry), (next_one,) = await all_ended(client, [struck, other], log)
    said = "the worker was lost; another run loads what it has left"
    assert (lost["status"], lost["errorMessage"], lost["rowsWritten"]) == ("FAILED", said, 0)
    assert (retry["status"], retry["trigger"], retry["rowsWritten"]) == ("SUCCESS", "RETRY", 1)
    assert retry["retryOf"] == {"flowRunId": lost["flowRunId"]}
    assert (next_one["status"], next_one["rowsWritten"]) == ("SUCCESS", 1)
    await worker.terminate()

    first, *later = [await prefect.flow_run(run["flowRunId"]) for run in (lost, retry, next_one)]
    assert (first.state.name, first.state.message) == ("Failed", said)
    assert [flow_run.state.name for flow_run in later] == ["Completed", "Completed"]
    # There was room for one all the time, and the dead worker's flow run had it until its run was settled.
    assert all(flow_run.start_time >= first.state.timestamp for flow_run in later)
    names = [state.name for state in await prefect.client.read_flow_run_states(first.id)]
    assert names == ["Scheduled", "Pending", "Submitting", "Running", "Failed"]
