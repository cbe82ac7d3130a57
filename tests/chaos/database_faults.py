"""PostgreSQL killed under workers, and connections that are cut, while runs stand at chosen steps."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from domain.steps import Step
from tests.chaos.bench import Bench
from tests.chaos.crashes import by_a_run
from tests.chaos.own_postgres import OwnPostgres
from tests.chaos.workers import Order
from tests.chaos.world import Outcome, World

Befall = Callable[[OwnPostgres, Callable[[], None], float], Awaitable[None]]
"""The fault, from its beginning to its end. Calls what it is given when the workers are to go on; is told how long leases last."""


async def killed(server: OwnPostgres, go_on: Callable[[], None], _: float) -> None:
    await server.kill(signal.SIGKILL)
    await server.start()
    go_on()


async def shut_down_at_once(server: OwnPostgres, go_on: Callable[[], None], _: float) -> None:
    await server.kill(signal.SIGQUIT)
    go_on()
    await server.start()


async def away_for_longer_than_a_lease(server: OwnPostgres, go_on: Callable[[], None], lease_seconds: float) -> None:
    await server.kill(signal.SIGKILL)
    go_on()
    await asyncio.sleep(1.5 * lease_seconds)
    await server.start()


async def connections_cut(server: OwnPostgres, go_on: Callable[[], None], _: float) -> None:
    server.relay.drop()
    go_on()


def under_workers(befall: Befall, steps: Sequence[Step]) -> Callable[[Bench], Awaitable[dict[str, Outcome]]]:
    """One fault that befalls several runs, each at another step."""

    async def do(bench: Bench) -> dict[str, Outcome]:
        async with bench.own_postgres() as server, AsyncExitStack() as stack:
            worlds = {
                step: await stack.enter_async_context(
                    bench.world(f"{befall.__name__} {step}", database_url=await asyncio.to_thread(server.new_database))
                )
                for step in steps
            }
            workers = [await by_a_run(world, Order(step, signal=signal.SIGSTOP)) for step, world in worlds.items()]
            for world, worker in zip(worlds.values(), workers, strict=True):
                await world.lead(worker.has_stopped)

            def go_on() -> None:
                for worker in workers:
                    worker.go_on()

            await befall(server, go_on, bench.lease_seconds)
            back = time.monotonic()
            # All of them end before their worlds do, whatever becomes of one.
            async with asyncio.TaskGroup() as ending:
                ended = {step: ending.create_task(_ended(world, back)) for step, world in worlds.items()}
            return {step: task.result() for step, task in ended.items()}

    return do


async def _ended(world: World, back: float) -> Outcome:
    await world.at_rest()
    recovered = world.lease_times(back)
    await world.load_the_rest()
    outcome = await world.compare()
    outcome.recovered = recovered
    return outcome


def answer_to_commit_lost(step: Step, *, of_the_catalog: bool) -> Callable[[Bench], Awaitable[Outcome]]:
    """The first COMMIT after the step is done, and its answer does not arrive."""

    async def do(bench: Bench) -> Outcome:
        async with bench.own_postgres() as server:
            url = await asyncio.to_thread(server.new_database)
            async with bench.world(f"commit lost after {step} {of_the_catalog}", database_url=url) as world:
                worker = await by_a_run(world, Order(step, signal=signal.SIGSTOP))
                await world.lead(worker.has_stopped)
                server.relay.lose_answer_to_commit(of_the_catalog=of_the_catalog)
                began = time.monotonic()
                worker.go_on()
                outcome = await _ended(world, began)
                assert server.relay.has_lost_it
                return outcome

    return do
