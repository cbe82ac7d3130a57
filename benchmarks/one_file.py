"""One small file: from the mutation that asks for a run until SUCCESS stands in the database."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import asyncpg
import httpx

from benchmarks.report import Report
from benchmarks.server import served
from domain.runs.entities import Run
from graphql_api.relay.ids import decode_id

FILES = 30
ROWS = 10
WARM_UP = 3
TARGET_MS = 300.0
_SECONDS_AT_MOST = 30.0
_CREATE = """
mutation ($input: CreateIngestionInput!) {
  createIngestion(input: $input) { ... on Ingestion { id } ... on Error { message } }
}"""
_RUN = """
mutation ($input: RunIngestionInput!) {
  runIngestion(input: $input) { ... on Run { id } ... on Error { message } }
}"""
_ENDED = """
SELECT status, rows_written, extract(epoch FROM started_at - queued_at), extract(epoch FROM ended_at - started_at)
FROM runs WHERE id = $1 AND ended_at IS NOT NULL
"""


async def measure(report: Report, place: Path) -> None:
    landing = place / "landing"
    landing.mkdir()
    with served(place) as server:
        connection = await asyncpg.connect(server.database)
        headers = {"Authorization": f"Bearer {server.key}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=30) as http:
            ingestion = await _send(http, _CREATE, _creation(landing))
            total, queued, worked = [], [], []
            for number in range(WARM_UP + FILES):
                lines = [f'{{"id": {number * ROWS + row}, "name": "row {row}"}}\n' for row in range(ROWS)]
                (landing / f"{number:03}.json").write_text("".join(lines))
                began = time.perf_counter()
                run = decode_id(Run, await _send(http, _RUN, {"ingestionId": ingestion}))
                status, rows, in_queue, at_work = await asyncio.wait_for(_ended(connection, run), _SECONDS_AT_MOST)
                elapsed = time.perf_counter() - began
                assert (status, rows) == ("SUCCESS", ROWS), (status, rows)
                if number >= WARM_UP:
                    total.append(elapsed * 1000)
                    queued.append(float(in_queue) * 1000)
                    worked.append(float(at_work) * 1000)
        await connection.close()
    table = [
        [name, f"{statistics.median(times):.0f}", f"{min(times):.0f}", f"{sorted(times)[int(len(times) * 0.9)]:.0f}", f"{max(times):.0f}"]
        for name, times in (("trigger to SUCCESS", total), ("of it: queued", queued), ("of it: started to ended", worked))
    ]
    report.table(f"one small file at a time, {FILES} times", ("", "median ms", "min ms", "p90 ms", "max ms"), table)
    report.target("one small file, trigger to SUCCESS", statistics.median(total), TARGET_MS, "ms")


async def _ended(connection: asyncpg.Connection[asyncpg.Record], run: object) -> asyncpg.Record:
    while True:
        if ended := await connection.fetchrow(_ENDED, run):
            return ended
        await asyncio.sleep(0.005)


def _creation(landing: Path) -> dict[str, object]:
    return {
        "name": "one file",
        "source": {"type": "LOCAL", "path": str(landing)},
        "format": {"type": "JSON"},
        "destination": {"database": "bench", "table": "one_file"},
    }


async def _send(http: httpx.AsyncClient, document: str, input: dict[str, object]) -> str:
    body = (await http.post("/graphql", json={"query": document, "variables": {"input": input}})).json()
    [answer] = body["data"].values()
    found: str = answer["id"]
    return found
