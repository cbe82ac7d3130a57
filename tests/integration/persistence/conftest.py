from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.activity import SqlActivityLog
from persistence.directory import SqlDirectory
from persistence.listening import SqlNotifications
from persistence.reader import SqlReader
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.contracts.persistence.activity import Followed
from tests.contracts.persistence.world import World, make_world


@pytest.fixture
async def world(tenant_database: AsyncEngine, directory_database: AsyncEngine) -> World:
    def reader_of(tenant_id: UUID) -> SqlReader:
        return SqlReader(tenant_database, tenant_id)

    return await make_world(SqlUnitOfWorkFactory(tenant_database), SqlDirectory(directory_database), reader_of)


@pytest.fixture
async def followed(world: World, tenant_database: AsyncEngine, database_url: str) -> AsyncIterator[Followed]:
    notifications = SqlNotifications(database_url)
    yield Followed(world, lambda tenant_id: SqlActivityLog(tenant_database, tenant_id), notifications)
    await notifications.close()
