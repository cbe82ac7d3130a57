"""Activity over a real database: late commits, lost connections, and what it costs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.activity.entities import ActivityEvent, ActivityKind
from domain.activity.feed import ActivityFeed, FeedSettings
from domain.ingestions.entities import Ingestion, IngestionStatus
from persistence.activity import SqlActivityLog
from persistence.listening import SqlNotifications
from persistence.reader import SqlReader
from tests.contracts.persistence.activity import Followed, everything_after, told
from tests.contracts.persistence.world import World
from tests.factories import an_ingestion
from tests.fixtures.statements import Statements

_LISTENING = "datname = current_database() AND application_name = 'autoloader notifications'"


class Late:
    """A transaction that has written and is kept open, until `commit`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stack = AsyncExitStack()
        self.ingestion = an_ingestion(tenant_id=world.tenant.id)

    async def begin(self) -> None:
        tx = await self._stack.enter_async_context(self._world.begin())
        await tx.ingestions.create(self.ingestion)

    async def commit(self) -> None:
        await self._stack.aclose()


async def test_a_transaction_that_commits_late_is_not_jumped_over(followed: Followed) -> None:
    world, log = followed.world, followed.log
    place = await log.now()
    late = Late(world)
    await late.begin()
    early = await world.ingestion()
    look = await log.after(place, limit=10)
    assert (look.events, look.unsettled) == ([], True)
    await late.commit()
    events = await everything_after(log, look.place)
    # In the order of their beginnings, and none is missing.
    assert told(events) == [(ActivityKind.INGESTION_CREATED, id, None) for id in (late.ingestion.id, early.id)]
    assert events[0].transaction < events[1].transaction
    assert events[0].id > events[1].id, "the later the row, the greater its id: ids alone would have jumped over it"


async def test_now_is_behind_what_was_committed_though_an_older_transaction_is_under_way(followed: Followed) -> None:
    world, log = followed.world, followed.log
    late = Late(world)
    await late.begin()
    await world.ingestion()
    place = await log.now()
    look = await log.after(place, limit=10)
    assert (look.events, look.unsettled) == ([], False)
    after = await world.ingestion()
    await late.commit()
    events = await everything_after(log, place)
    assert told(events) == [(ActivityKind.INGESTION_CREATED, id, None) for id in (late.ingestion.id, after.id)]
    # The place that carries what was seen is forgotten once it is of no use.
    look = await log.after(place, limit=10)
    assert (place.seen is None, look.place.seen) == (False, None)


async def test_a_reader_that_pages_while_writers_commit_in_any_order_sees_each_event_once(followed: Followed) -> None:
    world, log = followed.world, followed.log
    place = await log.now()
    lates = [Late(world) for _ in range(6)]
    for late in lates:
        await late.begin()
    seen: list[ActivityEvent] = []
    for late in (lates[3], lates[0], lates[5], lates[1], lates[2], lates[4]):
        await late.commit()
        look = await log.after(place, limit=1)
        seen += look.events
        place = look.place
    seen += await everything_after(log, place)
    assert [event.ingestion_id for event in seen] == [late.ingestion.id for late in lates]


async def test_telling_costs_a_unit_of_work_one_statement_and_a_silent_one_none(
    world: World, database: AsyncEngine, statements: Statements
) -> None:
    ingestion = await world.ingestion()
    statements.watch(database)
    with statements.exactly(2):
        await touch(world, ingestion)
    assert "activity_events" in statements.sent[-1]
    assert "pg_notify" in statements.sent[-1]
    with statements.exactly(1):
        async with world.begin() as tx:
            await tx.ingestions.get_by_id(ingestion.id)


async def test_each_look_is_one_statement(followed: Followed, database: AsyncEngine, statements: Statements) -> None:
    statements.watch(database)
    with statements.exactly(1):
        place = await followed.log.now()
    for ask in (place, replace(place, seen=None)):
        with statements.exactly(1):
            await followed.log.after(ask, limit=10)
    with statements.exactly(1):
        await followed.log.holds(place, younger_than_seconds=1)


