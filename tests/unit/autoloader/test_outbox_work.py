"""What the outbox asks for is done: each topic by itself, a few subjects at once, and again until it has succeeded."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from autoloader.outbox import Lane, OutboxWork
from domain.errors import UnavailableError
from domain.ports.unit_of_work import Subject, Topic
from tests.factories import a_tenant
from tests.fakes.database import FakeDatabase
from tests.fakes.directory import FakeDirectory
from tests.fakes.unit_of_work import FakeUnitOfWorkFactory


@dataclass
class Looks:
    """A `look` that waits until it is let go."""

    begun: Counter[UUID] = field(default_factory=Counter)
    answers: dict[UUID, list[bool | float | Exception]] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, subject: Subject) -> bool | float | None:
        self.begun[subject.id] += 1
        await self.gate.wait()
        match self.answers.get(subject.id):
            case [Exception() as error, *_]:
                raise error
            case [bool() | float() as answer, *_]:
                return answer
        return None


class Outbox:
    def __init__(self, database: FakeDatabase, tenant_id: UUID, lanes: Mapping[Topic, Lane]) -> None:
        self.clock = database.clock
        self.directory = FakeDirectory(database)
        self._unit_of_work = FakeUnitOfWorkFactory(database)
        self._tenant_id = tenant_id
        self._ended = asyncio.Event()
        self.work = OutboxWork(self.directory, lanes, free=self._ended.set, visible_after_seconds=60)

    async def add(self, *subjects: tuple[Topic, UUID]) -> None:
        async with self._unit_of_work(self._tenant_id) as tx:
            for topic, subject in subjects:
                await tx.outbox.add(topic, subject)

    async def start(self) -> None:
        """Take what is due, and let it come to its first wait."""
        await self.work.start()
        await asyncio.sleep(0)

    async def one_has_ended(self) -> None:
        async with asyncio.timeout(5):
            await self._ended.wait()
        self._ended.clear()

    async def waiting(self, after_seconds: float) -> set[UUID]:
        """What is due after so long."""
        self.clock.advance(seconds=after_seconds)
        return {entry.subject.id for entry in await self.directory.take_outbox(100, visible_after_seconds=0)}


@pytest.fixture
def slow() -> Looks:
    return Looks()


@pytest.fixture
def quick() -> Looks:
    looks = Looks()
    looks.gate.set()
    return looks


@pytest.fixture
async def outbox(slow: Looks, quick: Looks) -> AsyncIterator[Outbox]:
    database = FakeDatabase()
    tenant = await FakeDirectory(database).ensure_tenant(a_tenant())
    lanes = {Topic.TABLE: Lane(slow, at_once=1), Topic.INGESTION: Lane(slow, at_once=2), Topic.RUN: Lane(quick, at_once=1)}
    outbox = Outbox(database, tenant.id, lanes)
    yield outbox
    await outbox.work.stop()


async def test_what_takes_long_keeps_no_other_topic_waiting(outbox: Outbox, slow: Looks, quick: Looks) -> None:
    table, run = uuid4(), uuid4()
    await outbox.add((Topic.TABLE, table), (Topic.RUN, run))
    await outbox.start()
    await outbox.one_has_ended()
    assert (slow.begun, quick.begun) == ({table: 1}, {run: 1})
    assert await outbox.waiting(after_seconds=59) == set()
    # Not finished: if this process dies, it is due again.
    assert await outbox.waiting(after_seconds=1) == {table}


async def test_of_each_topic_a_few_at_once(outbox: Outbox, slow: Looks) -> None:
    tables, ingestions = [uuid4() for _ in range(2)], [uuid4() for _ in range(3)]
    await outbox.add(*((Topic.TABLE, id) for id in tables), *((Topic.INGESTION, id) for id in ingestions))
    await outbox.start()
    await outbox.start()
    assert slow.begun == Counter([tables[0], *ingestions[:2]])
    slow.gate.set()
    await outbox.one_has_ended()
    await outbox.start()
    assert slow.begun == Counter([*tables, *ingestions])


async def test_a_subject_is_looked_at_once_at_a_time_and_again_when_it_was_added_since(outbox: Outbox, slow: Looks) -> None:
    ingestion = uuid4()
    await outbox.add((Topic.INGESTION, ingestion))
    await outbox.start()
    await outbox.add((Topic.INGESTION, ingestion))
    await outbox.start()
    assert slow.begun == {ingestion: 1}
    slow.gate.set()
    await outbox.one_has_ended()
    assert await outbox.waiting(after_seconds=1.9) == set()
    assert await outbox.waiting(after_seconds=0.1) == {ingestion}


async def test_what_is_done_is_forgotten(outbox: Outbox, quick: Looks) -> None:
    await outbox.add((Topic.RUN, run := uuid4()))
    await outbox.start()
    await outbox.one_has_ended()
    assert quick.begun == {run: 1}
    assert await outbox.waiting(after_seconds=1_000_000) == set()


async def test_what_is_not_settled_is_looked_at_again_soon(outbox: Outbox, quick: Looks) -> None:
    await outbox.add((Topic.RUN, run := uuid4()))
    quick.answers[run] = [False]
    await outbox.start()
    await outbox.one_has_ended()
    assert await outbox.waiting(after_seconds=1.9) == set()
    assert await outbox.waiting(after_seconds=0.1) == {run}


async def test_what_knows_its_time_is_looked_at_then(outbox: Outbox, quick: Looks) -> None:
    await outbox.add((Topic.RUN, run := uuid4()))
    quick.answers[run] = [600.0]
    await outbox.start()
    await outbox.one_has_ended()
    assert await outbox.waiting(after_seconds=599.9) == set()
    assert await outbox.waiting(after_seconds=0.1) == {run}


@pytest.mark.parametrize("error", [UnavailableError("not now"), RuntimeError("a defect")])
async def test_what_fails_waits_longer_each_time(outbox: Outbox, quick: Looks, error: Exception) -> None:
    await outbox.add((Topic.RUN, run := uuid4()))
    quick.answers[run] = [error]
    for wait in (2, 4, 8):
        await outbox.start()
        await outbox.one_has_ended()
        outbox.clock.advance(seconds=wait - 0.1)
        await outbox.start()
        outbox.clock.advance(seconds=0.1)
    assert quick.begun == {run: 3}


async def test_what_takes_long_before_it_fails_waits_no_longer_than_what_fails_at_once(outbox: Outbox, slow: Looks) -> None:
    await outbox.add((Topic.INGESTION, ingestion := uuid4()))
    slow.answers[ingestion] = [UnavailableError("not now")]
    for _ in range(20):
        # It is under way all the time, and taken again whenever its lease has expired.
        await outbox.start()
        outbox.clock.advance(seconds=61)
    assert slow.begun == {ingestion: 1}
    slow.gate.set()
    await outbox.one_has_ended()
    outbox.clock.advance(seconds=2)
    await outbox.start()
    await outbox.one_has_ended()
    assert slow.begun == {ingestion: 2}
    assert await outbox.waiting(after_seconds=3.9) == set()
    assert await outbox.waiting(after_seconds=0.1) == {ingestion}


async def test_what_is_stopped_is_due_again(outbox: Outbox, slow: Looks) -> None:
    await outbox.add((Topic.TABLE, table := uuid4()))
    await outbox.start()
    await outbox.work.stop()
    assert await outbox.waiting(after_seconds=60) == {table}


async def test_a_database_that_fails_meanwhile_stops_nothing_else(outbox: Outbox, quick: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise ConnectionError("the database is gone")

    monkeypatch.setattr(outbox.directory, "finish_outbox", fails)
    await outbox.add((Topic.RUN, run := uuid4()))
    await outbox.start()
    await outbox.one_has_ended()
    assert await outbox.waiting(after_seconds=60) == {run}
