from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.directory import SqlDirectory
from persistence.unit_of_work import SqlUnitOfWorkFactory
from tests.workbench import Workbench, make_workbench


@pytest.fixture
async def bench(database: AsyncEngine, tenant_database: AsyncEngine, directory_database: AsyncEngine) -> Workbench:
    async def expire_leases() -> None:
        async with database.begin() as connection:
            for table in ("batches", "runs"):
                await connection.execute(text(f"UPDATE {table} SET lease_expires_at = now() WHERE lease_expires_at IS NOT NULL"))

    return await make_workbench(SqlUnitOfWorkFactory(tenant_database), SqlDirectory(directory_database), expire_leases)
