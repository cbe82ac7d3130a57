"""Discovery by notifications: one suite, over the fakes and over PostgreSQL. A module that runs it gives the `bench` fixture."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain import steps
from domain.errors import LeaseLostError
from domain.ingestions.entities import ChangedFilePolicy, Ingestion, IngestionStatus, Policies, Reset
from domain.ledger import event_receiver
from domain.ledger.entities import FileStatus
from domain.ports.event_queue import LONGEST_POSTPONEMENT_SECONDS
from domain.ports.object_store import SourceUnavailableError
from domain.ports.repositories import Discovered
from domain.ports.telemetry import EventOutcome, NoTelemetry
from domain.runs.entities import Run, RunStatus, RunTrigger
from domain.steps import Step
from tests.factories import BUCKET, NOW, a_notified_source
from tests.fakes.event_queue import FakeEventQueue
from tests.notifications import A_GREETING, a_notification
from tests.workbench import Workbench

DENIED = SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, "it may not be read")


class Counted(NoTelemetry):
    def __init__(self) -> None:
        self.outcomes: Counter[EventOutcome] = Counter()

    def events(self, outcome: EventOutcome, count: int) -> None:
        self.outcomes[outcome] += count


class KilledError(BaseException):
    """The process has died here."""


async def listening(bench: Workbench, *, listed: bool = True, **fields: Any) -> Ingestion:
    """An ACTIVE ingestion with a queue, whose source has been listed just now unless told."""
    source = fields.pop("source", a_notified_source())
    ingestion = await bench.ingestion(source=source, status=IngestionStatus.ACTIVE, **fields)
    if listed:
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.ingestions.set_last_listed(ingestion.id, bench.clock.now())
    return await bench.stored(ingestion)


async def discover(bench: Workbench, ingestion: Ingestion, trigger: RunTrigger = RunTrigger.EVENT) -> Discovered:
    """By a run of its own, which has ended afterwards."""
    subject = await bench.queue(ingestion, trigger=trigger)
    run, stored, grants = await bench.pipeline.start(subject)
    try:
        return (await bench.discovery.discover(stored, grants, run)).found
    finally:
        async with bench.unit_of_work(run.tenant_id) as tx:
            if (await tx.runs.get_by_id(run.id) or run).status is RunStatus.RUNNING:
                await tx.runs.update_status(run.id, RunStatus.SUCCESS, at=bench.clock.now())


def send(queue: FakeEventQueue, *names: str, event: str = "ObjectCreated:Put") -> None:
    """A message for each, of the bucket's own prefix."""
    for name in names:
        queue.send(a_notification(BUCKET + name, event=event))


async def names(bench: Workbench, ingestion: Ingestion) -> list[str]:
    return list(await bench.statuses(ingestion))


