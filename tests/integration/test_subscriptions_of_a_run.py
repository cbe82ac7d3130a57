"""A real run as its followers see it: from queued to ended, a batch at a time."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.application import background_work, open_application
from autoloader.settings import Settings
from domain.activity.entities import ActivityKind
from graphql_api.app import create_app
from persistence.tables import activity_events
from tests.fixtures.application import RUN, Running
from tests.fixtures.streams import socket

ACTIVITY = "subscription { activity { kind runId run { status filesProcessed } } }"
RUN_UPDATED = "subscription ($run: ID!) { runUpdated(runId: $run) { status filesProcessed rowsWritten progress } }"


async def test_a_run_is_followed_from_its_queue_to_its_end(running: Running) -> None:
    for number in range(3):
        (running.landing / f"{number}.json").write_text(json.dumps({"id": number}) + "\n")
    ingestion = await running.create("events")
    app = create_app(running.application.services, ready=running.application.ready)
    async with socket(app, authorization=f"Bearer {running.client.key}") as connected:
        await connected.init()
        connected.subscribe(ACTIVITY, id="activity")
        # Following begins at some moment after it is asked for; from then on nothing is missed.
        await _is_followed(running, connected)
        run = (await running.client.data(RUN, {"input": {"ingestionId": ingestion}}))["runIngestion"]["id"]
        connected.subscribe(RUN_UPDATED, {"run": run}, id="run")
        told: dict[str, list[Any]] = {"activity": [], "run": []}
        async with asyncio.timeout(60):
            while (message := await connected.receive()) != {"type": "complete", "id": "run"}:
                told[message["id"]].append(message["payload"]["data"])
            while told["activity"][-1]["activity"]["kind"] != "RUN_ENDED":
                told["activity"].append(await connected.next("activity"))
    kinds = [event["activity"]["kind"] for event in told["activity"] if event["activity"]["runId"] == run]
    # What was discovered, how much there is to do, and one batch.
    assert kinds == ["RUN_QUEUED", "RUN_STARTED", *["RUN_PROGRESSED"] * 2, "SCHEMA_CHANGED", "RUN_PROGRESSED", "RUN_ENDED"]
    states = [state["runUpdated"] for state in told["run"]]
    assert states[-1] == {"status": "SUCCESS", "filesProcessed": 3, "rowsWritten": 3, "progress": 1.0}
    assert [state["progress"] for state in states] == sorted(state["progress"] for state in states)


async def test_background_work_forgets_what_is_too_old_to_go_on_from(database_url: str, database: AsyncEngine, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", database_url=database_url)
    async with open_application(settings, database_url) as application:
        tenant = await application.ensure_local_tenant()
        event = {"tenant_id": tenant.id, "kind": ActivityKind.RUN_ENDED, "ingestion_id": tenant.id}
        rows = [event | {"at": datetime.now(UTC) - timedelta(days=days)} for days in (30, 8, 6)]
        async with database.begin() as connection:
            await connection.execute(insert(activity_events), rows)
        async with background_work(application), asyncio.timeout(30):
            while len(kept := await _moments(database)) == len(rows):
                await asyncio.sleep(0.02)
    assert kept == [rows[-1]["at"]]


async def _moments(database: AsyncEngine) -> list[Any]:
    async with database.connect() as connection:
        return list((await connection.scalars(select(activity_events.c.at))).all())


async def _is_followed(running: Running, connected: Any) -> None:
    """Return when an event has been told."""
    coming = asyncio.create_task(connected.next("activity"))
    number = 0
    async with asyncio.timeout(30):
        while not coming.done():
            number += 1
            await running.create(f"unrelated_{number}")
            await asyncio.wait([coming], timeout=0.2)
    assert (await coming)["activity"]["kind"] == "INGESTION_CREATED"
