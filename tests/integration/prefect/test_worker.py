"""The worker: what becomes of flow runs that crash, are cancelled, or are in hand when it goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from autoloader import flows
from autoloader.flow_services import flow_services
from autoloader.flows import run_ingestion_flow
from domain.ledger.entities import FileStatus
from domain.ports.engine import LoadBatch
from domain.ports.unit_of_work import Subject
from domain.runs.entities import RunLimits, RunStatus
from integrations.prefect.service import PrefectService
from integrations.prefect.worker import WarmWorker
from tests.fixtures.prefect_server import Prefect, flow_services_of
from tests.workbench import Workbench

Working = Callable[..., AbstractAsyncContextManager[WarmWorker]]


class Standstill:
    """Loads stand still until they are let go."""

    def __init__(self, bench: Workbench) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        bench.engine.at_start = self._stand

    async def _stand(self, _: LoadBatch) -> None:
        self.reached.set()
        await self.go.wait()


async def triggered(bench: Workbench, service: PrefectService, name: str = "a") -> Subject:
    """A run of a new ingestion, of which Prefect has a flow run that nobody has taken yet."""
    bench.land(name)
    run = await bench.queue(await bench.ingestion())
    await service.reconcile_run(run)
    return run


async def ended(prefect: Prefect, bench: Workbench, run: Subject) -> FlowRun:
    async with asyncio.timeout(60):
        while True:
            flow_run = await prefect.flow_run((await bench.run(run)).flow_run_id)
            if flow_run.state.is_final():
                return flow_run
            await asyncio.sleep(0.05)


async def states_of(prefect: Prefect, flow_run: FlowRun) -> list[str]:
    return [state.name for state in await prefect.client.read_flow_run_states(flow_run.id)]


async def test_a_run_for_which_there_is_no_room_gives_its_slot_back_and_comes_again(
    prefect: Prefect, bench: Workbench, service: PrefectService, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "_ROOM_IS_LOOKED_FOR_EVERY", timedelta(0))
    standstill = Standstill(bench)
    runs = [await triggered(bench, service, name) for name in "ab"]
    async with working(RunLimits(per_tenant=1)), asyncio.timeout(60):
        await standstill.reached.wait()
        (waiting,) = [run for run in runs if (await bench.run(run)).status is RunStatus.QUEUED]
        flow_run_id = UUID((await bench.run(waiting)).flow_run_id)
        while "AwaitingConcurrencySlot" not in [state.name for state in await prefect.client.read_flow_run_states(flow_run_id)]:
            await asyncio.sleep(0.05)
        assert (await bench.run(waiting)).status is RunStatus.QUEUED
        assert len(bench.engine.loads) == 1
        standstill.go.set()
        for run in runs:
            assert (await ended(prefect, bench, run)).state.is_completed()
    assert [(await bench.run(run)).status for run in runs] == [RunStatus.SUCCESS] * 2


class TestCancelling:
    async def test_a_flow_run_cancelled_in_prefect_is_cancelled_and_never_crashed(
        self, prefect: Prefect, bench: Workbench, service: PrefectService, working: Working
    ) -> None:
        standstill = Standstill(bench)
        run = await triggered(bench, service)
        async with working():
            await standstill.reached.wait()
            await prefect.client.set_flow_run_state(UUID((await bench.run(run)).flow_run_id), Cancelling())
            flow_run = await ended(prefect, bench, run)
        stored = await bench.run(run)
        assert (stored.status, stored.rows_written) == (RunStatus.CANCELLED, 0)
        assert await states_of(prefect, flow_run) == ["Scheduled", "Pending", "Submitting", "Running", "Cancelling", "Cancelled"]
        async with bench.unit_of_work(run.tenant_id) as tx:
            assert (await tx.files.count_by_status(stored.ingestion_id)) == {FileStatus.PENDING: 1}

    async def test_one_that_is_cancelled_before_anybody_takes_it_does_not_run(
        self, prefect: Prefect, bench: Workbench, service: PrefectService, working: Working
    ) -> None:
        run, other = await triggered(bench, service), await triggered(bench, service)
        async with bench.unit_of_work(run.tenant_id) as tx:
            await tx.runs.update_status(run.id, RunStatus.CANCELLED, at=bench.clock.now())
        await service.reconcile_run(run)
        async with working():
            assert (await ended(prefect, bench, other)).state.name == "Completed"
        assert await states_of(prefect, await ended(prefect, bench, run)) == ["Scheduled", "Cancelled"]


class TestGoing:
    async def test_what_is_in_hand_may_end_and_nothing_more_is_taken(
        self, prefect: Prefect, bench: Workbench, service: PrefectService
    ) -> None:
        standstill = Standstill(bench)
        first = await triggered(bench, service)
        worker = WarmWorker(run_ingestion_flow, work_pool=prefect.work_pool, at_once=2, drain_seconds=60)
        with prefect.connection.settings(), flow_services(flow_services_of(bench)):
            serving = asyncio.create_task(worker.serve())
        await standstill.reached.wait()
        serving.cancel()
        second = await triggered(bench, service)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await asyncio.shield(serving)
        standstill.go.set()
        await asyncio.wait([serving])
        assert serving.cancelled()
        assert ((await bench.run(first)).status, (await ended(prefect, bench, first)).state.name) == (RunStatus.SUCCESS, "Completed")
        assert (await prefect.flow_run((await bench.run(second)).flow_run_id)).state.name == "Scheduled"

    async def test_what_does_not_end_in_time_is_stopped_and_settled(
        self, prefect: Prefect, bench: Workbench, service: PrefectService, working: Working
    ) -> None:
        standstill = Standstill(bench)
        run = await triggered(bench, service)
        async with working():
            await standstill.reached.wait()
        stored, flow_run = await bench.run(run), await ended(prefect, bench, run)
        said = "the server was stopped while the run was under way"
        assert (stored.status, stored.error_message) == (RunStatus.FAILED, said)
        assert (flow_run.state.name, flow_run.state.message) == ("Failed", said)


class TestCrashing:
    async def test_a_flow_that_cannot_begin_is_crashed_and_leaves_its_place_to_the_next(
        self, prefect: Prefect, bench: Workbench, service: PrefectService, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With room for one: the second can only run when the first has given its place back."""
        await service.initialize()
        queue = next(q for q in await prefect.client.read_work_queues(work_pool_name=prefect.work_pool) if q.name == "small")
        await prefect.client.update_work_queue(queue.id, concurrency_limit=1)
        run = await triggered(bench, service)
        calls = 0

        async def broken(*_: object, **__: object) -> None:
            nonlocal calls
            calls += 1
            monkeypatch.undo()
            raise RuntimeError("between the start and the engine")

        monkeypatch.setattr("integrations.prefect.worker.run_flow_async", broken)
        worker = WarmWorker(run_ingestion_flow, work_pool=prefect.work_pool, at_once=1, drain_seconds=0)
        with prefect.connection.settings(), flow_services(flow_services_of(bench)), caplog.at_level(logging.ERROR):
            serving = asyncio.create_task(worker.serve())
            crashed = await ended(prefect, bench, run)
            assert crashed.state.is_crashed()
            assert (await bench.run(run)).status is RunStatus.QUEUED
            # As mending does, a minute later.
            await service.reconcile_run(run)
            again = await ended(prefect, bench, run)
            serving.cancel()
            await asyncio.wait([serving])
        assert calls == 1
        assert again.id != crashed.id
        assert ((await bench.run(run)).status, again.state.name) == (RunStatus.SUCCESS, "Completed")
        assert [record.message for record in caplog.records if record.name.startswith("integrations")] == [f"flow run {crashed.id} crashed"]

    async def test_an_error_inside_the_flow_fails_it_and_the_worker_goes_on(self, prefect: Prefect, bench: Workbench) -> None:
        run = await bench.queue(await bench.ingestion())
        service = prefect.service(bench)
        await service.reconcile_run(run)

        @flow(name="run-ingestion", persist_result=False, result_storage=run_ingestion_flow.result_storage)
        async def failing(tenant_id: UUID, ingestion_id: UUID, run_id: UUID) -> None:
            raise RuntimeError("not a run's error")

        worker = WarmWorker(failing, work_pool=prefect.work_pool, at_once=1, drain_seconds=0)
        with prefect.connection.settings():
            serving = asyncio.create_task(worker.serve())
        assert (await ended(prefect, bench, run)).state.name == "Failed"
        assert not serving.done()
        serving.cancel()
        await asyncio.wait([serving])
        await service.close()
