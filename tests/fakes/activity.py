"""Activity in memory. Transactions come one after the other, so that none is ever under way while the log is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from uuid import UUID

from domain.activity.entities import ActivityEvent, Place
from domain.ports.activity import Listener, Look
from tests.fakes.database import FakeDatabase
from tests.fakes.repositories import Scope


def store_activity(scope: Scope) -> None:
    """The transaction's notes as events."""
    transaction = scope.database.next_transaction()
    for kind, ingestion_id, run_id in scope.activity.taken():
        id = scope.database.next_id()
        scope.state.activity[id] = ActivityEvent(id, scope.tenant_id, transaction, scope.now(), kind, ingestion_id, run_id)


class FakeActivityLog:
    def __init__(self, database: FakeDatabase, tenant_id: UUID) -> None:
        self._database = database
        self._tenant_id = tenant_id

    async def now(self) -> Place:
        async with self._database.transaction():
            return Place(self._database.next_transaction(), 0)

    async def holds(self, place: Place, *, younger_than_seconds: float) -> bool:
        now = self._database.clock.now()
        return any(e.place == place and (now - e.at).total_seconds() < younger_than_seconds for e in await self._mine())

    async def after(self, place: Place, *, limit: int, ingestion_id: UUID | None = None) -> Look:
        behind = [e for e in await self._mine() if (e.transaction, e.id) > (place.transaction, place.id)]
        events = [e for e in behind if ingestion_id in (None, e.ingestion_id)][:limit]
        return Look(events, events[-1].place if events else place, unsettled=False)

    async def _mine(self) -> list[ActivityEvent]:
        async with self._database.transaction() as state:
            mine = [event for event in state.activity.values() if event.tenant_id == self._tenant_id]
        return sorted(mine, key=lambda event: (event.transaction, event.id))


class _Woken:
    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.event.wait()
        self.event.clear()


class FakeNotifications:
    """Hears of the commits of a `FakeDatabase`."""

    def __init__(self, database: FakeDatabase) -> None:
        self._listeners: list[tuple[UUID, _Woken]] = []
        database.committed = self._heard

    @contextmanager
    def listen(self, tenant_id: UUID) -> Iterator[Listener]:
        woken = _Woken()
        self._listeners.append((tenant_id, woken))
        try:
            yield woken
        finally:
            self._listeners.remove((tenant_id, woken))

    def _heard(self, events: Sequence[ActivityEvent]) -> None:
        tenants = {event.tenant_id for event in events}
        for tenant_id, woken in self._listeners:
            if tenant_id in tenants:
                woken.event.set()
