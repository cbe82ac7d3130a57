from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest

from domain.errors import UnavailableError
from domain.ports.engine import LoadBatch
from domain.ports.unit_of_work import Subject
from domain.runs.entities import RunLimits, RunStatus
from domain.runs.queue import RunQueue
from integrations.in_process.orchestrator import InProcessOrchestrator
from tests.contracts.orchestrator import Orchestration, OrchestratorContract
from tests.factories import NOW
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


async def test_what_a_run_settles_when_it_is_stopped_is_not_cut_short(bench: Workbench) -> None:
    """However often the queue is looked at while it settles."""
    reached, told, settle = asyncio.Event(), [], asyncio.Event()

    async def settle_slowly(_: LoadBatch) -> None:
        reached.set()
        while not settle.is_set():
            try:
                await settle.wait()
            except asyncio.CancelledError:
                told.append("stop")
        raise asyncio.CancelledError

    bench.land("a")
    bench.engine.before_commit = settle_slowly
    run = await bench.queue(await bench.ingestion())
    orchestrator = an_orchestrator(bench)
    looks = Looks(bench, orchestrator)
    async with working(orchestrator), asyncio.timeout(20):
        await reached.wait()
        async with bench.unit_of_work(run.tenant_id) as tx:
            await tx.runs.update_status(run.id, RunStatus.CANCELLING, at=NOW)
        try:
            for _ in range(5):
                await looks.one_more()
            assert told == ["stop"]
        finally:
            settle.set()
        while (await bench.run(run)).status is not RunStatus.CANCELLED:
            await asyncio.sleep(0)


class Looks:
    """Looks at the queue, one after the other."""

    def __init__(self, bench: Workbench, orchestrator: InProcessOrchestrator) -> None:
        self._orchestrator = orchestrator
        self._looked = asyncio.Event()
        ask = bench.directory.cancelling_runs

        async def cancelling_runs(of: Sequence[Subject]) -> Sequence[Subject]:
            found = await ask(of)
            self._looked.set()
            return found

        bench.directory.cancelling_runs = cancelling_runs  # type: ignore[method-assign]  # this test's own

    async def one_more(self) -> None:
        self._looked.clear()
        await self._orchestrator.reconcile_run(Subject(uuid4(), uuid4()))
        await self._looked.wait()
        # It acts on what it has found before it waits again.
        for _ in range(10):
            await asyncio.sleep(0)


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
