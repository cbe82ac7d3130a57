"""What a streamed ingestion's runs promise, over any adapter of the persistence ports: the ledger follows the table, wherever they stop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from domain.errors import LeaseLostError, UnsupportedError
from domain.ingestions.entities import EngineType, Execution, ExecutionMode, Ingestion
from domain.ledger.entities import Batch, BatchStatus, FileStatus
from domain.ledger.state_service import FileStateService
from domain.ledger.stream_processor import BROUGHT_NOTHING, EMPTY, UNKNOWN_ETAG
from domain.ports.engine import TableUnavailableError
from domain.ports.repositories import FileSelection
from domain.ports.unit_of_work import Subject
from domain.runs.entities import RefreshMode, Run, RunStatus
from domain.runs.service import RetryRequest, RunService
from tests.contracts.resets import clear, refreshed, rows, subject_of
from tests.factories import BUCKET, NOW, a_principal
from tests.fakes.scripted_engine import ROWS, Snapshot
from tests.workbench import CHECKPOINTS, Workbench

SUCCESS, SKIPPED, PENDING = FileStatus.SUCCESS, FileStatus.SKIPPED, FileStatus.PENDING
STREAMING = Execution(EngineType.SPARK, mode=ExecutionMode.STREAMING)


async def streamed(bench: Workbench, *names: str, **fields: Any) -> Ingestion:
    bench.land(*names)
    return await bench.ingestion(execution=STREAMING, **fields)


async def silent(bench: Workbench, ingestion: Ingestion, *, epoch: int = 0) -> tuple[Subject, asyncio.Task[Run | None], asyncio.Event]:
    """A run whose worker stands still when it has committed an epoch and told nobody: to others it is dead."""
    reached, thaw = asyncio.Event(), asyncio.Event()

    async def stand_still(committed: int) -> None:
        if committed == epoch:
            reached.set()
            await thaw.wait()

    bench.stream.after_commit = stand_still
    subject = await bench.queue(ingestion)
    worker = asyncio.create_task(bench.pipeline.execute(subject))
    await reached.wait()
    return subject, worker, thaw


async def end(worker: asyncio.Task[Any]) -> None:
    worker.cancel()
    with pytest.raises((asyncio.CancelledError, LeaseLostError)):
        await worker


async def execute_next(bench: Workbench, ingestion: Ingestion) -> Run:
    """The run that waits, such as the retry of a lost one, or another; as it ended."""
    async with bench.unit_of_work(bench.tenant.id) as tx:
        waiting = await tx.runs.get_active(ingestion.id)
    if waiting is None:
        return await bench.execute(ingestion)
    subject = Subject(waiting.tenant_id, waiting.id)
    await bench.pipeline.execute(subject)
    return await bench.run(subject)


async def batches_of(bench: Workbench, ingestion: Ingestion) -> list[Batch]:
    ids = {file.batch_id: None for file in await bench.files(ingestion) if file.batch_id}
    async with bench.unit_of_work(bench.tenant.id) as tx:
        found = [await tx.batches.get_by_id(id) for id in ids]
    return [batch for batch in found if batch is not None]


class StreamedRunContract:
    async def test_the_ledger_is_filled_from_what_the_table_has(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b", "c", "blank")
        bench.land("empty", content=b"")
        bench.stream.blank |= {BUCKET + "blank", BUCKET + "empty"}

        run = await bench.execute(ingestion)

        assert (run.status, run.files_discovered, run.files_processed, run.files_skipped) == (RunStatus.SUCCESS, 5, 3, 2)
        assert (run.rows_written, run.bytes_processed, run.files_total) == (3 * ROWS, 6, 5)
        files = {file.path.removeprefix(BUCKET): file for file in await bench.files(ingestion)}
        snapshots = [snapshot.id for snapshot in bench.table(ingestion).snapshots]
        assert {name: (file.status, file.rows, file.snapshot_id, file.error_message) for name, file in files.items()} == {
            "a": (SUCCESS, ROWS, snapshots[0], None),
            "b": (SUCCESS, ROWS, snapshots[0], None),
            "blank": (SKIPPED, 0, None, BROUGHT_NOTHING),
            "c": (SUCCESS, ROWS, snapshots[1], None),
            "empty": (SKIPPED, 0, None, EMPTY),
        }
        assert {(batch.status, batch.files, batch.snapshot_id) for batch in await batches_of(bench, ingestion)} == {
            (BatchStatus.COMMITTED, 2, snapshots[0]),
            (BatchStatus.COMMITTED, 1, snapshots[1]),
            (BatchStatus.COMMITTED, 0, None),
        }
        async with bench.unit_of_work(bench.tenant.id) as tx:
            assert await tx.ingestions.get_table(ingestion.id) == bench.table(ingestion).uuid
            version = await tx.schema_versions.latest(ingestion.id)
        assert version is not None
        assert (version.version, version.schema) == (1, bench.engine.schema)
        [order] = bench.stream.orders
        assert (order.run_id, order.checkpoint, order.max_files) == (run.id, ingestion.checkpoint_path, 3)
        assert sorted(sample.path for sample in order.samples) == sorted(file.path for file in files.values())

    async def test_a_run_that_finds_nothing_new_starts_no_stream(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a")
        await bench.execute(ingestion)
        assert (await bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES
        assert len(bench.stream.orders) == 1

    async def test_what_a_lost_worker_has_committed_is_recorded_by_the_recovery(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b", "c", "d")
        subject, worker, _ = await silent(bench, ingestion)
        assert set((await bench.statuses(ingestion)).values()) == {PENDING}

        await bench.expire_leases()
        assert await bench.pipeline.recover_lost() == 1

        lost = await bench.run(subject)
        assert (lost.status, lost.files_processed, lost.rows_written) == (RunStatus.FAILED, 3, 3 * ROWS)
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS, "c": SUCCESS, "d": PENDING}
        await end(worker)
        await self._the_rest_is_loaded(bench, ingestion, files=1)

    async def test_and_by_the_next_run_where_the_recovery_could_not(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b", "c", "d")
        subject, worker, _ = await silent(bench, ingestion)
        bench.stream.unavailable = TableUnavailableError("the catalog is away")
        await bench.expire_leases()
        assert await bench.pipeline.recover_lost() == 1
        await end(worker)
        assert (await bench.run(subject)).files_processed == 0
        bench.stream.unavailable = None
        # Whatever has become of the file: it is in the table.
        bench.stores.delete(BUCKET + "a")
        await self._the_rest_is_loaded(bench, ingestion, files=4)

    async def _the_rest_is_loaded(self, bench: Workbench, ingestion: Ingestion, *, files: int) -> None:
        bench.stream.after_commit = _go_on
        run = await execute_next(bench, ingestion)
        assert (run.status, run.files_processed, run.rows_written) == (RunStatus.SUCCESS, files, files * ROWS)
        assert await bench.statuses(ingestion) == dict.fromkeys("abcd", SUCCESS)
        assert {bench.table(ingestion).loads_of(BUCKET + name) for name in "abcd"} == {1}

    async def test_what_is_in_the_table_is_recorded_though_nothing_waits(self, bench: Workbench) -> None:
        """The files had landed after the listing, and have gone since."""
        ingestion = await streamed(bench, "a", "b")
        _, worker, _ = await silent(bench, ingestion)
        bench.stream.unavailable = TableUnavailableError("the catalog is away")
        await bench.expire_leases()
        await bench.pipeline.recover_lost()
        await end(worker)
        bench.stream.unavailable = None
        for name in "ab":
            bench.stores.delete(BUCKET + name)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.files.delete_by_ingestion(ingestion.id)

        run = await execute_next(bench, ingestion)

        assert (run.status, run.files_processed, run.files_total) == (RunStatus.SUCCESS, 2, 0)
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS}
        assert len(bench.stream.orders) == 1

    async def test_a_worker_that_wakes_up_after_its_run_has_ended_stops(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, *"abcdefg")
        subject, worker, thaw = await silent(bench, ingestion)
        await bench.expire_leases()
        await bench.pipeline.recover_lost()
        before = await bench.run(subject)

        bench.stream.after_commit = _go_on
        thaw.set()
        assert await worker is None

        assert await bench.run(subject) == before
        # It had nothing of its own to record when it woke up, and went one epoch further.
        assert len(bench.table(ingestion).snapshots) == 2
        assert (await execute_next(bench, ingestion)).files_processed == 4
        assert {bench.table(ingestion).loads_of(BUCKET + name) for name in "abcdefg"} == {1}

    async def test_an_epoch_is_recorded_once_by_whoever_comes_first(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b")
        subject, worker, _ = await silent(bench, ingestion)
        run = await bench.run(subject)

        recorded = await asyncio.gather(*(bench.streams.catch_up(run, ingestion, bench.tenant.grants) for _ in range(3)))

        assert sorted(metrics.files_processed for metrics in recorded) == [0, 0, 2]
        counted = (await bench.run(subject)).metrics
        assert (counted.files_processed, counted.rows_written) == (2, 2 * ROWS)
        await end(worker)

    async def test_files_that_landed_after_the_listing_are_entered_as_they_are_now(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b", "c")

        async def as_if_unlisted(_: int) -> None:
            bench.stores.delete(BUCKET + "c")
            async with bench.unit_of_work(bench.tenant.id) as tx:
                await tx.files.delete_by_ingestion(ingestion.id)

        bench.stream.after_commit = as_if_unlisted
        run = await bench.execute(ingestion)

        assert (run.status, run.files_processed) == (RunStatus.SUCCESS, 3)
        a, _, c = await bench.files(ingestion)
        assert a.stored_object == bench.stores.objects[BUCKET + "a"]
        assert (c.status, c.rows, c.size_bytes, c.etag, c.modified_at) == (SUCCESS, ROWS, 0, UNKNOWN_ETAG, NOW)

    async def test_a_stream_that_fails_leaves_what_it_has_committed(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b", "c", "d")

        async def fail(_: int) -> None:
            raise TableUnavailableError("Spark failed")

        bench.stream.after_commit = fail
        run = await bench.execute(ingestion)

        assert (run.status, run.error_message, run.files_processed) == (RunStatus.FAILED, "Spark failed", 3)
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS, "c": SUCCESS, "d": PENDING}

    async def test_a_cancelled_run_records_what_it_has_committed(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b", "c", "d")
        subject, worker, _ = await silent(bench, ingestion)
        await RunService(bench.unit_of_work, bench.clock).cancel_run(a_principal(bench.tenant), subject.id)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        run = await bench.run(subject)
        assert (run.status, run.files_processed) == (RunStatus.CANCELLED, 3)
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS, "c": SUCCESS, "d": PENDING}

    async def test_an_epoch_that_expired_unrecorded_is_told(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, *"abcdefg")
        _, worker, _ = await silent(bench, ingestion, epoch=1)
        bench.stream.unavailable = TableUnavailableError("the catalog is away")
        await bench.expire_leases()
        await bench.pipeline.recover_lost()
        await end(worker)
        bench.stream.unavailable = None
        async with bench.unit_of_work(bench.tenant.id) as tx:
            recorded = await tx.files.count_by_status(ingestion.id)
        assert recorded == {SUCCESS: 3, PENDING: 4}
        table = bench.table(ingestion)
        table.snapshots.append(Snapshot(99, None, {}))
        table.expire()
        bench.stream.epochs[ingestion.checkpoint_path].append((2, table, table.snapshots[-1]))

        run = await execute_next(bench, ingestion)

        assert run.status is RunStatus.FAILED
        assert run.error_message == f"epoch 1 of the stream into {ingestion.destination.key} expired unrecorded: refresh it (FULL)"
        bench.stream.after_commit = _go_on
        assert (await refreshed(bench, ingestion, RefreshMode.FULL)).status is RunStatus.SUCCESS
        assert rows(bench, ingestion) == dict.fromkeys("abcdefg", ROWS)


class StreamedResetContract:
    async def test_a_full_refresh_begins_another_checkpoint(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b")
        await bench.execute(ingestion)

        run = await refreshed(bench, ingestion, RefreshMode.FULL)

        after = await bench.stored(ingestion)
        assert (run.status, run.files_processed) == (RunStatus.SUCCESS, 2)
        assert after.checkpoint_path != ingestion.checkpoint_path
        assert [order.checkpoint for order in bench.stream.orders] == [ingestion.checkpoint_path, after.checkpoint_path]
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS}

    async def test_what_is_new_goes_on_from_the_same_checkpoint(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b")
        await bench.execute(ingestion)
        bench.land("c")

        run = await refreshed(bench, ingestion, RefreshMode.NEW_ONLY)

        assert (run.status, run.files_processed) == (RunStatus.SUCCESS, 1)
        assert (await bench.stored(ingestion)).checkpoint_path == ingestion.checkpoint_path
        assert rows(bench, ingestion) == {"c": ROWS}
        assert {file.path.removeprefix(BUCKET): file.generation for file in await bench.files(ingestion)} == {"a": 1, "b": 1, "c": 2}

    async def test_a_clear_begins_another_checkpoint(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "b")
        await bench.execute(ingestion)

        assert await clear(bench, ingestion) == 2
        await bench.resets.finish(subject_of(ingestion))
        assert rows(bench, ingestion) == {}
        run = await bench.execute(await bench.stored(ingestion))

        assert (run.status, run.files_processed) == (RunStatus.SUCCESS, 2)
        assert bench.stream.orders[-1].checkpoint == (await bench.stored(ingestion)).checkpoint_path != ingestion.checkpoint_path
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}

    async def test_what_a_checkpoint_cannot_do_is_refused(self, bench: Workbench) -> None:
        ingestion = await streamed(bench, "a", "blank")
        bench.stream.blank.add(BUCKET + "blank")
        run = await bench.execute(ingestion)
        before = await bench.files(ingestion)
        me, files = a_principal(bench.tenant), FileStateService(bench.unit_of_work, CHECKPOINTS, bench.tenant.id)
        by_id, all_of = FileSelection(ids=(before[1].id,)), FileSelection(ingestion_id=ingestion.id)
        told = "in STREAMING mode: the checkpoint decides which files are loaded, and knows all that it has seen"

        for selection in (by_id, all_of):
            with pytest.raises(UnsupportedError, match=f"^files cannot be retried {told}$"):
                await files.retry_files(me, selection)
            with pytest.raises(UnsupportedError, match=f"^files cannot be left out {told}$"):
                await files.skip_files(me, selection, reason="no")
        with pytest.raises(UnsupportedError, match=f"^a part of the files cannot be cleared {told}$"):
            await clear(bench, ingestion, path_prefix=BUCKET + "a")
        with pytest.raises(UnsupportedError, match=f"^a run cannot be retried, and another one goes on where it ended, {told}$"):
            await RunService(bench.unit_of_work, bench.clock).retry_run(me, RetryRequest(run_id=run.id))

        assert await bench.files(ingestion) == before
        assert (await bench.stored(ingestion)).reset is None


async def _go_on(_: int) -> None:
    return None
