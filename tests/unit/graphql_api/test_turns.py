"""However much one request has to do, others get their turn."""

from __future__ import annotations

import asyncio

from graphql_api.turns import Turns

TURN_SECONDS = 0.05
TASKS_A_TURN = 10


class Work:
    """Tasks that are all woken at once, and take some time each."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.done: list[int] = []
        self.turns = Turns(TURN_SECONDS, lambda: self.seconds)
        self._gate = asyncio.Event()

    async def task(self, number: int) -> None:
        await self._gate.wait()
        await self.turns.take()
        self.seconds += 1.01 * TURN_SECONDS / TASKS_A_TURN
        self.done.append(number)

    async def run(self, tasks: int) -> list[int]:
        """How much was done at each turn of somebody else."""
        waiting = asyncio.gather(*(self.task(number) for number in range(tasks)))
        await asyncio.sleep(0)
        self._gate.set()
        seen: list[int] = []
        while not waiting.done():
            await asyncio.sleep(0)
            seen.append(len(self.done))
        await waiting
        return seen


async def test_somebody_else_has_a_turn_after_each_of_it() -> None:
    work = Work()
    seen = await work.run(10 * TASKS_A_TURN)
    assert work.done == list(range(10 * TASKS_A_TURN))
    steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert max(steps) == TASKS_A_TURN


async def test_what_is_soon_done_is_not_put_off() -> None:
    work = Work()
    await work.run(TASKS_A_TURN)
    assert work.turns._turn == 0


async def test_after_a_wait_a_new_turn_begins() -> None:
    """The time in which a request waits for its database is nobody's turn."""
    work = Work()
    work.seconds += 60
    seen = await work.run(TASKS_A_TURN)
    assert seen[-1] == TASKS_A_TURN
    assert work.turns._turn == 1
