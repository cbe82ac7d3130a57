"""A task that is cancelled in a transaction ends as cancelled, whatever the driver has to say about that."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.database import connection, transaction


@pytest.mark.parametrize("way", [transaction, connection])
async def test_an_error_of_the_driver_does_not_take_the_place_of_a_cancellation(database: AsyncEngine, way: object) -> None:
    assert callable(way)
    waiting = asyncio.Event()

    async def chore() -> None:
        while True:
            try:
                async with way(database):
                    waiting.set()
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        # As it was seen, when the rollback met a connection that was not done with the statement yet.
                        raise exc.InternalError("ROLLBACK", None, Exception("cannot switch to state 15")) from None
            except Exception:
                continue

    task = asyncio.create_task(chore())
    await waiting.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    assert done
    assert task.cancelled()


async def test_without_a_cancellation_it_stays_what_it_is(database: AsyncEngine) -> None:
    with pytest.raises(exc.InternalError):
        async with transaction(database):
            raise exc.InternalError("SELECT 1", None, Exception("cannot switch to state 15"))
