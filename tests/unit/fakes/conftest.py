from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.persistence.activity import Followed
from tests.contracts.persistence.world import World, make_world
from tests.fakes.activity import FakeActivityLog, FakeNotifications
from tests.fakes.database import FakeDatabase
from tests.fakes.directory import FakeDirectory
from tests.fakes.reader import FakeReader
from tests.fakes.unit_of_work import FakeUnitOfWorkFactory


@pytest.fixture
async def world() -> World:
    database = FakeDatabase()
    return await make_world(FakeUnitOfWorkFactory(database), FakeDirectory(database), lambda tenant_id: FakeReader(database, tenant_id))


@pytest.fixture
def followed(world: World) -> Followed:
    assert isinstance(world.unit_of_work, FakeUnitOfWorkFactory)
    database = world.unit_of_work.database
    return Followed(world, lambda tenant_id: FakeActivityLog(database, tenant_id), FakeNotifications(database))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A fake that keeps a contract shows no scenario to be true."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.own_markers[:] = [marker for marker in item.own_markers if marker.name != "scenario"]
