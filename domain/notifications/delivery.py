"""One try of a delivery: read what is to be sent, send it with no transaction open, and store how that ended."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

from domain.clock import Clock
from domain.ingestions.entities import Ingestion
from domain.notifications.entities import DeliveryStatus, Webhook, WebhookEvent
from domain.notifications.signatures import signed_headers
from domain.ports.telemetry import NO_TELEMETRY, DeliveryOutcome, Telemetry
from domain.ports.unit_of_work import Subject, UnitOfWorkFactory
from domain.ports.webhooks import Attempt, DeliveryError, Outgoing, SealBrokenError, SecretSeal, WebhookSender
from domain.runs.entities import Run

log = logging.getLogger(__name__)

NodeId = Callable[[type, UUID], str]
"""How the API calls something, by its entity and key."""

TYPES = {
    WebhookEvent.RUN_FAILED: "run.failed",
    WebhookEvent.RUN_PARTIAL: "run.partial",
    WebhookEvent.INGESTION_ERROR: "ingestion.error",
    WebhookEvent.DATA_LATE: "data.late",
    WebhookEvent.SCHEMA_CHANGED: "schema.changed",
    WebhookEvent.SCHEMA_CHANGE_PROPOSED: "schema.change_proposed",
    WebhookEvent.TEST: "webhook.test",
}
"""What bodies call the events."""

DELIVERIES_KEPT_SECONDS = 30 * 86_400.0
"""How old an ended delivery becomes."""

_LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """The second try comes `first_retry_seconds` after the first, each further one after twice as long, at most
    `longest_retry_seconds`; after `most_attempts` the delivery is given up. Unless told: 16 tries within some 29 hours."""

    first_retry_seconds: float = 10.0
    longest_retry_seconds: float = 6 * 3_600.0
    most_attempts: int = 16

    def wait_after(self, attempts: int) -> timedelta | None:
        """How long to wait after so many tries; None when there is to be no other."""
        if attempts >= self.most_attempts:
            return None
        return timedelta(seconds=min(self.longest_retry_seconds, self.first_retry_seconds * 2 ** (attempts - 1)))


class DeliveryService:
    def __init__(
        self,
        unit_of_work: UnitOfWorkFactory,
        sender: WebhookSender,
        seal: SecretSeal,
        clock: Clock,
        node_id: NodeId,
        settings: DeliverySettings | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._sender = sender
        self._seal = seal
        self._clock = clock
        self._node_id = node_id
        self._settings = settings or DeliverySettings()
        self._telemetry = telemetry

    async def attempt(self, subject: Subject) -> float | None:
        """Try the delivery, if its time has come; in how many seconds to look at it again, None when there is nothing left to do.

        May be called at any time and again after a crash: what has been sent and not stored is sent again, under the same id.
        """
        async with self._unit_of_work(subject.tenant_id) as tx:
            outgoing = await tx.webhooks.get_outgoing(subject.id)
        if outgoing is None or outgoing.delivery.next_attempt_at is None:
            return None
        early = (outgoing.delivery.next_attempt_at - self._clock.now()).total_seconds()
        if outgoing.delivery.attempts and early > 0:
            return early
        attempt = await self._try(outgoing)
        async with self._unit_of_work(subject.tenant_id) as tx:
            recorded = await tx.webhooks.record_attempt(outgoing.delivery, attempt)
        if not recorded:
            return _LOOK_AGAIN_SECONDS
        self._telemetry.delivery_tried(_outcome(attempt))
        if attempt.status is DeliveryStatus.GIVEN_UP:
            tries = outgoing.delivery.attempts + 1
            log.warning("delivery %s of webhook %s is given up after %d tries", subject.id, outgoing.delivery.webhook_id, tries)
        return None if attempt.next_attempt_at is None else (attempt.next_attempt_at - attempt.at).total_seconds()

    async def _try(self, outgoing: Outgoing) -> Attempt:
        code: int | None = None
        error: str | None
        try:
            code = await self._send(outgoing)
            error = _problem(code)
        except DeliveryError as refused:
            error = refused.message
        except SealBrokenError:
            log.warning("the secret of webhook %s was sealed with another key", outgoing.delivery.webhook_id)
            error = "the signing secret cannot be read with this server's key"
        except Exception:
            # Counted like any other failure, so that it comes to an end.
            log.exception("delivery %s failed", outgoing.delivery.id)
            error = "internal error; the log tells more under this delivery's id"
        now = self._clock.now()
        if error is None:
            return Attempt(now, DeliveryStatus.DELIVERED, None, code, None)
        wait = self._settings.wait_after(outgoing.delivery.attempts + 1)
        if wait is None:
            return Attempt(now, DeliveryStatus.GIVEN_UP, None, code, error)
        return Attempt(now, DeliveryStatus.PENDING, now + wait, code, error)

    async def _send(self, outgoing: Outgoing) -> int:
        delivery = outgoing.delivery
        secret = self._seal.unseal(outgoing.sealed_secret, owner=delivery.webhook_id)
        body = self._body(outgoing)
        return await self._sender.send(outgoing.url, body, signed_headers(secret, delivery.event_id, self._clock.now(), body))

    def _body(self, outgoing: Outgoing) -> bytes:
        """The same bytes in every try."""
        delivery = outgoing.delivery
        data: dict[str, Any] = dict(outgoing.data)
        for name, entity, key in (("ingestion", Ingestion, delivery.ingestion_id), ("run", Run, delivery.run_id)):
            if key is not None:
                data[name] = {"id": self._node_id(entity, key)} | data.get(name, {})
        data["webhook"] = {"id": self._node_id(Webhook, delivery.webhook_id)}
        at = delivery.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        told = {"type": TYPES[delivery.event], "timestamp": at, "data": data}
        return json.dumps(told, separators=(",", ":"), sort_keys=True).encode()


def _problem(code: int) -> str | None:
    if 200 <= code < 300:
        return None
    return f"the receiver answers {code}" + ("; redirections are not followed" if 300 <= code < 400 else "")


def _outcome(attempt: Attempt) -> DeliveryOutcome:
    match attempt.status:
        case DeliveryStatus.DELIVERED:
            return DeliveryOutcome.DELIVERED
        case DeliveryStatus.GIVEN_UP:
            return DeliveryOutcome.GIVEN_UP
    return DeliveryOutcome.FAILED
