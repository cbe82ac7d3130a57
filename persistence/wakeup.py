"""Being the one process that does the background work, and being woken when there is some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from sqlalchemy import make_url

from persistence.unit_of_work import OUTBOX_CHANNEL

BACKGROUND_LOCK = 0x6175746F6C6F6261
"""Arbitrary, and this project's alone: "autoloba" in ASCII."""


class Ownership:
    """Held as long as its connection lives."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._woken = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return once `wake` was called, or `seconds` have passed. Raises ConnectionError when ownership was lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()
        if self._connection.is_closed():
            raise ConnectionError("the connection that held the background lock is gone")

    def wake(self, *_: object) -> None:
        self._woken.set()


@asynccontextmanager
async def background_ownership(url: str) -> AsyncIterator[Ownership | None]:
    """The lock that one process holds at a time; None when another has it. A session lock: it goes with the connection."""
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn, timeout=10, server_settings={"application_name": "autoloader background"})
    try:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", BACKGROUND_LOCK):
            yield None
            return
        ownership = Ownership(connection)
        connection.add_termination_listener(ownership.wake)
        await connection.add_listener(OUTBOX_CHANNEL, ownership.wake)
        yield ownership
    finally:
        with suppress(Exception):
            await connection.close(timeout=5)
