"""What a process that was stopped in a transaction holds locked is free again after a lease's time."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.application import engine_settings
from autoloader.settings import Settings
from domain.errors import UnavailableError
from persistence.database import open_database, transaction

LOCK = text("SELECT pg_advisory_xact_lock(1)")


async def test_of_ours(database: AsyncEngine, database_url: str) -> None:
    stopping = open_database(database_url, idle_transaction_seconds=0.2)

    async def stopped_in_a_transaction() -> None:
        async with transaction(stopping) as stopped:
            await stopped.execute(LOCK)
            async with transaction(database) as other:
                # Waits until the lock is free.
                await other.execute(LOCK)
            await stopped.execute(text("SELECT 1"))

    with pytest.raises((SQLAlchemyError, UnavailableError)):
        await stopped_in_a_transaction()
    await stopping.dispose()


async def test_of_the_catalog(database: AsyncEngine, database_url: str) -> None:
    catalog = create_engine(engine_settings(Settings(lease_seconds=0.2), database_url, Path()).catalog_uri)
    with catalog.connect() as stopped:
        found = stopped.execute(text("SELECT current_setting('search_path'), current_setting('lock_timeout')")).one()
        assert tuple(found) == ("iceberg", "400ms")
        stopped.execute(LOCK)
        async with transaction(database) as other:
            await other.execute(LOCK)
        with pytest.raises(SQLAlchemyError):
            stopped.execute(text("SELECT 1"))
    catalog.dispose()
