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


_END_SILENT_OWNER = """
SELECT count(pg_terminate_backend(pid, 1000))
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND (classid, objid, objsubid) = ($1::bigint >> 32, $1::bigint & 4294967295, 1)
AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND granted AND state_change < clock_timestamp() - make_interval(secs => $2)
"""


@asynccontextmanager
async def background_ownership(url: str, *, patience_seconds: float) -> AsyncIterator[Ownership | None]:
    """The lock that one process holds at a time; None when another has it. A session lock: it goes with the connection.

    The owner shows now and then that it lives. The session of one that has not for `patience_seconds` is ended by whoever asks
    next, for its connection may outlive it: a process that is stopped keeps it, and so does the kernel of a host that is cut off.
    """
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn, timeout=10, server_settings={"application_name": "autoloader background"})
    try:
        if not await _locked(connection) and not (await _ended_silent_owner(connection, patience_seconds) and await _locked(connection)):
            yield None
            return
        ownership = Ownership(connection)
        connection.add_termination_listener(ownership.wake)
        await connection.add_listener(OUTBOX_CHANNEL, ownership.wake)
        beating = asyncio.create_task(_beat(connection, ownership, patience_seconds), name="background ownership")
        try:
            yield ownership
        finally:
            beating.cancel()
            await asyncio.wait([beating])
    finally:
        with suppress(Exception):
            await connection.close(timeout=5)


async def _locked(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", BACKGROUND_LOCK))


async def _ended_silent_owner(connection: asyncpg.Connection, patience_seconds: float) -> bool:
    return bool(await connection.fetchval(_END_SILENT_OWNER, BACKGROUND_LOCK, patience_seconds))


async def _beat(connection: asyncpg.Connection, ownership: Ownership, patience_seconds: float) -> None:
    """Show that the owner lives, and find out when the database does not answer any more."""
    try:
        while True:
            await asyncio.sleep(patience_seconds / 4)
            await connection.execute("SELECT", timeout=patience_seconds)
    except Exception:
        connection.terminate()
        ownership.wake()
