"""Deliveries to webhooks, as the outbox asks for them: a few of a tenant at once, so that its slow receivers delay no other tenant's."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from uuid import UUID

from domain.notifications.delivery import DeliveryService
from domain.ports.unit_of_work import Subject

SENT_AT_ONCE_OF_TENANT = 4
IN_HAND_OF_TENANT = 12
"""Sent, and waiting for a place: with receivers that hang, no longer than an entry is held before it is due again."""
LATER_SECONDS = 60.0
"""When what is more than that is looked at again."""


class Deliveries:
    def __init__(self, service: DeliveryService) -> None:
        self._service = service
        self._in_hand: Counter[UUID] = Counter()
        self._places: defaultdict[UUID, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(SENT_AT_ONCE_OF_TENANT))

    async def look(self, delivery: Subject) -> float | None:
        """Try the delivery when there is a place for its tenant; in how many seconds to look again, None when that is done."""
        tenant_id = delivery.tenant_id
        if self._in_hand[tenant_id] >= IN_HAND_OF_TENANT:
            return LATER_SECONDS
        self._in_hand[tenant_id] += 1
        try:
            async with self._places[tenant_id]:
                return await self._service.attempt(delivery)
        finally:
            self._in_hand[tenant_id] -= 1
            if not self._in_hand[tenant_id]:
                del self._in_hand[tenant_id], self._places[tenant_id]
