"""A run from start to end, and every way in which it can be cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from domain.ingestions.entities import Ingestion, IngestionStatus, Policies
from domain.ledger import stepwise
from domain.ledger.entities import FileStatus
from domain.ports.engine import LoadBatch, TableUnavailableError
from domain.ports.object_store import SourceUnavailableError
from domain.ports.unit_of_work import Subject
from domain.runs.entities import Run, RunMetrics, RunStatus, RunTrigger
from domain.runs.pipeline import Cut, PipelineSettings, verdict
from tests.factories import BUCKET, NOW, needing
from tests.fakes.database import FakeDatabase
from tests.fakes.ledger import FakeProcessedFileRepository
from tests.fakes.scripted_engine import ROWS
from tests.workbench import Workbench

SUCCESS, FAILED, PENDING, PROCESSING = FileStatus.SUCCESS, FileStatus.FAILED, FileStatus.PENDING, FileStatus.PROCESSING
SOON = 0.03
"""A lease so short that its renewals, which live on the event loop's clock, follow each other at once."""


async def started(bench: Workbench, where: str, **ingestion: object) -> tuple[Subject, asyncio.Task[None], asyncio.Event]:
    """A run that stands still at one of the engine's hooks until the event is set."""
    reached, thaw = asyncio.Event(), asyncio.Event()

    async def stand_still(_: LoadBatch) -> None:
        reached.set()
        await thaw.wait()

    setattr(bench.engine, where, stand_still)
    subject = await bench.queue(await bench.ingestion(**ingestion))
    worker = asyncio.create_task(bench.pipeline.execute(subject))
    await reached.wait()
    return subject, worker, thaw


async def ask_to_stop(bench: Workbench, subject: Subject) -> None:
    async with bench.unit_of_work(subject.tenant_id) as tx:
        await tx.runs.update_status(subject.id, RunStatus.CANCELLING, at=NOW)


class TestVerdict:
    @pytest.mark.parametrize(
        ("metrics", "status"),
        [
            (RunMetrics(), RunStatus.NO_NEW_FILES),
            (RunMetrics(files_discovered=5), RunStatus.NO_NEW_FILES),
            (RunMetrics(files_processed=1), RunStatus.SUCCESS),
            (RunMetrics(files_skipped=1), RunStatus.SUCCESS),
            (RunMetrics(files_processed=1, files_failed=1), RunStatus.PARTIAL),
            (RunMetrics(files_skipped=1, files_failed=1), RunStatus.PARTIAL),
            (RunMetrics(files_failed=2), RunStatus.FAILED),
            (RunMetrics(files_held=2), RunStatus.PARTIAL),
            (RunMetrics(files_processed=1, files_held=1), RunStatus.PARTIAL),
            (RunMetrics(files_failed=1, files_held=1), RunStatus.PARTIAL),
        ],
    )
    def test_a_run_ends_as_its_files_did(self, metrics: RunMetrics, status: RunStatus) -> None:
        assert verdict(metrics)[0] is status

    def test_failures_are_counted_for_a_person(self) -> None:
        assert verdict(RunMetrics(files_processed=3, files_failed=2))[1] == "2 of 5 files failed; each file says why"
        assert verdict(RunMetrics(files_processed=3, files_held=1))[1] == "1 of 4 files wait for schema changes to be approved"
        both = "1 of 3 files failed; each file says why; 2 of 3 files wait for schema changes to be approved"
        assert verdict(RunMetrics(files_failed=1, files_held=2))[1] == both


