"""Turning pages over PostgreSQL: fewer stories, each of a tenant of its own in one database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence.database import open_database
from persistence.directory import SqlDirectory
from persistence.reader import SqlReader
from persistence.unit_of_work import SqlUnitOfWorkFactory
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

Turn = Callable[[World, Story], Coroutine[Any, Any, None]]


@pytest.mark.parametrize(
    ("stories", "turn"),
    [(ingestion_stories, turn_ingestion_pages), (run_stories, turn_run_pages), (file_stories, turn_file_pages)],
    ids=["ingestions", "runs of an ingestion", "files of a run"],
)
def test_pages(database_url: str, stories: st.SearchStrategy[Story], turn: Turn) -> None:
    with asyncio.Runner() as runner:
        database = open_database(database_url)

        @settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
        @given(stories)
        def every_story(story: Story) -> None:
            async def tell() -> None:
                world = await make_world(SqlUnitOfWorkFactory(database), SqlDirectory(database), lambda id: SqlReader(database, id))
                await turn(world, story)

            runner.run(tell())

        try:
            every_story()
        finally:
            runner.run(database.dispose())
