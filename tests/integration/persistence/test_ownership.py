"""One process does the background work; one that is stopped, or cut off, does not keep it from the others."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from persistence import wakeup
from persistence.wakeup import BACKGROUND_LOCK, background_ownership


async def connected(url: str) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(url.replace("+asyncpg", ""))


async def test_who_shows_that_it_lives_keeps_it(database_url: str) -> None:
    async with background_ownership(database_url, patience_seconds=0.4) as owner:
        assert owner is not None
        looker = await connected(database_url)
        seen: set[object] = set()
        async with asyncio.timeout(20):
            while len(seen) < 3:
                seen.add(
                    await looker.fetchval("SELECT state_change FROM pg_stat_activity WHERE application_name = 'autoloader background'")
                )
        await looker.close()
        async with background_ownership(database_url, patience_seconds=60) as other:
            assert other is None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await owner.wait(60)


async def test_the_session_of_a_silent_owner_is_ended_by_who_asks_next(database_url: str) -> None:
    """As of a process that is stopped: its connection stays, and it says nothing."""
    silent = await connected(database_url)
    assert await silent.fetchval("SELECT pg_try_advisory_lock($1)", BACKGROUND_LOCK)
    async with background_ownership(database_url, patience_seconds=60) as other:
        assert other is None
    assert not silent.is_closed()
    async with asyncio.timeout(20):
        taken = False
        while not taken:
            async with background_ownership(database_url, patience_seconds=0.5) as other:
                taken = other is not None
    assert silent.is_closed()


async def test_other_locks_are_left_alone(database_url: str, empty_database_url: str) -> None:
    """Those of other keys, and those of the same key in other databases."""
    elsewhere, ours = await connected(empty_database_url), await connected(database_url)
    assert await elsewhere.fetchval("SELECT pg_try_advisory_lock($1)", BACKGROUND_LOCK)
    assert await ours.fetchval("SELECT pg_try_advisory_lock($1)", BACKGROUND_LOCK + 1)
    asking = await connected(database_url)
    assert not await wakeup._ended_silent_owner(asking, 0.0)
    for connection in (elsewhere, ours, asking):
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


async def test_an_owner_whose_session_was_ended_finds_out(database_url: str) -> None:
    async with background_ownership(database_url, patience_seconds=60) as owner:
        assert owner is not None
        waiting = asyncio.create_task(owner.wait(60))
        ending = await connected(database_url)
        await ending.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'autoloader background'")
        await ending.close()
        with pytest.raises(ConnectionError, match="the connection that held the background lock is gone"):
            await waiting
