"""What a `Reader` promises of sums: whatever is done to the ledger, its counts are what a GROUP BY over it would give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st

from domain.ingestions.entities import ChangedFilePolicy, Ingestion, Reset
from domain.ledger.entities import Batch, FileStatus, ProcessedFile
from domain.ledger.stats import Backlog, FileCount, IngestionStats
from domain.ports.repositories import FileSelection
from domain.runs.entities import RunMetrics, RunStatus
from domain.runs.totals import RunTotals
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_stored_object, failed, loaded, skipped, stored_objects


class StatsContract:
    async def test_an_ingestion_that_has_done_nothing_counts_nothing(self, world: World) -> None:
        ingestion = await world.ingestion()
        nothing = IngestionStats(tuple(FileCount(status) for status in FileStatus), Backlog(0, 0, None), None)
        assert nothing.success_rate is None
        assert await world.reader.stats([ingestion.id, uuid4()]) == [nothing, nothing]
        assert await world.reader.stats([]) == []

    async def test_files_are_counted_by_their_statuses(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        await world.discover(ingestion, stored_objects(6, size_bytes=7))
        await world.discover(other, 1)
        batch, files = await world.claim(ingestion, files=5)
        async with world.begin() as tx:
            await tx.files.mark_success(batch, [loaded(f, rows=10, rows_skipped=2, rows_rescued=1) for f in files[:3]], snapshot_id=1)
            await tx.files.mark_failed(batch, [failed(files[3])], max_retries=3, retry_base_seconds=60)
            await tx.files.mark_skipped(batch, [skipped(files[4])])
        waiting = (await world.files(ingestion))[5]
        of_other, stats, again = await world.reader.stats([other.id, ingestion.id, ingestion.id])
        assert (of_other.files, of_other.backlog.files) == (1, 1)
        assert stats == again
        assert {count.status: count.files for count in stats.by_status if count.files} == {
            FileStatus.PENDING: 1,
            FileStatus.SUCCESS: 3,
            FileStatus.FAILED: 1,
            FileStatus.SKIPPED: 1,
        }
        assert (stats.files, stats.size_bytes, stats.bytes_loaded) == (6, 42, 21)
        assert (stats.rows_loaded, stats.rows_skipped, stats.rows_rescued) == (30, 6, 3)
        assert stats.success_rate == 0.75
        assert stats.backlog == Backlog(1, 7, waiting.discovered_at)

    async def test_the_oldest_that_waits_and_the_last_success(self, world: World) -> None:
        ingestion = await world.ingestion()
        for name in ("first", "second"):
            await world.discover(ingestion, [a_stored_object(name)])
        first, second = await world.files(ingestion)
        for minutes, status in enumerate((RunStatus.SUCCESS, RunStatus.SUCCESS, RunStatus.FAILED)):
            moment = NOW + timedelta(minutes=minutes)
            run = await world.run(ingestion, queued_at=moment, started=True)
            async with world.begin() as tx:
                await tx.runs.update_status(run.id, status, at=moment + timedelta(seconds=30))
        (stats,) = await world.reader.stats([ingestion.id])
        assert (stats.backlog.oldest_discovered_at, stats.last_success_at) == (first.discovered_at, NOW + timedelta(minutes=1, seconds=30))
        await world.claim(ingestion, files=1)
        (stats,) = await world.reader.stats([ingestion.id])
        assert stats.backlog == Backlog(1, 100, second.discovered_at)

    async def test_files_of_an_earlier_generation_are_absent(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.discover(ingestion, stored_objects(3, size_bytes=7))
        batch, (first, second) = await world.claim(ingestion, files=2)
        async with world.begin() as tx:
            await tx.files.mark_success(batch, [loaded(file, rows=10) for file in (first, second)], snapshot_id=1)
            await tx.ingestions.begin_reset(ingestion.id, Reset(uuid4()), generation=2, checkpoint_path="anew")
        (stats,) = await world.reader.stats([ingestion.id])
        assert (stats.files, stats.files_absent_by_refresh, stats.rows_loaded, stats.bytes_loaded) == (3, 2, 0, 0)
        assert stats.of_status(FileStatus.SUCCESS).files == 0
        batch, (third,) = await world.claim(ingestion)
        async with world.begin() as tx:
            await tx.files.mark_success(batch, [loaded(third, rows=4)], snapshot_id=2)
        await world.directory.compact_file_counts(limit=100)
        (stats,) = await world.reader.stats([ingestion.id])
        assert (stats.files, stats.files_absent_by_refresh, stats.rows_loaded, stats.bytes_loaded) == (3, 2, 4, 7)
        assert (stats.size_bytes, stats.success_rate) == (21, 1.0)

    async def test_what_is_rolled_back_is_not_counted(self, world: World) -> None:
        ingestion = await world.ingestion()
        try:
            async with world.begin() as tx:
                await tx.files.record_discovered(ingestion.id, stored_objects(3))
                raise RuntimeError
        except RuntimeError:
            pass
        (stats,) = await world.reader.stats([ingestion.id])
        assert stats.files == 0

    async def test_an_ingestion_takes_its_counts_with_it(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        for one in (ingestion, other):
            await world.discover(one, 3)
        async with world.begin() as tx:
            assert await tx.ingestions.delete(ingestion.id)
        await world.directory.compact_file_counts(100)
        gone, kept = await world.reader.stats([ingestion.id, other.id])
        assert (gone.files, kept.files) == (0, 3)


class RunTotalsContract:
    async def test_ended_runs_of_the_range_are_summed(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()

        async def run(days: int, *, listings: int = 1, end: RunStatus | None = RunStatus.PARTIAL) -> None:
            made = await world.run(ingestion, started=True, queued_at=NOW + timedelta(days=days))
            async with world.begin() as tx:
                for _ in range(listings):
                    await tx.runs.count_listing(made.id)
                await tx.runs.update_metrics(made.id, RunMetrics(9, 3, 2, 1, bytes_processed=100))
                if end is not None:
                    await tx.runs.update_status(made.id, end, at=NOW + timedelta(seconds=10))

        for day in range(3):
            await run(day)
        await run(3, listings=0)
        await run(4, end=None)

        async def totals(since: int, until: int) -> Sequence[RunTotals]:
            return await world.reader.run_totals([other.id, ingestion.id], NOW + timedelta(days=since), NOW + timedelta(days=until))

        assert await totals(0, 9) == [RunTotals(), RunTotals(4, 40.0, 3, 24, 12, 400)]
        assert await totals(1, 2) == [RunTotals(), RunTotals(1, 10.0, 1, 6, 3, 100)]
        assert await totals(5, 9) == [RunTotals(), RunTotals()]
        assert await world.reader.run_totals([], NOW, NOW) == []

    async def test_they_are_the_sum_of_each_run(self, world: World) -> None:
        ingestion = await world.ingestion()
        runs = []
        for status in (RunStatus.SUCCESS, RunStatus.NO_NEW_FILES, RunStatus.FAILED):
            made = await world.run(ingestion, started=True)
            async with world.begin() as tx:
                await tx.runs.count_listing(made.id)
                runs.append(await tx.runs.update_status(made.id, status, at=NOW + timedelta(seconds=3)))
        never = await world.run(ingestion)
        async with world.begin() as tx:
            await tx.runs.update_status(never.id, RunStatus.CANCELLING, at=NOW)
            runs.append(await tx.runs.update_status(never.id, RunStatus.CANCELLED, at=NOW))
        runs.append(await world.run(ingestion))
        (totals,) = await world.reader.run_totals([ingestion.id], NOW, NOW + timedelta(days=1))
        assert totals == sum((RunTotals.of(run) for run in runs), RunTotals())
        assert totals == RunTotals(4, 9.0, 3, 0, 0, 0)


Step = tuple[str, int]
"""Which call of `_STEPS`, and a small number for what varies in it."""

Call = Callable[[World, Ingestion, int], Coroutine[Any, Any, None]]


async def _discover(world: World, ingestion: Ingestion, number: int) -> None:
    objects = stored_objects(number % 7, etag=f"v{number % 3}", size_bytes=number)
    await world.discover(ingestion, objects, changed_files=list(ChangedFilePolicy)[number % 3])


async def _claim(world: World, ingestion: Ingestion, number: int) -> None:
    await world.claim(ingestion, files=1 + number % 4, lease_seconds=0)


async def _lock(world: World, ingestion: Ingestion, number: int) -> None:
    batch = await world.open_batch(ingestion, lease_seconds=0)
    async with world.begin() as tx:
        await tx.files.lock_file_for_processing(batch, a_stored_object(f"locked {number % 3}", size_bytes=number))


async def _mark(world: World, ingestion: Ingestion, number: int) -> None:
    """What is in hand, in part: so that a batch can be marked, released, and both."""
    for batch, files in (await _in_hand(world, ingestion)).values():
        some = files[: 1 + number % 3]
        counts = {"rows_skipped": number, "rows_rescued": 1}
        async with world.begin() as tx:
            await tx.files.mark_success(batch, [loaded(f, rows=number, **counts) for f in some[:1]], snapshot_id=1)
            await tx.files.mark_failed(batch, [failed(f) for f in some[1:2]], max_retries=3, retry_base_seconds=0)
            await tx.files.mark_skipped(batch, [skipped(f) for f in some[2:]])
            await tx.files.supersede(batch, [file.id for file in some if file.replaces])


async def _release(world: World, ingestion: Ingestion, _: int) -> None:
    for batch, _files in (await _in_hand(world, ingestion)).values():
        async with world.begin() as tx:
            await tx.files.release(batch)


async def _retry(world: World, ingestion: Ingestion, number: int) -> None:
    async with world.begin() as tx:
        await tx.files.requeue_due_failures(ingestion.id, max_retries=number % 4)


async def _by_hand(world: World, ingestion: Ingestion, number: int) -> None:
    async with world.begin() as tx:
        selection = FileSelection(ingestion_id=ingestion.id)
        await (tx.files.requeue(selection) if number % 2 else tx.files.skip(selection, reason="by hand"))


async def _assign(world: World, ingestion: Ingestion, _: int) -> None:
    files = await world.files(ingestion)
    of_run = next((file.run_id for file in files if file.run_id is not None), uuid4())
    async with world.begin() as tx:
        await tx.files.assign_unloaded(ingestion.id, of_run=of_run, to_run=uuid4())


async def _clear(world: World, ingestion: Ingestion, number: int) -> None:
    async with world.begin() as tx:
        await tx.files.delete_by_ingestion(ingestion.id, path_prefix=a_stored_object(f"00000{number % 4}").path)


async def _compact(world: World, _: Ingestion, number: int) -> None:
    await world.directory.compact_file_counts(1 + number)


_STEPS: Mapping[str, Call] = {
    "discover": _discover,
    "claim": _claim,
    "lock": _lock,
    "mark": _mark,
    "release": _release,
    "retry": _retry,
    "by hand": _by_hand,
    "assign": _assign,
    "clear": _clear,
    "compact": _compact,
}
histories = st.lists(st.tuples(st.sampled_from(sorted(_STEPS)), st.integers(0, 9)), max_size=12).map(
    lambda steps: [("discover", 6), ("claim", 3), *steps]
)


async def tell_history(world: World, history: Sequence[Step]) -> IngestionStats:
    """Do it all, and after each step find the counts to be those of the files that are there; the last ones, without moments."""
    ingestion = await world.ingestion()
    for step, number in history:
        await _STEPS[step](world, ingestion, number)
        (stats,) = await world.reader.stats([ingestion.id])
        files = await _versions(world, ingestion)
        assert stats.by_status == _grouped(file for file in files if not _is_earlier(file)), step
        earlier = _grouped(file for file in files if _is_earlier(file))
        assert stats.earlier == replace(next(count for count in earlier if count.status is FileStatus.SUCCESS), earlier=True), step
        waiting = [file for file in files if file.status is FileStatus.PENDING]
        assert stats.backlog.oldest_discovered_at == (waiting[0].discovered_at if waiting else None), step
    while await world.directory.compact_file_counts(3):
        pass
    (compacted,) = await world.reader.stats([ingestion.id])
    assert compacted == stats
    return IngestionStats.of(compacted.by_status, oldest_waiting_at=None, last_success_at=None)


async def _versions(world: World, ingestion: Ingestion) -> list[ProcessedFile]:
    """All versions of the ingestion's files, the current ones first."""
    files = await world.files(ingestion)
    async with world.begin() as tx:
        return [*files, *[v for file in files for v in await tx.files.get_earlier_versions(ingestion.id, file.path, limit=100)]]


def _is_earlier(file: ProcessedFile) -> bool:
    return file.status is FileStatus.SUCCESS and not file.current


def _grouped(files: Iterable[ProcessedFile]) -> tuple[FileCount, ...]:
    """As GROUP BY would: every file's own fields, summed by status."""
    sums: dict[FileStatus, list[int]] = defaultdict(lambda: [0] * 5)
    for file in files:
        own = (1, file.size_bytes, file.rows or 0, file.rows_skipped or 0, file.rows_rescued or 0)
        sums[file.status] = [total + value for total, value in zip(sums[file.status], own, strict=True)]
    return tuple(FileCount(status, *sums[status]) for status in FileStatus)


async def _in_hand(world: World, ingestion: Ingestion) -> Mapping[Any, tuple[Batch, list[ProcessedFile]]]:
    held: dict[Any, tuple[Batch, list[ProcessedFile]]] = {}
    for file in await world.files(ingestion):
        if file.status is FileStatus.PROCESSING:
            async with world.begin() as tx:
                batch = await tx.batches.get_by_id(file.batch_id)
            held.setdefault(file.batch_id, (batch, []))[1].append(file)
    return held
