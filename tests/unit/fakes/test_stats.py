"""The fake's counts."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings

from tests.contracts.persistence.stats import histories, tell_history
from tests.contracts.persistence.world import make_world
from tests.fakes.database import FakeDatabase
from tests.fakes.directory import FakeDirectory
from tests.fakes.reader import FakeReader
from tests.fakes.unit_of_work import FakeUnitOfWorkFactory


@settings(deadline=None)
@given(histories)
def test_any_history_gives_the_counts_of_the_files(history: list[tuple[str, int]]) -> None:
    async def tell() -> None:
        memory = FakeDatabase()
        await tell_history(
            await make_world(FakeUnitOfWorkFactory(memory), FakeDirectory(memory), lambda id: FakeReader(memory, id)), history
        )

    asyncio.run(tell())
