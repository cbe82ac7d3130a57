"""The document behind a dashboard: 50 ingestions with 10 runs each, as one client and as sixteen."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import asyncpg
import httpx

from benchmarks.report import Report
from benchmarks.server import Served, served

INGESTIONS = 1_000
RUNS_EACH = 50
SECONDS = 8.0
WARM_UP = 5
ROUNDS = 8
REQUESTS_A_ROUND = 10
DOCUMENT = """
query Dashboard {
  ingestions(first: 50) {
    edges {
      cursor
      node {
        id name status version createdAt updatedAt
        source { type path glob }
        destination { database table }
        runs(first: 10) {
          edges {
            cursor
            node { id status trigger queuedAt startedAt endedAt durationSeconds filesProcessed filesFailed rowsWritten bytesProcessed }
          }
          pageInfo { hasNextPage endCursor }
        }
      }
    }
    pageInfo { hasNextPage endCursor }
  }
}"""
_CREATE = """
mutation ($input: CreateIngestionInput!) {
  createIngestion(input: $input) { ... on Ingestion { id } ... on Error { message } }
}"""
_COPIES = """
INSERT INTO ingestions (id, tenant_id, name, status, source, format, destination, destination_key, policies, execution, checkpoint_path,
                        generation, version, created_at, updated_at)
SELECT gen_random_uuid(), tenant_id, 'ingestion ' || n, 'ACTIVE', source, format, destination, destination_key || n, policies, execution,
       checkpoint_path || n, 1, 1, created_at - n * interval '1 minute', updated_at
FROM ingestions CROSS JOIN generate_series(1, $1) n
"""
_RUNS = """
INSERT INTO runs (id, tenant_id, ingestion_id, status, trigger, queued_at, started_at, ended_at, duration_seconds, files_total,
                  files_discovered, files_processed, files_failed, rows_written, bytes_processed)
SELECT gen_random_uuid(), tenant_id, id, 'SUCCESS', 'SCHEDULED', created_at + n * interval '1 hour', created_at + n * interval '1 hour',
       created_at + n * interval '1 hour' + interval '42 seconds', 42, 10, 10, 10, 0, 12345 + n, 1234567 + n
FROM ingestions CROSS JOIN generate_series(1, $1) n
"""


async def measure(report: Report, place: Path) -> None:
    with served(place) as server:
        headers = {"Authorization": f"Bearer {server.key}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=60) as http:
            await fill(server.database, http, place)
            size = 0
            for _ in range(WARM_UP):
                response = await http.post("/graphql", json={"query": DOCUMENT})
                pages = [edge["node"]["runs"]["edges"] for edge in response.json()["data"]["ingestions"]["edges"]]
                assert [len(page) for page in pages] == [10] * 50
                size = len(response.content)
            rows = [await _at(http, clients) for clients in (1, 16)]
            under, without = await _row_security(server, http)
    report.table(
        f"the dashboard document, {size / 1000:.0f} kB, {INGESTIONS:,} ingestions x {RUNS_EACH} runs in the database",
        ("clients", "requests", "p50 ms", "p95 ms", "req/s"),
        rows,
    )
    report.note(f"under row-level security {under:.1f} ms, without {without:.1f} ms at the median")
    report.target("the dashboard document under row-level security, to without", under / without, 1.1, "x")


async def _row_security(server: Served, http: httpx.AsyncClient) -> tuple[float, float]:
    """Milliseconds at the median, under the policies of row-level security and without, in turn."""
    owner = await asyncpg.connect(server.database)
    times: dict[str, list[float]] = {"ENABLE": [], "DISABLE": []}
    for _ in range(ROUNDS):
        for switch, found in times.items():
            for table in ("ingestions", "runs"):
                await owner.execute(f"ALTER TABLE {table} {switch} ROW LEVEL SECURITY")
            for counted in (False, *[True] * REQUESTS_A_ROUND):
                sent = time.perf_counter()
                assert (await http.post("/graphql", json={"query": DOCUMENT})).status_code == 200
                if counted:
                    found.append((time.perf_counter() - sent) * 1000)
    await owner.close()
    return statistics.median(times["ENABLE"]), statistics.median(times["DISABLE"])


async def fill(database: str, http: httpx.AsyncClient, place: Path, *, runs_each: int = RUNS_EACH) -> None:
    """1,000 ingestions with so many runs each, in the database at a `postgresql://` URL; `http` has a key."""
    creation = {
        "name": "the first",
        "source": {"type": "LOCAL", "path": str(place / "landing"), "glob": "**/*.json"},
        "format": {"type": "JSON"},
        "destination": {"database": "bench", "table": "dashboard"},
    }
    (place / "landing").mkdir()
    created = (await http.post("/graphql", json={"query": _CREATE, "variables": {"input": creation}})).json()
    assert "id" in created["data"]["createIngestion"], created
    connection = await asyncpg.connect(database)
    await connection.execute(_COPIES, INGESTIONS - 1)
    await connection.execute(_RUNS, runs_each)
    await connection.execute("VACUUM ANALYZE ingestions, runs")
    await connection.close()


async def _at(http: httpx.AsyncClient, clients: int) -> list[str]:
    times: list[float] = []
    began = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - began < SECONDS:
            sent = time.perf_counter()
            response = await http.post("/graphql", json={"query": DOCUMENT})
            assert response.status_code == 200
            times.append((time.perf_counter() - sent) * 1000)

    await asyncio.gather(*(client() for _ in range(clients)))
    rate = len(times) / (time.perf_counter() - began)
    return [str(clients), str(len(times)), f"{statistics.median(times):.1f}", f"{sorted(times)[int(len(times) * 0.95)]:.1f}", f"{rate:.1f}"]
