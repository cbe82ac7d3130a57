"""Turning pages over the fake."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings

from tests.contracts.persistence.paging import (
    Story,
    file_stories,
    ingestion_stories,
    run_stories,
    turn_file_pages,
    turn_ingestion_pages,
    turn_run_pages,
)
from tests.contracts.persistence.world import World, make_world
from tests.fakes.database import FakeDatabase
from tests.fakes.directory import FakeDirectory
from tests.fakes.reader import FakeReader
from tests.fakes.unit_of_work import FakeUnitOfWorkFactory


async def _world() -> World:
    database = FakeDatabase()
    return await make_world(FakeUnitOfWorkFactory(database), FakeDirectory(database), lambda id: FakeReader(database, id))


@settings(deadline=None)
@given(ingestion_stories)
def test_ingestions(story: Story) -> None:
    async def tell() -> None:
        await turn_ingestion_pages(await _world(), story)

    asyncio.run(tell())


@settings(deadline=None)
@given(run_stories)
def test_runs_of_an_ingestion(story: Story) -> None:
    async def tell() -> None:
        await turn_run_pages(await _world(), story)

    asyncio.run(tell())


@settings(deadline=None)
@given(file_stories)
def test_files_of_a_run(story: Story) -> None:
    async def tell() -> None:
        await turn_file_pages(await _world(), story)

    asyncio.run(tell())
