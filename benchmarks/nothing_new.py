"""A run that finds nothing new among 100,000 known objects, and the bare listing of the same source."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
from sqlalchemy import text

from benchmarks.bench_stack import BenchStack, bench_stack, settings_in
from benchmarks.report import Report
from benchmarks.s3 import bucket_store, fill, s3_server
from benchmarks.timing import COLUMNS, PeakMemory, in_turn
from domain.ingestions.entities import Ingestion
from domain.runs.entities import Run, RunStatus
from integrations.object_store.credentials import S3Credential
from integrations.object_store.stores import ConfiguredObjectStores
from persistence.database import open_database

OBJECTS = 100_000
FOLDERS = 100
ROUNDS = 5
TARGET = 2.0
MEMORY_TARGET_MB = 32.0
_BUCKET = "bench"
_CONTENT = b'{"id":1}\n'


async def measure_local(report: Report, place: Path) -> None:
    """Files in folders by the hundred, as daily or hourly folders would hold them."""
    landing = place / "landing"
    await asyncio.to_thread(_write, landing)
    async with bench_stack(settings_in(place)) as stack:
        ingestion = await stack.create({"type": "LOCAL", "path": str(landing)}, {"type": "JSON"})
        bare = ("os.scandir and stat", lambda: _scan(landing))
        await _compare(report, "a local folder", stack, ingestion, ConfiguredObjectStores({}), bare)


async def measure_s3(report: Report, place: Path) -> None:
    with s3_server(place / "s3") as credential:
        began = time.perf_counter()
        await asyncio.to_thread(fill, credential, _BUCKET, _names(), _CONTENT)
        report.note(f"filled the bucket in {time.perf_counter() - began:.0f} s")
        async with bench_stack(settings_in(place, bench=credential)) as stack:
            source = {"type": "S3", "path": f"s3://{_BUCKET}/", "credential": "bench"}
            ingestion = await stack.create(source, {"type": "JSON"})
            secret = credential.secret_access_key
            assert secret is not None
            known = S3Credential(credential.endpoint_url, credential.region, credential.access_key_id, secret.get_secret_value())
            raw = bucket_store(credential, _BUCKET)
            bare = ("obstore.list", lambda: sum(map(len, obstore.list(raw, chunk_size=1_000))))
            await _compare(report, "S3 (SeaweedFS)", stack, ingestion, ConfiguredObjectStores({"bench": known}), bare)


async def _compare(
    report: Report,
    where: str,
    stack: BenchStack,
    ingestion: Ingestion,
    stores: ConfiguredObjectStores,
    bare: tuple[str, Callable[[], int]],
) -> None:
    """`bare` is what a library's own listing is called, and that listing, which makes nothing of what it finds but the count."""
    library, count = bare
    await _learn(stack, ingestion)
    grants = stack.principal.tenant.grants
    ended: list[Run] = []

    async def raw() -> None:
        assert await asyncio.to_thread(count) == OBJECTS

    async def listing() -> None:
        listed = 0
        async for chunk in stores.open(ingestion.source, grants).list():
            listed += len(chunk)
        assert listed == OBJECTS

    async def nothing_new() -> None:
        run = await stack.queue(ingestion)
        await stack.execute(run)
        ended.append(await stack.ended(run, RunStatus.NO_NEW_FILES))

    subjects: dict[str, Any] = {library: raw, "our listing": listing, "a run with nothing new": nothing_new}
    timings = await in_turn(subjects, ROUNDS)
    assert all(run.files_discovered == 0 for run in ended)
    with PeakMemory() as memory:
        await nothing_new()
    report.table(f"{OBJECTS:,} known objects in {where}", COLUMNS, [timings.row(name, "our listing") for name in subjects])
    report.target(f"nothing new, {where}, to our listing", timings.ratio("a run with nothing new", "our listing"), TARGET, "x")
    report.target(f"nothing new, {where}, peak memory above its start", memory.megabytes, MEMORY_TARGET_MB, "MB")
    stores.close()


async def _learn(stack: BenchStack, ingestion: Ingestion) -> None:
    """Have every object known and done, without loading it."""
    run = await stack.queue(ingestion)
    started, _, grants = await stack.application.pipeline.start(stack.subject(run))
    await stack.application.pipeline.discover(started, ingestion, grants)
    owner = open_database(stack.application.database.url.render_as_string(hide_password=False))
    async with owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        done = await connection.execute(text("UPDATE processed_files SET status = 'SUCCESS'"))
        assert done.rowcount == OBJECTS
        # As autovacuum does a while after a load.
        await connection.execute(text("VACUUM ANALYZE processed_files"))
    await owner.dispose()
    await stack.application.pipeline.complete(started)


def _names() -> list[str]:
    return [f"day={number % FOLDERS:03}/part-{number:06}.json" for number in range(OBJECTS)]


def _write(landing: Path) -> None:
    for folder in range(FOLDERS):
        (landing / f"day={folder:03}").mkdir(parents=True)
    for name in _names():
        (landing / name).write_bytes(_CONTENT)


def _scan(folder: Path) -> int:
    """The least that tells names, sizes and modification times."""
    count, pending = 0, [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    count += 1
    return count
