"""`autoloader worker`: runs and schedules of an API that runs elsewhere, over the shared database."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.fixtures.api import Api, Client
from tests.integration.graphql_api.documents import RUN, create

STATUS = "query ($id: ID!) { run(id: $id) { status rowsWritten errorMessage } }"


async def test_a_worker_executes_what_the_api_has_queued_and_tells_of_it(
    api: Api, client: Client, database_url: str, tmp_path: Path
) -> None:
    (api.landing / "a.json").write_text(json.dumps({"id": 1}) + "\n")
    ingestion = await create(api, client)
    run = (await client.data(RUN, {"input": {"ingestionId": ingestion["id"]}}))["runIngestion"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOLOADER_")}
    environment |= {"AUTOLOADER_DATABASE_URL": database_url, "AUTOLOADER_HOME": str(tmp_path / "home")}
    environment |= {"AUTOLOADER_WORKER_PORT": "0", "COLUMNS": "300"}
    command = (sys.executable, "-m", "autoloader", "worker")
    worker = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(60):
            said = (await worker.stdout.readline()).decode()
        probes = re.fullmatch(r"working, with probes at (http://127.0.0.1:\d+); Ctrl-C stops\n", said)
        assert probes is not None, said
        ended: dict[str, Any] = {"status": "QUEUED"}
        async with asyncio.timeout(60):
            while ended["status"] in ("QUEUED", "RUNNING"):
                ended = (await client.data(STATUS, {"id": run["id"]}))["run"]
                await asyncio.sleep(0.05)
        assert ended == {"status": "SUCCESS", "rowsWritten": 1, "errorMessage": None}
        async with httpx.AsyncClient(base_url=probes[1]) as http:
            pages = {path: await http.get(path) for path in ("/healthz", "/readyz", "/metrics", "/graphql")}
        assert {path: page.status_code for path, page in pages.items()} == {
            "/healthz": 200,
            "/readyz": 200,
            "/metrics": 200,
            "/graphql": 404,
        }
        assert 'autoloader_runs_total{status="SUCCESS",trigger="MANUAL"} 1.0' in pages["/metrics"].text
        worker.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await worker.wait() == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
