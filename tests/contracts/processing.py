"""What `BatchFileProcessor` promises, over any adapter of the persistence ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from domain.errors import LeaseLostError
from domain.ingestions.entities import Ingestion, Policies
from domain.ledger.batch_processor import BatchSettings
from domain.ledger.entities import Batch, BatchStatus, FileStatus
from domain.ledger.table_care import TENDED_EVERY_SNAPSHOTS
from domain.ports.engine import LoadBatch, TableUnavailableError
from domain.ports.object_store import SourceUnavailableError
from domain.ports.unit_of_work import Subject, Topic, UnitOfWork, UnitOfWorkFactory
from domain.runs.entities import Run, RunMetrics, RunStatus
from tests.factories import BUCKET, NOW, a_run, a_schema
from tests.fakes.scripted_engine import ROWS, Snapshot, Table
from tests.workbench import Workbench

SUCCESS, FAILED, SKIPPED = FileStatus.SUCCESS, FileStatus.FAILED, FileStatus.SKIPPED
PENDING, PROCESSING = FileStatus.PENDING, FileStatus.PROCESSING


async def running(bench: Workbench, ingestion: Ingestion) -> Run:
    """A RUNNING run whose files are in the ledger."""
    async with bench.unit_of_work(bench.tenant.id) as tx:
        run = await tx.runs.create(a_run(ingestion_id=ingestion.id))
        run = await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=60)
    await bench.discovery.discover(ingestion, bench.tenant.grants, run)
    return run


async def process(bench: Workbench, run: Run, ingestion: Ingestion) -> RunMetrics:
    return await bench.processor.process_files(run, ingestion, bench.tenant.grants)


async def batch_of(bench: Workbench, load: LoadBatch) -> Batch:
    async with bench.unit_of_work(bench.tenant.id) as tx:
        batch = await tx.batches.get_by_id(load.batch_id)
    assert batch is not None
    return batch


async def frozen(bench: Workbench, run: Run, ingestion: Ingestion, where: str) -> tuple[asyncio.Task[RunMetrics], asyncio.Event]:
    """A worker that stands still at one of the engine's hooks until the event is set: to others it is dead."""
    reached, thaw = asyncio.Event(), asyncio.Event()

    async def stand_still(_: LoadBatch) -> None:
        reached.set()
        await thaw.wait()

    setattr(bench.engine, where, stand_still)
    worker = asyncio.create_task(process(bench, run, ingestion))
    await reached.wait()
    return worker, thaw


async def recover(bench: Workbench) -> int:
    """Settle what is lost, as the reaper does; how many batches."""
    await bench.expire_leases()
    lost = await bench.directory.lost_batches(10)
    return sum([await bench.processor.recover(subject) for subject in lost])


