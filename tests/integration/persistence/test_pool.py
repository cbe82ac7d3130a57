"""Who has a connection, and who waits for one."""

from __future__ import annotations

import asyncio

from persistence.database import connection, connections_in_use, open_database, waiting_for_connections


async def test_who_has_a_connection_and_who_waits_is_known(database_url: str) -> None:
    # One, and another when it is needed.
    database = open_database(database_url, pool_size=1)
    release, taken = asyncio.Event(), asyncio.Semaphore(0)

    async def use() -> None:
        async with connection(database):
            taken.release()
            await release.wait()

    def seen() -> tuple[int, int]:
        return connections_in_use(database), waiting_for_connections(database)

    try:
        assert seen() == (0, 0)
        tasks = [asyncio.create_task(use()) for _ in range(5)]
        async with asyncio.timeout(30):
            for _ in range(2):
                await taken.acquire()
            assert seen() == (2, 3)
            release.set()
            await asyncio.gather(*tasks)
        assert seen() == (0, 0)
    finally:
        await database.dispose()
