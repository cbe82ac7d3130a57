"""What an `Orchestrator` promises, whatever executes the runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from uuid import uuid4

from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ports.engine import LoadBatch
from domain.ports.orchestrator import Orchestrator
from domain.ports.unit_of_work import Subject
from domain.runs.entities import Run, RunStatus
from domain.states import ACTIVE_RUN
from tests.factories import NOW
from tests.workbench import Workbench


@dataclass
class Orchestration:
    """`executing` lets runs be executed while its block runs; before that they are only asked for."""

    bench: Workbench
    orchestrator: Orchestrator
    executing: Callable[[], AbstractAsyncContextManager[None]]

    async def reconcile(self, run: Subject) -> None:
        """As the outbox does: again, as long as it is told to."""
        while not await self.orchestrator.reconcile_run(run):
            await asyncio.sleep(0.01)

    async def ended(self, run: Subject) -> Run:
        async with asyncio.timeout(60):
            while (found := await self.bench.run(run)).status in ACTIVE_RUN:
                await asyncio.sleep(0.05)
        return found

    async def asked_to_stop(self, run: Subject) -> None:
        async with self.bench.unit_of_work(run.tenant_id) as tx:
            await tx.runs.update_status(run.id, RunStatus.CANCELLING, at=NOW)


class OrchestratorContract:
    async def test_a_queued_run_is_taken_to_its_end_once_however_often_it_is_reconciled(self, orchestration: Orchestration) -> None:
        bench = orchestration.bench
        (path,) = bench.land("a")
        ingestion = await bench.ingestion()
        run = await bench.queue(ingestion)
        async with orchestration.executing():
            await asyncio.gather(*(orchestration.reconcile(run) for _ in range(3)))
            assert (await orchestration.ended(run)).status is RunStatus.SUCCESS
            await orchestration.reconcile(run)
        assert bench.table(ingestion).loads_of(path) == 1

    async def test_a_run_that_is_asked_to_stop_is_stopped(self, orchestration: Orchestration) -> None:
        bench, reached = orchestration.bench, asyncio.Event()
        bench.land("a")

        async def stand_still(_: LoadBatch) -> None:
            reached.set()
            await asyncio.Event().wait()

        bench.engine.before_commit = stand_still
        run = await bench.queue(await bench.ingestion())
        async with orchestration.executing():
            await orchestration.reconcile(run)
            async with asyncio.timeout(60):
                await reached.wait()
            await orchestration.asked_to_stop(run)
            await orchestration.reconcile(run)
            ended = await orchestration.ended(run)
        assert (ended.status, ended.rows_written) == (RunStatus.CANCELLED, 0)

    async def test_what_is_not_there_or_has_ended_is_nothing_to_do(self, orchestration: Orchestration) -> None:
        bench = orchestration.bench
        bench.land("a")
        ingestion = await bench.ingestion()
        run = await bench.queue(ingestion, status=RunStatus.CANCELLED)
        async with orchestration.executing():
            assert await orchestration.orchestrator.reconcile_run(Subject(bench.tenant.id, uuid4())) is True
            assert await orchestration.orchestrator.reconcile_run(run) is True
            await orchestration.orchestrator.reconcile_ingestion(Subject(bench.tenant.id, uuid4()))
        assert (await bench.run(run)).status is RunStatus.CANCELLED
        assert await bench.files(ingestion) == []

    async def test_ingestions_are_reconciled_in_any_status_and_all_of_them_again(self, orchestration: Orchestration) -> None:
        bench = orchestration.bench
        made: list[Ingestion] = [await bench.ingestion(status=status) for status in IngestionStatus]
        for ingestion in made:
            await orchestration.orchestrator.reconcile_ingestion(Subject(bench.tenant.id, ingestion.id))
        await orchestration.orchestrator.reconcile_all()
        assert [await bench.stored(ingestion) for ingestion in made] == made

    async def test_it_says_what_it_is(self, orchestration: Orchestration) -> None:
        assert await orchestration.orchestrator.version()
