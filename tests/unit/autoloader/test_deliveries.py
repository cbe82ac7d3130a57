"""Deliveries beside the chores: at once, within limits, and each entry finished or postponed after its try."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from autoloader.deliveries import IN_HAND_OF_TENANT, SENT_AT_ONCE, SENT_AT_ONCE_OF_TENANT, Deliveries
from domain.ports.unit_of_work import OutboxEntry, Subject, Topic

TENANT = uuid4()


class Outbox:
    """What becomes of entries."""

    def __init__(self) -> None:
        self.ended: list[tuple[OutboxEntry, float | None]] = []
        self.failure: Exception | None = None

    async def finish_outbox(self, entry: OutboxEntry) -> None:
        if self.failure:
            raise self.failure
        self.ended.append((entry, None))

    async def postpone_outbox(self, entry: OutboxEntry, *, seconds: float, error: str | None) -> None:
        self.ended.append((entry, seconds))


class Service:
    """Tries are under way until they are let go; `answer` tells how they end."""

    def __init__(self) -> None:
        self.under_way: list[UUID] = []
        self.most = 0
        self.let_go = asyncio.Event()
        self.answer: Callable[[Subject], float | None] = lambda subject: None

    async def attempt(self, subject: Subject) -> float | None:
        self.under_way.append(subject.id)
        self.most = max(self.most, len(self.under_way))
        try:
            await self.let_go.wait()
            return self.answer(subject)
        finally:
            self.under_way.remove(subject.id)


def entry(tenant_id: UUID = TENANT) -> OutboxEntry:
    return OutboxEntry(1, Topic.DELIVERY, Subject(tenant_id, uuid4()), attempts=1, revision=1)


async def settled() -> None:
    """As far as anything can go by itself."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def deliveries(outbox: Outbox, service: Service) -> Deliveries:
    return Deliveries(outbox, service)  # type: ignore[arg-type]


async def test_entries_are_finished_or_postponed_by_how_the_try_ended(deliveries: Deliveries, outbox: Outbox, service: Service) -> None:
    done, again = entry(), entry()
    service.answer = lambda subject: 40.0 if subject == again.subject else None
    service.let_go.set()
    for given in (done, again):
        deliveries.take(given)
    await settled()
    assert sorted(outbox.ended, key=lambda pair: pair[1] or 0) == [(done, None), (again, 40.0)]


async def test_taking_waits_for_nobody_and_a_tenant_has_a_few_places(deliveries: Deliveries, outbox: Outbox, service: Service) -> None:
    slow = [entry() for _ in range(10)]
    other = entry(uuid4())
    for given in (*slow, other):
        deliveries.take(given)
    await settled()
    assert service.under_way == [*(given.subject.id for given in slow[:SENT_AT_ONCE_OF_TENANT]), other.subject.id]
    service.let_go.set()
    await settled()
    assert len(outbox.ended) == 11


async def test_there_are_only_so_many_places(deliveries: Deliveries, service: Service) -> None:
    for _ in range(2 * SENT_AT_ONCE):
        deliveries.take(entry(uuid4()))
    await settled()
    assert len(service.under_way) == SENT_AT_ONCE
    await deliveries.close()


async def test_one_that_is_in_hand_is_not_taken_twice(deliveries: Deliveries, outbox: Outbox, service: Service) -> None:
    given = entry()
    for _ in range(3):
        deliveries.take(given)
    await settled()
    assert service.under_way == [given.subject.id]
    service.let_go.set()
    await settled()
    deliveries.take(given)
    await settled()
    assert outbox.ended == [(given, None)] * 2


async def test_what_is_too_much_stays_in_the_outbox(deliveries: Deliveries, outbox: Outbox, service: Service) -> None:
    many = [entry() for _ in range(IN_HAND_OF_TENANT + 5)]
    for given in many:
        deliveries.take(given)
    service.let_go.set()
    for _ in range(IN_HAND_OF_TENANT):
        await settled()
    assert [given for given, _ in outbox.ended] == many[:IN_HAND_OF_TENANT]
    deliveries.take(many[-1])
    await settled()
    assert outbox.ended[-1] == (many[-1], None)


async def test_what_fails_is_left_in_the_outbox(
    deliveries: Deliveries, outbox: Outbox, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    given = entry()
    outbox.failure = ConnectionError("the database is away")
    service.let_go.set()
    with caplog.at_level(logging.WARNING):
        deliveries.take(given)
        await settled()
    assert outbox.ended == []
    assert caplog.messages == [f"delivery {given.subject.id} is left for later: ConnectionError('the database is away')"]


async def test_closing_breaks_off_what_is_under_way(deliveries: Deliveries, outbox: Outbox, service: Service) -> None:
    for _ in range(10):
        deliveries.take(entry())
    await settled()
    await deliveries.close()
    assert (service.under_way, outbox.ended) == ([], [])