class ProcessingContract:
    @pytest.mark.scenario(39, 145)
    async def test_each_file_has_its_own_outcome_and_the_batch_one_commit(self, bench: Workbench) -> None:
        bench.land("a", "bad", "empty")
        bench.engine.bad[BUCKET + "bad"] = "line 1 is not JSON"
        bench.engine.empty.add(BUCKET + "empty")
        ingestion = await bench.ingestion()
        await process(bench, await running(bench, ingestion), ingestion)
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "bad": FAILED, "empty": SKIPPED}
        a, bad, empty = await bench.files(ingestion)
        assert (a.rows, a.error_message, a.snapshot_id) == (ROWS, None, bench.table(ingestion).snapshots[0].id)
        assert (bad.error_message, bad.retry_count, bad.snapshot_id) == ("line 1 is not JSON", 1, None)
        assert bad.next_retry_at is not None
        assert empty.error_message == "the file is empty"
        assert [snapshot.rows for snapshot in bench.table(ingestion).snapshots] == [{BUCKET + "a": ROWS}]

    @pytest.mark.scenario(40)
    async def test_files_are_claimed_before_the_engine_sees_them(self, bench: Workbench) -> None:
        bench.land("a", "b")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        seen = {}

        async def look(load: LoadBatch) -> None:
            seen["files"] = [(file.status, file.batch_id, file.run_id) for file in await bench.files(ingestion)]
            seen["batch"] = await batch_of(bench, load)

        bench.engine.at_start = look
        await process(bench, run, ingestion)
        (load,) = bench.engine.loads
        assert seen["files"] == [(PROCESSING, load.batch_id, run.id)] * 2
        assert (seen["batch"].status, seen["batch"].epoch, seen["batch"].run_id) == (BatchStatus.CLAIMED, load.epoch, run.id)
        assert (await batch_of(bench, load)).status is BatchStatus.COMMITTED

    @pytest.mark.scenario(41, 43)
    async def test_files_are_marked_and_counted(self, bench: Workbench) -> None:
        bench.land("a", "b", "c", "d", content=b"1234567")
        bench.engine.bad[BUCKET + "d"] = "no"
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        done = await process(bench, run, ingestion)
        expected = RunMetrics(files_processed=3, files_failed=1, rows_written=3 * ROWS, bytes_processed=21)
        assert done == expected
        stored = await bench.run(Subject(run.tenant_id, run.id))
        assert stored.metrics == expected + RunMetrics(files_discovered=4)
        assert [(f.status, f.rows, f.run_id) for f in (await bench.files(ingestion))[:3]] == [(SUCCESS, ROWS, run.id)] * 3

    @pytest.mark.parametrize(("snapshots", "due"), [(TENDED_EVERY_SNAPSHOTS - 2, 0), (TENDED_EVERY_SNAPSHOTS - 1, 1)])
    async def test_a_table_of_many_snapshots_is_to_be_tended(self, bench: Workbench, snapshots: int, due: int) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        bench.engine.tables[ingestion.destination.key] = Table(a_schema(), snapshots=[Snapshot(n, None, {}) for n in range(snapshots)])
        await process(bench, await running(bench, ingestion), ingestion)
        entries = await bench.directory.take_outbox(10, visible_after_seconds=0)
        asked = Subject(bench.tenant.id, ingestion.id)
        assert [entry.subject for entry in entries if entry.topic is Topic.TABLE] == [asked] * due

    async def test_snapshots_that_come_beside_the_batches_put_no_tending_off(self, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        asked = Subject(bench.tenant.id, ingestion.id)
        table = bench.engine.tables[ingestion.destination.key] = Table(a_schema())
        seen = []
        for before in (TENDED_EVERY_SNAPSHOTS - 2, TENDED_EVERY_SNAPSHOTS, TENDED_EVERY_SNAPSHOTS + 1):
            # Others have brought the table to so many.
            table.snapshots = [Snapshot(n, None, {}) for n in range(before)]
            bench.land(str(before))
            run = await running(bench, ingestion)
            await process(bench, run, ingestion)
            async with bench.unit_of_work(bench.tenant.id) as tx:
                await tx.runs.update_status(run.id, RunStatus.SUCCESS, at=NOW)
            entries = await bench.directory.take_outbox(10, topic=Topic.TABLE, visible_after_seconds=60)
            seen.append([entry.subject for entry in entries])
            for entry in entries:
                await bench.directory.finish_outbox(entry)
        assert seen == [[], [asked], []]

    async def test_batches_follow_each_other_until_nothing_waits(self, bench: Workbench) -> None:
        bench.land(*"abcdefg")
        ingestion = await bench.ingestion()
        await process(bench, await running(bench, ingestion), ingestion)
        assert [len(load.files) for load in bench.engine.loads] == [3, 3, 1]
        assert set((await bench.statuses(ingestion)).values()) == {SUCCESS}

    @pytest.mark.parametrize(
        ("policies", "loads"),
        [
            (Policies(max_files_per_run=4), [3, 1]),
            (Policies(max_files_per_run=1), [1]),
            (Policies(max_bytes_per_run=45), [3, 1]),
            (Policies(max_bytes_per_run=5), [1]),
            (Policies(max_files_per_run=100, max_bytes_per_run=10_000), [3, 3, 1]),
        ],
    )
    async def test_a_run_stays_within_its_limits(self, bench: Workbench, policies: Policies, loads: list[int]) -> None:
        bench.land(*"abcdefg", content=b"1234567890")
        ingestion = await bench.ingestion(policies=policies)
        await process(bench, await running(bench, ingestion), ingestion)
        assert [len(load.files) for load in bench.engine.loads] == loads
        assert list((await bench.statuses(ingestion)).values()).count(PENDING) == 7 - sum(loads)

    async def test_a_batch_is_bounded_in_bytes_too(self, bench: Workbench) -> None:
        bench.batches = BatchSettings(max_files=3, max_bytes=20, lease_seconds=60)
        bench.land(*"abc", content=b"1234567890")
        ingestion = await bench.ingestion()
        await process(bench, await running(bench, ingestion), ingestion)
        assert [len(load.files) for load in bench.engine.loads] == [2, 1]

    @pytest.mark.scenario(42)
    async def test_when_the_engine_fails_its_batch_is_charged_and_the_error_passes(self, bench: Workbench) -> None:
        bench.land(*"abcd")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)

        async def fail(_: LoadBatch) -> None:
            raise RuntimeError("secret: password=hunter2")

        bench.engine.before_commit = fail
        with pytest.raises(RuntimeError, match="hunter2"):
            await process(bench, run, ingestion)
        assert await bench.statuses(ingestion) == {"a": FAILED, "b": FAILED, "c": FAILED, "d": PENDING}
        messages = {file.error_message for file in await bench.files(ingestion)}
        assert messages == {"the engine failed (RuntimeError); the log tells more", None}
        assert (await bench.run(Subject(run.tenant_id, run.id))).metrics == RunMetrics(files_discovered=4, files_failed=3)
        assert (await batch_of(bench, bench.engine.loads[0])).status is BatchStatus.RELEASED
        assert bench.table(ingestion).rows_of(BUCKET + "a") == 0

    async def test_an_expected_error_speaks_for_itself(self, bench: Workbench) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)

        async def fail(_: LoadBatch) -> None:
            raise SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, "the bucket may not be read")

        bench.engine.at_start = fail
        with pytest.raises(SourceUnavailableError):
            await process(bench, run, ingestion)
        # The engine has not come as far as making a table, so nothing can have been committed.
        assert [file.error_message for file in await bench.files(ingestion)] == ["the bucket may not be read"]

    async def test_an_error_after_the_commit_is_no_failure_of_the_files(self, bench: Workbench) -> None:
        bench.land("a", "b")
        bench.engine.bad[BUCKET + "b"] = "no"
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)

        async def fail(_: LoadBatch) -> None:
            raise RuntimeError("the answer was lost")

        bench.engine.after_commit = fail
        with pytest.raises(RuntimeError):
            await process(bench, run, ingestion)
        # Of the bad file nothing is known any more, so it gets another chance.
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": PENDING}
        batch = await batch_of(bench, bench.engine.loads[0])
        assert (batch.status, batch.files, batch.snapshot_id) == (BatchStatus.COMMITTED, 1, bench.table(ingestion).snapshots[0].id)
        assert (await bench.run(Subject(run.tenant_id, run.id))).metrics.rows_written == ROWS

    async def test_a_catalog_that_is_down_charges_nobody(self, bench: Workbench) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        bench.engine.unavailable = TableUnavailableError("the catalog does not answer")
        with pytest.raises(TableUnavailableError):
            await process(bench, run, ingestion)
        # It cannot be asked either, so the batch stays open, until it can.
        assert await bench.statuses(ingestion) == {"a": PROCESSING}
        assert (await batch_of(bench, bench.engine.loads[0])).status is BatchStatus.CLAIMED
        await bench.expire_leases()
        (lost,) = await bench.directory.lost_batches(10)
        with pytest.raises(TableUnavailableError):
            await bench.processor.recover(lost)
        assert await bench.statuses(ingestion) == {"a": PROCESSING}
        bench.engine.unavailable = None
        assert await recover(bench) == 1
        assert await bench.statuses(ingestion) == {"a": PENDING}
        assert [file.retry_count for file in await bench.files(ingestion)] == [0]

    @pytest.mark.parametrize(
        ("where", "status", "rows"), [("at_start", PENDING, 0), ("before_commit", PENDING, 0), ("after_commit", SUCCESS, 10)]
    )
    async def test_cancelled_in_the_engine_a_worker_asks_the_table_first(
        self, bench: Workbench, where: str, status: FileStatus, rows: int
    ) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        worker, _ = await frozen(bench, await running(bench, ingestion), ingestion, where)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        assert await bench.statuses(ingestion) == {"a": status}
        assert [file.retry_count for file in await bench.files(ingestion)] == [0]
        assert (bench.table(ingestion).rows_of(BUCKET + "a") if rows else 0) == rows
        assert await bench.directory.lost_batches(10) == []

    async def test_a_cancellation_is_not_lost_while_a_renewal_ends(self, bench: Workbench) -> None:
        """A load has ended, and its worker waits for the last renewal of the lease, when it is cancelled."""
        bench.batches = BatchSettings(lease_seconds=1.5)
        bench.land("a", "b", "c", "d")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        slow = bench.unit_of_work = _SlowFactory(bench.unit_of_work)

        async def until_a_renewal(_: LoadBatch) -> None:
            slow.next_is_slow = True
            await slow.begun.wait()

        bench.engine.after_commit = until_a_renewal
        worker = asyncio.create_task(process(bench, run, ingestion))
        await slow.cancelled.wait()
        worker.cancel()
        slow.end.set()
        with pytest.raises(asyncio.CancelledError):
            await worker
        assert len(bench.engine.loads) == 1
        assert (await bench.statuses(ingestion))["a"] is SUCCESS

    @pytest.mark.parametrize(("where", "status"), [("at_start", PENDING), ("before_commit", PENDING), ("after_commit", SUCCESS)])
    async def test_a_worker_taken_for_dead_is_shut_out(self, bench: Workbench, where: str, status: FileStatus) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        worker, thaw = await frozen(bench, run, ingestion, where)
        assert await recover(bench) == 1
        assert await bench.statuses(ingestion) == {"a": status}
        thaw.set()
        with pytest.raises(LeaseLostError):
            await worker
        assert await bench.statuses(ingestion) == {"a": status}
        setattr(bench.engine, where, type(bench.engine)().at_start)
        await process(bench, run, ingestion)
        assert await bench.statuses(ingestion) == {"a": SUCCESS}
        assert bench.table(ingestion).loads_of(BUCKET + "a") == 1

    async def test_recovery_remembers_the_table_and_its_schema(self, bench: Workbench) -> None:
        bench.engine.schema = a_schema("id", "at: timestamptz")
        bench.land("a")
        ingestion = await bench.ingestion()
        worker, _ = await frozen(bench, await running(bench, ingestion), ingestion, "after_commit")
        assert await recover(bench) == 1
        async with bench.unit_of_work(bench.tenant.id) as tx:
            assert await tx.ingestions.get_table(ingestion.id) == bench.table(ingestion).uuid
            assert (await tx.schema_versions.latest(ingestion.id)).schema == bench.engine.schema
        worker.cancel()
        await asyncio.wait([worker])

    async def test_a_batch_whose_lease_runs_is_left_to_its_worker(self, bench: Workbench) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        worker, thaw = await frozen(bench, await running(bench, ingestion), ingestion, "before_commit")
        assert not await bench.processor.recover(Subject(bench.tenant.id, bench.engine.loads[0].batch_id))
        thaw.set()
        assert (await worker).files_processed == 1
        assert not await bench.processor.recover(Subject(bench.tenant.id, bench.engine.loads[0].batch_id))

    async def test_a_missing_table_is_no_proof_once_there_was_one(self, bench: Workbench) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        await process(bench, run, ingestion)
        bench.land("b")
        await bench.discovery.discover(ingestion, bench.tenant.grants, run)
        worker, _ = await frozen(bench, run, ingestion, "before_commit")
        await bench.engine.drop_table(ingestion.destination)
        await bench.expire_leases()
        (lost,) = await bench.directory.lost_batches(10)
        with pytest.raises(TableUnavailableError):
            await bench.processor.recover(lost)
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": PROCESSING}
        worker.cancel()
        await asyncio.wait([worker])

    async def test_schema_versions_follow_the_table(self, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        for name, schema in (("a", a_schema()), ("b", a_schema()), ("c", a_schema("id", "note: string"))):
            bench.land(name)
            bench.engine.schema = schema
            if bench.engine.tables:
                bench.table(ingestion).schema = schema
            await bench.discovery.discover(ingestion, bench.tenant.grants, run)
            await process(bench, run, ingestion)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            latest = await tx.schema_versions.latest(ingestion.id)
            assert await tx.ingestions.get_table(ingestion.id) == bench.table(ingestion).uuid
        assert (latest.version, latest.run_id, latest.schema) == (2, run.id, a_schema("id", "note: string"))
        assert [column.name for column in latest.diff.added] == ["note"]

    async def test_when_the_marks_fail_the_table_still_decides(self, bench: Workbench) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)

        class BrokenMarkError(Exception):
            pass

        real = bench.unit_of_work
        broken = _BreakingFactory(real, BrokenMarkError())
        bench.unit_of_work = broken
        bench.engine.after_commit = broken.break_next
        with pytest.raises(BrokenMarkError):
            await process(bench, run, ingestion)
        bench.unit_of_work = real
        assert await bench.statuses(ingestion) == {"a": SUCCESS}
        assert bench.table(ingestion).loads_of(BUCKET + "a") == 1
        assert await bench.directory.lost_batches(10) == []


class _BreakingFactory:
    """Units of work, of which the next one after `break_next` raises instead of beginning."""

    def __init__(self, real: object, error: Exception) -> None:
        self._real = real
        self._error = error
        self._broken = False

    async def break_next(self, _: LoadBatch) -> None:
        self._broken = True

    def __call__(self, tenant_id: object) -> object:
        if self._broken:
            self._broken = False
            raise self._error
        return self._real(tenant_id)  # type: ignore[operator]  # a factory


class _SlowFactory:
    """Units of work, of which one, when that is asked for, takes its time to be cancelled."""

    def __init__(self, real: UnitOfWorkFactory) -> None:
        self._real = real
        self.next_is_slow = False
        self.begun, self.cancelled, self.end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def __call__(self, tenant_id: UUID) -> AsyncIterator[UnitOfWork]:
        if self.next_is_slow:
            self.next_is_slow = False
            self.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
                await self.end.wait()
        async with self._real(tenant_id) as tx:
            yield tx
