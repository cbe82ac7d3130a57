"""Deliveries to webhooks, beside the other chores: receivers may be slow, and what waits for one keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from uuid import UUID

from domain.log_fields import bind
from domain.notifications.delivery import DeliveryService
from domain.ports.unit_of_work import Directory, OutboxEntry, Subject

log = logging.getLogger(__name__)

SENT_AT_ONCE = 64
SENT_AT_ONCE_OF_TENANT = 4
"""Fewer than all, so that one tenant's dead receivers leave places for the others."""
IN_HAND_OF_TENANT = 100
"""What is beyond that waits in the outbox."""


class Deliveries:
    """Nothing is promised about the order of events. What is in hand when the process ends is still in the outbox."""

    def __init__(self, directory: Directory, service: DeliveryService) -> None:
        self._directory = directory
        self._service = service
        self._tasks: dict[Subject, asyncio.Task[None]] = {}
        self._in_hand: Counter[UUID] = Counter()
        self._slots = asyncio.Semaphore(SENT_AT_ONCE)
        self._slots_of: defaultdict[UUID, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(SENT_AT_ONCE_OF_TENANT))

    def take(self, entry: OutboxEntry) -> None:
        """Have the delivery tried, and the entry finished or postponed after that; one that is not taken now comes again by itself."""
        tenant_id = entry.subject.tenant_id
        if entry.subject in self._tasks or self._in_hand[tenant_id] >= IN_HAND_OF_TENANT:
            return
        task = asyncio.create_task(self._deliver(entry), name=f"delivery {entry.subject.id}")
        self._tasks[entry.subject] = task
        self._in_hand[tenant_id] += 1
        task.add_done_callback(lambda _: self._forget(entry.subject))

    async def close(self) -> None:
        """Break off what is under way; it is sent again by whoever does the background work next."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, subject: Subject) -> None:
        del self._tasks[subject]
        self._in_hand[subject.tenant_id] -= 1
        if not self._in_hand[subject.tenant_id]:
            del self._in_hand[subject.tenant_id]
            self._slots_of.pop(subject.tenant_id, None)

    async def _deliver(self, entry: OutboxEntry) -> None:
        async with self._slots_of[entry.subject.tenant_id], self._slots:
            bind(operation="deliver", operation_kind="outbox", tenant=entry.subject.tenant_id)
            try:
                wait = await self._service.attempt(entry.subject)
                if wait is None:
                    await self._directory.finish_outbox(entry)
                else:
                    await self._directory.postpone_outbox(entry, seconds=wait, error=None)
            except Exception as error:
                # The database, most likely: the entry is due again by itself.
                log.warning("delivery %s is left for later: %r", entry.subject.id, error)