class TestToTheEnd:
    async def test_success(self, bench: Workbench) -> None:
        bench.land("a", "b")
        ingestion = await bench.ingestion(consecutive_failures=2)
        run = await bench.execute(ingestion)
        assert (run.status, run.error_message, run.progress) == (RunStatus.SUCCESS, None, 1)
        assert (run.started_at, run.ended_at, run.lease_expires_at, run.files_total) == (NOW, NOW, None, 2)
        assert run.metrics == RunMetrics(files_discovered=2, files_processed=2, rows_written=2 * ROWS, bytes_processed=4)
        stored = await bench.stored(ingestion)
        assert (stored.last_run_id, stored.last_run_at, stored.consecutive_failures) == (run.id, NOW, 0)

    async def test_the_next_run_finds_nothing_new_and_doubles_nothing(self, bench: Workbench) -> None:
        (path,) = bench.land("a")
        ingestion = await bench.ingestion()
        await bench.execute(ingestion)
        again = await bench.execute(ingestion)
        assert (again.status, again.metrics) == (RunStatus.NO_NEW_FILES, RunMetrics())
        assert bench.table(ingestion).loads_of(path) == 1

    async def test_partial(self, bench: Workbench) -> None:
        bench.land("a", "b")
        bench.engine.bad[BUCKET + "b"] = "HTML, not JSON"
        run = await bench.execute(await bench.ingestion())
        assert (run.status, run.error_message) == (RunStatus.PARTIAL, "1 of 2 files failed; each file says why")

    async def test_failures_in_a_row_put_an_active_ingestion_into_error(self, bench: Workbench) -> None:
        bench.land("a")
        bench.stores.listing_failure = (0, SourceUnavailableError(SourceUnavailableError.UNREACHABLE, "the store does not answer"))
        ingestion = await bench.ingestion(status=IngestionStatus.ACTIVE, next_due_at=NOW)
        seen = []
        for _ in range(3):
            run = await bench.execute(ingestion)
            assert (run.status, run.error_message) == (RunStatus.FAILED, "the store does not answer")
            stored = await bench.stored(ingestion)
            seen.append((stored.status, stored.consecutive_failures, stored.next_due_at))
        assert seen == [(IngestionStatus.ACTIVE, 1, NOW), (IngestionStatus.ACTIVE, 2, NOW), (IngestionStatus.ERROR, 3, None)]
        (entry,) = await bench.directory.take_outbox(10, visible_after_seconds=60)
        assert entry.subject == Subject(bench.tenant.id, ingestion.id)

    async def test_a_failed_file_is_tried_again_when_its_time_has_come(self, bench: Workbench, fake_database: FakeDatabase) -> None:
        (path,) = bench.land("a")
        bench.engine.bad[path] = "truncated"
        ingestion = await bench.ingestion()
        assert (await bench.execute(ingestion)).status is RunStatus.FAILED
        del bench.engine.bad[path]
        assert (await bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES
        fake_database.clock.advance(seconds=61)
        assert (await bench.execute(ingestion)).status is RunStatus.SUCCESS
        assert bench.table(ingestion).loads_of(path) == 1

    async def test_a_backlog_of_failures_is_requeued_a_few_at_a_time_and_a_crash_in_between_loses_none(
        self, bench: Workbench, fake_database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = bench.land(*"abcde")
        bench.engine.bad |= dict.fromkeys(paths, "truncated")
        ingestion = await bench.ingestion()
        assert (await bench.execute(ingestion)).status is RunStatus.FAILED
        bench.engine.bad.clear()
        fake_database.clock.advance(seconds=61)
        monkeypatch.setattr(stepwise, "FILES_AT_ONCE", 2)
        step = FakeProcessedFileRepository.requeue_due_failures

        async def crash(self: FakeProcessedFileRepository, id: UUID, *, after: int, **how: int) -> Sequence[int]:
            if after:
                raise ZeroDivisionError
            return await step(self, id, after=after, **how)

        with monkeypatch.context() as broken:
            broken.setattr(FakeProcessedFileRepository, "requeue_due_failures", crash)
            run = await bench.execute(ingestion)
        assert (run.status, run.files_total) == (RunStatus.FAILED, None)
        assert [file.status for file in await bench.files(ingestion)] == [PENDING, PENDING, *[FileStatus.FAILED] * 3]
        run = await bench.execute(ingestion)
        assert (run.status, run.files_total, run.files_processed) == (RunStatus.SUCCESS, 5, 5)

    async def test_what_is_held_is_released_a_few_at_a_time(self, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stepwise, "FILES_AT_ONCE", 2)
        bench.land(*"abcde")
        ingestion = await bench.ingestion()
        run, _, grants = await bench.pipeline.start(await bench.queue(ingestion))
        await bench.pipeline.discover(run, ingestion, grants)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            batch = await tx.batches.open(id=uuid4(), ingestion_id=ingestion.id, run_id=run.id, table_uuid=None, lease_seconds=60)
            files = await tx.files.claim(batch, max_files=5, max_bytes=2**40)
            await tx.files.mark_held(batch, [needing(file) for file in files], {file.id: uuid4() for file in files})
            await tx.batches.commit(batch, snapshot_id=None, files=5)
        assert (await bench.pipeline.check(run, ingestion, [])).waiting == 5

    async def test_a_source_that_cannot_be_listed_fails_the_run_with_its_words(self, bench: Workbench) -> None:
        bench.land("a")
        bench.stores.listing_failure = (0, SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, "the bucket may not be listed"))
        run = await bench.execute(await bench.ingestion())
        assert (run.status, run.error_message) == (RunStatus.FAILED, "the bucket may not be listed")

    async def test_an_unexpected_error_is_masked(self, bench: Workbench) -> None:
        bench.land("a")

        async def fail(_: LoadBatch) -> None:
            raise RuntimeError("password=hunter2")

        bench.engine.at_start = fail
        run = await bench.execute(await bench.ingestion())
        assert (run.status, run.error_message) == (RunStatus.FAILED, f"internal error; the log tells more under run {run.id}")

    async def test_what_is_not_queued_is_left_alone(self, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        subject = await bench.queue(ingestion, status=RunStatus.CANCELLED)
        await bench.pipeline.execute(subject)
        await bench.pipeline.execute(Subject(bench.tenant.id, ingestion.id))
        assert (await bench.run(subject)).status is RunStatus.CANCELLED

    async def test_a_run_is_executed_once_though_many_try(self, bench: Workbench) -> None:
        bench.land("a")
        subject = await bench.queue(await bench.ingestion())
        await asyncio.gather(*(bench.pipeline.execute(subject) for _ in range(5)))
        assert (await bench.run(subject)).metrics.files_processed == 1
        assert len(bench.engine.loads) == 1

    async def test_files_total_counts_what_the_run_may_take(self, bench: Workbench) -> None:
        bench.land(*"abcde")
        run = await bench.execute(await bench.ingestion(policies=Policies(max_files_per_run=2)))
        assert (run.files_total, run.files_processed, run.status) == (2, 2, RunStatus.SUCCESS)


class TestCutShort:
    async def test_a_run_that_takes_too_long_fails_and_its_batch_is_settled(self, bench: Workbench) -> None:
        bench.land("a")
        subject = await bench.queue(await bench.ingestion(policies=Policies(timeout_seconds=1)))
        loop = asyncio.get_running_loop()

        async def outlast(_: LoadBatch) -> None:
            # The loop's clock is moved, and not waited for.
            now = loop.time() + 2
            loop.time = lambda: now  # type: ignore[method-assign]  # this test's own loop
            await asyncio.Event().wait()

        bench.engine.before_commit = outlast
        await bench.pipeline.execute(subject)
        run = await bench.run(subject)
        assert (run.status, run.error_message) == (RunStatus.FAILED, "the run took longer than its limit of 1 seconds")
        assert await bench.directory.lost_batches(10) == []

    async def test_a_time_limit_of_something_else_is_not_the_runs(self, bench: Workbench) -> None:
        bench.land("a")

        async def give_up(_: LoadBatch) -> None:
            raise TimeoutError("connecting took too long")

        bench.engine.at_start = give_up
        run = await bench.execute(await bench.ingestion())
        assert run.error_message == f"internal error; the log tells more under run {run.id}"

    @pytest.mark.parametrize(("where", "status"), [("before_commit", PENDING), ("after_commit", SUCCESS)])
    async def test_a_server_that_stops_settles_and_ends_the_run(self, bench: Workbench, where: str, status: FileStatus) -> None:
        bench.land("a")
        subject, worker, _ = await started(bench, where, consecutive_failures=4)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        run = await bench.run(subject)
        assert (run.status, run.error_message) == (RunStatus.FAILED, "the server was stopped while the run was under way")
        ingestion = await _ingestion(bench, run)
        assert [file.status for file in await bench.files(ingestion)] == [status]
        # It goes on by itself, and is not held against the ingestion.
        retry = await bench.active(ingestion)
        assert retry is not None
        assert (retry.status, retry.trigger, retry.retry_of_id, retry.retry_count) == (RunStatus.QUEUED, RunTrigger.RETRY, run.id, 1)
        stored = await bench.stored(ingestion)
        assert (stored.status, stored.consecutive_failures) == (ingestion.status, 4)

    async def test_a_run_goes_on_however_often_its_server_is_stopped(self, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        run, _, _ = await bench.pipeline.start(await bench.queue(ingestion, retry_count=9))
        await bench.pipeline.stop(run, "stopped", cut=Cut.STOPPED)
        retry = await bench.active(ingestion)
        assert retry is not None
        assert (retry.retry_of_id, retry.retry_count) == (run.id, 10)

    async def test_a_run_asked_to_stop_and_then_cancelled_ends_cancelled(self, bench: Workbench) -> None:
        bench.land("a")
        subject, worker, _ = await started(bench, "before_commit", consecutive_failures=1)
        await ask_to_stop(bench, subject)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        run = await bench.run(subject)
        assert run.status is RunStatus.CANCELLED
        assert (await bench.stored(await _ingestion(bench, run))).consecutive_failures == 1

    async def test_a_run_asked_to_stop_stops_by_itself(self, bench: Workbench) -> None:
        bench.settings = PipelineSettings(lease_seconds=SOON)
        bench.land("a")
        subject, worker, _ = await started(bench, "before_commit")
        await ask_to_stop(bench, subject)
        await worker
        run = await bench.run(subject)
        assert run.status is RunStatus.CANCELLED
        assert [file.status for file in await bench.files(await _ingestion(bench, run))] == [PENDING]

    async def test_a_run_asked_to_stop_at_its_very_end_ends_cancelled_too(self, bench: Workbench) -> None:
        bench.land("a")
        subject, worker, thaw = await started(bench, "after_commit")
        await ask_to_stop(bench, subject)
        thaw.set()
        await worker
        run = await bench.run(subject)
        assert (run.status, run.files_processed) == (RunStatus.CANCELLED, 1)

    async def test_a_worker_that_lost_its_run_stops_and_leaves_the_run_alone(self, bench: Workbench) -> None:
        bench.settings = PipelineSettings(lease_seconds=SOON)
        bench.land("a")
        subject, worker, _ = await started(bench, "before_commit")
        await bench.expire_leases()
        await worker
        run = await bench.run(subject)
        assert run.status is RunStatus.RUNNING
        assert await bench.directory.lost_runs(10) == [subject]

    async def test_a_run_that_was_ended_elsewhere_stays_ended(self, bench: Workbench) -> None:
        bench.land("a")
        subject, worker, thaw = await started(bench, "after_commit")
        async with bench.unit_of_work(subject.tenant_id) as tx:
            await tx.runs.update_status(subject.id, RunStatus.FAILED, at=NOW, error_message="ended by the reaper")
        thaw.set()
        await worker
        assert (await bench.run(subject)).error_message == "ended by the reaper"

    async def test_a_deleted_ingestion_ends_the_work_quietly(self, bench: Workbench) -> None:
        bench.land("a")
        subject, worker, thaw = await started(bench, "at_start")
        async with bench.unit_of_work(subject.tenant_id) as tx:
            run = await tx.runs.get_by_id(subject.id)
            assert await tx.ingestions.delete(run.ingestion_id)
        thaw.set()
        await worker
        assert sum(len(table.snapshots) for table in bench.engine.tables.values()) == 0

    async def test_leases_are_kept_while_the_work_goes_on(self, bench: Workbench, fake_database: FakeDatabase) -> None:
        bench.settings = PipelineSettings(lease_seconds=SOON)
        bench.land("a")
        subject, worker, thaw = await started(bench, "before_commit")
        first = (await bench.run(subject)).lease_expires_at
        while (await bench.run(subject)).lease_expires_at - first < timedelta(microseconds=100):
            await asyncio.sleep(SOON / 10)
        thaw.set()
        await worker
        assert (await bench.run(subject)).status is RunStatus.SUCCESS

    async def test_a_database_that_is_away_for_a_while_does_not_end_the_run(self, bench: Workbench, fake_database: FakeDatabase) -> None:
        bench.settings = PipelineSettings(lease_seconds=SOON)
        bench.land("a")
        subject, worker, thaw = await started(bench, "before_commit")
        fake_database.failure = ConnectionError("no database")
        refused = fake_database.refused
        while fake_database.refused < refused + 3:
            await asyncio.sleep(SOON / 10)
        fake_database.failure = None
        thaw.set()
        await worker
        assert (await bench.run(subject)).status is RunStatus.SUCCESS


class TestLost:
    """Workers that are killed: they stand still for good, and their leases expire."""

    @pytest.mark.parametrize(
        ("where", "status", "next_status"),
        [
            ("at_start", PENDING, RunStatus.SUCCESS),
            ("before_commit", PENDING, RunStatus.SUCCESS),
            ("after_commit", SUCCESS, RunStatus.NO_NEW_FILES),
        ],
    )
    async def test_batch_and_run_are_settled_and_the_retry_completes(
        self, bench: Workbench, where: str, status: FileStatus, next_status: RunStatus
    ) -> None:
        (path,) = bench.land("a")
        subject, worker, thaw = await started(bench, where)
        assert await bench.pipeline.recover_lost() == 0
        await bench.expire_leases()
        assert await bench.pipeline.recover_lost() == 2
        assert await bench.pipeline.recover_lost() == 0
        run = await bench.run(subject)
        assert (run.status, run.error_message) == (RunStatus.FAILED, "the worker was lost; another run loads what it has left")
        ingestion = await _ingestion(bench, run)
        assert [file.status for file in await bench.files(ingestion)] == [status]
        setattr(bench.engine, where, type(bench.engine)().at_start)
        retry = await bench.active(ingestion)
        assert retry is not None
        await bench.pipeline.execute(Subject(retry.tenant_id, retry.id))
        assert (await bench.run(Subject(retry.tenant_id, retry.id))).status is next_status
        thaw.set()
        await worker
        assert bench.table(ingestion).loads_of(path) == 1
        assert (await bench.run(subject)).status is RunStatus.FAILED

    async def test_a_silent_table_leaves_the_batch_open_but_not_the_others(self, bench: Workbench) -> None:
        bench.land("a")
        lost = [await started(bench, "before_commit") for _ in range(2)]
        first, second = [await _ingestion(bench, await bench.run(subject)) for subject, _, _ in lost]
        real_fence = bench.engine.fence
        silent = first.destination

        async def fence(destination: object, **asked: object) -> object:
            if destination == silent:
                raise RuntimeError("not even an expected error")
            return await real_fence(destination, **asked)  # type: ignore[arg-type]  # passed on as it came

        bench.engine.fence = fence  # type: ignore[method-assign,assignment]  # this test's own engine
        await bench.expire_leases()
        assert await bench.pipeline.recover_lost() == 3
        assert [file.status for file in await bench.files(first)] == [PROCESSING]
        assert [file.status for file in await bench.files(second)] == [PENDING]
        bench.engine.fence = real_fence  # type: ignore[method-assign]  # this test's own engine
        await bench.expire_leases()
        assert await bench.pipeline.recover_lost() == 1
        assert [file.status for file in await bench.files(first)] == [PENDING]
        for _, worker, _ in lost:
            worker.cancel()
        await asyncio.wait([worker for _, worker, _ in lost])

    async def test_a_lost_run_that_was_asked_to_stop_is_cancelled(self, bench: Workbench) -> None:
        bench.land("a")
        subject, worker, _ = await started(bench, "before_commit")
        await ask_to_stop(bench, subject)
        await bench.expire_leases()
        assert await bench.pipeline.recover_lost() == 2
        assert (await bench.run(subject)).status is RunStatus.CANCELLED
        worker.cancel()
        await asyncio.wait([worker])


class TestWhatFailedRunsLeave:
    """The table can neither be loaded into nor asked: the run ends with its batch open, and the lease of that runs on."""

    async def failed(self, bench: Workbench) -> tuple[Ingestion, Run]:
        bench.land("a")
        ingestion = await bench.ingestion()
        bench.engine.unavailable = TableUnavailableError("the catalog does not answer")
        run = await bench.execute(ingestion)
        assert (run.status, await bench.statuses(ingestion)) == (RunStatus.FAILED, {"a": PROCESSING})
        return ingestion, run

    @pytest.mark.parametrize("by_retry", [False, True])
    async def test_a_run_that_comes_before_the_lease_has_expired_loads_it(self, bench: Workbench, by_retry: bool) -> None:
        ingestion, failed = await self.failed(bench)
        bench.engine.unavailable = None
        subject = await bench.queue(ingestion, retry_of_id=failed.id if by_retry else None)
        await bench.pipeline.execute(subject)
        run = await bench.run(subject)
        assert (run.status, run.files_processed) == (RunStatus.SUCCESS, 1)
        assert bench.table(ingestion).loads_of(BUCKET + "a") == 1

    async def test_a_run_that_cannot_settle_it_fails_too_and_does_not_say_that_nothing_is_new(self, bench: Workbench) -> None:
        ingestion, _ = await self.failed(bench)
        run = await bench.execute(ingestion)
        assert (run.status, run.error_message) == (RunStatus.FAILED, "the catalog does not answer")
        assert await bench.statuses(ingestion) == {"a": PROCESSING}


async def _ingestion(bench: Workbench, run: Run) -> Ingestion:
    async with bench.unit_of_work(run.tenant_id) as tx:
        found = await tx.ingestions.get_by_id(run.ingestion_id)
    assert found is not None
    return found
