"""The background work of a process, as it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from autoloader.background import Background
from autoloader.outbox import Lane
from domain.ports.telemetry import NO_TELEMETRY
from domain.ports.unit_of_work import OutboxEntry, Subject, Topic


class Broken:
    """A chore that fails as it is cancelled."""

    def __init__(self) -> None:
        self.at_work = asyncio.Event()

    async def recover_lost(self) -> None:
        self.at_work.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionError("the connection is gone")


class FailsOnce:
    def __init__(self) -> None:
        self.calls = 0
        self.again = asyncio.Event()

    async def recover_lost(self) -> None:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError("the connection is gone")
        self.again.set()


class Idle:
    def __init__(self) -> None:
        self.asked: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.keys_forgotten: asyncio.Future[tuple[float, int]] = asyncio.get_running_loop().create_future()

    fires_schedules = False

    async def reconcile_all(self) -> None: ...

    async def recover_lost(self) -> int:
        return 0

    async def take_outbox(self, limit: int, *, topic: Topic, visible_after_seconds: float) -> list[OutboxEntry]:
        if not self.asked.done():
            self.asked.set_result(visible_after_seconds)
        return []

    async def fire_due_schedules(self, directory: object) -> int:
        return 0

    async def begin_runs(self, directory: object) -> int:
        return 0

    async def compact_file_counts(self, limit: int) -> int:
        return 0

    async def forget_activity(self, *, older_than_seconds: float, limit: int) -> int:
        return 0

    async def forget_deliveries(self, *, older_than_seconds: float, limit: int) -> int:
        return 0

    async def forget_idempotency_keys(self, *, older_than_seconds: float, limit: int) -> int:
        if not self.keys_forgotten.done():
            self.keys_forgotten.set_result((older_than_seconds, limit))
        return 0


async def test_it_ends_when_it_is_cancelled_even_if_a_chore_fails_at_that(database_url: str) -> None:
    broken, idle = Broken(), Idle()
    anything: Any = idle
    chores: Any = broken
    background = Background(
        database_url, anything, {}, anything, chores, anything, anything, anything, NO_TELEMETRY, queue_seconds=5, lease_seconds=60
    )
    task = asyncio.create_task(background.run())
    await broken.at_work.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    assert done
    assert task.cancelled()


async def test_what_the_orchestrator_makes_no_sense_of_keeps_nothing_else_waiting(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Idle):
        async def reconcile_all(self) -> None:
            raise ValueError("badly formed hexadecimal UUID string")

    anything: Any = Odd()
    background = Background(
        database_url, anything, {}, anything, anything, anything, anything, anything, NO_TELEMETRY, queue_seconds=5, lease_seconds=60
    )
    await background._mend()
    [record] = caplog.records
    assert (record.levelname, record.message) == ("ERROR", "the orchestrator cannot be compared with what is stored")


async def test_it_goes_on_after_a_chore_has_failed(database_url: str) -> None:
    chores, idle = FailsOnce(), Idle()
    anything: Any = idle
    failing: Any = chores
    background = Background(
        database_url, anything, {}, anything, failing, anything, anything, anything, NO_TELEMETRY, queue_seconds=5, lease_seconds=0.6
    )
    task = asyncio.create_task(background.run())
    async with asyncio.timeout(20):
        await chores.again.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_what_a_killed_process_had_in_hand_is_due_again_a_lease_later(database_url: str) -> None:
    idle = Idle()
    anything: Any = idle

    async def look(subject: Subject) -> None: ...

    lanes = {Topic.RUN: Lane(look, 1)}
    background = Background(
        database_url, anything, lanes, anything, anything, anything, anything, anything, NO_TELEMETRY, queue_seconds=5, lease_seconds=7
    )
    task = asyncio.create_task(background.run())
    async with asyncio.timeout(20):
        assert await idle.asked == 7
    task.cancel()
    await asyncio.wait([task])


async def test_idempotency_keys_are_forgotten_after_a_week(database_url: str) -> None:
    idle = Idle()
    anything: Any = idle
    background = Background(
        database_url, anything, {}, anything, anything, anything, anything, anything, NO_TELEMETRY, queue_seconds=5, lease_seconds=60
    )
    task = asyncio.create_task(background.run())
    async with asyncio.timeout(20):
        assert await idle.keys_forgotten == (7 * 86_400, 10_000)
    task.cancel()
    await asyncio.wait([task])
