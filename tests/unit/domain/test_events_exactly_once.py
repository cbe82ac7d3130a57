"""However notifications come, whatever of them is lost, and wherever a process dies: each file is in the table once.

A run is stopped dead at a step, as a killed process is: what it had not committed or deleted by then stays undone, and its lease expires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain import steps
from domain.ingestions.entities import ChangedFilePolicy, Ingestion, Policies
from domain.ledger.entities import FileStatus
from domain.runs.entities import RunTrigger
from domain.runs.event_runs import EventRunService
from domain.runs.pipeline import PipelineSettings
from domain.steps import Step
from tests.contracts.event_discovery import KilledError, listening
from tests.factories import BUCKET, a_notified_source
from tests.fakes.database import FakeDatabase
from tests.fakes.event_queue import FakeEventQueue
from tests.fakes.scripted_engine import ROWS
from tests.notifications import A_GREETING, a_notification
from tests.workbench import Workbench, make_fake_workbench

T = TypeVar("T")

NAMES = st.sampled_from(["a.json", "b +ü.json", "c/d.json", "e%20f.json"])
NOISE = st.sampled_from(
    [A_GREETING, "{", "[]", a_notification("s3://other/x"), a_notification(BUCKET + "a.json", event="ObjectRemoved:Delete")]
)
DEAD_AFTER = 5
WHERE = st.sampled_from([Step.LISTED, Step.DISCOVERED, Step.CLAIMED, Step.MARKED])


class EventsExactlyOnce(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.under_way: list[str] = []
        """Bodies that the store has sent and that have not arrived; each may arrive at any time, or never."""
        self.deaths = 0

    @initialize(policy=st.sampled_from(ChangedFilePolicy), min_age=st.sampled_from([0, 90]))
    def begin(self, policy: ChangedFilePolicy, min_age: int) -> None:
        self.policy = policy
        database = FakeDatabase()
        self.bench: Workbench = self.do(make_fake_workbench(database))
        # However often it dies, nobody has to resume it.
        self.bench.settings = PipelineSettings(lease_seconds=60, failures_until_error=10**6)
        # One clock for all, so that leases, messages and listings grow old together.
        database.clock = self.bench.clock
        self.bench.stores.now = self.bench.clock.now() - timedelta(days=1)
        self.queue: FakeEventQueue = self.bench.event_queue(dead_after=DEAD_AFTER)
        source = a_notified_source(min_age_seconds=min_age)
        self.ingestion: Ingestion = self.do(listening(self.bench, source=source, policies=Policies(changed_files=policy), listed=False))
        self.runs = EventRunService(self.bench.unit_of_work, self.bench.stores, self.bench.clock, rest_seconds=0)
        self.contents: dict[str, list[bytes]] = {}
        """What each path has held, one after another: what comes back after something else is a version too."""

    def teardown(self) -> None:
        try:
            if hasattr(self, "bench"):
                self.everything_has_come()
        finally:
            self.loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(name=NAMES, version=st.integers(1, 3), times=st.integers(0, 3))
    def land(self, name: str, version: int, times: int) -> None:
        """A file comes, or is overwritten, and the store tells of it so often, perhaps not at all."""
        content = b"x" * version
        self.bench.stores.put(BUCKET + name, content, modified_at=self.bench.clock.now())
        versions = self.contents.setdefault(BUCKET + name, [])
        if versions[-1:] != [content]:
            versions.append(content)
        self.under_way += [a_notification(BUCKET + name)] * times

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100))
    def arrive(self, which: int) -> None:
        self.queue.send(self.under_way.pop(which % len(self.under_way)))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100))
    def get_lost(self, which: int) -> None:
        del self.under_way[which % len(self.under_way)]

    @rule(body=NOISE)
    def arrive_with_nothing(self, body: str) -> None:
        self.queue.send(body)

    @rule(seconds=st.sampled_from([1, 90, 130, 4_000]))
    def wait(self, seconds: int) -> None:
        self.bench.clock.advance(seconds=seconds)

    @rule()
    def run(self) -> None:
        self.do(self._work())

    @rule(at=WHERE)
    def run_and_die(self, at: Step) -> None:
        def killed(step: Step) -> None:
            if step is at:
                raise KilledError

        steps.on_step = killed
        try:
            self.do(self._work())
        except KilledError:
            self.deaths += 1
            self.bench.clock.advance(seconds=61)
        finally:
            steps.on_step = steps._nothing

    async def _work(self) -> None:
        """What the background work does, until there is nothing to do: recover, look at the queue, execute."""
        await self.bench.pipeline.recover_lost()
        await self.runs.begin_runs(self.bench.directory)
        for entry in await self.bench.directory.take_outbox(100, visible_after_seconds=0):
            await self.bench.directory.finish_outbox(entry)
            await self.bench.pipeline.execute(entry.subject)

    @invariant()
    def no_version_is_in_the_table_twice(self) -> None:
        if not hasattr(self, "bench"):
            return
        table = self.bench.engine.tables.get(self.ingestion.destination.key)
        for path, versions in self.contents.items():
            most = len(versions) if self.policy is ChangedFilePolicy.APPEND else 1
            assert (table.rows_of(path) if table else 0) <= most * ROWS

    def everything_has_come(self) -> None:
        """However much was lost: once the listing is due, each path is loaded, and no message waits."""
        for _ in range(8):
            self.bench.clock.advance(seconds=3_700)
            self.do(self._work())
        statuses = self.do(self.bench.statuses(self.ingestion))
        assert statuses == {path.removeprefix(BUCKET): FileStatus.SUCCESS for path in self.contents}
        for path in self.contents:
            rows = self.bench.table(self.ingestion).rows_of(path)
            assert rows >= ROWS if self.policy is ChangedFilePolicy.APPEND else rows == ROWS
        assert self.queue.bodies == []
        # What was handed out to so many who died with it is a dead letter too, whatever it says: its file came by the listing.
        assert self.deaths >= DEAD_AFTER or all(letter.body in ("{", "[]") for letter in self.queue.dead_letters)
        assert self.do(self._triggers()) <= {RunTrigger.EVENT, RunTrigger.RETRY}

    async def _triggers(self) -> set[RunTrigger]:
        async with self.bench.unit_of_work(self.bench.tenant.id) as tx:
            return {run.trigger for run in await tx.runs.get_runs_by_ingestion(self.ingestion.id, limit=1_000)}


TestEventsExactlyOnce = EventsExactlyOnce.TestCase
TestEventsExactlyOnce.settings = settings(max_examples=50)
