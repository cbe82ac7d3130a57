"""What webhooks ask of the world: to be remembered, to have their secrets sealed, and to be sent to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from domain.notifications.entities import DeliveryStatus, Webhook, WebhookDelivery
from domain.notifications.events import Event


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A PENDING delivery, and what is needed to send it. `data` is the event's."""

    delivery: WebhookDelivery
    url: str = field(repr=False)
    sealed_secret: bytes = field(repr=False)
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a try has ended. `next_attempt_at` is set when there is to be another: then the delivery stays PENDING."""

    at: datetime
    status: DeliveryStatus
    next_attempt_at: datetime | None
    response_code: int | None
    error: str | None


class WebhookRepository(Protocol):
    async def create(self, webhook: Webhook, sealed_secret: bytes, *, at_most: int) -> Webhook:
        """Raises `LimitExceededError` when the tenant has `at_most` already, `NotFoundError` when there is no such ingestion."""
        ...

    async def get_by_id(self, id: UUID, *, for_update: bool = False) -> Webhook | None:
        """`for_update` holds the row against other writers until the transaction ends."""
        ...

    async def delete(self, id: UUID) -> bool:
        """Removes the webhook and, by cascade, its deliveries."""
        ...

    async def enqueue(self, event: Event, *, to: UUID | None = None) -> Sequence[WebhookDelivery]:
        """A PENDING delivery, due at once, to each webhook that asks for the event, or to the one given."""
        ...

    async def get_outgoing(self, delivery_id: UUID) -> Outgoing | None:
        """None when there is no such delivery, or it is not PENDING."""
        ...

    async def record_attempt(self, delivery: WebhookDelivery, attempt: Attempt) -> bool:
        """Store how a try of the delivery as it is given has ended, with its webhook; False when somebody else has tried it since."""
        ...

    async def requeue(self, delivery_id: UUID, at: datetime) -> WebhookDelivery | None:
        """DELIVERED | GIVEN_UP -> PENDING, due at once, its tries counted anew.

        None when there is no such delivery. Raises `ConflictError` (WRONG_STATE) when it is PENDING.
        """
        ...


class SealBrokenError(Exception):
    """The secret was sealed with another key, or for another webhook."""


class SecretSeal(Protocol):
    """Keeps secrets that are needed again from whoever reads the database."""

    def seal(self, secret: bytes, *, owner: UUID) -> bytes:
        """What to store for the owner."""
        ...

    def unseal(self, sealed: bytes, *, owner: UUID) -> bytes:
        """Raises `SealBrokenError`."""
        ...


class DeliveryError(Exception):
    """A webhook cannot be told now, or its destination is not allowed. `message` may be shown to its tenant."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class WebhookSender(Protocol):
    async def check(self, url: str) -> None:
        """Raises `DeliveryError` when the URL may not be sent to, or its host has no address."""
        ...

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """POST the JSON body; the status of the answer. Raises `DeliveryError` when there was none.

        What `check` refuses is refused here too: the connection goes to an address that has been looked up and checked for it.
        """
        ...
