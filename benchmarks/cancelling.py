"""A run by Prefect that is cancelled while it loads: from asking until CANCELLED, by the API and in Prefect."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from autoloader.local_prefect import LocalPrefect
from autoloader.orchestration import prefect_connection
from benchmarks.bench_stack import BenchStack
from benchmarks.prefect_worker import stack_by_prefect, until_ended
from benchmarks.report import Report
from domain.ingestions.entities import Ingestion
from domain.runs.entities import Run, RunStatus

FILES, TIMES = 6_000, 3
TARGET_SECONDS = 2.0
_BEGUN_WITHIN_SECONDS = 180.0


async def measure(report: Report, place: Path) -> None:
    landing = place / "landing"
    landing.mkdir()
    for number in range(FILES):
        (landing / f"{number}.json").write_text(f'{{"id": {number}}}\n')
    async with LocalPrefect(place / "prefect") as server, stack_by_prefect(place / "stack", server) as bench:
        ingestion = await bench.create({"type": "LOCAL", "path": str(landing)}, {"type": "JSON"})
        async with prefect_connection(bench.application.settings).client() as client:
            from prefect.states import Cancelling

            async def by_the_api(run: Run) -> None:
                await bench.application.services.runs.cancel_run(bench.principal, run.id)

            async def in_prefect(run: Run) -> None:
                await client.set_flow_run_state(UUID(str(run.flow_run_id)), Cancelling())

            ways = {"cancelRun": by_the_api, "Cancel in Prefect": in_prefect}
            rows = {name: await _times(bench, ingestion, cancel) for name, cancel in ways.items()}
    table = [
        [name, str(len(times)), f"{statistics.median(times):.2f}", f"{min(times):.2f}", f"{max(times):.2f}"] for name, times in rows.items()
    ]
    report.table("a run that loads, cancelled: until CANCELLED", ("", "times", "median s", "min s", "max s"), table)
    report.target("the slowest cancelling", max(map(max, rows.values())), TARGET_SECONDS, "s")


async def _times(bench: BenchStack, ingestion: Ingestion, cancel: Callable[[Run], Awaitable[None]]) -> list[float]:
    taken = []
    for _ in range(TIMES):
        run = await _loading(bench, await bench.queue(ingestion))
        began = time.perf_counter()
        await cancel(run)
        await until_ended(bench, run)
        taken.append(time.perf_counter() - began)
        await bench.ended(run, RunStatus.CANCELLED)
    return taken


async def _loading(bench: BenchStack, run: Run) -> Run:
    """The run, once its listing has ended."""
    async with asyncio.timeout(_BEGUN_WITHIN_SECONDS):
        while True:
            if (found := await bench.found(run)).files_total is not None:
                return found
            await asyncio.sleep(0.01)
