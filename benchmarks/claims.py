"""8 processes that claim from one ledger of 1,000,000 PENDING files, 5,000 at a time, until nothing is left."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from uuid import UUID, uuid4

import orjson
from sqlalchemy import text

from benchmarks.bench_stack import bench_stack, settings_in
from benchmarks.report import Report
from domain.ledger.batch_processor import BatchSettings
from persistence.database import open_database
from persistence.row_security import TENANT_ROLE
from persistence.unit_of_work import SqlUnitOfWorkFactory

FILES = 1_000_000
WORKERS = 8
TARGET = 50.0
"""Microseconds a file, which is 20,000 files a second."""
_FILL = """
INSERT INTO processed_files (tenant_id, ingestion_id, path, status, size_bytes, etag, modified_at)
SELECT :tenant, :ingestion, '/landing/day=' || number % 1000 || '/part-' || number || '.json', 'PENDING', 1000, 'v1', now()
FROM generate_series(1, :files) AS number
"""
_CLAIMED = "SELECT count(*), count(DISTINCT batch_id), count(*) FILTER (WHERE status = 'PROCESSING') FROM processed_files"


async def measure(report: Report, place: Path) -> None:
    (place / "landing").mkdir()
    async with bench_stack(settings_in(place)) as stack:
        ingestion = await stack.create({"type": "LOCAL", "path": str(place / "landing")}, {"type": "JSON"})
        url = stack.application.database.url.render_as_string(hide_password=False)
        owner = open_database(url, statement_timeout_seconds=600)
        filling = time.perf_counter()
        async with owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await connection.execute(text(_FILL), {"tenant": ingestion.tenant_id, "ingestion": ingestion.id, "files": FILES})
            # As autovacuum does a while after a listing of that size.
            await connection.execute(text("VACUUM ANALYZE processed_files"))
            await connection.execute(text("CHECKPOINT"))
        report.note(f"filled the ledger in {time.perf_counter() - filling:.0f} s")
        order = orjson.dumps({"url": url, "tenant": str(ingestion.tenant_id), "ingestion": str(ingestion.id)}).decode()
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", __name__, order, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            for _ in range(WORKERS)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert await worker.stdout.readline() == b"ready\n"
        began = time.perf_counter()
        told = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
        seconds = time.perf_counter() - began
        claims = [orjson.loads(output) for output, _ in told]
        async with owner.connect() as connection:
            files, batches, processing = (await connection.execute(text(_CLAIMED))).one()
        await owner.dispose()
    # No file twice: what all of them got, together, is as many as there are, and each is in the batch of one.
    assert sum(claim["files"] for claim in claims) == files == processing == FILES
    assert sum(claim["batches"] for claim in claims) == batches
    shares = [claim["files"] for claim in claims]
    rows = [[f"{WORKERS} workers, {batches} batches", f"{seconds:.1f}", f"{FILES / seconds:,.0f}", f"{min(shares):,}", f"{max(shares):,}"]]
    report.table(f"claiming {FILES:,} files", ("", "s", "files/s", "fewest by one", "most by one"), rows)
    report.target(f"claims, {WORKERS} workers, a file", seconds / FILES * 1e6, TARGET, "us")


async def _claim_all(url: str, tenant: UUID, ingestion: UUID) -> dict[str, int]:
    database, settings = open_database(url, role=TENANT_ROLE, pool_size=1), BatchSettings()
    begin = SqlUnitOfWorkFactory(database)
    async with begin(tenant) as tx:
        await tx.ingestions.get_by_id(ingestion)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    files = batches = 0
    while True:
        async with begin(tenant) as tx:
            batch = await tx.batches.open(id=uuid4(), ingestion_id=ingestion, run_id=uuid4(), table_uuid=None, lease_seconds=600)
            claimed = await tx.files.claim(batch, max_files=settings.max_files, max_bytes=settings.max_bytes)
        if not claimed:
            await database.dispose()
            return {"files": files, "batches": batches}
        files += len(claimed)
        batches += 1


if __name__ == "__main__":
    order = orjson.loads(sys.argv[1])
    print(orjson.dumps(asyncio.run(_claim_all(order["url"], UUID(order["tenant"]), UUID(order["ingestion"])))).decode())
