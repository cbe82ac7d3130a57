"""`autoloader up` as people run it: it serves, it stops, and after being killed it comes back with what it had."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from autoloader.embedded.cluster import ClusterFolder

_START_SECONDS = 60
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Served:
    """`told` is what it has said of itself, by name."""

    process: asyncio.subprocess.Process
    told: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.told["API"]

    @property
    def key(self) -> str:
        return self.told["key"]

    async def data(self, document: str, variables: dict[str, Any] | None = None) -> Any:
        async with httpx.AsyncClient(timeout=30) as http:
            response = await http.post(
                self.url, json={"query": document, "variables": variables or {}}, headers={"authorization": f"Bearer {self.key}"}
            )
        body = response.json()
        assert "errors" not in body, body
        return body["data"]


@asynccontextmanager
async def up(home: Path, log: Path | None = None, *options: str, start_seconds: float = _START_SECONDS) -> AsyncIterator[Served]:
    """A process that serves; killed at the end if it is still there. Its log goes to the file, if one is given."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOLOADER_")} | {"COLUMNS": "300"}
    command = (sys.executable, "-m", "autoloader", "up", "--port", "0", "--home", str(home), *options)
    with log.open("wb") if log else contextlib.nullcontext() as stderr:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=stderr)
    try:
        told: dict[str, str] = {}
        assert process.stdout is not None
        async with asyncio.timeout(start_seconds):
            while "Ctrl-C" not in told:
                line = _ANSI.sub("", (await process.stdout.readline()).decode())
                assert line, f"it ended with {await process.wait()} after {told}"
                for name in ("GraphiQL", "API", "key", "data", "Prefect", "Ctrl-C"):
                    if line.startswith(name):
                        told[name] = line.removeprefix(name).strip()
        assert told["data"] == str(home)
        yield Served(process, told)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def processes_of(home: Path) -> list[int]:
    """Processes that work in the home folder or in the cluster's, which for root lies where postgres' user can reach it."""
    folders = (str(home), str((home / "postgres" / "data").resolve()))
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd").startswith(folders):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def beside(home: Path, command: str) -> list[str]:
    """Another command over the same home: what stands before the colons of the lines that it prints, when all is well."""
    environment = os.environ | {"AUTOLOADER_HOME": str(home), "COLUMNS": "300"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "autoloader", command, env=environment, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told
    return [line.split(":")[0] for line in told.decode().splitlines()]


async def gone(home: Path) -> None:
    async with asyncio.timeout(20):
        while processes_of(home):
            await asyncio.sleep(0.02)


CREATE = """
mutation ($input: CreateIngestionInput!) { createIngestion(input: $input) { ... on Ingestion { id } ... on Error { message } } }
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Removed with the cluster, which for root may lie elsewhere."""
    home = tmp_path / "home"
    yield home
    ClusterFolder(home / "postgres").remove()


async def test_it_serves_stops_on_a_signal_and_survives_being_killed(home: Path) -> None:
    async with up(home) as first:
        assert (await first.data("{ viewer { tenant role } }")) == {"viewer": {"tenant": "local", "role": "ADMIN"}}
        page = httpx.get(first.url, headers={"accept": "text/html"})
        assert 'id="graphiql"' in page.text
        assert first.key not in page.text
        assert first.told["GraphiQL"] == f"{first.url}#key={first.key}"
        (home / "landing" / "a.json").write_text(json.dumps({"id": 1}) + "\n")
        input = {
            "name": "kept",
            "source": {"type": "LOCAL", "path": str(home / "landing")},
            "format": {"type": "JSON"},
            "destination": {"database": "lake", "table": "kept"},
        }
        created = (await first.data(CREATE, {"input": input}))["createIngestion"]
        assert set(created) == {"id"}
        assert processes_of(home)
        assert await beside(home, "doctor") == ["ok   database", "ok   migrations", "ok   catalog", "ok   warehouse", "ok   local root"]
        first.process.kill()
        await first.process.wait()
    await gone(home)

    async with up(home) as second:
        assert second.key == first.key
        assert (await second.data("{ ingestions { nodes { id name } } }"))["ingestions"]["nodes"] == [{"id": created["id"], "name": "kept"}]
        second.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            assert await second.process.wait() == 0
    assert processes_of(home) == []
    assert not list((home / "staging").iterdir())
    assert oct((home / "local.key").stat().st_mode & 0o777) == "0o600"
