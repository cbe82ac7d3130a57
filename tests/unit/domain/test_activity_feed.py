"""Following over the fakes: what a follower does while it cannot look, and that it looks at a bounded rate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from domain.activity.entities import ActivityKind
from domain.activity.feed import ActivityFeed, FeedSettings
from domain.errors import NotFoundError, UnavailableError
from domain.runs.entities import Run, RunStatus
from tests.contracts.persistence.world import World, make_world
from tests.factories import NOW
from tests.fakes.activity import FakeActivityLog, FakeNotifications
from tests.fakes.database import FakeDatabase
from tests.fakes.directory import FakeDirectory
from tests.fakes.reader import FakeReader
from tests.fakes.unit_of_work import FakeUnitOfWorkFactory

QUICK = {"pause_seconds": 0.001, "longest_pause_seconds": 0.002}


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
async def world(database: FakeDatabase) -> World:
    return await make_world(FakeUnitOfWorkFactory(database), FakeDirectory(database), lambda id: FakeReader(database, id))


def feed_over(database: FakeDatabase, **settings: Any) -> ActivityFeed:
    return ActivityFeed(
        lambda id: FakeActivityLog(database, id),
        lambda id: FakeReader(database, id),
        FakeNotifications(database),
        FeedSettings(**QUICK | settings),
    )


async def refused(database: FakeDatabase, times: int) -> None:
    """Return when the database has been asked that often while it was down."""
    async with asyncio.timeout(20):
        while database.refused < times:
            await asyncio.sleep(0.001)


async def test_a_follower_outlasts_a_database_that_is_down(world: World, database: FakeDatabase) -> None:
    stream = await feed_over(database).activity(world.tenant.id)
    coming = asyncio.ensure_future(anext(stream))
    database.failure = UnavailableError("the database is not available")
    await refused(database, 3)
    assert not coming.done()
    database.failure = None
    ingestion = await world.ingestion()
    async with asyncio.timeout(20):
        assert [(e.kind, e.ingestion_id) for e in await coming] == [(ActivityKind.INGESTION_CREATED, ingestion.id)]
    await stream.aclose()


async def test_a_follower_of_a_run_outlasts_it_too_and_is_told_the_end(world: World, database: FakeDatabase) -> None:
    failures = 0

    class Down(FakeReader):
        async def by_ids(self, *given: Any) -> Any:
            nonlocal failures
            if failures:
                failures -= 1
                raise UnavailableError("the database is not available")
            return await super().by_ids(*given)

    feed = ActivityFeed(
        lambda id: FakeActivityLog(database, id), lambda id: Down(database, id), FakeNotifications(database), FeedSettings(**QUICK)
    )
    run = await world.run(await world.ingestion(), started=True)
    stream = await feed.run(world.tenant.id, run.id)
    assert (await anext(stream)).status is RunStatus.RUNNING
    failures = 3
    async with world.begin() as tx:
        await tx.runs.update_status(run.id, RunStatus.SUCCESS, at=NOW)
    async with asyncio.timeout(20):
        assert [state.status async for state in stream] == [RunStatus.SUCCESS]
    assert failures == 0


async def test_a_run_that_is_gone_is_complete(world: World, database: FakeDatabase) -> None:
    run = await world.run(await world.ingestion())
    stream = await feed_over(database).run(world.tenant.id, run.id)
    assert (await anext(stream)).status is RunStatus.QUEUED
    async with world.begin() as tx:
        await tx.ingestions.delete(run.ingestion_id)
    async with asyncio.timeout(20):
        assert [state async for state in stream] == []


async def test_a_full_page_is_followed_by_the_next_without_waiting(world: World, database: FakeDatabase) -> None:
    stream = await feed_over(database, page=2, patience_seconds=3_600, pause_seconds=3_600).activity(world.tenant.id)
    created = [(await world.ingestion()).id for _ in range(4)]
    async with asyncio.timeout(20):
        pages = [[event.ingestion_id for event in await anext(stream)] for _ in range(2)]
    assert pages == [created[:2], created[2:]]
    await stream.aclose()


async def test_what_is_not_the_tenants_is_not_there(world: World, database: FakeDatabase) -> None:
    theirs = await world.run(await world.ingestion(world.other))
    feed = feed_over(database)
    with pytest.raises(NotFoundError, match="run not found"):
        await feed.run(world.tenant.id, theirs.id)
    with pytest.raises(NotFoundError, match="ingestion not found"):
        await feed.activity(world.tenant.id, ingestion_id=theirs.ingestion_id)
    assert isinstance(await anext(await feed.run(world.other.id, theirs.id)), Run)


async def test_however_often_it_is_woken_a_follower_looks_at_a_bounded_rate(world: World, database: FakeDatabase) -> None:
    looks = 0

    class Counted(FakeActivityLog):
        async def after(self, *given: Any, **options: Any) -> Any:
            nonlocal looks
            looks += 1
            return await super().after(*given, **options)

    notifications = FakeNotifications(database)
    feed = ActivityFeed(
        lambda id: Counted(database, id), lambda id: FakeReader(database, id), notifications, FeedSettings(pause_seconds=3_600)
    )
    stream = await feed.activity(world.tenant.id)
    await world.ingestion()
    assert len(await anext(stream)) == 1
    coming = asyncio.ensure_future(anext(stream))
    for _ in range(5):
        await world.ingestion()
    assert (looks, coming.done()) == (1, False)
    coming.cancel()
    await asyncio.wait([coming])