class ReceivingContract:
    async def test_what_messages_name_enters_the_ledger_and_nothing_is_listed(self, bench: Workbench) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        bench.land("a b+ü.json", "b.json", "unannounced.json")
        send(queue, "a b+ü.json", "b.json")
        assert await discover(bench, ingestion) == Discovered(new=2)
        assert await bench.statuses(ingestion) == {"a b+ü.json": FileStatus.PENDING, "b.json": FileStatus.PENDING}
        files = await bench.files(ingestion)
        assert [file.stored_object for file in files] == [bench.stores.objects[file.path] for file in files]
        assert (queue.bodies, bench.stores.chunk_sizes) == ([], [])

    async def test_the_run_counts_what_was_found(self, bench: Workbench) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        bench.land("a", "b")
        send(queue, "a", "b", "a")
        subject = await bench.queue(ingestion, trigger=RunTrigger.EVENT)
        await bench.pipeline.execute(subject)
        run = await bench.run(subject)
        assert (run.status, run.files_discovered, run.files_processed) == (RunStatus.SUCCESS, 2, 2)

    async def test_however_often_and_in_whatever_order_they_come(self, bench: Workbench) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        bench.land("a", "b", content=b"old")
        bench.land("b", content=b"newer")
        queue.send(a_notification(BUCKET + "b", BUCKET + "a", BUCKET + "b", event="ObjectCreated:CompleteMultipartUpload"))
        send(queue, "b", "a", "b")
        assert await discover(bench, ingestion) == Discovered(new=2)
        send(queue, "a", "b")
        assert await discover(bench, ingestion) == Discovered()
        assert {file.path: file.etag for file in await bench.files(ingestion)} == {
            BUCKET + name: bench.stores.objects[BUCKET + name].etag for name in "ab"
        }
        assert queue.bodies == []

    async def test_a_changed_file_goes_by_its_policy(self, bench: Workbench) -> None:
        queue = bench.event_queue()
        ingestion = await listening(bench, policies=Policies(changed_files=ChangedFilePolicy.APPEND))
        bench.land("a")
        send(queue, "a")
        await bench.execute(ingestion)
        bench.land("a", content=b"other")
        send(queue, "a")
        assert await discover(bench, ingestion) == Discovered(changed=1)
        assert await bench.statuses(ingestion) == {"a": FileStatus.PENDING}

    async def test_what_is_not_to_be_loaded_is_counted_and_done_with(self, bench: Workbench) -> None:
        bench.telemetry = counted = Counted()
        queue = bench.event_queue()
        ingestion = await listening(bench, source=a_notified_source(glob="*.json", modified_after=NOW))
        bench.stores.put(f"{BUCKET}a.json", b"{}", modified_at=NOW + timedelta(seconds=1))
        bench.stores.put(f"{BUCKET}old.json", b"{}", modified_at=NOW)
        bench.stores.put(f"{BUCKET}a.csv", b"{}", modified_at=NOW + timedelta(seconds=1))
        bench.stores.put("s3://landing/elsewhere/a.json", b"{}")
        bench.stores.put("s3://other/events/a.json", b"{}")
        send(queue, "a.json", "old.json", "a.csv", "gone.json")
        send(queue, "a.json", event="ObjectRemoved:Delete")
        queue.send(a_notification("s3://landing/elsewhere/a.json", "s3://other/events/a.json", "s3://landing/events.json"))
        queue.send(A_GREETING)
        assert await discover(bench, ingestion) == Discovered(new=1)
        assert await names(bench, ingestion) == ["a.json"]
        assert queue.bodies == []
        assert +counted.outcomes == {
            EventOutcome.TAKEN: 1,
            EventOutcome.FILTERED: 2,
            EventOutcome.GONE: 1,
            EventOutcome.OTHER: 1,
            EventOutcome.ELSEWHERE: 3,
            EventOutcome.TEST: 1,
        }

    async def test_a_file_that_may_still_be_written_is_taken_when_it_is_old_enough(self, bench: Workbench) -> None:
        bench.telemetry = counted = Counted()
        queue = bench.event_queue()
        ingestion = await listening(bench, source=a_notified_source(min_age_seconds=600))
        bench.stores.put(f"{BUCKET}a", b"{}", modified_at=NOW - timedelta(seconds=100))
        bench.stores.put(f"{BUCKET}old", b"{}", modified_at=NOW - timedelta(seconds=600))
        queue.send(a_notification(BUCKET + "a", BUCKET + "old"))
        assert await discover(bench, ingestion) == Discovered(new=1)
        assert (await names(bench, ingestion), len(queue.bodies)) == (["old"], 1)
        bench.clock.advance(seconds=499)
        assert (await queue.state()).waiting == 0
        bench.clock.advance(seconds=1)
        assert (await queue.state()).waiting == 1
        assert await discover(bench, ingestion) == Discovered(new=1)
        assert (await names(bench, ingestion), queue.bodies) == (["old", "a"], [])
        assert counted.outcomes == {EventOutcome.EARLY: 1, EventOutcome.TAKEN: 3}

    async def test_a_file_is_put_off_for_no_longer_than_a_queue_can(self, bench: Workbench) -> None:
        queue = bench.event_queue()
        ingestion = await listening(bench, source=a_notified_source(min_age_seconds=86_400))
        bench.stores.put(f"{BUCKET}a", b"{}", modified_at=NOW)
        send(queue, "a")
        await discover(bench, ingestion)
        bench.clock.advance(seconds=LONGEST_POSTPONEMENT_SECONDS)
        assert (await queue.state()).waiting == 1

    async def test_a_run_takes_its_share_and_leaves_the_rest(self, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_receiver, "MOST_MESSAGES", 150)
        queue, ingestion = bench.event_queue(), await listening(bench)
        many = [f"{number:03}" for number in range(250)]
        bench.land(*many)
        send(queue, *many)
        assert await discover(bench, ingestion) == Discovered(new=200)
        assert len(queue.bodies) == 50
        assert await discover(bench, ingestion) == Discovered(new=50)


