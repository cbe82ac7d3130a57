"""Workers killed at a step, and workers stopped there for longer than their lease and then woken."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable

from domain.steps import Step
from tests.chaos.workers import Order, Worker
from tests.chaos.world import Outcome, World

Way = Callable[[World, Order], Awaitable[Worker]]
"""Start a worker with the order, and give it what leads it to the step."""


async def by_a_run(world: World, order: Order) -> Worker:
    world.land("a")
    worker = await world.start(order)
    await world.queue()
    return worker


async def by_recovering(world: World, order: Order) -> Worker:
    """Another has died with a batch in the table that the ledger does not know of."""
    lost = await by_a_run(world, Order(Step.COMMITTED))
    await world.lead(lost.has_ended)
    return await world.start(order)


async def by_a_refresh(world: World, order: Order) -> Worker:
    await _loaded(world, "a", "b")
    worker = await world.start(order)
    await world.refresh()
    return worker


async def by_a_clear(world: World, order: Order) -> Worker:
    await _loaded(world, "a", "b")
    worker = await world.start(order)
    await world.clear("b")
    return worker


async def _loaded(world: World, *folders: str) -> None:
    for folder in folders:
        world.land(folder, files=2)
    worker = await world.start()
    await world.load_the_rest()
    await worker.terminate()


WAYS: dict[Step, Way] = {
    **dict.fromkeys(Step, by_a_run),
    **dict.fromkeys((Step.TAKEN_OVER, Step.FENCED, Step.SETTLED), by_recovering),
    **dict.fromkeys((Step.RESET_DECIDED, Step.TABLE_DROPPED, Step.FORGOTTEN, Step.RESET_DONE), by_a_refresh),
    **dict.fromkeys((Step.REMOVAL_WRITTEN, Step.ROWS_REMOVED), by_a_clear),
}


async def killed(world: World, step: Step) -> Outcome:
    """SIGKILL at the step; another worker is started when it is dead."""
    worker = await WAYS[step](world, Order(step))
    await world.lead(worker.has_ended)
    died = time.monotonic()
    await world.start()
    await world.at_rest()
    recovered = world.lease_times(died)
    await world.load_the_rest()
    outcome = await world.compare()
    outcome.recovered = recovered
    return outcome


async def stopped(world: World, step: Step) -> Outcome:
    """SIGSTOP at the step; another worker recovers what it held; it wakes up, goes on where it was, and then does a run of its own."""
    return await _slept(world, await WAYS[step](world, Order(step, signal=signal.SIGSTOP)))


async def stopped_in_a_transaction(world: World, step: Step, driver: str) -> Outcome:
    """SIGSTOP while the transaction that follows the step is open, with what it has locked."""
    sleeper = await by_a_run(world, Order(step, signal=signal.SIGSTOP, before_commit_of=driver))
    return await _slept(world, sleeper)


async def _slept(world: World, sleeper: Worker) -> Outcome:
    await world.lead(sleeper.has_stopped)
    fell_asleep = time.monotonic()
    other = await world.start()
    await world.at_rest()
    recovered = world.lease_times(fell_asleep)
    sleeper.go_on()
    await world.load_the_rest()
    await other.terminate()
    world.land("later", files=1)
    await world.load_the_rest()
    outcome = await world.compare()
    outcome.recovered = recovered
    await sleeper.terminate()
    return outcome
