"""Deliveries as the outbox asks for them: a few of a tenant at once."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

from autoloader.deliveries import IN_HAND_OF_TENANT, LATER_SECONDS, SENT_AT_ONCE_OF_TENANT, Deliveries
from domain.ports.unit_of_work import Subject


class Service:
    """Tries are under way until they are let go; they ask to be looked at again in 40 seconds."""

    def __init__(self) -> None:
        self.under_way: list[UUID] = []
        self.let_go = asyncio.Event()

    async def attempt(self, subject: Subject) -> float | None:
        self.under_way.append(subject.id)
        try:
            await self.let_go.wait()
            return 40.0
        finally:
            self.under_way.remove(subject.id)


async def looks(deliveries: Deliveries, subjects: list[Subject]) -> list[asyncio.Task[float | None]]:
    """Begun, and as far as they can go by themselves."""
    tasks = [asyncio.create_task(deliveries.look(subject)) for subject in subjects]
    for _ in range(10):
        await asyncio.sleep(0)
    return tasks


def subjects(count: int) -> list[Subject]:
    tenant = uuid4()
    return [Subject(tenant, uuid4()) for _ in range(count)]


async def test_a_tenant_has_a_few_places_and_leaves_the_others_theirs() -> None:
    service = Service()
    deliveries = Deliveries(service)  # type: ignore[arg-type]
    slow, other = subjects(SENT_AT_ONCE_OF_TENANT + 3), subjects(1)
    tasks = await looks(deliveries, [*slow, *other])
    assert service.under_way == [subject.id for subject in (*slow[:SENT_AT_ONCE_OF_TENANT], *other)]
    service.let_go.set()
    assert await asyncio.gather(*tasks) == [40.0] * len(tasks)


async def test_what_is_too_much_waits_in_the_outbox() -> None:
    service = Service()
    deliveries = Deliveries(service)  # type: ignore[arg-type]
    many = subjects(IN_HAND_OF_TENANT + 2)
    tasks = await looks(deliveries, many)
    assert [task.result() for task in tasks if task.done()] == [LATER_SECONDS] * 2
    service.let_go.set()
    assert (await asyncio.gather(*tasks)).count(40.0) == IN_HAND_OF_TENANT
    assert await deliveries.look(many[-1]) == 40.0


async def test_what_is_broken_off_leaves_its_place() -> None:
    service = Service()
    deliveries = Deliveries(service)  # type: ignore[arg-type]
    many = subjects(IN_HAND_OF_TENANT)
    for task in await looks(deliveries, many):
        task.cancel()
    tasks = await looks(deliveries, many)
    assert len(service.under_way) == SENT_AT_ONCE_OF_TENANT
    service.let_go.set()
    assert await asyncio.gather(*tasks) == [40.0] * IN_HAND_OF_TENANT
