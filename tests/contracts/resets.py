"""What refreshes, clears and deletions promise, over any adapter of the ports: nothing lost or doubled, wherever they stop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from domain.errors import ConfirmationRequiredError, ConflictError, ConflictReason, NotFoundError
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ingestions.refresh import RefreshOutcome, RefreshPlan, RefreshRequest
from domain.ingestions.resets import ResetService
from domain.ingestions.service import IngestionService
from domain.ledger import stepwise
from domain.ledger.entities import FileStatus
from domain.ledger.state_service import ClearRequest, FileStateService
from domain.ports.engine import LoadBatch, TableReplacedError, TableUnavailableError
from domain.ports.unit_of_work import Subject, Topic, UnitOfWork
from domain.runs.entities import Refresh, RefreshMode, Run, RunStatus, RunTrigger
from tests.contracts.processing import process, running
from tests.factories import BUCKET, a_principal
from tests.fakes.scripted_engine import ROWS
from tests.workbench import CHECKPOINTS, Workbench

FULL, NEW_ONLY = RefreshMode.FULL, RefreshMode.NEW_ONLY
SUCCESS, FAILED, PENDING = FileStatus.SUCCESS, FileStatus.FAILED, FileStatus.PENDING


async def loaded(bench: Workbench, **fields: object) -> Ingestion:
    """An ingestion with a run behind it: two files loaded, one failed."""
    bench.land("a", "b", "bad")
    bench.engine.bad[BUCKET + "bad"] = "not JSON"
    ingestion = await bench.ingestion(**fields)
    assert (await bench.execute(ingestion)).status is RunStatus.PARTIAL
    return await bench.stored(ingestion)


async def refresh(bench: Workbench, ingestion: Ingestion, mode: RefreshMode, **fields: object) -> RefreshOutcome:
    request = RefreshRequest(ingestion_id=ingestion.id, mode=mode, **{"confirm": True} | fields)
    return await bench.refreshes.refresh(a_principal(bench.tenant), request)


async def refreshed(bench: Workbench, ingestion: Ingestion, mode: RefreshMode, **fields: object) -> Run:
    """The refresh, and its run to the end."""
    run = (await refresh(bench, ingestion, mode, **fields)).run
    assert run is not None
    subject = Subject(run.tenant_id, run.id)
    await bench.pipeline.execute(subject)
    return await bench.run(subject)


async def clear(bench: Workbench, ingestion: Ingestion, **fields: object) -> int:
    service = FileStateService(bench.unit_of_work, CHECKPOINTS, bench.tenant.id)
    return await service.clear_processed_files(
        a_principal(bench.tenant), ClearRequest(ingestion_id=ingestion.id, **{"confirm": True} | fields)
    )


async def delete(bench: Workbench, ingestion: Ingestion, *, table: bool) -> Ingestion:
    service = IngestionService(bench.unit_of_work, bench.stores, bench.clock, CHECKPOINTS)
    return await service.delete_ingestion(a_principal(bench.tenant), ingestion.id, delete_table=table)


def subject_of(ingestion: Ingestion) -> Subject:
    return Subject(ingestion.tenant_id, ingestion.id)


def rows(bench: Workbench, ingestion: Ingestion) -> dict[str, int]:
    """Rows in the table by file; of a table that is not there, none."""
    table = bench.engine.tables.get(ingestion.destination.key)
    paths = {path for snapshot in table.snapshots for path in snapshot.rows} if table else set()
    return {path.removeprefix(BUCKET): table.rows_of(path) for path in paths} if table else {}


class _CrashError(Exception):
    """In the place of a process that ends."""


async def crash() -> None:
    raise _CrashError


async def go_on() -> None:
    return None


class RefreshContract:
    @pytest.mark.scenario(58)
    async def test_a_full_refresh_forgets_everything_and_loads_it_anew(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        first, before = bench.table(ingestion).uuid, await bench.files(ingestion)
        run = await refreshed(bench, ingestion, FULL)
        assert (run.status, run.trigger, run.refresh) == (RunStatus.PARTIAL, RunTrigger.REFRESH, Refresh(FULL))
        assert (run.files_discovered, run.files_processed, run.files_failed) == (3, 2, 1)
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS, "bad": FAILED}
        assert not {file.id for file in before} & {file.id for file in await bench.files(ingestion)}
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}
        assert bench.table(ingestion).uuid != first
        after = await bench.stored(ingestion)
        assert (after.generation, after.reset) == (2, None)
        assert after.checkpoint_path != ingestion.checkpoint_path
        assert {file.generation for file in await bench.files(ingestion) if file.status is SUCCESS} == {2}
        assert (await bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES

    @pytest.mark.scenario(59)
    async def test_a_new_only_refresh_keeps_what_was_loaded_out_of_the_new_table(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        before = await bench.files(ingestion)
        bench.engine.bad.clear()
        bench.land("c")
        run = await refreshed(bench, ingestion, NEW_ONLY)
        assert (run.status, run.files_discovered, run.files_processed) == (RunStatus.SUCCESS, 1, 2)
        assert {file.path.removeprefix(BUCKET): file.generation for file in await bench.files(ingestion)} == {
            "a": 1,
            "b": 1,
            "bad": 2,
            "c": 2,
        }
        assert {file.id for file in before} < {file.id for file in await bench.files(ingestion)}
        assert rows(bench, ingestion) == {"bad": ROWS, "c": ROWS}
        after = await bench.stored(ingestion)
        assert (after.generation, after.reset, after.checkpoint_path) == (2, None, ingestion.checkpoint_path)

    @pytest.mark.scenario(61)
    async def test_the_loading_is_left_to_the_next_run_when_that_is_asked(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        run = await refreshed(bench, ingestion, FULL, auto_run=False)
        assert (run.status, run.files_discovered, run.files_processed) == (RunStatus.SUCCESS, 0, 0)
        assert (rows(bench, ingestion), await bench.files(ingestion)) == ({}, [])
        await bench.execute(ingestion)
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}

    async def test_an_ingestion_that_has_loaded_nothing_is_refreshed_too(self, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        assert (await refreshed(bench, ingestion, NEW_ONLY)).status is RunStatus.SUCCESS
        assert (await bench.stored(ingestion)).generation == 2

    @pytest.mark.scenario(57)
    async def test_nothing_is_done_without_confirmation(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        with pytest.raises(ConfirmationRequiredError):
            await refresh(bench, ingestion, FULL, confirm=False)
        with pytest.raises(ConfirmationRequiredError):
            await clear(bench, ingestion, confirm=False)
        await self._is_as_it_was(bench, ingestion)

    @pytest.mark.scenario(60)
    async def test_a_dry_run_says_what_would_be_done_and_does_nothing(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bench.land("c")
        expected = RefreshPlan(FULL, True, 2 * ROWS, files_forgotten=3, files_absent=0, files_waiting=0, generation=2)
        for confirm in (True, False):
            assert await refresh(bench, ingestion, FULL, dry_run=True, confirm=confirm) == RefreshOutcome(expected, None)
        new_only = replace(expected, mode=NEW_ONLY, files_forgotten=0, files_absent=2, files_waiting=1)
        assert await refresh(bench, ingestion, NEW_ONLY, dry_run=True) == RefreshOutcome(new_only, None)
        await self._is_as_it_was(bench, ingestion)

    async def _is_as_it_was(self, bench: Workbench, ingestion: Ingestion) -> None:
        assert await bench.stored(ingestion) == ingestion
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}
        async with bench.unit_of_work(bench.tenant.id) as tx:
            assert len(await tx.runs.get_runs_by_ingestion(ingestion.id, limit=10)) == 1
        assert await bench.directory.take_outbox(10, visible_after_seconds=0) == []

    async def test_it_waits_for_nobody(self, bench: Workbench) -> None:
        """A run is active, or the ingestion takes none: the refresh is refused, and nothing is begun."""
        ingestion = await loaded(bench)
        await bench.queue(ingestion)
        for call in (refresh(bench, ingestion, FULL), clear(bench, ingestion), delete(bench, ingestion, table=True)):
            with pytest.raises(ConflictError) as caught:
                await call
            assert caught.value.reason is ConflictReason.RUN_ACTIVE
        paused = await bench.ingestion(status=IngestionStatus.PAUSED)
        with pytest.raises(ConflictError) as caught:
            await refresh(bench, paused, FULL)
        assert caught.value.reason is ConflictReason.WRONG_STATE
        assert (await bench.stored(ingestion)).reset is None

    async def test_a_repeated_request_gives_the_first_run(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        first, again = [(await refresh(bench, ingestion, FULL, idempotency_key="k")).run for _ in range(2)]
        assert first == again
        with pytest.raises(ConflictError) as caught:
            await refresh(bench, ingestion, NEW_ONLY, idempotency_key="k")
        assert caught.value.reason is ConflictReason.IDEMPOTENCY_KEY_REUSED

    async def test_a_table_that_is_another_one_is_left_alone(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        await bench.engine.drop_table(ingestion.destination)
        other = await bench.ingestion(destination=replace(ingestion.destination, table="elsewhere"))
        await bench.execute(other)
        bench.engine.tables[ingestion.destination.key] = bench.engine.tables.pop(other.destination.key)
        assert (await refresh(bench, ingestion, FULL, dry_run=True)).plan.table_exists is False
        run = await refreshed(bench, ingestion, FULL)
        assert (run.status, run.error_message) == (RunStatus.FAILED, "this is another table")
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}
        # And so it stays, until somebody has put the other table away.
        assert (await bench.execute(ingestion)).status is RunStatus.FAILED
        del bench.engine.tables[ingestion.destination.key]
        assert (await bench.execute(ingestion)).files_processed == 2

    @pytest.mark.parametrize("mode", RefreshMode)
    @pytest.mark.parametrize("where", ["before_removal", "after_removal"])
    async def test_a_refresh_that_stops_half_way_is_finished_by_whoever_comes_next(
        self, bench: Workbench, mode: RefreshMode, where: str
    ) -> None:
        ingestion = await loaded(bench)
        bench.engine.bad.clear()
        setattr(bench.engine, where, crash)
        assert (await refreshed(bench, ingestion, mode)).status is RunStatus.FAILED
        assert (await bench.stored(ingestion)).reset is not None
        # As long as it cannot be finished, nothing is loaded.
        assert (await bench.execute(ingestion)).files_processed == 0
        setattr(bench.engine, where, go_on)
        assert (await bench.execute(ingestion)).status is RunStatus.SUCCESS
        expected = {"a": ROWS, "b": ROWS, "bad": ROWS} if mode is FULL else {"bad": ROWS}
        assert rows(bench, ingestion) == expected
        after = await bench.stored(ingestion)
        assert (after.reset, after.generation) == (None, 2)

    async def test_the_background_finishes_what_a_refresh_has_left(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bench.engine.before_removal = crash
        await refreshed(bench, ingestion, FULL)
        entries = await bench.directory.take_outbox(10, visible_after_seconds=0)
        assert (Topic.INGESTION, subject_of(ingestion)) in [(entry.topic, entry.subject) for entry in entries]
        bench.engine.before_removal = go_on
        await bench.resets.finish(subject_of(ingestion))
        assert (rows(bench, ingestion), await bench.files(ingestion), (await bench.stored(ingestion)).reset) == ({}, [], None)

    async def test_a_new_only_refresh_requeues_files_a_few_at_a_time_and_is_finished_if_it_stops_in_between(
        self, bench: Workbench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stepwise, "FILES_AT_ONCE", 2)
        names = ["bad", "bad1", "bad2", "bad3", "bad4"]
        bench.engine.bad |= dict.fromkeys(bench.land(*names), "not JSON")
        ingestion = await loaded(bench)
        bench.engine.before_removal = crash
        await refreshed(bench, ingestion, NEW_ONLY, auto_run=False)
        bench.engine.before_removal = go_on
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS, **dict.fromkeys(names, FAILED)}
        held = ResetService._held
        steps = []

        @asynccontextmanager
        async def dying(self: ResetService, *asked: Any) -> AsyncIterator[UnitOfWork]:
            steps.append(asked)
            if len(steps) == 3:
                raise _CrashError
            async with held(self, *asked) as tx:
                yield tx

        with monkeypatch.context() as broken:
            broken.setattr(ResetService, "_held", dying)
            with pytest.raises(_CrashError):
                await bench.resets.finish(subject_of(ingestion))
        # The first step found nothing HELD.
        assert Counter((await bench.statuses(ingestion)).values()) == {FAILED: 3, PENDING: 2, SUCCESS: 2}
        await bench.resets.finish(subject_of(ingestion))
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS, **dict.fromkeys(names, PENDING)}
        assert (await bench.stored(ingestion)).reset is None

    async def test_a_refresh_takes_the_place_of_one_that_is_not_done(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bench.engine.before_removal = crash
        await refreshed(bench, ingestion, FULL)
        await refreshed(bench, ingestion, NEW_ONLY)
        bench.engine.before_removal = go_on
        await bench.execute(ingestion)
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}
        assert (await bench.stored(ingestion)).generation == 3

    @pytest.mark.parametrize(("where", "status"), [("before_commit", PENDING), ("after_commit", SUCCESS)])
    async def test_a_lost_worker_is_shut_out_before_the_table_goes(self, bench: Workbench, where: str, status: FileStatus) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        reached, thaw = asyncio.Event(), asyncio.Event()

        async def stand_still(_: LoadBatch) -> None:
            reached.set()
            await thaw.wait()

        setattr(bench.engine, where, stand_still)
        worker = asyncio.create_task(process(bench, run, ingestion))
        await reached.wait()
        setattr(bench.engine, where, type(bench.engine)().at_start)
        await bench.pipeline.fail(run, "the worker was lost")
        await refreshed(bench, ingestion, NEW_ONLY)
        expected = {} if status is SUCCESS else {"a": ROWS}
        assert rows(bench, ingestion) == expected
        thaw.set()
        await asyncio.wait([worker])
        assert worker.exception() is not None
        assert rows(bench, ingestion) == expected
        assert await bench.statuses(ingestion) == {"a": SUCCESS}

    async def test_a_run_that_has_ended_claims_nothing_more(self, bench: Workbench) -> None:
        bench.land("a")
        ingestion = await bench.ingestion()
        run = await running(bench, ingestion)
        await bench.pipeline.fail(run, "the worker was lost")
        with pytest.raises(Exception, match=str(run.id)):
            await process(bench, run, ingestion)
        assert (await bench.statuses(ingestion), bench.engine.loads) == ({"a": PENDING}, [])


class ClearContract:
    @pytest.mark.parametrize("finish_by", ["the next run", "the background"])
    async def test_cleared_files_leave_the_table_and_are_loaded_again(self, bench: Workbench, finish_by: str) -> None:
        ingestion = await loaded(bench)
        bench.engine.bad.clear()
        assert await clear(bench, ingestion) == 3
        if finish_by == "the background":
            await bench.resets.finish(subject_of(ingestion))
            assert (rows(bench, ingestion), await bench.files(ingestion)) == ({}, [])
        run = await bench.execute(ingestion)
        assert (run.files_discovered, run.files_processed) == (3, 3)
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS, "bad": ROWS}
        after = await bench.stored(ingestion)
        assert (after.reset, after.generation) == (None, 1)
        assert after.checkpoint_path != ingestion.checkpoint_path

    async def test_a_prefix_narrows_it(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        before = await bench.files(ingestion)
        assert await clear(bench, ingestion, path_prefix=BUCKET + "a") == 1
        await bench.resets.finish(subject_of(ingestion))
        assert rows(bench, ingestion) == {"b": ROWS}
        assert await bench.files(ingestion) == before[1:]

    async def test_rows_that_are_kept_are_doubled(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        assert await clear(bench, ingestion, path_prefix=BUCKET + "a", keep_rows=True) == 1
        await bench.execute(ingestion)
        assert rows(bench, ingestion) == {"a": 2 * ROWS, "b": ROWS}

    async def test_one_at_a_time(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        await clear(bench, ingestion, path_prefix=BUCKET + "a")
        with pytest.raises(ConflictError) as caught:
            await clear(bench, ingestion)
        assert caught.value.reason is ConflictReason.WRONG_STATE

    @pytest.mark.parametrize("where", ["before_removal", "after_removal"])
    async def test_a_clear_that_stops_half_way_is_finished(self, bench: Workbench, where: str) -> None:
        ingestion = await loaded(bench)
        await clear(bench, ingestion)
        setattr(bench.engine, where, crash)
        with pytest.raises(_CrashError):
            await bench.resets.finish(subject_of(ingestion))
        assert len(await bench.files(ingestion)) == 3
        setattr(bench.engine, where, go_on)
        await bench.execute(ingestion)
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}

    @pytest.mark.parametrize("where", ["before_removal", "after_removal"])
    async def test_of_two_who_finish_it_the_late_one_removes_nothing_that_came_since(self, bench: Workbench, where: str) -> None:
        ingestion = await loaded(bench)
        await clear(bench, ingestion)
        reached, thaw = asyncio.Event(), asyncio.Event()

        async def stand_still() -> None:
            reached.set()
            await thaw.wait()

        setattr(bench.engine, where, stand_still)
        late = asyncio.create_task(bench.resets.finish(subject_of(ingestion)))
        await reached.wait()
        setattr(bench.engine, where, go_on)
        await bench.execute(ingestion)
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}
        thaw.set()
        await late
        assert rows(bench, ingestion) == {"a": ROWS, "b": ROWS}
        assert len(await bench.files(ingestion)) == 3

    async def test_a_catalog_that_is_down_keeps_it_waiting(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        await clear(bench, ingestion)
        bench.engine.unavailable = TableUnavailableError("the catalog does not answer")
        with pytest.raises(TableUnavailableError):
            await bench.resets.finish(subject_of(ingestion))
        assert (await bench.stored(ingestion)).reset is not None
        assert len(await bench.files(ingestion)) == 3

    async def test_what_is_not_there_cannot_be_cleared(self, bench: Workbench) -> None:
        gone = await bench.ingestion()
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.ingestions.delete(gone.id)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: clear(bench, gone),
            lambda: refresh(bench, gone, FULL),
            lambda: delete(bench, gone, table=True),
        ]
        for call in calls:
            with pytest.raises(NotFoundError):
                await call()
        await bench.resets.finish(subject_of(gone))


class DeletionContract:
    @pytest.mark.parametrize("table", [True, False])
    async def test_a_deleted_ingestion_goes_with_all_that_is_known_of_it(self, bench: Workbench, table: bool) -> None:
        ingestion = await loaded(bench)
        deleting = await delete(bench, ingestion, table=table)
        assert (deleting.status, deleting.next_due_at) == (IngestionStatus.DELETING, None)
        with pytest.raises(ConflictError) as caught:
            await bench.ingestion(destination=ingestion.destination)
        assert caught.value.reason is ConflictReason.DESTINATION_TAKEN
        await bench.resets.finish(subject_of(ingestion))
        async with bench.unit_of_work(bench.tenant.id) as tx:
            assert await tx.ingestions.get_by_id(ingestion.id) is None
            assert await tx.runs.get_runs_by_ingestion(ingestion.id, limit=10) == []
        assert (ingestion.destination.key in bench.engine.tables) is not table
        await bench.ingestion(destination=ingestion.destination)

    async def test_it_takes_no_more_orders(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        await delete(bench, ingestion, table=False)
        for call in (refresh(bench, ingestion, FULL), clear(bench, ingestion), delete(bench, ingestion, table=True)):
            with pytest.raises(NotFoundError):
                await call

    @pytest.mark.parametrize("where", ["before_removal", "after_removal"])
    async def test_a_deletion_that_stops_half_way_is_finished(self, bench: Workbench, where: str) -> None:
        ingestion = await loaded(bench)
        await delete(bench, ingestion, table=True)
        setattr(bench.engine, where, crash)
        with pytest.raises(_CrashError):
            await bench.resets.finish(subject_of(ingestion))
        assert (await bench.stored(ingestion)).status is IngestionStatus.DELETING
        setattr(bench.engine, where, go_on)
        await bench.resets.finish(subject_of(ingestion))
        async with bench.unit_of_work(bench.tenant.id) as tx:
            assert await tx.ingestions.get_by_id(ingestion.id) is None
        assert bench.engine.tables == {}

    async def test_a_table_that_is_another_one_stays_and_so_does_the_ingestion(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        await delete(bench, ingestion, table=True)
        table = bench.table(ingestion)
        bench.engine.tables[ingestion.destination.key] = replace(table, uuid=ingestion.id)
        with pytest.raises(TableReplacedError):
            await bench.resets.finish(subject_of(ingestion))
        assert (await bench.stored(ingestion)).status is IngestionStatus.DELETING
