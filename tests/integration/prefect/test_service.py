"""PrefectService over a real Prefect server."""

from __future__ import annotations

import dataclasses
import logging
import socket
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed, Pending

from domain.errors import UnavailableError
from domain.ingestions.entities import ClusterSize, Execution, Ingestion, IngestionStatus
from domain.ports.unit_of_work import Subject
from domain.runs.entities import RunStatus
from integrations.prefect.connection import PrefectConnection
from integrations.prefect.service import PrefectService
from tests.factories import NOW, a_schedule
from tests.fakes.clock import FakeClock
from tests.fixtures.prefect_server import Prefect
from tests.workbench import Workbench

NEW_YEAR = a_schedule(cron="0 0 1 1 *", timezone="Europe/Berlin")


def subject_of(ingestion: Ingestion) -> Subject:
    return Subject(ingestion.tenant_id, ingestion.id)


async def active(bench: Workbench, **fields: object) -> Ingestion:
    return await bench.ingestion(**{"status": IngestionStatus.ACTIVE, "schedule": NEW_YEAR} | fields)


async def put(bench: Workbench, ingestion: Ingestion, status: IngestionStatus) -> Ingestion:
    async with bench.unit_of_work(ingestion.tenant_id) as tx:
        return await tx.ingestions.update_status(ingestion.id, status, next_due_at=None)


