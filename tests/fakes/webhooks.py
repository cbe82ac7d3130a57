"""Webhooks in memory: the repository, a receiver that answers as it is told, and a seal that hides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from domain.errors import LimitExceededError
from domain.notifications.entities import DeliveryStatus, Webhook, WebhookDelivery
from domain.notifications.events import Event
from domain.ports.webhooks import Attempt, DeliveryError, Outgoing, SealBrokenError
from domain.states import DELIVERY
from domain.text import readable
from tests.fakes.repositories import Scope


class FakeWebhookRepository:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._state = scope.state

    async def create(self, webhook: Webhook, sealed_secret: bytes, *, at_most: int) -> Webhook:
        if len(self._scope.owned(Webhook)) >= at_most:
            raise LimitExceededError(f"there are {at_most} webhooks, and no more are allowed; delete one first")
        if webhook.ingestion_id is not None:
            self._scope.require_ingestion(webhook.ingestion_id)
        self._state.webhooks[webhook.id] = replace(webhook, tenant_id=self._scope.tenant_id)
        self._state.webhook_secrets[webhook.id] = sealed_secret
        return self._state.webhooks[webhook.id]

    async def get_by_id(self, id: UUID, *, for_update: bool = False) -> Webhook | None:
        return self._scope.find(Webhook, id)

    async def delete(self, id: UUID) -> bool:
        if self._scope.find(Webhook, id) is None:
            return False
        del self._state.webhooks[id]
        for delivery in self._scope.owned(WebhookDelivery):
            if delivery.webhook_id == id:
                del self._state.deliveries[delivery.id]
        return True

    async def enqueue(self, event: Event, *, to: UUID | None = None) -> Sequence[WebhookDelivery]:
        def asks(webhook: Webhook) -> bool:
            if to is not None:
                return webhook.id == to
            return event.kind in webhook.events and webhook.ingestion_id in (None, event.ingestion_id)

        queued = [
            WebhookDelivery(
                id=uuid4(),
                tenant_id=self._scope.tenant_id,
                webhook_id=webhook.id,
                event_id=event.id,
                event=event.kind,
                occurred_at=event.at,
                ingestion_id=event.ingestion_id,
                run_id=event.run_id,
                status=DeliveryStatus.PENDING,
                attempts=0,
                next_attempt_at=event.at,
                last_attempt_at=None,
                response_code=None,
                error=None,
                created_at=self._scope.now(),
                ended_at=None,
            )
            for webhook in self._scope.owned(Webhook)
            if asks(webhook)
        ]
        self._state.deliveries |= {delivery.id: delivery for delivery in queued}
        self._state.delivery_data |= {delivery.id: event.data for delivery in queued}
        return queued

    async def get_outgoing(self, delivery_id: UUID) -> Outgoing | None:
        delivery = self._scope.find(WebhookDelivery, delivery_id)
        if delivery is None or delivery.status is not DeliveryStatus.PENDING:
            return None
        webhook = self._state.webhooks[delivery.webhook_id]
        return Outgoing(delivery, webhook.url, self._state.webhook_secrets[webhook.id], self._state.delivery_data[delivery_id])

    async def record_attempt(self, delivery: WebhookDelivery, attempt: Attempt) -> bool:
        present = self._scope.find(WebhookDelivery, delivery.id)
        if present is None or present.status is not DeliveryStatus.PENDING or present.attempts != delivery.attempts:
            return False
        ended = attempt.status is not DeliveryStatus.PENDING
        if ended:
            DELIVERY.require(present.status, attempt.status)
        self._state.deliveries[delivery.id] = replace(
            present,
            status=attempt.status,
            attempts=present.attempts + 1,
            next_attempt_at=attempt.next_attempt_at,
            last_attempt_at=attempt.at,
            response_code=attempt.response_code,
            error=None if attempt.error is None else readable(attempt.error),
            ended_at=attempt.at if ended else None,
        )
        webhook = self._state.webhooks[delivery.webhook_id]
        self._state.webhooks[webhook.id] = replace(
            webhook,
            last_attempt_at=attempt.at,
            last_delivery_status=attempt.status,
            consecutive_failures=0 if attempt.status is DeliveryStatus.DELIVERED else webhook.consecutive_failures + 1,
        )
        return True

    async def requeue(self, delivery_id: UUID, at: datetime) -> WebhookDelivery | None:
        present = self._scope.find(WebhookDelivery, delivery_id)
        if present is None:
            return None
        DELIVERY.require(present.status, DeliveryStatus.PENDING)
        again = replace(present, status=DeliveryStatus.PENDING, attempts=0, next_attempt_at=at, ended_at=None)
        self._state.deliveries[delivery_id] = again
        return again


class FakeSeal:
    def seal(self, secret: bytes, *, owner: UUID) -> bytes:
        return owner.bytes + secret[::-1]

    def unseal(self, sealed: bytes, *, owner: UUID) -> bytes:
        if sealed[:16] != owner.bytes:
            raise SealBrokenError
        return sealed[:15:-1]


@dataclass(frozen=True)
class Sent:
    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass
class FakeSender:
    """Answers 200, or the next of `answers`: a status, or what is raised. URLs with "internal" in them are not allowed."""

    answers: list[int | Exception] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    async def check(self, url: str) -> None:
        if "internal" in url:
            raise DeliveryError("the host has an address that webhooks may not be sent to")

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        await self.check(url)
        self.sent.append(Sent(url, body, headers))
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer
