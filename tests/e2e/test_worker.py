"""`autoloader worker`: runs and schedules of an API that runs elsewhere, over the shared database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.fixtures.api import Api, Client
from tests.integration.graphql_api.documents import RUN, create

STATUS = "query ($id: ID!) { run(id: $id) { status rowsWritten errorMessage } }"


async def test_a_worker_executes_what_the_api_has_queued(api: Api, client: Client, database_url: str, tmp_path: Path) -> None:
    (api.landing / "a.json").write_text(json.dumps({"id": 1}) + "\n")
    ingestion = await create(api, client)
    run = (await client.data(RUN, {"input": {"ingestionId": ingestion["id"]}}))["runIngestion"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOLOADER_")}
    environment |= {"AUTOLOADER_DATABASE_URL": database_url, "AUTOLOADER_HOME": str(tmp_path / "home")}
    worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "autoloader", "worker", env=environment)
    try:
        ended: dict[str, Any] = {"status": "QUEUED"}
        async with asyncio.timeout(60):
            while ended["status"] in ("QUEUED", "RUNNING"):
                ended = (await client.data(STATUS, {"id": run["id"]}))["run"]
                await asyncio.sleep(0.05)
        assert ended == {"status": "SUCCESS", "rowsWritten": 1, "errorMessage": None}
        worker.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await worker.wait() == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