class NothingLostContract:
    async def test_a_crash_between_ledger_and_queue_brings_the_messages_again(
        self, bench: Workbench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        bench.land("a", "b")
        send(queue, "a", "b")

        def killed(step: Step) -> None:
            if step is Step.LISTED:
                raise KilledError

        with monkeypatch.context() as dying:
            dying.setattr(steps, "on_step", killed)
            with pytest.raises(KilledError):
                await discover(bench, ingestion)
        assert (await names(bench, ingestion), len(queue.bodies)) == (["a", "b"], 2)
        bench.clock.advance(seconds=120)
        assert await discover(bench, ingestion) == Discovered()
        assert (await names(bench, ingestion), queue.bodies) == (["a", "b"], [])

    async def test_a_ledger_that_fails_keeps_the_messages(self, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        bench.land("a")
        send(queue, "a", "gone")
        run = await bench.start(ingestion)
        async with bench.unit_of_work(run.tenant_id) as tx:
            await tx.runs.update_status(run.id, RunStatus.CANCELLING, at=NOW)
        with pytest.raises(LeaseLostError):
            await bench.discovery.discover(ingestion, bench.tenant.grants, run)
        assert (await bench.files(ingestion), len(queue.bodies)) == ([], 2)

    async def test_a_store_that_does_not_answer_keeps_the_messages(self, bench: Workbench) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        bench.land("a", "b")
        send(queue, "a", "b")
        bench.stores.looking_failures[BUCKET + "a"] = DENIED
        bench.stores.check_failure = error = SourceUnavailableError(SourceUnavailableError.UNREACHABLE, "the store is away")
        with pytest.raises(SourceUnavailableError) as caught:
            await discover(bench, ingestion)
        assert caught.value is error
        assert (await bench.files(ingestion), len(queue.bodies)) == ([], 2)

    async def test_one_object_that_may_not_be_looked_at_keeps_no_other_waiting(
        self, bench: Workbench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.telemetry = counted = Counted()
        queue, ingestion = bench.event_queue(dead_after=2), await listening(bench)
        bench.land("a", "secret")
        bench.stores.looking_failures[BUCKET + "secret"] = DENIED
        send(queue, "secret", "a")
        assert await discover(bench, ingestion) == Discovered(new=1)
        assert (await names(bench, ingestion), len(queue.bodies)) == (["a"], 1)
        assert counted.outcomes == {EventOutcome.REFUSED: 1, EventOutcome.TAKEN: 1}
        assert f"ingestion {ingestion.id}: message message-1 names an object that may not be looked at" in caplog.messages

    async def test_what_nobody_understands_becomes_a_dead_letter(self, bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
        bench.telemetry = counted = Counted()
        queue, ingestion = bench.event_queue(dead_after=2), await listening(bench)
        bench.land("a")
        queue.send("<html>")
        send(queue, "a")
        assert await discover(bench, ingestion) == Discovered(new=1)
        assert queue.bodies == ["<html>"]
        assert f"ingestion {ingestion.id}: message message-1 is left to become a dead letter: it is not JSON" in caplog.messages
        for _ in range(2):
            bench.clock.advance(seconds=120)
            await discover(bench, ingestion)
        assert (queue.bodies, [letter.body for letter in queue.dead_letters]) == ([], ["<html>"])
        assert counted.outcomes[EventOutcome.NOT_UNDERSTOOD] == 2

    async def test_what_nobody_understands_or_keeps_is_deleted_with_a_word(
        self, bench: Workbench, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        queue.send("x" * 1_000)
        assert await discover(bench, ingestion) == Discovered()
        assert queue.bodies == []
        said = f"ingestion {ingestion.id}: message message-1, which nobody keeps, is deleted: it is not JSON: '{'x' * 199}…'"
        assert said in caplog.messages

    async def test_half_a_message_is_taken_and_the_whole_left(self, bench: Workbench) -> None:
        queue, ingestion = bench.event_queue(dead_after=5), await listening(bench)
        bench.land("a")
        queue.send(a_notification(BUCKET + "a").replace("[{", '[{"eventName": null}, {'))
        assert await discover(bench, ingestion) == Discovered(new=1)
        assert len(queue.bodies) == 1


class ListingContract:
    async def listed(self, bench: Workbench, ingestion: Ingestion, trigger: RunTrigger = RunTrigger.EVENT) -> bool:
        before, counted = len(bench.stores.chunk_sizes), await self.counted(bench, ingestion)
        await discover(bench, ingestion, trigger)
        listed = len(bench.stores.chunk_sizes) > before
        assert await self.counted(bench, ingestion) == counted + listed
        return listed

    async def counted(self, bench: Workbench, ingestion: Ingestion) -> int:
        async with bench.unit_of_work(bench.tenant.id) as tx:
            return sum(run.listings for run in await tx.runs.get_runs_by_ingestion(ingestion.id, limit=100))

    async def test_the_first_run_lists(self, bench: Workbench) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench, listed=False)
        bench.land("a", "b")
        send(queue, "b")
        assert ingestion.last_listed_at is None
        assert await discover(bench, ingestion) == Discovered(new=2)
        assert (await bench.stored(ingestion)).last_listed_at == NOW
        assert queue.bodies == []

    async def test_a_listing_now_and_then_finds_what_was_missed(self, bench: Workbench) -> None:
        bench.event_queue()
        ingestion = await listening(bench)
        bench.land("missed")
        bench.clock.advance(seconds=3_599)
        assert not await self.listed(bench, ingestion)
        bench.clock.advance(seconds=1)
        assert await self.listed(bench, ingestion)
        assert await names(bench, ingestion) == ["missed"]
        assert not await self.listed(bench, ingestion)

    @pytest.mark.parametrize(
        ("trigger", "lists"),
        [
            (RunTrigger.MANUAL, True),
            (RunTrigger.REFRESH, True),
            (RunTrigger.RETRY, True),
            (RunTrigger.SCHEDULED, False),
            (RunTrigger.EVENT, False),
        ],
    )
    async def test_a_run_that_somebody_asks_for_lists(self, bench: Workbench, trigger: RunTrigger, lists: bool) -> None:
        bench.event_queue()
        ingestion = await listening(bench)
        bench.land("a")
        assert await self.listed(bench, ingestion, trigger) is lists

    async def test_a_ledger_that_was_cleared_is_filled_by_a_listing(self, bench: Workbench) -> None:
        bench.event_queue()
        ingestion = await listening(bench)
        bench.land("a")
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.ingestions.begin_reset(ingestion.id, Reset(uuid4()), generation=1, checkpoint_path="x")
        assert await self.listed(bench, ingestion)

    async def test_a_queue_that_does_not_serve_costs_a_listing_and_no_file(
        self, bench: Workbench, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue, ingestion = bench.event_queue(), await listening(bench)
        bench.land("a")
        queue.failure = SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, "the queue may not be read")
        assert await discover(bench, ingestion) == Discovered(new=1)
        said = f"ingestion {ingestion.id}: its queue cannot be received from, so its source is listed: the queue may not be read"
        assert [(record.levelno, record.message) for record in caplog.records if "queue" in record.message] == [(logging.WARNING, said)]

    async def test_a_listing_that_fails_is_not_remembered(self, bench: Workbench) -> None:
        bench.event_queue()
        ingestion = await listening(bench, listed=False)
        bench.land("a")
        bench.stores.listing_failure = (1, SourceUnavailableError(SourceUnavailableError.UNREACHABLE, "gone"))
        with pytest.raises(SourceUnavailableError):
            await discover(bench, ingestion)
        assert (await bench.stored(ingestion)).last_listed_at is None

    async def test_a_listing_by_another_filter_is_not_remembered(self, bench: Workbench) -> None:
        """Somebody has changed the source while it went on: the next run lists what the new one takes."""
        bench.event_queue()
        run = await bench.start(ingestion := await listening(bench, listed=False))
        async with bench.unit_of_work(bench.tenant.id) as tx:
            stored = await tx.ingestions.get_by_id(ingestion.id)
            assert stored is not None
            await tx.ingestions.update(_with_glob(stored, "*.json"))
        await bench.discovery.discover(ingestion, bench.tenant.grants, run)
        assert (await bench.stored(ingestion)).last_listed_at is None

    async def test_a_source_without_a_queue_remembers_its_listing_too(self, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        run: Run = await bench.start(ingestion)
        await bench.discovery.discover(ingestion, bench.tenant.grants, run)
        stored = await bench.stored(ingestion)
        assert (stored.last_listed_at, stored.listing_due_at) == (NOW, None)


def _with_glob(ingestion: Ingestion, glob: str) -> Ingestion:
    return replace(ingestion, source=replace(ingestion.source, glob=glob))
