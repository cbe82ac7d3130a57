"""What the triggers that count the ledger's files add to claiming and marking 5,000 of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

from sqlalchemy import text

from benchmarks.bench_stack import bench_stack, settings_in
from benchmarks.report import Report
from benchmarks.timing import COLUMNS, in_turn
from domain.clock import SystemClock
from domain.ports.engine import FileOutcome, OutcomeStatus
from domain.ports.object_store import StoredObject
from persistence.database import open_database
from persistence.unit_of_work import SqlUnitOfWorkFactory

FILES = 5_000
ROUNDS = 9
TARGET = 1.2
_COUNTED, _NOT_COUNTED = "claim and mark, counted", "the same, not counted"


async def measure(report: Report, place: Path) -> None:
    (place / "landing").mkdir()
    settings = settings_in(place)
    async with bench_stack(settings) as stack:
        ingestion = await stack.create({"type": "LOCAL", "path": str(place / "landing")}, {"type": "JSON"})
        begin, now = SqlUnitOfWorkFactory(stack.application.database), SystemClock().now()
        objects = [StoredObject(f"{place}/landing/{number:06}.json", 100, "v1", now) for number in range(FILES)]
        async with begin(ingestion.tenant_id) as tx:
            await tx.files.record_discovered(ingestion.id, objects)
        url = stack.application.database.url.render_as_string(hide_password=False)
        owner = open_database(url)

        async def switch(word: str) -> None:
            """Back to where it began, and the triggers on or off: nothing of this is timed."""
            async with owner.connect() as connection:
                autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
                await autocommit.execute(text("ALTER TABLE processed_files DISABLE TRIGGER USER"))
                await autocommit.execute(text("UPDATE processed_files SET status = 'PENDING', batch_id = NULL"))
                await autocommit.execute(text("TRUNCATE file_attempts"))
                # Where the last round has left its rows, and what it has yet to write, must not show in this one.
                await autocommit.execute(text("VACUUM (FULL, ANALYZE) processed_files"))
                await autocommit.execute(text("CHECKPOINT"))
                await autocommit.execute(text(f"ALTER TABLE processed_files {word} TRIGGER USER"))

        async def claim_and_mark() -> None:
            async with begin(ingestion.tenant_id) as tx:
                batch = await tx.batches.open(id=uuid4(), ingestion_id=ingestion.id, run_id=uuid4(), table_uuid=None, lease_seconds=600)
                files = await tx.files.claim(batch, max_files=FILES, max_bytes=2**60)
            assert len(files) == FILES
            outcomes = [FileOutcome(file.id, OutcomeStatus.LOADED, rows=10) for file in files]
            async with begin(ingestion.tenant_id) as tx:
                assert await tx.files.mark_success(batch, outcomes, snapshot_id=1) == FILES

        def with_triggers(word: str) -> Callable[[], Awaitable[None]]:
            return lambda: switch(word)

        timings = await in_turn(
            {_COUNTED: claim_and_mark, _NOT_COUNTED: claim_and_mark},
            ROUNDS,
            before={_COUNTED: with_triggers("ENABLE"), _NOT_COUNTED: with_triggers("DISABLE")},
        )
        await owner.dispose()
    rows = [timings.row(subject, _NOT_COUNTED) for subject in (_COUNTED, _NOT_COUNTED)]
    report.table(f"claiming and marking {FILES:,} files, {ROUNDS} rounds", COLUMNS, rows)
    report.target("claiming and marking, counted to not counted", timings.ratio(_COUNTED, _NOT_COUNTED), TARGET, "x")
