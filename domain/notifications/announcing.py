"""The way in for whatever happens: inside the transaction in which it does."""

from __future__ import annotations

from domain.notifications.events import Event
from domain.ports.unit_of_work import Topic, UnitOfWork


async def announce(tx: UnitOfWork, event: Event) -> None:
    """Have the event delivered to each webhook that asks for it, once this transaction has committed."""
    for delivery in await tx.webhooks.enqueue(event):
        await tx.outbox.add(Topic.DELIVERY, delivery.id)
