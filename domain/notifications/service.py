"""Webhooks, as their tenant's ADMINs make them, try them and take them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from domain.clock import Clock
from domain.errors import NotFoundError, ValidationError
from domain.ingestions.entities import IngestionStatus
from domain.ingestions.inputs import InputModel, Name, Text
from domain.notifications.entities import Webhook, WebhookDelivery, WebhookEvent
from domain.notifications.events import trial
from domain.notifications.signatures import generate_secret, shown
from domain.ports.unit_of_work import Topic, UnitOfWorkFactory
from domain.ports.webhooks import DeliveryError, SecretSeal, WebhookSender
from domain.tenants import Principal

MOST_WEBHOOKS = 20
"""Of a tenant: each event costs a row for each webhook that asks for it."""


class WebhookCreate(InputModel):
    url: Annotated[Text, StringConstraints(max_length=2_048)]
    events: tuple[WebhookEvent, ...] = Field(min_length=1, max_length=len(WebhookEvent))
    ingestion_id: UUID | None = None
    description: Name | None = None

    @field_validator("events")
    @classmethod
    def _subscribable(cls, events: tuple[WebhookEvent, ...]) -> tuple[WebhookEvent, ...]:
        if WebhookEvent.TEST in events:
            raise PydanticCustomError("autoloader", "TEST is sent when somebody asks for it, and to every webhook")
        return tuple(dict.fromkeys(events))


@dataclass(frozen=True, slots=True)
class CreatedWebhook:
    """`secret` is in no other object, and is shown once."""

    webhook: Webhook
    secret: str = field(repr=False)


class WebhookService:
    def __init__(self, unit_of_work: UnitOfWorkFactory, sender: WebhookSender, seal: SecretSeal, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._sender = sender
        self._seal = seal
        self._clock = clock

    async def create(self, principal: Principal, input: WebhookCreate) -> CreatedWebhook:
        """A new webhook of the caller's tenant.

        Raises `ValidationError` when the URL may not be sent to, `NotFoundError` for the ingestion, `LimitExceededError`.
        """
        try:
            await self._sender.check(input.url)
        except DeliveryError as error:
            raise ValidationError.of("url", message=error.message) from None
        webhook = Webhook(
            id=uuid4(),
            tenant_id=principal.tenant.id,
            ingestion_id=input.ingestion_id,
            url=input.url,
            description=input.description,
            events=input.events,
            created_at=self._clock.now(),
            last_attempt_at=None,
            last_delivery_status=None,
            consecutive_failures=0,
        )
        secret = generate_secret()
        async with self._unit_of_work(principal.tenant.id) as tx:
            if input.ingestion_id is not None:
                ingestion = await tx.ingestions.get_by_id(input.ingestion_id)
                if ingestion is None or ingestion.status is IngestionStatus.DELETING:
                    raise NotFoundError("ingestion")
            created = await tx.webhooks.create(webhook, self._seal.seal(secret, owner=webhook.id), at_most=MOST_WEBHOOKS)
            await tx.audit.record(principal, "createWebhook", "Webhook", webhook.id)
        return CreatedWebhook(created, shown(secret))

    async def delete(self, principal: Principal, id: UUID) -> Webhook:
        """From now on it is told of nothing; what was on its way to it is forgotten. Raises `NotFoundError`."""
        async with self._unit_of_work(principal.tenant.id) as tx:
            webhook = await tx.webhooks.get_by_id(id, for_update=True)
            if webhook is None:
                raise NotFoundError("webhook")
            await tx.webhooks.delete(id)
            await tx.audit.record(principal, "deleteWebhook", "Webhook", id)
            return webhook

    async def test(self, principal: Principal, id: UUID) -> WebhookDelivery:
        """Queue a TEST event for this webhook. Raises `NotFoundError`."""
        async with self._unit_of_work(principal.tenant.id) as tx:
            webhook = await tx.webhooks.get_by_id(id, for_update=True)
            if webhook is None:
                raise NotFoundError("webhook")
            [delivery] = await tx.webhooks.enqueue(trial(webhook, at=self._clock.now()), to=id)
            await tx.outbox.add(Topic.DELIVERY, delivery.id)
            await tx.audit.record(principal, "testWebhook", "Webhook", id)
            return delivery

    async def redeliver(self, principal: Principal, delivery_id: UUID) -> WebhookDelivery:
        """Send an ended delivery once more, under the same event id. Raises `NotFoundError`, `ConflictError` (WRONG_STATE)."""
        async with self._unit_of_work(principal.tenant.id) as tx:
            delivery = await tx.webhooks.requeue(delivery_id, self._clock.now())
            if delivery is None:
                raise NotFoundError("delivery")
            await tx.outbox.add(Topic.DELIVERY, delivery_id)
            await tx.audit.record(principal, "redeliverWebhook", "WebhookDelivery", delivery_id)
            return delivery
