"""`autoloader worker` where Prefect orchestrates: it executes flow runs, and goes in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.fixtures.api import Api, Client
from tests.fixtures.prefect_server import Prefect
from tests.integration.graphql_api.documents import RUN, create

STATUS = "query ($id: ID!) { run(id: $id) { status rowsWritten errorMessage flowRunId } }"


async def test_it_executes_flow_runs_and_ends_in_order_on_sigterm(
    api: Api, client: Client, prefect: Prefect, database_url: str, tmp_path: Path
) -> None:
    (api.landing / "a.json").write_text(json.dumps({"id": 1}) + "\n")
    ingestion = await create(api, client)
    run = (await client.data(RUN, {"input": {"ingestionId": ingestion["id"]}}))["runIngestion"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AUTOLOADER_", "PREFECT_"))}
    environment |= {
        "AUTOLOADER_DATABASE_URL": database_url,
        "AUTOLOADER_HOME": str(tmp_path / "home"),
        "AUTOLOADER_PREFECT_WORK_POOL": prefect.work_pool,
        # As whoever has Prefect has them already.
        "PREFECT_API_URL": prefect.connection.api_url,
        "PREFECT_API_AUTH_STRING": prefect.connection.auth_string or "",
    }
    log = tmp_path / "worker.log"
    with log.open("wb") as stderr:
        worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "autoloader", "worker", env=environment, stderr=stderr)
    try:
        ended: dict[str, Any] = {"status": "QUEUED"}
        async with asyncio.timeout(120):
            while ended["status"] in ("QUEUED", "RUNNING"):
                ended = (await client.data(STATUS, {"id": run["id"]}))["run"]
                await asyncio.sleep(0.1)
        assert (ended["status"], ended["rowsWritten"], ended["errorMessage"]) == ("SUCCESS", 1, None)
        async with asyncio.timeout(60):
            while not (flow_run := await prefect.flow_run(ended["flowRunId"])).state.is_final():
                await asyncio.sleep(0.1)
        assert flow_run.state.name == "Completed"
        worker.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await worker.wait() == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    lines = log.read_text().splitlines()
    # Prefect's own says so when its server takes a while for the last events.
    lines = [line for line in lines if "EventsWorker Still processing items" not in line]
    assert [line for line in lines if " ERROR " in line or " WARNING " in line or line.startswith("  | ")] == []
    assert (prefect.connection.auth_string or "").split(":")[1] not in log.read_text()
