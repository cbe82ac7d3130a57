"""What becomes of files that change once they are loaded, over any adapter of the persistence ports: from the listing to the rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from domain.errors import LeaseLostError
from domain.ingestions.entities import ChangedFilePolicy, Ingestion, Policies
from domain.ledger.completeness import DifferenceKind
from domain.ledger.entities import FileStatus
from domain.ports.engine import LoadBatch
from domain.runs.entities import RefreshMode, Run, RunMetrics, RunStatus
from tests.contracts.completeness import audited
from tests.contracts.processing import process, recover, running
from tests.contracts.resets import clear, refreshed, subject_of
from tests.factories import BUCKET
from tests.fakes.scripted_engine import ROWS
from tests.workbench import Workbench

IGNORE, APPEND, REPLACE = ChangedFilePolicy
PENDING, SUCCESS, FAILED = FileStatus.PENDING, FileStatus.SUCCESS, FileStatus.FAILED
SKIPPED, SUPERSEDED = FileStatus.SKIPPED, FileStatus.SUPERSEDED
A = BUCKET + "a"


async def loaded(bench: Workbench, policy: ChangedFilePolicy, *names: str) -> Ingestion:
    """An ingestion that has loaded the files (one, unless told)."""
    bench.land(*(names or ("a",)))
    ingestion = await bench.ingestion(policies=Policies(changed_files=policy))
    assert (await bench.execute(ingestion)).status is RunStatus.SUCCESS
    return ingestion


async def versions(bench: Workbench, ingestion: Ingestion) -> list[FileStatus]:
    """Of the file a, the newest first."""
    async with bench.unit_of_work(bench.tenant.id) as tx:
        current = await tx.files.get_by_path(ingestion.id, A)
        earlier = await tx.files.get_earlier_versions(ingestion.id, A, limit=100)
    assert current is not None
    return [file.status for file in [current, *earlier]]


async def is_consistent(bench: Workbench, ingestion: Ingestion) -> bool:
    return (await audited(bench, ingestion.id)).consistent


class ChangedFilesContract:
    async def test_a_changed_file_is_loaded_as_the_policy_says(self, bench: Workbench) -> None:
        expected = {
            IGNORE: (RunStatus.NO_NEW_FILES, ROWS, [SUCCESS]),
            APPEND: (RunStatus.SUCCESS, 2 * ROWS, [SUCCESS, SUCCESS]),
            REPLACE: (RunStatus.SUCCESS, ROWS, [SUCCESS, SUPERSEDED]),
        }
        for policy, (status, rows, statuses) in expected.items():
            bench.land("a", content=b"old")
            ingestion = await loaded(bench, policy, "b")
            bench.land("a", content=b"new")
            run = await bench.execute(ingestion)
            table = bench.table(ingestion)
            assert (run.status, table.rows_of(A), table.rows_of(BUCKET + "b")) == (status, rows, ROWS)
            assert await versions(bench, ingestion) == statuses
            assert (run.files_discovered, run.files_processed) == ((0, 0) if policy is IGNORE else (1, 1))
            assert (await bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES
            assert await is_consistent(bench, ingestion)

    async def test_a_batch_replaces_all_its_files_in_one_commit(self, bench: Workbench) -> None:
        ingestion = await loaded(bench, REPLACE, "a", "b", "c")
        bench.land("a", "b", "c", content=b"new")
        await bench.execute(ingestion)
        assert len(bench.table(ingestion).snapshots) == 2
        assert [bench.table(ingestion).rows_of(BUCKET + name) for name in "abc"] == [ROWS] * 3

    async def test_of_two_changes_before_a_load_the_newest_is_loaded(self, bench: Workbench) -> None:
        for policy, rows in ((APPEND, 2 * ROWS), (REPLACE, ROWS)):
            bench.land("a", content=b"old")
            ingestion = await loaded(bench, policy, "b")
            for content in (b"newer", b"newest"):
                bench.land("a", content=content)
                run = await bench.queue(ingestion)
                async with bench.unit_of_work(bench.tenant.id) as tx:
                    found = await tx.runs.update_status(run.id, RunStatus.RUNNING, at=bench.clock.now(), lease_seconds=60)
                await bench.discovery.discover(ingestion, bench.tenant.grants, found)
                async with bench.unit_of_work(bench.tenant.id) as tx:
                    await tx.runs.update_status(run.id, RunStatus.FAILED, at=bench.clock.now())
            await bench.execute(ingestion)
            assert bench.table(ingestion).rows_of(A) == rows
            (load,) = [load for load in bench.engine.loads[-1:] if [file.object.path for file in load.files] == [A]]
            assert load.files[0].object.size_bytes == len(b"newest")
            assert len(await versions(bench, ingestion)) == 2

    async def test_a_new_version_that_is_bad_leaves_the_old_rows(self, bench: Workbench) -> None:
        ingestion = await loaded(bench, REPLACE)
        bench.land("a", content=b"bad")
        bench.engine.bad[A] = "not JSON"
        assert (await bench.execute(ingestion)).status is RunStatus.FAILED
        assert (await versions(bench, ingestion), bench.table(ingestion).rows_of(A)) == ([FAILED, SUCCESS], ROWS)
        found = await audited(bench, ingestion.id)
        assert (found.consistent, dict(found.counts)) == (True, {DifferenceKind.NOT_LOADED: 1})
        bench.engine.bad.clear()
        bench.land("a", content=b"mended")
        await bench.execute(ingestion)
        assert (await versions(bench, ingestion), bench.table(ingestion).rows_of(A)) == ([SUCCESS, SUPERSEDED], ROWS)

    async def test_a_new_version_that_is_empty_takes_the_old_rows_out(self, bench: Workbench) -> None:
        ingestion = await loaded(bench, REPLACE)
        bench.land("a", content=b"")
        bench.engine.empty.add(A)
        await bench.execute(ingestion)
        assert (await versions(bench, ingestion), bench.table(ingestion).rows_of(A)) == ([SKIPPED, SUPERSEDED], 0)
        assert await is_consistent(bench, ingestion)

    async def test_what_changed_while_it_was_ignored_is_found_once_it_is_not(self, bench: Workbench) -> None:
        ingestion = await loaded(bench, IGNORE)
        bench.land("a", content=b"new")
        await bench.execute(ingestion)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            present = await tx.ingestions.get_by_id(ingestion.id)
            assert present is not None
            await tx.ingestions.update(replace(present, policies=Policies(changed_files=REPLACE)))
        await bench.execute(ingestion)
        assert await versions(bench, ingestion) == [SUCCESS, SUPERSEDED]
        assert bench.table(ingestion).rows_of(A) == ROWS

    @pytest.mark.parametrize("empty", [False, True])
    @pytest.mark.parametrize("where", ["at_start", "before_commit", "after_commit"])
    async def test_a_lost_worker_has_replaced_a_file_or_it_has_not(self, bench: Workbench, where: str, empty: bool) -> None:
        ingestion = await loaded(bench, REPLACE)
        bench.land("a", content=b"" if empty else b"new")
        if empty:
            bench.engine.empty.add(A)
        run = await running(bench, ingestion)
        worker = await _killed(bench, run, ingestion, where)
        assert await recover(bench) == 1
        done = where == "after_commit"
        # Of an empty file there is no telling whether it was empty: it is looked at again.
        expected = [SUCCESS if done and not empty else PENDING, SUPERSEDED if done else SUCCESS]
        assert await versions(bench, ingestion) == expected
        assert bench.table(ingestion).rows_of(A) == (0 if done and empty else ROWS)
        assert await is_consistent(bench, ingestion)
        worker.cancel()
        await asyncio.wait([worker])
        await process(bench, run, ingestion)
        assert await versions(bench, ingestion) == [SKIPPED if empty else SUCCESS, SUPERSEDED]
        assert bench.table(ingestion).rows_of(A) == (0 if empty else ROWS)
        assert await is_consistent(bench, ingestion)

    async def test_a_lost_workers_late_listing_is_refused(self, bench: Workbench) -> None:
        ingestion = await loaded(bench, APPEND)
        late = await running(bench, ingestion)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.runs.update_status(late.id, RunStatus.FAILED, at=bench.clock.now())
        bench.land("a", content=b"new")
        with pytest.raises(LeaseLostError):
            await bench.discovery.discover(ingestion, bench.tenant.grants, late)
        assert await versions(bench, ingestion) == [SUCCESS]

    async def test_after_a_refresh_and_after_a_clear_versions_begin_anew(self, bench: Workbench) -> None:
        ingestion = await loaded(bench, APPEND)
        bench.land("a", content=b"new")
        await bench.execute(ingestion)
        await refreshed(bench, await bench.stored(ingestion), RefreshMode.NEW_ONLY)
        assert await is_consistent(bench, ingestion)
        bench.land("a", content=b"newer")
        await bench.execute(ingestion)
        assert (await versions(bench, ingestion), bench.table(ingestion).rows_of(A)) == ([SUCCESS] * 3, ROWS)
        assert await is_consistent(bench, ingestion)
        assert await clear(bench, ingestion) == 1
        await bench.resets.finish(subject_of(ingestion))
        assert (await bench.files(ingestion), bench.table(ingestion).rows_of(A)) == ([], 0)
        await bench.execute(ingestion)
        assert (await versions(bench, ingestion), bench.table(ingestion).rows_of(A)) == ([SUCCESS], ROWS)

    async def test_a_retry_of_a_run_takes_the_version_that_failed(self, bench: Workbench) -> None:
        ingestion = await loaded(bench, REPLACE)
        bench.land("a", content=b"bad")
        bench.engine.bad[A] = "not JSON"
        failed = await bench.execute(ingestion)
        bench.engine.bad.clear()
        retry = await bench.queue(ingestion, retry_of_id=failed.id, lists=False)
        await bench.pipeline.execute(retry)
        assert (await bench.run(retry)).files_processed == 1
        assert (await versions(bench, ingestion), bench.table(ingestion).rows_of(A)) == ([SUCCESS, SUPERSEDED], ROWS)


async def _killed(bench: Workbench, run: Run, ingestion: Ingestion, where: str) -> asyncio.Task[RunMetrics]:
    """A worker that got so far and no further; to others it is dead."""
    reached = asyncio.Event()

    async def stand_still(_: LoadBatch) -> None:
        reached.set()
        await asyncio.Event().wait()

    setattr(bench.engine, where, stand_still)
    worker = asyncio.create_task(process(bench, run, ingestion))
    await reached.wait()
    setattr(bench.engine, where, type(bench.engine)().at_start)
    return worker
