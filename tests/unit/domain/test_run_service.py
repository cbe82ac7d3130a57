"""How runs come to be."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ports.unit_of_work import Subject, Topic
from domain.runs.entities import Run, RunStatus, RunTrigger
from domain.runs.service import REFIRE_SECONDS, RunRequest, RunService
from domain.states import RUNNABLE
from domain.tenants import Principal
from tests.factories import NOW, a_principal, a_schedule, a_tenant
from tests.fakes.repositories import FakeIngestionRepository
from tests.workbench import Workbench

HOUR = timedelta(hours=1)


@pytest.fixture
def service(bench: Workbench) -> RunService:
    return RunService(bench.unit_of_work, bench.clock)


@pytest.fixture
def me(bench: Workbench) -> Principal:
    return a_principal(bench.tenant)


async def ask(service: RunService, me: Principal, id: UUID, key: str | None = None) -> Run:
    return await service.run_ingestion(me, RunRequest(ingestion_id=id, idempotency_key=key))


async def runs_of(bench: Workbench, ingestion: Ingestion) -> list[Run]:
    async with bench.unit_of_work(ingestion.tenant_id) as tx:
        return list(await tx.runs.get_runs_by_ingestion(ingestion.id, limit=100))


async def scheduled(bench: Workbench, **fields: object) -> Ingestion:
    return await bench.ingestion(**{"status": IngestionStatus.ACTIVE, "schedule": a_schedule(), "next_due_at": NOW} | fields)


class TestByHand:
    async def test_a_run_is_queued_and_to_be_reconciled(self, service: RunService, me: Principal, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        run = await ask(service, me, ingestion.id)
        assert (run.status, run.trigger, run.queued_at, run.due_at) == (RunStatus.QUEUED, RunTrigger.MANUAL, NOW, None)
        (entry,) = await bench.directory.take_outbox(10, visible_after_seconds=60)
        assert (entry.topic, entry.subject) == (Topic.RUN, Subject(bench.tenant.id, run.id))

    @pytest.mark.parametrize("status", IngestionStatus)
    async def test_only_what_may_be_run(self, service: RunService, me: Principal, bench: Workbench, status: IngestionStatus) -> None:
        ingestion = await bench.ingestion(status=status)
        if status in RUNNABLE:
            assert (await ask(service, me, ingestion.id)).ingestion_id == ingestion.id
        elif status is IngestionStatus.DELETING:
            with pytest.raises(NotFoundError):
                await ask(service, me, ingestion.id)
        else:
            with pytest.raises(ConflictError) as caught:
                await ask(service, me, ingestion.id)
            assert caught.value.reason is ConflictReason.WRONG_STATE
            assert await runs_of(bench, ingestion) == []

    async def test_anothers_ingestion_is_not_there(self, service: RunService, bench: Workbench) -> None:
        stranger = a_principal(await bench.directory.ensure_tenant(a_tenant()))
        ingestion = await bench.ingestion()
        for id in (ingestion.id, uuid4()):
            with pytest.raises(NotFoundError):
                await ask(service, stranger, id)

    async def test_one_run_at_a_time(self, service: RunService, me: Principal, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        results = await asyncio.gather(*(ask(service, me, ingestion.id) for _ in range(10)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, ConflictError)]
        assert {error.reason for error in refused} == {ConflictReason.RUN_ACTIVE}
        assert (len(refused), len(await runs_of(bench, ingestion))) == (9, 1)

    async def test_a_request_that_comes_again_is_the_same_run(self, service: RunService, me: Principal, bench: Workbench) -> None:
        ingestion, other = await bench.ingestion(), await bench.ingestion()
        runs = await asyncio.gather(*(ask(service, me, ingestion.id, "k") for _ in range(10)))
        assert len({run.id for run in runs}) == 1
        with pytest.raises(ConflictError) as caught:
            await ask(service, me, other.id, "k")
        assert caught.value.reason is ConflictReason.IDEMPOTENCY_KEY_REUSED


class TestBySchedule:
    async def test_a_firing_makes_one_run_though_ten_schedulers_look(self, service: RunService, bench: Workbench) -> None:
        ingestion = await scheduled(bench)
        queued = await asyncio.gather(*(service.fire_due_schedules(bench.directory) for _ in range(10)))
        assert sum(queued) == 1
        (run,) = await runs_of(bench, ingestion)
        assert (run.trigger, run.due_at, run.status) == (RunTrigger.SCHEDULED, NOW, RunStatus.QUEUED)
        assert (await bench.stored(ingestion)).next_due_at == NOW + HOUR
        (entry,) = await bench.directory.take_outbox(10, visible_after_seconds=60)
        assert entry.subject == Subject(bench.tenant.id, run.id)

    async def test_missed_firings_become_one_run(self, service: RunService, bench: Workbench) -> None:
        ingestion = await scheduled(bench, next_due_at=NOW - 5 * HOUR)
        assert await service.fire_due_schedules(bench.directory) == 1
        (run,) = await runs_of(bench, ingestion)
        assert run.due_at == NOW - 5 * HOUR
        assert (await bench.stored(ingestion)).next_due_at == NOW + HOUR

    async def test_each_firing_in_its_time(self, service: RunService, bench: Workbench) -> None:
        ingestion = await scheduled(bench)
        for fired in range(1, 4):
            assert await service.fire_due_schedules(bench.directory) == 1
            assert await service.fire_due_schedules(bench.directory) == 0
            async with bench.unit_of_work(bench.tenant.id) as tx:
                run = (await tx.runs.get_runs_by_ingestion(ingestion.id, limit=1))[0]
                await tx.runs.update_status(run.id, RunStatus.CANCELLED, at=NOW)
            bench.clock.advance(seconds=3_600)
            assert len(await runs_of(bench, ingestion)) == fired

    async def test_what_is_not_active_or_not_due_does_not_fire(self, service: RunService, bench: Workbench) -> None:
        await scheduled(bench, status=IngestionStatus.PAUSED)
        await scheduled(bench, next_due_at=NOW + timedelta(seconds=1))
        assert await service.fire_due_schedules(bench.directory) == 0

    async def test_a_firing_that_meets_an_active_run_is_passed_over(self, service: RunService, me: Principal, bench: Workbench) -> None:
        ingestion = await scheduled(bench)
        by_hand = await ask(service, me, ingestion.id)
        assert await service.fire_due_schedules(bench.directory) == 0
        assert await runs_of(bench, ingestion) == [by_hand]
        assert (await bench.stored(ingestion)).next_due_at == NOW + HOUR

    async def test_a_firing_that_has_its_run_moves_on(self, service: RunService, bench: Workbench) -> None:
        """As when the clock of another server was ahead: it must not be due for ever."""
        ingestion = await scheduled(bench)
        await bench.queue(ingestion, due_at=NOW, status=RunStatus.SUCCESS)
        assert await service.fire_due_schedules(bench.directory) == 0
        assert (await bench.stored(ingestion)).next_due_at == NOW + HOUR

    async def test_one_that_cannot_fire_does_not_stop_the_others(self, service: RunService, bench: Workbench) -> None:
        broken = await scheduled(bench, schedule=a_schedule(timezone="Mars/Olympus"), next_due_at=NOW - HOUR)
        sound = await scheduled(bench)
        assert await service.fire_due_schedules(bench.directory) == 1
        assert await runs_of(bench, broken) == []
        assert len(await runs_of(bench, sound)) == 1

    async def test_many_that_cannot_fire_do_not_stop_the_others_either(self, service: RunService, bench: Workbench) -> None:
        broken = [await scheduled(bench, schedule=a_schedule(timezone="Mars/Olympus"), next_due_at=NOW - HOUR) for _ in range(2)]
        sound = await scheduled(bench)
        assert [await service.fire_due_schedules(bench.directory, limit=2) for _ in range(2)] == [0, 1]
        assert len(await runs_of(bench, sound)) == 1
        again = NOW + timedelta(seconds=REFIRE_SECONDS)
        assert [(await bench.stored(each)).next_due_at for each in broken] == [again, again]
        mended = dataclasses.replace(await bench.stored(broken[0]), schedule=a_schedule())
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.ingestions.update(mended)
        bench.clock.advance(seconds=REFIRE_SECONDS)
        assert await service.fire_due_schedules(bench.directory, limit=2) == 1
        [run] = await runs_of(bench, mended)
        assert (run.trigger, run.due_at) == (RunTrigger.SCHEDULED, again)

    async def test_one_that_cannot_even_be_postponed_does_not_stop_the_others(
        self, service: RunService, bench: Workbench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = await scheduled(bench, next_due_at=NOW - HOUR)
        sound = await scheduled(bench)
        get_by_id = FakeIngestionRepository.get_by_id

        async def in_other_hands(self: FakeIngestionRepository, id: UUID, *, for_update: bool = False) -> Ingestion | None:
            if for_update and id == held.id:
                raise TimeoutError
            return await get_by_id(self, id, for_update=for_update)

        monkeypatch.setattr(FakeIngestionRepository, "get_by_id", in_other_hands)
        assert await service.fire_due_schedules(bench.directory) == 1
        assert (await bench.stored(held)).next_due_at == NOW - HOUR
        assert len(await runs_of(bench, sound)) == 1

    async def test_no_more_than_asked(self, service: RunService, bench: Workbench) -> None:
        for _ in range(3):
            await scheduled(bench)
        assert await service.fire_due_schedules(bench.directory, limit=2) == 2
        assert await service.fire_due_schedules(bench.directory, limit=2) == 1


class TestByTheOrchestrator:
    """Executions that it begins by itself: fired by its own schedules, or started by hand where it is looked at."""

    async def asked(self, service: RunService, ingestion: Ingestion, flow_run: str = "flow 1", due_at: datetime | None = NOW) -> Run | None:
        return await service.run_for_orchestrator(Subject(ingestion.tenant_id, ingestion.id), flow_run, due_at=due_at)

    async def test_a_firing_makes_a_run_with_the_orchestrators_id(self, service: RunService, bench: Workbench) -> None:
        ingestion = await scheduled(bench)
        run = await self.asked(service, ingestion)
        assert run is not None
        assert (run.trigger, run.due_at, run.status, run.flow_run_id) == (RunTrigger.SCHEDULED, NOW, RunStatus.QUEUED, "flow 1")
        assert await runs_of(bench, ingestion) == [run]
        assert (await bench.stored(ingestion)).next_due_at == NOW + HOUR
        # It is being executed already: nobody has to be told.
        assert await bench.directory.take_outbox(10, visible_after_seconds=60) == []

    async def test_one_run_for_one_id_however_often_it_comes(self, service: RunService, bench: Workbench) -> None:
        ingestion = await scheduled(bench)
        runs = await asyncio.gather(*(self.asked(service, ingestion) for _ in range(5)))
        assert [run.id for run in runs if run] == [runs[0].id] * 5
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.runs.update_status(runs[0].id, RunStatus.RUNNING, at=NOW)
        assert await self.asked(service, ingestion) is None
        assert len(await runs_of(bench, ingestion)) == 1

    async def test_one_run_for_one_moment_whoever_fires(self, service: RunService, bench: Workbench) -> None:
        ingestion = await scheduled(bench)
        assert await service.fire_due_schedules(bench.directory) == 1
        (fired,) = await runs_of(bench, ingestion)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.runs.update_status(fired.id, RunStatus.CANCELLED, at=NOW)
        assert await self.asked(service, ingestion) is None
        assert len(await runs_of(bench, ingestion)) == 1

    @pytest.mark.parametrize("status", [status for status in IngestionStatus if status is not IngestionStatus.ACTIVE])
    async def test_what_is_not_active_is_not_fired(self, service: RunService, bench: Workbench, status: IngestionStatus) -> None:
        ingestion = await scheduled(bench, status=status)
        assert await self.asked(service, ingestion) is None
        by_hand = await self.asked(service, ingestion, "flow 2", due_at=None)
        assert (by_hand is not None) == (status in RUNNABLE)
        assert by_hand is None or (by_hand.trigger, by_hand.due_at) == (RunTrigger.MANUAL, None)

    async def test_of_firings_that_nobody_answered_the_last_makes_the_run(self, service: RunService, bench: Workbench) -> None:
        ingestion = await scheduled(bench)
        assert await self.asked(service, ingestion, "flow 1", NOW - 2 * HOUR) is None
        assert await self.asked(service, ingestion, "flow 2", NOW - HOUR) is None
        assert (await self.asked(service, ingestion, "flow 3", NOW)) is not None

    async def test_nothing_beside_an_active_run_nor_without_an_ingestion_or_a_schedule(
        self, service: RunService, me: Principal, bench: Workbench
    ) -> None:
        ingestion, unscheduled = await scheduled(bench), await scheduled(bench, schedule=None)
        by_hand = await ask(service, me, ingestion.id)
        assert await self.asked(service, ingestion) is None
        assert await self.asked(service, unscheduled) is None
        assert await runs_of(bench, ingestion) == [by_hand]
        assert await service.run_for_orchestrator(Subject(bench.tenant.id, uuid4()), "flow 9", due_at=None) is None

    async def test_another_tenants_ingestion_is_not_there(self, service: RunService, bench: Workbench) -> None:
        stranger = await bench.directory.ensure_tenant(a_tenant())
        ingestion = await scheduled(bench)
        assert await service.run_for_orchestrator(Subject(stranger.id, ingestion.id), "flow 1", due_at=NOW) is None
        assert await runs_of(bench, ingestion) == []


class TestCancelling:
    @pytest.mark.parametrize(("before", "after"), [(RunStatus.QUEUED, RunStatus.CANCELLED), (RunStatus.RUNNING, RunStatus.CANCELLING)])
    async def test_the_orchestrator_is_told_and_may_be_asked_instead(
        self, service: RunService, me: Principal, bench: Workbench, before: RunStatus, after: RunStatus
    ) -> None:
        here, there = [await bench.queue(await bench.ingestion()) for _ in range(2)]
        for subject in (here, there):
            async with bench.unit_of_work(bench.tenant.id) as tx:
                if before is RunStatus.RUNNING:
                    await tx.runs.update_status(subject.id, RunStatus.RUNNING, at=NOW)
        assert (await service.cancel_run(me, here.id)).status is after
        (entry,) = await bench.directory.take_outbox(10, visible_after_seconds=60)
        assert (entry.topic, entry.subject) == (Topic.RUN, here)
        cancelled = await service.cancel_in_orchestrator(there)
        assert cancelled is not None
        assert cancelled.status is after
        assert await service.cancel_in_orchestrator(there) is None
        assert await service.cancel_in_orchestrator(Subject(bench.tenant.id, uuid4())) is None
        assert await bench.directory.take_outbox(10, visible_after_seconds=60) == []
