"""What webhooks, their deliveries and late data promise, inside a transaction and by the directory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import ConflictError, ConflictReason, LimitExceededError, NotFoundError
from domain.ingestions.entities import Ingestion, IngestionStatus, Policies
from domain.notifications.entities import DeliveryStatus, Webhook, WebhookDelivery, WebhookEvent
from domain.ports.reader import Window
from domain.ports.unit_of_work import Subject
from domain.ports.webhooks import Attempt, Outgoing
from domain.relations import WEBHOOK_DELIVERIES, WEBHOOKS, NoFilter
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_schedule, a_webhook, an_event

_K = WebhookEvent


async def store(world: World, **fields: Any) -> Webhook:
    async with world.begin() as tx:
        webhook: Webhook = await tx.webhooks.create(a_webhook(tenant_id=world.tenant.id, **fields), b"sealed", at_most=100)
        return webhook


async def enqueue(world: World, **fields: Any) -> list[WebhookDelivery]:
    async with world.begin() as tx:
        return list(await tx.webhooks.enqueue(an_event(**fields)))


async def record(world: World, delivery: WebhookDelivery, attempt: Attempt) -> bool:
    async with world.begin() as tx:
        recorded: bool = await tx.webhooks.record_attempt(delivery, attempt)
        return recorded


async def read(world: World, entity: Any, id: Any) -> Any:
    (found,) = await world.reader.by_ids(entity, [id])
    return found


def failure(delivery: WebhookDelivery, minutes: int = 1) -> Attempt:
    return Attempt(NOW, DeliveryStatus.PENDING, NOW + timedelta(minutes=minutes), 500, "the receiver answers 500\0")


DELIVERED = Attempt(NOW, DeliveryStatus.DELIVERED, None, 204, None)
GIVEN_UP = Attempt(NOW, DeliveryStatus.GIVEN_UP, None, None, "no connection could be made")


class WebhookRepositoryContract:
    async def test_a_stored_webhook_is_listed_newest_first(self, world: World) -> None:
        ingestion = await world.ingestion()
        hooks = [
            await store(world, created_at=NOW + timedelta(minutes=minutes), ingestion_id=ingestion.id, events=(_K.DATA_LATE, _K.RUN_FAILED))
            for minutes in (1, 3, 2)
        ]
        (page,) = await world.reader.pages(WEBHOOKS, [None], Window(limit=10, order="NEWEST", filter=NoFilter()))
        assert [edge.node for edge in page.edges] == [hooks[1], hooks[2], hooks[0]]
        async with world.begin() as tx:
            assert await tx.webhooks.get_by_id(hooks[0].id) == hooks[0]

    async def test_a_tenant_has_no_more_than_it_may_though_all_come_at_once(self, world: World) -> None:
        async def create() -> str:
            try:
                async with world.begin() as tx:
                    await tx.webhooks.create(a_webhook(tenant_id=world.tenant.id), b"sealed", at_most=2)
                return "created"
            except LimitExceededError as error:
                return error.message

        answers = await asyncio.gather(*(create() for _ in range(4)))
        refused = "there are 2 webhooks, and no more are allowed; delete one first"
        assert sorted(answers) == ["created", "created", refused, refused]
        async with world.begin(world.other) as tx:
            await tx.webhooks.create(a_webhook(tenant_id=world.other.id), b"sealed", at_most=2)

    async def test_an_ingestion_that_is_not_there_is_refused(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            await store(world, ingestion_id=uuid4())

    async def test_an_event_goes_to_those_that_ask_for_it(self, world: World) -> None:
        mine, other = await world.ingestion(), await world.ingestion()
        all_of_it = await store(world)
        narrowed = await store(world, ingestion_id=mine.id)
        await store(world, ingestion_id=other.id)
        await store(world, events=(_K.RUN_PARTIAL, _K.SCHEMA_CHANGED))
        event = an_event(ingestion_id=mine.id, run_id=uuid4(), data={"run": {"filesFailed": 2}})
        async with world.begin() as tx:
            queued = await tx.webhooks.enqueue(event)
        assert {delivery.webhook_id for delivery in queued} == {all_of_it.id, narrowed.id}
        for delivery in queued:
            told = (delivery.event_id, delivery.event, delivery.occurred_at, delivery.ingestion_id, delivery.run_id)
            assert told == (event.id, event.kind, event.at, event.ingestion_id, event.run_id)
            assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == (DeliveryStatus.PENDING, 0, event.at)
            async with world.begin() as tx:
                hook = await tx.webhooks.get_by_id(delivery.webhook_id)
                assert await tx.webhooks.get_outgoing(delivery.id) == Outgoing(delivery, hook.url, b"sealed", event.data)
        assert await enqueue(world, kind=_K.DATA_LATE) == []

    async def test_one_webhook_is_told_whatever_it_asks_for(self, world: World) -> None:
        webhook = await store(world)
        await store(world)
        async with world.begin() as tx:
            queued = await tx.webhooks.enqueue(an_event(kind=_K.TEST, ingestion_id=None), to=webhook.id)
        assert [(delivery.webhook_id, delivery.event, delivery.ingestion_id) for delivery in queued] == [(webhook.id, _K.TEST, None)]

    async def test_tries_are_counted_until_one_succeeds(self, world: World) -> None:
        webhook = await store(world)
        (delivery,) = await enqueue(world)
        assert await record(world, delivery, failure(delivery))
        tried = await read(world, WebhookDelivery, delivery.id)
        assert tried == replace(
            delivery,
            attempts=1,
            next_attempt_at=NOW + timedelta(minutes=1),
            last_attempt_at=NOW,
            response_code=500,
            error="the receiver answers 500\N{REPLACEMENT CHARACTER}",
        )
        assert await read(world, Webhook, webhook.id) == replace(
            webhook, last_attempt_at=NOW, last_delivery_status=DeliveryStatus.PENDING, consecutive_failures=1
        )
        assert await record(world, tried, DELIVERED)
        ended = await read(world, WebhookDelivery, delivery.id)
        assert (ended.status, ended.attempts, ended.next_attempt_at, ended.response_code, ended.error, ended.ended_at) == (
            DeliveryStatus.DELIVERED,
            2,
            None,
            204,
            None,
            NOW,
        )
        hook = await read(world, Webhook, webhook.id)
        assert (hook.last_delivery_status, hook.consecutive_failures) == (DeliveryStatus.DELIVERED, 0)
        async with world.begin() as tx:
            assert await tx.webhooks.get_outgoing(delivery.id) is None

    async def test_of_two_who_have_tried_at_once_one_is_recorded(self, world: World) -> None:
        webhook = await store(world)
        (delivery,) = await enqueue(world)
        assert await record(world, delivery, DELIVERED)
        assert not await record(world, delivery, failure(delivery))
        assert (await read(world, WebhookDelivery, delivery.id)).status is DeliveryStatus.DELIVERED
        assert (await read(world, Webhook, webhook.id)).consecutive_failures == 0
        (other,) = await enqueue(world)
        assert await record(world, other, failure(other))
        assert not await record(world, other, GIVEN_UP)
        assert (await read(world, WebhookDelivery, other.id)).attempts == 1

    async def test_what_has_ended_can_be_sent_once_more(self, world: World) -> None:
        await store(world)
        (delivery,) = await enqueue(world)
        with pytest.raises(ConflictError) as caught:
            await self._requeue(world, delivery)
        assert caught.value.reason is ConflictReason.WRONG_STATE
        assert await record(world, delivery, GIVEN_UP)
        again = await self._requeue(world, delivery)
        assert (again.event_id, again.status, again.attempts, again.ended_at) == (delivery.event_id, DeliveryStatus.PENDING, 0, None)
        assert again.next_attempt_at == NOW + timedelta(hours=1)
        assert again == await read(world, WebhookDelivery, delivery.id)
        assert await self._requeue(world, replace(delivery, id=uuid4())) is None

    async def _requeue(self, world: World, delivery: WebhookDelivery) -> Any:
        async with world.begin() as tx:
            return await tx.webhooks.requeue(delivery.id, NOW + timedelta(hours=1))

    async def test_a_webhook_goes_with_its_deliveries(self, world: World) -> None:
        webhook = await store(world)
        (delivery,) = await enqueue(world)
        async with world.begin() as tx:
            assert await tx.webhooks.delete(webhook.id)
            assert not await tx.webhooks.delete(webhook.id)
        assert await read(world, WebhookDelivery, delivery.id) is None
        assert not await record(world, delivery, DELIVERED)
        assert await enqueue(world) == []

    async def test_a_narrowed_webhook_goes_with_its_ingestion(self, world: World) -> None:
        ingestion = await world.ingestion()
        narrowed, other = await store(world, ingestion_id=ingestion.id), await store(world)
        deliveries = await enqueue(world, ingestion_id=ingestion.id)
        async with world.begin() as tx:
            await tx.ingestions.delete(ingestion.id)
        assert [await read(world, Webhook, hook.id) is None for hook in (narrowed, other)] == [True, False]
        left = [await read(world, WebhookDelivery, delivery.id) for delivery in deliveries]
        assert [delivery.webhook_id for delivery in left if delivery] == [other.id]

    async def test_deliveries_are_listed_newest_first(self, world: World) -> None:
        webhook = await store(world)
        made = [(await enqueue(world))[0] for _ in range(3)]
        (page,) = await world.reader.pages(WEBHOOK_DELIVERIES, [webhook.id], Window(limit=2, order="NEWEST", filter=NoFilter()))
        assert [edge.node for edge in page.edges] == [made[2], made[1]]
        assert page.has_next

    async def test_ended_deliveries_are_forgotten_and_no_more_than_asked(self, world: World) -> None:
        await store(world)
        made = [(await enqueue(world))[0] for _ in range(4)]
        for delivery in made[:3]:
            assert await record(world, delivery, replace(DELIVERED, at=NOW - timedelta(days=400)))
        forget = world.directory.forget_deliveries
        assert await forget(older_than_seconds=10_000 * 86_400, limit=10) == 0
        assert [await forget(older_than_seconds=30 * 86_400, limit=2) for _ in range(3)] == [2, 1, 0]
        assert await read(world, WebhookDelivery, made[3].id) == made[3]


class LatenessContract:
    async def ingestion(self, world: World, *, late_after_seconds: int | None = 0, **fields: Any) -> Ingestion:
        given = {"status": IngestionStatus.ACTIVE, "schedule": a_schedule(), "policies": Policies(late_after_seconds=late_after_seconds)}
        ingestion = await world.ingestion(**given | fields)
        async with world.begin() as tx:
            await tx.ingestions.expect_data(ingestion.id)
            assert await tx.ingestions.get_by_id(ingestion.id) == ingestion
        return ingestion

    async def take(self, world: World, ingestion: Ingestion) -> bool:
        async with world.begin() as tx:
            taken: bool = await tx.ingestions.take_lateness(ingestion.id)
            return taken

    async def test_data_are_late_once_until_they_are_expected_again(self, world: World) -> None:
        ingestion = await self.ingestion(world)
        assert await world.directory.late_ingestions(10) == [Subject(world.tenant.id, ingestion.id)]
        assert await self.take(world, ingestion)
        assert await world.directory.late_ingestions(10) == []
        assert not await self.take(world, ingestion)
        async with world.begin() as tx:
            await tx.ingestions.expect_data(ingestion.id)
        assert await self.take(world, ingestion)

    async def test_they_are_not_late_before_their_time_nor_where_nobody_expects_them(self, world: World) -> None:
        others = [
            await self.ingestion(world, late_after_seconds=3_600),
            await self.ingestion(world, late_after_seconds=None),
            await self.ingestion(world, schedule=None),
            await self.ingestion(world, status=IngestionStatus.DRAFT),
        ]
        late = [await self.ingestion(world) for _ in range(2)]
        assert await world.directory.late_ingestions(10) == [Subject(world.tenant.id, ingestion.id) for ingestion in late]
        assert await world.directory.late_ingestions(1) == [Subject(world.tenant.id, late[0].id)]
        assert [await self.take(world, ingestion) for ingestion in others] == [False] * 4

    async def test_a_pause_ends_the_wait(self, world: World) -> None:
        ingestion = await self.ingestion(world)
        async with world.begin() as tx:
            await tx.ingestions.update_status(ingestion.id, IngestionStatus.PAUSED, next_due_at=None)
        assert await world.directory.late_ingestions(10) == []
        assert not await self.take(world, ingestion)
        async with world.begin() as tx:
            await tx.ingestions.expect_data(ingestion.id)
            await tx.ingestions.update_status(ingestion.id, IngestionStatus.ACTIVE, next_due_at=NOW)
        assert await world.directory.late_ingestions(10) == []