class TestConnecting:
    @pytest.mark.scenario(50)
    async def test_initialize_connects_and_makes_what_is_needed_once(self, service: PrefectService, prefect: Prefect) -> None:
        assert await service.initialize() is True
        assert await service.initialize() is True
        pool = await prefect.client.read_work_pool(prefect.work_pool)
        queues = await prefect.client.read_work_queues(work_pool_name=prefect.work_pool)
        assert pool.type == "autoloader"
        assert {queue.name: queue.priority for queue in queues if queue.name != "default"} == {"small": 1, "medium": 2, "large": 3}

    @pytest.mark.scenario(144)
    async def test_a_server_that_is_away_at_the_start_is_a_warning_and_is_used_when_it_is_back(
        self, prefect: Prefect, bench: Workbench, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.socket() as taken:
            # Nobody listens there.
            taken.bind(("127.0.0.1", 0))
            away = PrefectConnection(f"http://127.0.0.1:{taken.getsockname()[1]}/api", auth_string="user:a-secret")
            service = prefect.service(bench, connection=away)
            with caplog.at_level(logging.WARNING, logger="integrations.prefect"):
                assert await service.initialize() is False
            said = f"Prefect at 127.0.0.1:{taken.getsockname()[1]} cannot be reached"
            assert caplog.messages == [f"{said}; what is meant for it happens when it is back"]
            ingestion = await active(bench)
            for call in (service.reconcile_ingestion(subject_of(ingestion)), service.reconcile_all(), service.version()):
                with pytest.raises(UnavailableError) as caught:
                    await call
                assert caught.value.message == said
            await service.close()
        service = prefect.service(bench)
        await service.reconcile_ingestion(subject_of(ingestion))
        assert (await prefect.deployment(ingestion.id)).name == str(ingestion.id)
        await service.close()


class TestDeployments:
    @pytest.mark.scenario(51)
    async def test_a_deployment_has_the_ingestions_schedule_in_its_time_zone(
        self, service: PrefectService, prefect: Prefect, bench: Workbench
    ) -> None:
        ingestion = await active(bench)
        id = await service.create_deployment(ingestion)
        assert await service.create_deployment(ingestion) == id
        deployment = await prefect.deployment(ingestion.id)
        (schedule,) = deployment.schedules
        assert (schedule.schedule.cron, schedule.schedule.timezone, schedule.active) == ("0 0 1 1 *", "Europe/Berlin", True)
        assert deployment.parameters == {"tenant_id": str(ingestion.tenant_id), "ingestion_id": str(ingestion.id)}
        assert (deployment.paused, deployment.entrypoint) == (False, "autoloader.flows.run_ingestion_flow")

    @pytest.mark.parametrize("status", [status for status in IngestionStatus if status is not IngestionStatus.DELETING])
    async def test_the_schedule_is_active_only_while_the_ingestion_is(
        self, service: PrefectService, prefect: Prefect, bench: Workbench, status: IngestionStatus
    ) -> None:
        ingestion = await active(bench, status=status)
        await service.reconcile_ingestion(subject_of(ingestion))
        deployment = await prefect.deployment(ingestion.id)
        assert [schedule.active for schedule in deployment.schedules] == [status is IngestionStatus.ACTIVE]
        assert deployment.paused is (status is IngestionStatus.PAUSED)

    @pytest.mark.scenario(52)
    @pytest.mark.parametrize("size", ClusterSize)
    async def test_the_work_queue_goes_by_the_expected_size(
        self, service: PrefectService, prefect: Prefect, bench: Workbench, size: ClusterSize
    ) -> None:
        ingestion = await active(bench, execution=Execution(cluster_size=size))
        await service.create_deployment(ingestion)
        deployment = await prefect.deployment(ingestion.id)
        assert (deployment.work_pool_name, deployment.work_queue_name) == (prefect.work_pool, size.value.lower())

    @pytest.mark.scenario(53)
    async def test_tags_say_whose_it_is_and_what_it_reads(self, service: PrefectService, prefect: Prefect, bench: Workbench) -> None:
        ingestion = await active(bench)
        await service.create_deployment(ingestion)
        tags = [f"ingestion-name:{ingestion.name}", f"ingestion:{ingestion.id}", "source:S3", f"tenant:{ingestion.tenant_id}"]
        assert sorted((await prefect.deployment(ingestion.id)).tags) == tags

    @pytest.mark.scenario(54)
    async def test_another_schedule_a_pause_and_the_end_of_it_change_the_deployment_that_is_there(
        self, service: PrefectService, prefect: Prefect, bench: Workbench
    ) -> None:
        ingestion = await active(bench)
        id = await service.create_deployment(ingestion)
        found = await service.read_deployment(ingestion.id)
        assert found is not None
        await service.update_deployment_schedule(dataclasses.replace(ingestion, schedule=a_schedule(cron="30 5 2 2 *")), found)
        deployment = await prefect.deployment(ingestion.id)
        (schedule,) = deployment.schedules
        assert (deployment.id, schedule.schedule.cron, schedule.schedule.timezone) == (id, "30 5 2 2 *", "UTC")
        for status in (IngestionStatus.PAUSED, IngestionStatus.ACTIVE):
            await put(bench, ingestion, status)
            await service.reconcile_ingestion(subject_of(ingestion))
            deployment = await prefect.deployment(ingestion.id)
            seen = (deployment.id, deployment.paused, [schedule.active for schedule in deployment.schedules])
            assert seen == (id, status is IngestionStatus.PAUSED, [status is IngestionStatus.ACTIVE])
            assert deployment.schedules[0].schedule.cron == "0 0 1 1 *"

    async def test_what_is_as_it_should_be_is_left_alone(self, service: PrefectService, prefect: Prefect, bench: Workbench) -> None:
        ingestion = await active(bench)
        await service.reconcile_ingestion(subject_of(ingestion))
        before = await prefect.deployment(ingestion.id)
        await service.reconcile_ingestion(subject_of(ingestion))
        assert (await prefect.deployment(ingestion.id)).updated == before.updated

    @pytest.mark.scenario(56)
    async def test_delete_deployment_removes_it_and_what_it_has_scheduled(
        self, service: PrefectService, prefect: Prefect, bench: Workbench
    ) -> None:
        ingestion = await active(bench)
        run = await bench.queue(ingestion)
        flow_run_id = await service.trigger_flow_run(await bench.run(run), ingestion)
        await service.delete_deployment(ingestion.id)
        for gone in (prefect.deployment(ingestion.id), prefect.flow_run(flow_run_id)):
            with pytest.raises(ObjectNotFound):
                await gone
        await service.delete_deployment(ingestion.id)

    @pytest.mark.parametrize("gone", [True, False])
    async def test_an_ingestion_that_goes_takes_its_deployment_along(
        self, service: PrefectService, prefect: Prefect, bench: Workbench, gone: bool
    ) -> None:
        ingestion = await active(bench)
        await service.reconcile_ingestion(subject_of(ingestion))
        await put(bench, ingestion, IngestionStatus.DELETING)
        if gone:
            async with bench.unit_of_work(ingestion.tenant_id) as tx:
                await tx.ingestions.delete(ingestion.id)
        await service.reconcile_ingestion(subject_of(ingestion))
        with pytest.raises(ObjectNotFound):
            await prefect.deployment(ingestion.id)


class TestFlowRuns:
    @pytest.mark.scenario(55)
    async def test_trigger_flow_run_gives_its_id_and_makes_one_for_a_run(
        self, service: PrefectService, prefect: Prefect, bench: Workbench
    ) -> None:
        ingestion = await active(bench)
        run = await bench.run(await bench.queue(ingestion))
        id = await service.trigger_flow_run(run, ingestion)
        assert await service.trigger_flow_run(run, ingestion) == id
        flow_run = await prefect.flow_run(id)
        assert flow_run.parameters["run_id"] == str(run.id)
        assert (flow_run.work_queue_name, flow_run.auto_scheduled) == ("small", False)
        assert f"ingestion:{ingestion.id}" in flow_run.tags
        assert (await bench.run(Subject(run.tenant_id, run.id))).flow_run_id == str(id)

    async def test_a_flow_run_that_died_before_it_began_is_replaced(
        self, service: PrefectService, prefect: Prefect, bench: Workbench
    ) -> None:
        run = await bench.queue(await active(bench))
        await service.reconcile_run(run)
        first = (await bench.run(run)).flow_run_id
        await service.reconcile_run(run)
        assert (await bench.run(run)).flow_run_id == first
        await prefect.client.set_flow_run_state(UUID(first), Crashed(), force=True)
        await service.reconcile_run(run)
        second = (await bench.run(run)).flow_run_id
        assert second != first
        # One that a worker has taken, and did not begin with for longer than it may take.
        await prefect.client.set_flow_run_state(UUID(second), Pending(), force=True)
        await service.reconcile_run(run)
        assert (await bench.run(run)).flow_run_id == second
        later = prefect.service(bench, clock=FakeClock(datetime.now(UTC) + timedelta(minutes=2)))
        await later.reconcile_run(run)
        await later.close()
        assert (await bench.run(run)).flow_run_id not in (first, second)
        assert (await prefect.flow_run(second)).state.is_crashed()

    async def test_a_flow_run_that_somebody_has_cancelled_in_prefect_cancels_the_run(
        self, service: PrefectService, prefect: Prefect, bench: Workbench
    ) -> None:
        run = await bench.queue(await active(bench))
        await service.reconcile_run(run)
        flow_run_id = (await bench.run(run)).flow_run_id
        await prefect.client.set_flow_run_state(UUID(flow_run_id), Cancelled(), force=True)
        await service.reconcile_run(run)
        assert ((await bench.run(run)).status, (await bench.run(run)).flow_run_id) == (RunStatus.CANCELLED, flow_run_id)

    @pytest.mark.parametrize(
        ("status", "name"),
        [
            (RunStatus.CANCELLED, "Cancelled"),
            (RunStatus.FAILED, "Failed"),
            (RunStatus.SUCCESS, "Completed"),
            (RunStatus.PARTIAL, "PARTIAL"),
        ],
    )
    async def test_a_run_that_has_ended_without_its_flow_run_ends_that(
        self, service: PrefectService, prefect: Prefect, bench: Workbench, status: RunStatus, name: str
    ) -> None:
        run = await bench.queue(await active(bench))
        await service.reconcile_run(run)
        async with bench.unit_of_work(run.tenant_id) as tx:
            if status in (RunStatus.SUCCESS, RunStatus.PARTIAL):
                await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW)
            await tx.runs.update_status(run.id, status, at=NOW, error_message="so it was" if status is RunStatus.FAILED else None)
        await service.reconcile_run(run)
        state = (await prefect.flow_run((await bench.run(run)).flow_run_id)).state
        assert (state.name, state.is_final()) == (name, True)
        assert status is not RunStatus.FAILED or state.message == "so it was"

    async def test_a_server_that_has_lost_its_memory_is_told_everything_again(
        self, service: PrefectService, prefect: Prefect, bench: Workbench
    ) -> None:
        run = await bench.queue(await active(bench))
        await service.reconcile_run(run)
        await prefect.client.delete_work_pool(prefect.work_pool)
        await prefect.client.delete_deployment((await prefect.deployment((await bench.run(run)).ingestion_id)).id)
        with pytest.raises(UnavailableError, match="does not know what it is asked about"):
            await service.reconcile_run(run)
        await service.reconcile_run(run)
        assert (await prefect.flow_run((await bench.run(run)).flow_run_id)).work_pool_name == prefect.work_pool
