"""Webhooks, and what is delivered to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class WebhookEvent(StrEnum):
    """What a webhook can be told of."""

    RUN_FAILED = "RUN_FAILED"
    RUN_PARTIAL = "RUN_PARTIAL"
    INGESTION_ERROR = "INGESTION_ERROR"
    DATA_LATE = "DATA_LATE"
    SCHEMA_CHANGED = "SCHEMA_CHANGED"
    SCHEMA_CHANGE_PROPOSED = "SCHEMA_CHANGE_PROPOSED"
    TEST = "TEST"
    """Sent when somebody asks for it; nobody subscribes to it."""


class DeliveryStatus(StrEnum):
    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    GIVEN_UP = "GIVEN_UP"


@dataclass(frozen=True, slots=True)
class Webhook:
    """All of a webhook but its signing secret. With an `ingestion_id` it is told of that ingestion alone, and goes with it.

    `last_attempt_at` and `last_delivery_status` are of the delivery that was tried last; `consecutive_failures` counts the tries
    that failed since one succeeded.
    """

    id: UUID
    tenant_id: UUID
    ingestion_id: UUID | None
    url: str
    description: str | None
    events: tuple[WebhookEvent, ...]
    created_at: datetime
    last_attempt_at: datetime | None
    last_delivery_status: DeliveryStatus | None
    consecutive_failures: int


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event on its way to one webhook. `event_id` is the same in every try, and for every webhook that is told.

    `attempts` counts the tries; `next_attempt_at` is set while it is PENDING; `response_code` and `error` are the last try's.
    """

    id: UUID
    tenant_id: UUID
    webhook_id: UUID
    event_id: UUID
    event: WebhookEvent
    occurred_at: datetime
    ingestion_id: UUID | None
    run_id: UUID | None
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    response_code: int | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None
