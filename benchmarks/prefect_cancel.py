"""A run that is loading, cancelled: from the request until CANCELLED stands in the database, by Prefect with our worker."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from pathlib import Path

from autoloader.local_prefect import LocalPrefect
from benchmarks.bench_stack import BenchStack
from benchmarks.prefect_worker import stack_by_prefect, until_ended
from benchmarks.report import Report
from domain.runs.entities import Run, RunStatus

TIMES = 5
FILES, ROWS_PER_FILE = 60_000, 20
"""So many that no run comes to their end before it is cancelled."""
TARGET_SECONDS = 2.0
_PATIENCE_SECONDS = 120.0


async def measure(report: Report, place: Path) -> None:
    place = place / "cancelled"
    landing = place / "landing"
    await asyncio.to_thread(_write_files, landing)
    async with LocalPrefect(place / "prefect") as server, stack_by_prefect(place, server) as bench:
        ingestion = await bench.create({"type": "LOCAL", "path": str(landing)}, {"type": "JSON"})
        taken = []
        for _ in range(TIMES + 1):
            run = await bench.queue(ingestion)
            await _until_it_loads(bench, run)
            began = time.perf_counter()
            await bench.application.services.runs.cancel_run(bench.principal, run.id)
            await until_ended(bench, run)
            taken.append(time.perf_counter() - began)
            await bench.ended(run, RunStatus.CANCELLED)
    del taken[0]
    row = [str(TIMES), f"{statistics.median(taken):.2f}", f"{min(taken):.2f}", f"{max(taken):.2f}"]
    report.table("a run by Prefect, from its cancellation to CANCELLED", ("times", "median s", "min s", "max s"), [row])
    report.target("a run by Prefect is cancelled, the longest", max(taken), TARGET_SECONDS, "s")


async def _until_it_loads(bench: BenchStack, run: Run) -> None:
    """Until the run has loaded a batch, and is at the next."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            found = await bench.found(run)
            if found.status is RunStatus.RUNNING and found.files_processed:
                return
            if found.status not in {RunStatus.QUEUED, RunStatus.RUNNING}:
                raise RuntimeError(f"the run ended {found.status} before it could be cancelled")
            await asyncio.sleep(0.01)


def _write_files(landing: Path) -> None:
    landing.mkdir(parents=True)
    for file in range(FILES):
        rows = ({"id": file * ROWS_PER_FILE + row, "name": f"row {row} of file {file}"} for row in range(ROWS_PER_FILE))
        (landing / f"{file:06}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
