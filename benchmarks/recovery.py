"""A run of 2,000 files whose worker is killed in the middle, with what recovers it, and the same run undisturbed.

The lease is not waited for: the database is told that it has expired. What is compared is work: the killed worker's until its death,
the settling of its batch, and the retry that loads the rest.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.bench_stack import BenchStack, bench_stack, settings_in
from benchmarks.load_files import FILES, write_files
from benchmarks.report import Report
from domain.ingestions.entities import Ingestion
from domain.runs.entities import Run, RunStatus
from domain.steps import Step
from persistence.database import open_database
from tests.chaos.workers import Order, Workers, workers

BATCHES = 4
ROUNDS = 3
TARGET = 1.0
_NOBODY_WORKS_ANY_MORE = (
    "UPDATE runs SET lease_expires_at = now() WHERE status = 'RUNNING'",
    "UPDATE batches SET lease_expires_at = now()",
)
_WORKED = "SELECT extract(epoch FROM now() - started_at) FROM runs WHERE id = :id"


async def measure(report: Report, place: Path) -> None:
    landing = place / "landing"
    size = await asyncio.to_thread(write_files, landing)
    (place / "first").mkdir()
    (place / "first" / "1.json").write_text('{"id": 1}\n')
    settings = settings_in(place).model_copy(update={"batch_files": FILES // BATCHES})
    async with bench_stack(settings) as stack, workers() as host:
        owner = open_database(stack.application.database.url.render_as_string(hide_password=False))
        undisturbed, interrupted = [], []
        for number in range(ROUNDS + 1):
            whole = await _undisturbed(stack, await _create(stack, landing))
            step = (Step.WRITTEN, Step.COMMITTED)[number % 2]
            broken = await _interrupted(stack, host, owner, await _create(stack, landing), place, step)
            if number:
                undisturbed.append(whole)
                interrupted.append(broken)
        await owner.dispose()
    more = [(broken - whole) / (whole / BATCHES) for broken, whole in zip(interrupted, undisturbed, strict=True)]
    rows = [
        [name, *(f"{value:.2f}" for value in (statistics.median(times), min(times), max(times)))]
        for name, times in (("undisturbed", undisturbed), ("killed in the second of four batches, and recovered", interrupted))
    ]
    report.table(f"{FILES:,} JSON files, {size / FILES / 1024:.0f} KB each, in {BATCHES} batches", ("", "median s", "min s", "max s"), rows)
    report.target("a killed run takes longer, in batches", statistics.median(more), TARGET, "batches")


async def _create(stack: BenchStack, landing: Path) -> Ingestion:
    return await stack.create({"type": "LOCAL", "path": str(landing)}, {"type": "JSON"})


async def _undisturbed(stack: BenchStack, ingestion: Ingestion) -> float:
    run = await stack.queue(ingestion)
    began = time.perf_counter()
    await stack.execute(run)
    seconds = time.perf_counter() - began
    assert (await stack.ended(run, RunStatus.SUCCESS)).files_processed == FILES
    return seconds


async def _interrupted(stack: BenchStack, host: Workers, owner: AsyncEngine, ingestion: Ingestion, place: Path, step: Step) -> float:
    settings = stack.application.settings
    environment = {
        "AUTOLOADER_DATABASE_URL": stack.application.database.url.render_as_string(hide_password=False),
        "AUTOLOADER_HOME": str(settings.home),
        "AUTOLOADER_LOCAL_ROOTS": ":".join(settings.roots),
        "AUTOLOADER_BATCH_FILES": str(settings.batch_files),
    }
    # A run of one file before, so that neither of the two is the first that its process does.
    first = await stack.queue(await _create(stack, place / "first"))
    worker = await host.start(environment, place / "worker.log", Order(step, nth=3))
    await _ended(stack, first)
    run = await stack.queue(ingestion)
    await worker.ended()
    async with owner.begin() as connection:
        worked = float(await connection.scalar(text(_WORKED), {"id": run.id}))
        for statement in _NOBODY_WORKS_ANY_MORE:
            await connection.execute(text(statement))
    began = time.perf_counter()
    assert await stack.application.pipeline.recover_lost() == 2
    rest = await stack.active(ingestion)
    await stack.execute(rest)
    seconds = time.perf_counter() - began
    lost, ended = await stack.ended(run, RunStatus.FAILED), await stack.ended(rest, RunStatus.SUCCESS)
    assert lost.files_processed + ended.files_processed == FILES
    return worked + seconds


async def _ended(stack: BenchStack, run: Run) -> None:
    while True:
        if (await stack.found(run)).ended_at is not None:
            return
        await asyncio.sleep(0.05)
