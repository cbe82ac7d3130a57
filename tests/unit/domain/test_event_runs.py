"""Runs that nobody has asked for: when they begin, and what is told of the queues."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.ingestions.entities import EventQueueState, Ingestion, IngestionStatus
from domain.ledger.entities import FileStatus
from domain.ports.event_queue import EventQueue
from domain.ports.object_store import SourceUnavailableError
from domain.ports.unit_of_work import Topic
from domain.runs.entities import RunStatus, RunTrigger
from domain.runs.event_runs import EventRunService
from domain.tenants import Grants
from tests.contracts.event_discovery import listening, send
from tests.factories import NOW, a_notified_source, a_tenant
from tests.workbench import Workbench

REST = 5.0


@pytest.fixture
def service(bench: Workbench) -> EventRunService:
    return EventRunService(bench.unit_of_work, bench.stores, bench.clock, rest_seconds=REST)


async def runs_of(bench: Workbench, ingestion: Ingestion) -> list[tuple[RunTrigger, RunStatus]]:
    async with bench.unit_of_work(ingestion.tenant_id) as tx:
        found = await tx.runs.get_runs_by_ingestion(ingestion.id, limit=100)
    return [(run.trigger, run.status) for run in found]


async def execute_queued(bench: Workbench) -> None:
    for entry in await bench.directory.take_outbox(100, topic=Topic.RUN, visible_after_seconds=0):
        await bench.pipeline.execute(entry.subject)
        await bench.directory.finish_outbox(entry)


async def ended(bench: Workbench, ingestion: Ingestion, *, failures: int = 0) -> None:
    async with bench.unit_of_work(ingestion.tenant_id) as tx:
        await tx.ingestions.update_last_run(ingestion.id, ingestion.id, bench.clock.now(), consecutive_failures=failures)


class TestBeginning:
    async def test_messages_begin_one_run(self, bench: Workbench, service: EventRunService) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        assert await service.begin_runs(bench.directory) == 0
        bench.land("a", "b")
        send(queue, "a", "b")
        assert await service.begin_runs(bench.directory) == 1
        assert await service.begin_runs(bench.directory) == 0, "it has an active run"
        assert await runs_of(bench, ingestion) == [(RunTrigger.EVENT, RunStatus.QUEUED)]
        await execute_queued(bench)
        assert await runs_of(bench, ingestion) == [(RunTrigger.EVENT, RunStatus.SUCCESS)]
        bench.clock.advance(seconds=REST)
        assert await service.begin_runs(bench.directory) == 0, "there is nothing left to do"

    async def test_looking_takes_nothing_from_the_queue(self, bench: Workbench, service: EventRunService) -> None:
        queue, ingestion = bench.event_queue(dead_after=1), await listening(bench)
        bench.land("a")
        send(queue, "a")
        for _ in range(3):
            await service.begin_runs(bench.directory)
        await execute_queued(bench)
        assert await bench.statuses(ingestion) != {}
        assert queue.dead_letters == []

    @pytest.mark.parametrize("status", [status for status in IngestionStatus if status is not IngestionStatus.ACTIVE])
    async def test_only_for_what_is_active(self, bench: Workbench, service: EventRunService, status: IngestionStatus) -> None:
        queue = bench.event_queue()
        ingestion = await bench.ingestion(source=a_notified_source(), status=status)
        send(queue, "a")
        assert await service.begin_runs(bench.directory) == 0
        assert await runs_of(bench, ingestion) == []

    async def test_a_listing_that_is_due_begins_one_too(self, bench: Workbench, service: EventRunService) -> None:
        bench.event_queue()
        never = await listening(bench, listed=False)
        assert await service.begin_runs(bench.directory) == 1
        await execute_queued(bench)
        bench.clock.advance(seconds=3_599)
        assert await service.begin_runs(bench.directory) == 0
        bench.clock.advance(seconds=1)
        assert await service.begin_runs(bench.directory) == 1
        assert await runs_of(bench, never) == [(RunTrigger.EVENT, RunStatus.QUEUED), (RunTrigger.EVENT, RunStatus.NO_NEW_FILES)]

    async def test_what_a_run_has_left_begins_the_next_one(self, bench: Workbench, service: EventRunService) -> None:
        """Its messages are gone: nothing but the ledger tells of it."""
        queue, ingestion = bench.event_queue(), await listening(bench)
        bench.land("a")
        send(queue, "a")
        run = await bench.start(ingestion)
        await bench.discovery.discover(ingestion, bench.tenant.grants, run)
        await bench.pipeline.fail(run, "its worker was lost")
        assert queue.bodies == []
        bench.clock.advance(seconds=60)
        assert await service.begin_runs(bench.directory) == 1
        await execute_queued(bench)
        assert await bench.statuses(ingestion) == {"a": FileStatus.SUCCESS}

    async def test_runs_rest_so_that_what_comes_together_is_loaded_together(self, bench: Workbench, service: EventRunService) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        await ended(bench, ingestion)
        send(queue, "a")
        bench.clock.advance(seconds=REST - 1)
        assert await service.begin_runs(bench.directory) == 0
        bench.clock.advance(seconds=1)
        assert await service.begin_runs(bench.directory) == 1

    @pytest.mark.parametrize(("failures", "pause"), [(1, 60), (2, 120), (3, 240), (7, 3_600), (10_000, 3_600)])
    async def test_failures_are_not_repeated_at_once(self, bench: Workbench, service: EventRunService, failures: int, pause: float) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench, source=a_notified_source(list_every_seconds=86_400))
        await ended(bench, ingestion, failures=failures)
        send(queue, "a")
        bench.clock.advance(seconds=pause - 1)
        assert await service.begin_runs(bench.directory) == 0
        bench.clock.advance(seconds=1)
        assert await service.begin_runs(bench.directory) == 1

    async def test_more_ingestions_than_a_page(self, bench: Workbench, service: EventRunService) -> None:
        for number in range(130):
            send(bench.event_queue(f"queue-{number}"), "a")
            await listening(bench, source=a_notified_source(f"queue-{number}"))
        assert await service.begin_runs(bench.directory) == 130

    async def test_one_that_cannot_be_looked_at_keeps_no_other_waiting(
        self, bench: Workbench, service: EventRunService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = await listening(bench, source=a_notified_source("broken"))
        send(bench.event_queue("good"), "a")
        good = await listening(bench, source=a_notified_source("good"))
        open_queue = bench.stores.open_queue

        def opened(source: Any, grants: Grants) -> EventQueue:
            if source.queue == "broken":
                raise ZeroDivisionError
            return open_queue(source, grants)

        monkeypatch.setattr(bench.stores, "open_queue", opened)
        assert await service.begin_runs(bench.directory) == 1
        assert (await runs_of(bench, broken), len(await runs_of(bench, good))) == ([], 1)
        assert f"the queue of ingestion {broken.id} could not be looked at" in caplog.messages


class TestTelling:
    async def test_the_state_stands_with_the_ingestion(self, bench: Workbench, service: EventRunService) -> None:
        queue, ingestion = bench.event_queue(dead_after=1), await listening(bench)
        send(queue, "a", "b")
        await queue.receive()
        bench.clock.advance(seconds=120)
        await queue.receive()
        send(queue, "c")
        await service.begin_runs(bench.directory)
        stored = await bench.stored(ingestion)
        assert stored.event_queue == EventQueueState(NOW + timedelta(seconds=120), waiting=1, hidden=0, dead_letters=2)
        assert (stored.version, stored.updated_at) == (ingestion.version, ingestion.updated_at)

    async def test_it_is_stored_when_it_changes_and_once_a_minute(self, bench: Workbench, service: EventRunService) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)

        async def looked_at() -> timedelta:
            await service.begin_runs(bench.directory)
            state = (await bench.stored(ingestion)).event_queue
            assert state is not None
            return state.looked_at - NOW

        assert await looked_at() == timedelta(0)
        bench.clock.advance(seconds=59)
        assert await looked_at() == timedelta(0)
        bench.clock.advance(seconds=1)
        assert await looked_at() == timedelta(seconds=60)
        bench.clock.advance(seconds=1)
        send(queue, "a")
        assert await looked_at() == timedelta(seconds=61)

    async def test_dead_letters_are_told_once_each_time_that_there_are_more(
        self, bench: Workbench, service: EventRunService, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue, ingestion = bench.event_queue(dead_after=1), await listening(bench)
        for expected in (1, 2):
            send(queue, "a")
            await queue.receive()
            bench.clock.advance(seconds=120)
            await queue.receive()
            caplog.clear()
            for _ in range(3):
                await service.begin_runs(bench.directory)
            said = f"ingestion {ingestion.id}: {expected} notifications are dead letters, of which nobody could make anything"
            assert caplog.messages == [said]

    async def test_a_queue_that_cannot_be_looked_at_says_why_and_begins_no_run(
        self, bench: Workbench, service: EventRunService, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        send(queue, "a")
        await ended(bench, ingestion)
        await service.begin_runs(bench.directory)
        queue.failure = SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, "it may not be read")
        bench.clock.advance(seconds=REST)
        for _ in range(3):
            assert await service.begin_runs(bench.directory) == 0
        assert caplog.messages == [f"ingestion {ingestion.id}: its queue cannot be looked at: it may not be read"]
        state = (await bench.stored(ingestion)).event_queue
        assert state == EventQueueState(NOW + timedelta(seconds=REST), waiting=1, problem="it may not be read")
        queue.failure = None
        assert await service.begin_runs(bench.directory) == 1

    async def test_a_grant_that_was_taken_back(self, bench: Workbench, service: EventRunService) -> None:
        queue = bench.event_queue()
        poor = await bench.directory.ensure_tenant(a_tenant(grants=Grants(credentials=())))
        bench.tenant = poor
        ingestion = await listening(bench)
        send(queue, "a")
        assert await service.begin_runs(bench.directory) == 0
        state = (await bench.stored(ingestion)).event_queue
        assert state is not None
        assert (state.waiting, state.problem) == (0, "source.credential: there is no credential 'default' for this tenant")
