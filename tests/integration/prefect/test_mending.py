"""What differs between Prefect and what is stored, without any outbox entry to tell of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Pending, Running

from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ports.unit_of_work import Subject
from domain.runs.entities import RunStatus
from integrations.prefect import mending
from integrations.prefect.service import PrefectService
from tests.factories import NOW, a_schedule, an_ingestion
from tests.fakes.clock import FakeClock
from tests.fixtures.prefect_server import Prefect
from tests.workbench import Workbench

NEW_YEAR = a_schedule(cron="0 0 1 1 *")


@pytest.fixture
async def later(prefect: Prefect, bench: Workbench) -> AsyncIterator[PrefectService]:
    """A service two minutes on: whatever a worker has taken by now, it should have begun with."""
    service = prefect.service(bench, clock=FakeClock(datetime.now(UTC) + timedelta(minutes=2)))
    yield service
    await service.close()


async def active(bench: Workbench) -> Ingestion:
    return await bench.ingestion(status=IngestionStatus.ACTIVE, schedule=NEW_YEAR)


async def is_there(prefect: Prefect, ingestion: Ingestion) -> bool:
    try:
        await prefect.deployment(ingestion.id)
    except ObjectNotFound:
        return False
    return True


async def test_missing_deployments_are_made_orphans_go_and_the_others_are_mended(
    service: PrefectService, prefect: Prefect, bench: Workbench
) -> None:
    missing, changed, orphan = await active(bench), await active(bench), await active(bench)
    for ingestion in (changed, orphan):
        await service.create_deployment(ingestion)
    async with bench.unit_of_work(orphan.tenant_id) as tx:
        await tx.ingestions.delete(orphan.id)
    stranger = an_ingestion(status=IngestionStatus.ACTIVE, schedule=NEW_YEAR)
    await service.create_deployment(stranger)
    made = await prefect.deployment(changed.id)
    copy = await prefect.client.create_deployment(made.flow_id, "a copy", work_pool_name=prefect.work_pool, tags=made.tags)
    id = (await prefect.deployment(changed.id)).id
    await prefect.client.update_deployment(id, DeploymentUpdate(tags=["by", "hand"], schedules=[], work_queue_name="large"))
    await prefect.client.pause_deployment(id)

    await service.reconcile_all()

    assert [await is_there(prefect, ingestion) for ingestion in (missing, changed, orphan)] == [True, True, False]
    # Another installation's, on the same server, and one that somebody has made by hand.
    assert await is_there(prefect, stranger)
    assert (await prefect.client.read_deployment(copy)).name == "a copy"
    mended = await prefect.deployment(changed.id)
    assert (mended.id, mended.paused, mended.work_queue_name) == (id, False, "small")
    assert [(schedule.schedule.cron, schedule.active) for schedule in mended.schedules] == [("0 0 1 1 *", True)]
    assert f"ingestion:{changed.id}" in mended.tags


async def test_what_is_as_it_should_be_is_left_alone(service: PrefectService, prefect: Prefect, bench: Workbench) -> None:
    ingestion = await active(bench)
    await service.reconcile_all()
    before = (await prefect.deployment(ingestion.id)).updated
    await service.reconcile_all()
    assert (await prefect.deployment(ingestion.id)).updated == before


async def test_a_queued_run_gets_its_flow_run(service: PrefectService, prefect: Prefect, bench: Workbench) -> None:
    old = await bench.queue(await active(bench), queued_at=datetime(2020, 1, 1, tzinfo=UTC))
    await service.reconcile_all()
    assert (await prefect.flow_run((await bench.run(old)).flow_run_id)).state.is_scheduled()


async def test_a_flow_run_that_outlives_its_run_is_ended(later: PrefectService, prefect: Prefect, bench: Workbench) -> None:
    run = await bench.queue(await active(bench))
    id = await later.trigger_flow_run(await bench.run(run), await bench.stored(await _ingestion(bench, run)))
    await prefect.client.set_flow_run_state(id, Running(), force=True)
    async with bench.unit_of_work(run.tenant_id) as tx:
        await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=600)
    await later.reconcile_all()
    assert (await prefect.flow_run(id)).state.is_running()
    async with bench.unit_of_work(run.tenant_id) as tx:
        await tx.runs.update_status(run.id, RunStatus.FAILED, at=NOW, error_message="the worker was lost")
    await later.reconcile_all()
    state = (await prefect.flow_run(id)).state
    assert (state.name, state.message) == ("Failed", "the worker was lost")


async def test_flow_runs_of_dead_workers_give_their_places_back(
    service: PrefectService, later: PrefectService, prefect: Prefect, bench: Workbench
) -> None:
    ingestion = await active(bench)
    deployment_id = await service.create_deployment(ingestion)
    taken = [await prefect.client.create_flow_run_from_deployment(deployment_id) for _ in range(3)]
    for flow_run, state in zip(taken, (Pending(), Running(), Completed()), strict=True):
        await prefect.client.set_flow_run_state(flow_run.id, state, force=True)
    await service.reconcile_all()
    assert [(await prefect.flow_run(flow_run.id)).state.name for flow_run in taken] == ["Pending", "Running", "Completed"]
    await later.reconcile_all()
    assert [(await prefect.flow_run(flow_run.id)).state.name for flow_run in taken] == ["Crashed", "Crashed", "Completed"]


async def test_flow_runs_of_dead_workers_are_found_however_many_have_begun(
    service: PrefectService, later: PrefectService, prefect: Prefect, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "_PAGE", 2)
    monkeypatch.setattr(mending, "_BEGUN_AT_MOST", 6)
    deployment_id = await service.create_deployment(await active(bench))
    taken = [await prefect.client.create_flow_run_from_deployment(deployment_id) for _ in range(7)]
    for flow_run in taken:
        await prefect.client.set_flow_run_state(flow_run.id, Running(), force=True)
    await later.reconcile_all()
    states = [(await prefect.flow_run(flow_run.id)).state.name for flow_run in taken]
    assert sorted(states) == ["Crashed"] * 6 + ["Running"]
    await later.reconcile_all()
    assert {(await prefect.flow_run(flow_run.id)).state.name for flow_run in taken} == {"Crashed"}


async def test_one_that_cannot_be_mended_does_not_stop_the_others(
    service: PrefectService, prefect: Prefect, bench: Workbench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sorted([await active(bench), await active(bench)], key=lambda ingestion: ingestion.id)
    reconcile = service.reconcile_ingestion

    async def broken(ingestion: Subject) -> None:
        if ingestion.id == first.id:
            raise RuntimeError("unexpected")
        await reconcile(ingestion)

    monkeypatch.setattr(service, "reconcile_ingestion", broken)
    await service.reconcile_all()
    assert [await is_there(prefect, ingestion) for ingestion in (first, second)] == [False, True]
    assert f"the deployment of ingestion {first.id} could not be mended" in caplog.messages


async def _ingestion(bench: Workbench, run: Subject) -> Ingestion:
    async with bench.unit_of_work(run.tenant_id) as tx:
        found = await tx.ingestions.get_by_id((await bench.run(run)).ingestion_id)
    assert found is not None
    return found
