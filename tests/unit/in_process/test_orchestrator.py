from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from domain.errors import UnavailableError
from domain.ports.engine import LoadBatch
from domain.ports.unit_of_work import Subject
from domain.runs.entities import RunLimits, RunStatus
from domain.runs.queue import RunQueue
from integrations.in_process.orchestrator import InProcessOrchestrator
from tests.contracts.orchestrator import Orchestration, OrchestratorContract
from tests.workbench import Workbench, make_fake_workbench


def an_orchestrator(bench: Workbench, *, slots: int = 2) -> InProcessOrchestrator:
    queue = RunQueue(bench.directory, RunLimits(), lease_seconds=60)
    return InProcessOrchestrator(bench.pipeline, queue, max_concurrent_runs=slots)


@contextlib.asynccontextmanager
async def working(orchestrator: InProcessOrchestrator) -> AsyncIterator[None]:
    task = asyncio.create_task(orchestrator.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def bench() -> Workbench:
    return await make_fake_workbench()


@pytest.fixture
def orchestration(bench: Workbench) -> Orchestration:
    orchestrator = an_orchestrator(bench)
    return Orchestration(bench, orchestrator, lambda: working(orchestrator))


class TestInProcess(OrchestratorContract):
    pass


async def test_two_processes_share_the_queue_and_each_has_its_slots(bench: Workbench) -> None:
    """With one slot each, two runs are in hand at once, and the third when one of them has ended."""
    in_hand: list[Subject] = []
    two, leave = asyncio.Event(), asyncio.Event()

    async def stand_still(batch: LoadBatch) -> None:
        in_hand.append(Subject(bench.tenant.id, batch.ingestion_id))
        if len(in_hand) == 2:
            two.set()
        await leave.wait()

    bench.land("a")
    bench.engine.at_start = stand_still
    runs = [await bench.queue(await bench.ingestion()) for _ in range(3)]
    first, second = an_orchestrator(bench, slots=1), an_orchestrator(bench, slots=1)
    async with working(first), working(second), asyncio.timeout(20):
        await two.wait()
        assert sorted([(await bench.run(run)).status for run in runs]) == [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.RUNNING]
        assert (await first.version(), await second.version()) == ("in process, 1 runs in hand",) * 2
        leave.set()
        for run in runs:
            while (await bench.run(run)).status is not RunStatus.SUCCESS:
                await asyncio.sleep(0)
    assert len(set(in_hand)) == len(in_hand) == 3


async def test_a_database_that_is_away_is_asked_again(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.land("a")
    run = await bench.queue(await bench.ingestion())
    take, asked = bench.directory.take_runs, asyncio.Event()

    async def away(*_: object, **__: object) -> list[Subject]:
        asked.set()
        raise UnavailableError("the database does not answer")

    monkeypatch.setattr(bench.directory, "take_runs", away)
    orchestrator = an_orchestrator(bench)
    with caplog.at_level(logging.WARNING):
        async with working(orchestrator), asyncio.timeout(20):
            await asked.wait()
            monkeypatch.setattr(bench.directory, "take_runs", take)
            await orchestrator.reconcile_run(run)
            while (await bench.run(run)).status is not RunStatus.SUCCESS:
                await asyncio.sleep(0)
    assert "the queue of runs cannot be looked at" in caplog.text
