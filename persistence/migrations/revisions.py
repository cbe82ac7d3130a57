"""Which revision of the schema the database has, and which one this code knows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.errors import UnavailableError
from persistence.database import connection


@cache
def newest_revision() -> str:
    """Of this code's migrations; read from their files once. Blocking."""
    newest = ScriptDirectory(str(Path(__file__).parent)).get_current_head()
    assert newest is not None
    return newest


async def newest_is_present(database: AsyncEngine) -> str:
    """The revision that database and code agree on; `database` acts as the tables' owner.

    Raises `UnavailableError`, which says what is wrong.
    """
    newest = newest_revision()
    async with connection(database) as opened:
        present = await opened.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    if present != newest:
        raise UnavailableError(f"the schema is at {present or 'nothing'}, the newest is {newest}: run 'autoloader migrate'")
    return newest