async def test_followers_of_two_processes_see_what_either_changes_though_every_connection_is_cut(
    world: World, database: AsyncEngine, tenant_database: AsyncEngine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has connections of its own; what one's commits bring, the other tells."""
    hubs = [SqlNotifications(database_url) for _ in range(2)]
    feeds = [feed_over(tenant_database, hub) for hub in hubs]
    try:
        streams = [await feed.activity(world.tenant.id) for feed in feeds]
        following = [asyncio.create_task(first(stream, 4)) for stream in streams]
        expected = [(await world.ingestion()).id, (await world.ingestion()).id]
        await both_listen(database)
        async with database.connect() as opened:
            cut = await opened.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
            assert len(cut.all()) >= 2
        expected.append((await world.ingestion()).id)
        await both_listen(database)
        expected.append((await world.ingestion()).id)
        async with asyncio.timeout(25):
            for events in await asyncio.gather(*following):
                assert [event.ingestion_id for event in events] == expected
        assert "activity is not heard of" in caplog.text
    finally:
        for hub in hubs:
            await hub.close()


async def test_what_happens_while_nothing_is_heard_is_told_when_it_is_again(
    world: World, database: AsyncEngine, tenant_database: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = SqlNotifications(database_url)
    try:
        stream = await feed_over(tenant_database, hub, patience_seconds=3_600).activity(world.tenant.id)
        following = asyncio.create_task(first(stream, 1))
        await both_listen(database, processes=1)
        away = asyncio.Event()
        connect = hub._connection

        def refused() -> Any:
            away.set()
            raise ConnectionRefusedError

        monkeypatch.setattr(hub, "_connection", refused)
        async with database.connect() as opened:
            await opened.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_LISTENING}"))
        async with asyncio.timeout(20):
            await away.wait()
        ingestion = await world.ingestion()
        assert not following.done()
        monkeypatch.setattr(hub, "_connection", connect)
        async with asyncio.timeout(20):
            assert [event.ingestion_id for event in await following] == [ingestion.id]
    finally:
        await hub.close()


async def test_a_follower_is_woken_by_the_commit_and_not_by_its_patience(
    world: World, tenant_database: AsyncEngine, database: AsyncEngine, database_url: str
) -> None:
    hub = SqlNotifications(database_url)
    try:
        stream = await feed_over(tenant_database, hub, patience_seconds=3_600).activity(world.tenant.id)
        following = asyncio.create_task(first(stream, 1))
        await both_listen(database, processes=1)
        ingestion = await world.ingestion()
        async with asyncio.timeout(20):
            assert [event.ingestion_id for event in await following] == [ingestion.id]
    finally:
        await hub.close()


async def touch(world: World, ingestion: Ingestion) -> None:
    async with world.begin() as tx:
        await tx.ingestions.update_status(ingestion.id, IngestionStatus.ACTIVE, next_due_at=None)


def feed_over(database: AsyncEngine, hub: SqlNotifications, **settings: Any) -> ActivityFeed:
    return ActivityFeed(lambda id: SqlActivityLog(database, id), lambda id: SqlReader(database, id), hub, FeedSettings(**settings))


async def first(stream: Any, count: int) -> list[ActivityEvent]:
    events: list[ActivityEvent] = []
    async for page in stream:
        events += page
        if len(events) >= count:
            break
    await stream.aclose()
    return events


async def both_listen(database: AsyncEngine, *, processes: int = 2) -> None:
    """Return when that many connections listen: each has said so last."""
    listening = text(f"SELECT count(*) FROM pg_stat_activity WHERE {_LISTENING} AND state = 'idle' AND query LIKE 'LISTEN%'")
    async with asyncio.timeout(20):
        while True:
            async with database.connect() as opened:
                if await opened.scalar(listening) == processes:
                    return
            await asyncio.sleep(0.02)
