"""What every queue of notifications does: one suite, run for the fake and for SQS.

A subclass gives the `world` fixture: a queue that hands a message out twice and then takes it for a dead letter, and one that never does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import pytest

from domain.ports.event_queue import RECEIVED_AT_ONCE, EventQueue, QueueMessage, QueueState
from domain.ports.object_store import SourceUnavailableError


class World(Protocol):
    queue: EventQueue
    patient: EventQueue
    """One without a queue for dead letters behind it."""
    missing: EventQueue

    async def send(self, *bodies: str) -> None:
        """Into `queue`."""
        ...


async def numbers(queue: EventQueue) -> tuple[int, int, bool, int | None]:
    state = await queue.state()
    return state.waiting, state.hidden, state.redrives, state.dead_letters


async def received(queue: EventQueue) -> list[QueueMessage]:
    """Everything that waits."""
    everything: list[QueueMessage] = []
    while messages := await queue.receive():
        assert len(messages) <= RECEIVED_AT_ONCE
        everything += messages
    return everything


def bodies_of(messages: Sequence[QueueMessage]) -> list[str]:
    return sorted(message.body for message in messages)


class EventQueueContract:
    async def test_an_empty_queue(self, world: World) -> None:
        assert await world.queue.receive() == []
        assert await numbers(world.queue) == (0, 0, True, 0)
        assert await numbers(world.patient) == (0, 0, False, None)

    async def test_each_queue_has_an_id_of_its_own(self, world: World) -> None:
        states: list[QueueState] = [await world.queue.state(), await world.patient.state(), await world.queue.state()]
        assert states[0].id == states[2].id != states[1].id

    async def test_what_was_sent_is_received_and_then_hidden(self, world: World) -> None:
        sent = ["{}", "ünï 😀 \n\t", "<&\"'>", "x" * 100_000]
        await world.send(*sent)
        assert await numbers(world.queue) == (4, 0, True, 0)
        messages = await received(world.queue)
        assert bodies_of(messages) == sorted(sent)
        assert len({message.id for message in messages}) == 4
        assert await numbers(world.queue) == (0, 4, True, 0)

    async def test_looking_hides_nothing_and_is_not_counted(self, world: World) -> None:
        await world.send("a")
        for _ in range(3):
            assert await numbers(world.queue) == (1, 0, True, 0)
        for _ in range(2):
            [message] = await world.queue.receive()
            await world.queue.postpone([message], seconds=0)

    async def test_more_than_one_request_carries(self, world: World) -> None:
        sent = [f"message {number:03}" for number in range(25)]
        await world.send(*sent)
        messages = await received(world.queue)
        assert bodies_of(messages) == sent
        await world.queue.delete(messages)
        assert await numbers(world.queue) == (0, 0, True, 0)

    async def test_what_is_deleted_does_not_come_again(self, world: World) -> None:
        await world.send("a", "b")
        first, second = sorted(await received(world.queue), key=lambda message: message.body)
        await world.queue.delete([first])
        await world.queue.delete([first])
        await world.queue.postpone([first, second], seconds=0)
        assert bodies_of(await world.queue.receive()) == ["b"]

    async def test_what_is_postponed_is_hidden_for_so_long(self, world: World) -> None:
        await world.send("a", "b")
        early, late = await received(world.queue)
        await world.queue.postpone([early], seconds=0)
        await world.queue.postpone([late], seconds=10**6)
        assert [message.id for message in await received(world.queue)] == [early.id]
        assert await numbers(world.queue) == (0, 2, True, 0)

    async def test_what_is_handed_out_too_often_becomes_a_dead_letter(self, world: World) -> None:
        await world.send("a")
        for _ in range(2):
            [message] = await world.queue.receive()
            await world.queue.postpone([message], seconds=0)
        assert await world.queue.receive() == []
        assert await numbers(world.queue) == (0, 0, True, 1)

    async def test_nothing_to_settle(self, world: World) -> None:
        await world.queue.delete([])
        await world.queue.postpone([], seconds=1)

    async def test_a_queue_that_is_not_there_says_so(self, world: World) -> None:
        message = QueueMessage("1", "", "receipt")
        for asked in (
            world.missing.state(),
            world.missing.receive(),
            world.missing.delete([message]),
            world.missing.postpone([message], seconds=1),
        ):
            with pytest.raises(SourceUnavailableError) as caught:
                await asked
            assert caught.value.reason == SourceUnavailableError.NOT_FOUND
            assert caught.value.message.startswith("there is no queue ")

    async def test_is_safe_to_share_between_tasks(self, world: World) -> None:
        sent = [f"message {number:03}" for number in range(40)]
        await world.send(*sent)
        parts = await asyncio.gather(*(world.queue.receive() for _ in range(4)))
        messages = [message for part in parts for message in part] + await received(world.queue)
        # At least once: whoever receive at the same time may receive the same.
        assert set(bodies_of(messages)) == set(sent)
        await asyncio.gather(*(world.queue.delete(messages[start : start + 15]) for start in (0, 15, 30)))
        assert await numbers(world.queue) == (0, 0, True, 0)
