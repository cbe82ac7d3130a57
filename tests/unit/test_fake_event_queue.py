"""The fake queue keeps the contract."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.contracts.event_queue_contract import EventQueueContract
from tests.fakes.event_queue import FakeEventQueue


@dataclass
class FakeWorld:
    queue: FakeEventQueue = field(default_factory=lambda: FakeEventQueue("queue", dead_after=2))
    patient: FakeEventQueue = field(default_factory=lambda: FakeEventQueue("patient"))
    missing: FakeEventQueue = field(default_factory=lambda: FakeEventQueue("missing", exists=False))

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            self.queue.send(body)


class TestFakeEventQueue(EventQueueContract):
    @pytest.fixture
    def world(self) -> FakeWorld:
        return FakeWorld()

    async def test_what_is_not_deleted_in_time_comes_again(self, world: FakeWorld) -> None:
        await world.send("a")
        [first] = await world.queue.receive()
        world.queue.clock.advance(seconds=119)
        assert await world.queue.receive() == []
        world.queue.clock.advance(seconds=1)
        [again] = await world.queue.receive()
        await world.queue.delete([first])
        assert world.queue.bodies == ["a"], "its receipt was not good any more"
        await world.queue.delete([again])
        assert world.queue.bodies == []
