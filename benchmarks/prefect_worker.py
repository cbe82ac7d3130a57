"""One small file by Prefect: from asking for a run until SUCCESS, by our worker and by the worker that Prefect brings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import SecretStr

from autoloader.application import background_work, open_application
from autoloader.local_prefect import LocalPrefect
from autoloader.orchestration import prefect_connection, prefect_worker
from autoloader.settings import Settings
from autoloader.stack import database
from benchmarks.bench_stack import BenchStack, settings_in
from benchmarks.report import Report
from domain.runs.entities import Run, RunStatus
from domain.states import ACTIVE_RUN
from domain.tenants import Principal, Role

OURS, STOCK = 5, 3
TARGET = 0.2
_SECONDS_AT_MOST = 180.0


async def measure(report: Report, place: Path) -> None:
    async with LocalPrefect(place / "prefect") as server:
        rows = {
            "our worker": await _times(place / "ours", server, OURS),
            "Prefect's process worker": await _times(place / "stock", server, STOCK, query_seconds=10),
            "the same, asking twice a second": await _times(place / "eager", server, STOCK, query_seconds=0.5),
        }
    table = [
        [name, str(len(times)), f"{statistics.median(times):.2f}", f"{min(times):.2f}", f"{max(times):.2f}"] for name, times in rows.items()
    ]
    report.table("one small file by Prefect, trigger to SUCCESS", ("", "times", "median s", "min s", "max s"), table)
    ours, stock, eager = (statistics.median(times) for times in rows.values())
    report.note(f"Prefect's process worker takes {stock / ours:.1f} x as long; asking twice a second, {eager / ours:.1f} x")
    report.target("our worker / Prefect's process worker", ours / stock, TARGET, "x")


async def _times(place: Path, server: LocalPrefect, times: int, *, query_seconds: float | None = None) -> list[float]:
    """Seconds of each run; the first is not counted."""
    landing = place / "landing"
    landing.mkdir(parents=True)
    async with stack_by_prefect(place, server, query_seconds=query_seconds) as bench:
        ingestion = await bench.create({"type": "LOCAL", "path": str(landing)}, {"type": "JSON"})
        taken = []
        for number in range(times + 1):
            (landing / f"{number}.json").write_text(f'{{"id": {number}}}\n')
            began = time.perf_counter()
            run = await bench.queue(ingestion)
            await until_ended(bench, run)
            taken.append(time.perf_counter() - began)
            await bench.ended(run, RunStatus.SUCCESS)
    return taken[1:]


@contextlib.asynccontextmanager
async def stack_by_prefect(place: Path, server: LocalPrefect, *, query_seconds: float | None = None) -> AsyncIterator[BenchStack]:
    """With background work, and a worker. `query_seconds` is how often Prefect's own worker asks, None for ours."""
    settings = settings_in(place).model_copy(
        update={
            "prefect_api_url": server.api_url,
            "prefect_auth_string": SecretStr(server.auth_string),
            "prefect_work_pool": place.name,
        }
    )
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(database(settings))
        if query_seconds is not None:
            await _make_process_pool(settings)
        application = await stack.enter_async_context(open_application(settings, url))
        await stack.enter_async_context(background_work(application))
        if query_seconds is None:
            await stack.enter_async_context(prefect_worker(settings, application.flow_services))
        else:
            await stack.enter_async_context(_process_worker(settings, url, query_seconds))
        yield BenchStack(application, Principal(await application.ensure_local_tenant(), Role.ADMIN), url)


async def until_ended(bench: BenchStack, run: Run) -> None:
    async with asyncio.timeout(_SECONDS_AT_MOST):
        while True:
            if (await bench.found(run)).status not in ACTIVE_RUN:
                return
            await asyncio.sleep(0.01)


async def _make_process_pool(settings: Settings) -> None:
    made = prefect_connection(settings)
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    async with made.client() as client:
        template = ProcessWorker.get_default_base_job_template()
        await client.create_work_pool(WorkPoolCreate(name=settings.prefect_work_pool, type="process", base_job_template=template))


@contextlib.asynccontextmanager
async def _process_worker(settings: Settings, url: str, query_seconds: float) -> AsyncIterator[None]:
    auth = settings.prefect_auth_string
    environment = os.environ | {
        "AUTOLOADER_DATABASE_URL": url,
        "AUTOLOADER_HOME": str(settings.home),
        "AUTOLOADER_LOCAL_ROOTS": ":".join(settings.roots),
        "AUTOLOADER_PREFECT_WORK_POOL": settings.prefect_work_pool,
        "PREFECT_API_URL": settings.prefect_api_url or "",
        "PREFECT_API_AUTH_STRING": auth.get_secret_value() if auth else "",
        "PREFECT_HOME": str(settings.home / "prefect-worker"),
        "PREFECT_WORKER_QUERY_SECONDS": str(query_seconds),
        "DO_NOT_TRACK": "1",
    }
    command = (sys.executable, "-m", "prefect", "worker", "start", "--pool", settings.prefect_work_pool, "--type", "process")
    with (settings.home / "worker.log").open("wb") as log:
        worker = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        worker.terminate()
        await worker.wait()
