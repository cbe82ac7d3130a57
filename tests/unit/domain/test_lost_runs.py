"""A run whose worker was lost is retried by itself, and not for ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from domain.errors import LeaseLostError
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ledger import stepwise
from domain.ports.unit_of_work import Subject, Topic
from domain.runs.entities import Refresh, RefreshMode, Run, RunStatus, RunTrigger
from domain.runs.pipeline import RunPipeline
from tests.fakes.database import FakeDatabase
from tests.fakes.ledger import FakeProcessedFileRepository
from tests.fakes.scripted_engine import ROWS
from tests.workbench import Workbench


async def lose(bench: Workbench, run: Run | Subject) -> Run | None:
    """A worker takes the run and is never heard of again; the run that follows it."""
    taken, ingestion, _ = await bench.pipeline.start(Subject(run.tenant_id, run.id))
    return await settle(bench, taken, ingestion)


async def settle(bench: Workbench, lost: Run, ingestion: Ingestion) -> Run | None:
    bench.clock.advance(seconds=86_400)
    await bench.expire_leases()
    assert await bench.pipeline.recover_lost() == 1
    assert (await bench.run(Subject(lost.tenant_id, lost.id))).status is RunStatus.FAILED
    return await bench.active(ingestion)


async def orders(bench: Workbench) -> set[Subject]:
    return {entry.subject for entry in await bench.directory.take_outbox(10, topic=Topic.RUN, visible_after_seconds=60)}


async def test_lost_before_its_listing_had_ended_it_is_begun_again(bench: Workbench) -> None:
    bench.land("a", "b")
    ingestion = await bench.ingestion()
    lost = await bench.queue(ingestion)
    retry = await lose(bench, lost)
    assert retry is not None
    assert (retry.status, retry.trigger, retry.retry_of_id, retry.retry_count) == (RunStatus.QUEUED, RunTrigger.RETRY, lost.id, 1)
    # The orchestrator is told of both.
    assert await orders(bench) == {lost, Subject(retry.tenant_id, retry.id)}
    await bench.pipeline.execute(Subject(retry.tenant_id, retry.id))
    done = await bench.run(Subject(retry.tenant_id, retry.id))
    assert (done.status, done.files_discovered, done.rows_written) == (RunStatus.SUCCESS, 2, 2 * ROWS)


async def test_lost_after_its_listing_only_what_it_left_is_loaded(bench: Workbench) -> None:
    bench.land("a", "b")
    ingestion = await bench.ingestion()
    run, ingestion, grants = await bench.pipeline.start(await bench.queue(ingestion))
    listed = await bench.pipeline.discover(run, ingestion, grants)
    await bench.pipeline.check(run, ingestion, listed)
    retry = await settle(bench, run, ingestion)
    bench.land("c")
    assert retry is not None
    await bench.pipeline.execute(Subject(retry.tenant_id, retry.id))
    done = await bench.run(Subject(retry.tenant_id, retry.id))
    assert (done.status, done.files_discovered, done.files_processed) == (RunStatus.SUCCESS, 0, 2)


async def test_lost_while_files_were_assigned_to_it_none_is_forgotten(
    bench: Workbench, fake_database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepwise, "FILES_AT_ONCE", 2)
    paths = bench.land(*"abcde")
    bench.engine.bad |= dict.fromkeys(paths, "truncated")
    ingestion = await bench.ingestion()
    failed = await bench.execute(ingestion)
    bench.engine.bad.clear()
    fake_database.clock.advance(seconds=61)
    retry = await bench.queue(ingestion, trigger=RunTrigger.RETRY, retry_of_id=failed.id, lists=False)
    run, ingestion, _ = await bench.pipeline.start(retry)
    step = FakeProcessedFileRepository.assign_unloaded

    async def crash(self: FakeProcessedFileRepository, id: UUID, *, after: int, **how: Any) -> Sequence[int]:
        if after:
            raise ZeroDivisionError
        return await step(self, id, after=after, **how)

    with monkeypatch.context() as broken:
        broken.setattr(FakeProcessedFileRepository, "assign_unloaded", crash)
        with pytest.raises(ZeroDivisionError):
            await bench.pipeline.check(run, ingestion, [])
    assert [file.run_id for file in await bench.files(ingestion)] == [run.id, run.id, *[failed.id] * 3]
    again = await settle(bench, run, ingestion)
    assert again is not None
    await bench.pipeline.execute(Subject(again.tenant_id, again.id))
    done = await bench.run(Subject(again.tenant_id, again.id))
    assert (done.status, done.files_processed) == (RunStatus.SUCCESS, 5)


async def test_files_are_assigned_to_no_run_that_has_ended(bench: Workbench) -> None:
    (path,) = bench.land("a")
    bench.engine.bad[path] = "truncated"
    ingestion = await bench.ingestion()
    failed = await bench.execute(ingestion)
    run, ingestion, _ = await bench.pipeline.start(
        await bench.queue(ingestion, trigger=RunTrigger.RETRY, retry_of_id=failed.id, lists=False)
    )
    await settle(bench, run, ingestion)
    with pytest.raises(LeaseLostError):
        await bench.pipeline.check(run, ingestion, [])
    assert [file.run_id for file in await bench.files(ingestion)] == [failed.id]


async def test_many_that_cannot_be_ended_keep_no_others_waiting(
    bench: Workbench, fake_database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    *broken, sound = [(await bench.pipeline.start(await bench.queue(await bench.ingestion())))[0] for _ in range(3)]
    end = RunPipeline._end

    async def failing(self: RunPipeline, run: Run, *asked: Any, **how: Any) -> Run:
        if run.id in {each.id for each in broken}:
            raise RuntimeError("not even an expected error")
        return await end(self, run, *asked, **how)

    await bench.expire_leases()
    with monkeypatch.context() as patched:
        patched.setattr(RunPipeline, "_end", failing)
        assert [await bench.pipeline.recover_lost(limit=2) for _ in range(3)] == [0, 1, 0]
    assert (await bench.run(Subject(sound.tenant_id, sound.id))).status is RunStatus.FAILED
    fake_database.clock.advance(seconds=bench.settings.lease_seconds)
    assert await bench.pipeline.recover_lost(limit=2) == 2


async def test_what_kills_its_workers_is_left_alone_in_the_end(bench: Workbench) -> None:
    ingestion = await bench.ingestion(status=IngestionStatus.DRAFT)
    run: Run | Subject | None = await bench.queue(ingestion)
    lost = 0
    while run is not None:
        run = await lose(bench, run)
        lost += 1
    assert lost == 1 + bench.settings.lost_retries


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": IngestionStatus.PAUSED}, IngestionStatus.PAUSED),
        ({"status": IngestionStatus.ACTIVE, "consecutive_failures": 2}, IngestionStatus.ERROR),
        ({"status": IngestionStatus.ERROR}, IngestionStatus.ERROR),
    ],
    ids=("paused", "failed once too often", "run by hand in error"),
)
async def test_nothing_is_run_by_itself_that_nobody_wants_run(bench: Workbench, fields: dict[str, Any], status: IngestionStatus) -> None:
    ingestion = await bench.ingestion(**fields)
    lost = await bench.queue(ingestion)
    assert await lose(bench, lost) is None
    assert (await bench.stored(ingestion)).status is status
    assert await orders(bench) == {lost}


@pytest.mark.parametrize("mode", RefreshMode)
async def test_a_refresh_that_was_lost_before_it_began_is_not_forgotten(bench: Workbench, mode: RefreshMode) -> None:
    bench.land("a")
    ingestion = await bench.ingestion()
    await bench.execute(ingestion)
    refresh = Refresh(mode)
    retry = await lose(bench, await bench.queue(ingestion, trigger=RunTrigger.REFRESH, refresh=refresh))
    assert retry is not None
    assert (retry.trigger, retry.refresh, retry.retry_count) == (RunTrigger.REFRESH, refresh, 1)
    await bench.pipeline.execute(Subject(retry.tenant_id, retry.id))
    done, stored = await bench.run(Subject(retry.tenant_id, retry.id)), await bench.stored(ingestion)
    loaded = 1 if mode is RefreshMode.FULL else 0
    assert (done.status, done.files_processed, stored.generation) == (RunStatus.SUCCESS, loaded, ingestion.generation + 1)


async def test_a_refresh_that_was_lost_after_it_began_does_not_begin_again(bench: Workbench) -> None:
    bench.land("a")
    ingestion = await bench.ingestion()
    await bench.execute(ingestion)
    refreshing = await bench.queue(ingestion, trigger=RunTrigger.REFRESH, refresh=Refresh(RefreshMode.FULL))
    run, ingestion, grants = await bench.pipeline.start(refreshing)
    await bench.pipeline.prepare(run, ingestion, bench.tenant.grants)
    await bench.pipeline.check(run, ingestion, await bench.pipeline.discover(run, ingestion, grants))
    retry = await settle(bench, run, ingestion)
    assert retry is not None
    assert (retry.trigger, retry.refresh) == (RunTrigger.RETRY, None)
    await bench.pipeline.execute(Subject(retry.tenant_id, retry.id))
    assert (await bench.run(Subject(retry.tenant_id, retry.id))).files_processed == 1
    assert (await bench.stored(ingestion)).generation == ingestion.generation + 1
