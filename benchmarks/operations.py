"""What an operation's objects and leaves take, and how long one that asks for much keeps others waiting."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import httpx

from benchmarks import dashboard
from benchmarks.report import Report
from benchmarks.server import served

PAGE = 100
OBJECTS = PAGE * PAGE
ROUNDS = 5
LONGEST_WAIT = 0.25
"""Of the time that the large operation takes: what somebody else may wait meanwhile."""
_LEAVES = ["id", "status", "trigger", "queuedAt", "startedAt", "endedAt", "durationSeconds", "filesProcessed", "filesFailed", "rowsWritten"]


def document(leaves: int, *, times: int = 1) -> str:
    asked = " ".join(f"f{number}: {_LEAVES[number % len(_LEAVES)]}" for number in range(leaves))
    pages = f"ingestions(first: {PAGE}) {{ nodes {{ runs(first: {PAGE}) {{ nodes {{ {asked} }} }} }} }}"
    return "{ " + " ".join(f"x{number}: {pages}" for number in range(times)) + " }"


async def measure(report: Report, place: Path) -> None:
    with served(place) as server:
        headers = {"Authorization": f"Bearer {server.key}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=60) as http:
            await dashboard.fill(server.database, http, place, runs_each=PAGE)
            few, many = await _seconds(http, document(1)), await _seconds(http, document(31))
            leaf = (many - few) / (30 * OBJECTS)
            large, waited = await _beside(http, document(10, times=4))
    thing = few / OBJECTS - leaf
    report.note(f"an object takes {thing * 1e6:.0f} us, a leaf {leaf * 1e6:.1f} us: {thing / leaf:.0f} leaves are an object")
    report.note(
        f"{4 * OBJECTS:,} objects with 10 leaves each: {large:.1f} s; a small question waited {waited * 1000:.0f} ms at most meanwhile"
    )
    report.target("the longest wait beside a large operation, to what that takes", waited / large, LONGEST_WAIT, "x")


async def _seconds(http: httpx.AsyncClient, query: str) -> float:
    return statistics.median([await _seconds_once(http, query) for _ in range(ROUNDS)])


async def _beside(http: httpx.AsyncClient, query: str) -> tuple[float, float]:
    """Seconds: of the operation, and of the longest small question asked while it went on."""
    large = asyncio.create_task(_seconds_once(http, query))
    waits = []
    while not large.done():
        began = time.perf_counter()
        await http.get("/healthz")
        waits.append(time.perf_counter() - began)
        await asyncio.sleep(0.01)
    return await large, max(waits)


async def _seconds_once(http: httpx.AsyncClient, query: str) -> float:
    began = time.perf_counter()
    answer = await http.post("/graphql", json={"query": query})
    seconds = time.perf_counter() - began
    assert answer.status_code == 200, answer.text[:500]
    return seconds
