from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, insert, literal, null, or_, select

from domain.errors import LimitExceededError
from domain.notifications.entities import DeliveryStatus, Webhook, WebhookDelivery
from domain.notifications.events import Event
from domain.ports.webhooks import Attempt, Outgoing
from domain.states import DELIVERY
from persistence.mapping import columns_of, entity_of, values_of
from persistence.repositories.conflicts import owned_ingestion
from persistence.repositories.scope import TenantScope
from persistence.tables import webhook_deliveries, webhooks

_COUNTING_LOCK = 0x77686F6B
"""With a tenant's hash, an advisory lock of this project's own: "whok" in ASCII."""


class SqlWebhookRepository:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def create(self, webhook: Webhook, sealed_secret: bytes, *, at_most: int) -> Webhook:
        connection = self._scope.connection
        # Until the transaction ends, so that two who come at once count one after the other.
        await connection.execute(select(func.pg_advisory_xact_lock(_COUNTING_LOCK, func.hashtext(str(self._scope.tenant_id)))))
        present = await connection.scalar(select(func.count()).select_from(webhooks).where(self._scope.owns(webhooks)))
        if (present or 0) >= at_most:
            raise LimitExceededError(f"there are {at_most} webhooks, and no more are allowed; delete one first")
        values = values_of(webhook) | {"tenant_id": self._scope.tenant_id, "secret": sealed_secret}
        with owned_ingestion("webhooks"):
            created = await self._scope.first(Webhook, insert(webhooks).values(values).returning(*columns_of(Webhook)))
        assert created is not None
        return created

    async def get_by_id(self, id: UUID, *, for_update: bool = False) -> Webhook | None:
        statement = self._scope.select(Webhook).where(webhooks.c.id == id)
        # NO KEY: deliveries may be added meanwhile.
        return await self._scope.first(Webhook, statement.with_for_update(key_share=True) if for_update else statement)

    async def delete(self, id: UUID) -> bool:
        return await self._scope.changed(self._scope.delete(webhooks).where(webhooks.c.id == id)) > 0

    async def enqueue(self, event: Event, *, to: UUID | None = None) -> Sequence[WebhookDelivery]:
        columns = webhook_deliveries.c
        told = {
            columns.event_id: event.id,
            columns.event: event.kind,
            columns.occurred_at: event.at,
            columns.ingestion_id: event.ingestion_id,
            columns.run_id: event.run_id,
            columns.data: event.data,
            columns.status: DeliveryStatus.PENDING,
            columns.attempts: 0,
            columns.next_attempt_at: event.at,
        }
        values = [null() if value is None else literal(value, column.type) for column, value in told.items()]
        asked = select(func.gen_random_uuid(), webhooks.c.tenant_id, webhooks.c.id, *values).where(self._scope.owns(webhooks))
        if to is not None:
            asked = asked.where(webhooks.c.id == to)
        else:
            asked = asked.where(
                func.jsonb_exists(webhooks.c.events, event.kind.value),
                or_(webhooks.c.ingestion_id.is_(None), webhooks.c.ingestion_id == event.ingestion_id),
            )
        statement = insert(webhook_deliveries).from_select([columns.id, columns.tenant_id, columns.webhook_id, *told], asked)
        return await self._scope.all(WebhookDelivery, statement.returning(*columns_of(WebhookDelivery)))

    async def get_outgoing(self, delivery_id: UUID) -> Outgoing | None:
        statement = (
            select(*columns_of(WebhookDelivery), webhooks.c.url, webhooks.c.secret, webhook_deliveries.c.data)
            .join(webhooks, webhooks.c.id == webhook_deliveries.c.webhook_id)
            .where(
                self._scope.owns(webhook_deliveries),
                webhook_deliveries.c.id == delivery_id,
                webhook_deliveries.c.status == DeliveryStatus.PENDING,
            )
        )
        row = (await self._scope.connection.execute(statement)).first()
        return None if row is None else Outgoing(entity_of(WebhookDelivery, row), *row[-3:])

    async def record_attempt(self, delivery: WebhookDelivery, attempt: Attempt) -> bool:
        # The webhook's row before the delivery's, as whoever deletes a webhook takes them: else the two could wait for each other.
        if await self.get_by_id(delivery.webhook_id, for_update=True) is None:
            return False
        ended = attempt.status is not DeliveryStatus.PENDING
        if ended:
            DELIVERY.require(DeliveryStatus.PENDING, attempt.status)
        same_try = (webhook_deliveries.c.status == DeliveryStatus.PENDING, webhook_deliveries.c.attempts == delivery.attempts)
        recorded = await self._scope.changed(
            self._scope.update(webhook_deliveries)
            .where(webhook_deliveries.c.id == delivery.id, *same_try)
            .values(
                status=attempt.status,
                attempts=webhook_deliveries.c.attempts + 1,
                next_attempt_at=attempt.next_attempt_at,
                last_attempt_at=attempt.at,
                response_code=attempt.response_code,
                error=attempt.error,
                ended_at=attempt.at if ended else None,
            )
        )
        if not recorded:
            return False
        failures = 0 if attempt.status is DeliveryStatus.DELIVERED else webhooks.c.consecutive_failures + 1
        await self._scope.changed(
            self._scope.update(webhooks)
            .where(webhooks.c.id == delivery.webhook_id)
            .values(last_attempt_at=attempt.at, last_delivery_status=attempt.status, consecutive_failures=failures)
        )
        return True

    async def requeue(self, delivery_id: UUID, at: datetime) -> WebhookDelivery | None:
        statement = (
            self._scope.update(webhook_deliveries)
            .where(webhook_deliveries.c.id == delivery_id, webhook_deliveries.c.status.in_(DELIVERY.sources(DeliveryStatus.PENDING)))
            .values(status=DeliveryStatus.PENDING, attempts=0, next_attempt_at=at, ended_at=None)
            .returning(*columns_of(WebhookDelivery))
        )
        requeued = await self._scope.first(WebhookDelivery, statement)
        if requeued is None:
            same = self._scope.select(WebhookDelivery).where(webhook_deliveries.c.id == delivery_id)
            present = await self._scope.first(WebhookDelivery, same)
            if present is not None:
                DELIVERY.require(present.status, DeliveryStatus.PENDING)
        return requeued
