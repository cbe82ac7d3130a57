"""Hearing of commits: one connection that listens for the whole process, and wakes whoever follows the tenant concerned."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import make_url

from domain.ports.activity import Listener
from persistence.activity import ACTIVITY_CHANNEL
from persistence.row_security import TENANT_ROLE

log = logging.getLogger(__name__)

_SHORTEST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_CHECK_SECONDS = 15.0


class _Woken:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        # Not `wait_for`, which swallows a cancellation that comes together with the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


class SqlNotifications:
    """Connects when first somebody listens. While the connection is away nothing is heard, so all are woken when it is back."""

    def __init__(self, url: str) -> None:
        self._dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._listeners: dict[UUID, set[_Woken]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None

    @contextmanager
    def listen(self, tenant_id: UUID) -> Iterator[Listener]:
        if self._listening is None:
            # In a context of its own: it outlives the request that is the first to ask, and its log lines are not about that.
            self._listening = asyncio.create_task(self._listen(), name="notifications of activity", context=Context())
        woken = _Woken()
        self._listeners[tenant_id].add(woken)
        try:
            yield woken
        finally:
            self._listeners[tenant_id].discard(woken)
            if not self._listeners[tenant_id]:
                del self._listeners[tenant_id]

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            try:
                async with self._connection() as (connection, gone):
                    pause = _SHORTEST_PAUSE_SECONDS
                    self._wake_all()
                    while not gone.is_set():
                        with suppress(TimeoutError):
                            async with asyncio.timeout(_CHECK_SECONDS):
                                await gone.wait()
                            break
                        # A connection may be dead and not know it.
                        await connection.execute("SELECT 1", timeout=_CHECK_SECONDS)
                raise ConnectionError("the connection is gone")
            except Exception as error:
                log.warning("activity is not heard of, and looked for now and then: %r", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncpg.Connection, asyncio.Event]]:
        """A connection that listens, and the event that tells when it is gone."""
        settings = {"application_name": "autoloader notifications", "role": TENANT_ROLE}
        connection = await asyncpg.connect(self._dsn, timeout=10, server_settings=settings)
        gone = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: gone.set())
            await connection.add_listener(ACTIVITY_CHANNEL, self._heard)
            yield connection, gone
        finally:
            with suppress(Exception):
                await connection.close(timeout=5)

    def _heard(self, _connection: Any, _process: int, _channel: str, payload: object) -> None:
        with suppress(ValueError):
            for woken in self._listeners.get(UUID(str(payload)), ()):
                woken.wake()

    def _wake_all(self) -> None:
        for listeners in self._listeners.values():
            for woken in listeners:
                woken.wake()
