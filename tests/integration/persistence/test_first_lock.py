"""The repositories' own tenant conditions hold by themselves: here they act as the tables' owner, whom no policy binds."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.directory import SqlDirectory
from persistence.reader import SqlReader
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.contracts.persistence.tenant_scope import TenantScopeContract
from tests.contracts.persistence.world import World, make_world


class TestWithoutTheSecondLock(TenantScopeContract):
    @pytest.fixture
    async def world(self, database: AsyncEngine) -> World:
        return await make_world(SqlUnitOfWorkFactory(database), SqlDirectory(database), lambda tenant_id: SqlReader(database, tenant_id))
