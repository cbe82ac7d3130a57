"""`autoloader up --prefect` as people run it: a local Prefect server, a worker, and nothing of them left when it is killed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx

from tests.e2e.test_up import CREATE, gone, home, processes_of, up
from tests.fixtures.application import RUN

__all__ = ["home"]

STATUS = "query ($id: ID!) { run(id: $id) { status rowsWritten flowRunId } system { components { name status version } } }"


async def test_it_runs_by_prefect_and_takes_the_server_along(home: Path, tmp_path: Path) -> None:
    async with up(home, tmp_path / "log", "--prefect", start_seconds=180) as served:
        (home / "landing" / "a.json").write_text(json.dumps({"id": 1}) + "\n")
        input = {
            "name": "orders",
            "source": {"type": "LOCAL", "path": str(home / "landing")},
            "format": {"type": "JSON"},
            "destination": {"database": "lake", "table": "orders"},
        }
        id = (await served.data(CREATE, {"input": input}))["createIngestion"]["id"]
        queued = (await served.data(RUN, {"input": {"ingestionId": id}}))["runIngestion"]["id"]
        async with asyncio.timeout(60):
            while (seen := await served.data(STATUS, {"id": queued}))["run"]["status"] in ("QUEUED", "RUNNING"):
                await asyncio.sleep(0.1)
        assert (seen["run"]["status"], seen["run"]["rowsWritten"]) == ("SUCCESS", 1)
        assert seen["run"]["flowRunId"] is not None
        orchestrator = next(component for component in seen["system"]["components"] if component["name"] == "orchestrator")
        assert (orchestrator["status"], orchestrator["version"].partition(" ")[0]) == ("UP", "Prefect")
        url = served.told["Prefect"]
        assert httpx.get(f"{url}/health", trust_env=False).status_code == httpx.codes.OK
        # It asks for the password that is the owner's alone to read.
        assert httpx.post(f"{url}/deployments/filter", json={}, trust_env=False).status_code == httpx.codes.UNAUTHORIZED
        assert oct((home / "prefect" / "auth").stat().st_mode & 0o777) == "0o600"
        served.process.kill()
        await served.process.wait()
    await gone(home)
    assert processes_of(home) == []
    async with asyncio.timeout(60):
        while True:
            try:
                httpx.get(f"{url}/health", trust_env=False)
            except httpx.ConnectError:
                break
            await asyncio.sleep(0.1)
