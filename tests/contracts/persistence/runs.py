"""What a `RunRepository` promises."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.runs.entities import Refresh, RefreshMode, RunMetrics, RunStatus, RunTrigger
from domain.states import ACTIVE_RUN, RUN
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_run


class RunRepositoryContract:
    @pytest.mark.scenario(70)
    async def test_create_stores_every_field(self, world: World) -> None:
        ingestion = await world.ingestion()
        run = a_run(
            tenant_id=world.tenant.id,
            ingestion_id=ingestion.id,
            trigger=RunTrigger.RETRY,
            refresh=Refresh(RefreshMode.NEW_ONLY, load=False),
            retry_of_id=uuid4(),
            retry_count=2,
            lists=False,
            listings=3,
            due_at=NOW,
            files_total=7,
            flow_run_id="flow",
        )
        async with world.begin() as tx:
            assert await tx.runs.create(run) == run
        async with world.begin() as tx:
            assert await tx.runs.get_by_id(run.id) == run
            assert await tx.runs.get_by_id(uuid4()) is None

    async def test_an_ingestion_has_one_active_run_at_most(self, world: World) -> None:
        for status in RunStatus:
            ingestion = await world.ingestion()
            await world.run(ingestion, status=status)
            if status in ACTIVE_RUN:
                with pytest.raises(ConflictError) as caught:
                    await world.run(ingestion)
                assert caught.value.reason is ConflictReason.RUN_ACTIVE
            else:
                await world.run(ingestion)

    async def test_a_transaction_goes_on_after_a_conflict(self, world: World) -> None:
        ingestion = await world.ingestion()
        await world.run(ingestion)
        async with world.begin() as tx:
            with pytest.raises(ConflictError):
                await tx.runs.create(a_run(ingestion_id=ingestion.id))
            await tx.ingestions.set_next_due(ingestion.id, NOW)
        async with world.begin() as tx:
            assert (await tx.ingestions.get_by_id(ingestion.id)).next_due_at == NOW

    async def test_create_for_no_ingestion(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            async with world.begin() as tx:
                await tx.runs.create(a_run(ingestion_id=uuid4()))

    async def test_the_active_run(self, world: World) -> None:
        for status in RunStatus:
            ingestion = await world.ingestion()
            run = await world.run(ingestion, status=status)
            async with world.begin() as tx:
                assert await tx.runs.get_active(ingestion.id) == (run if status in ACTIVE_RUN else None)
                assert await tx.runs.hold_running(run.id) is (status is RunStatus.RUNNING)
        async with world.begin() as tx:
            assert await tx.runs.get_active(uuid4()) is None
            assert await tx.runs.hold_running(uuid4()) is False

    async def test_get_scheduled(self, world: World) -> None:
        ingestion = await world.ingestion()
        run = await world.run(ingestion, due_at=NOW)
        async with world.begin() as tx:
            assert await tx.runs.get_scheduled(ingestion.id, NOW) == run
            assert await tx.runs.get_scheduled(ingestion.id, NOW + timedelta(hours=1)) is None
            assert await tx.runs.get_scheduled(uuid4(), NOW) is None

    async def test_the_orchestrators_id(self, world: World) -> None:
        run, other = await world.run(await world.ingestion()), await world.run(await world.ingestion(), flow_run_id="flow 1")
        async with world.begin() as tx:
            assert await tx.runs.get_by_flow_run("flow 1") == other
            assert await tx.runs.get_by_flow_run("flow 2") is None
            await tx.runs.set_flow_run(run.id, "flow 2")
            assert await tx.runs.get_by_flow_run("flow 2") == replace(run, flow_run_id="flow 2")

    @pytest.mark.scenario(71)
    async def test_get_runs_by_ingestion_from_a_moment_until_before_another(self, world: World) -> None:
        ingestion, hour = await world.ingestion(), timedelta(hours=1)
        runs = [await world.run(ingestion, status=RunStatus.SUCCESS, queued_at=NOW + n * hour) for n in range(4)]
        await world.run(await world.ingestion(), queued_at=NOW + hour)
        async with world.begin() as tx:
            within = await tx.runs.get_runs_by_ingestion(ingestion.id, since=NOW + hour, until=NOW + 3 * hour, limit=10)
            everything = await tx.runs.get_runs_by_ingestion(ingestion.id, limit=10)
        assert within == [runs[2], runs[1]]
        assert everything == runs[::-1]

    @pytest.mark.scenario(72)
    async def test_get_runs_by_ingestion_gives_the_newest_up_to_the_limit(self, world: World) -> None:
        ingestion = await world.ingestion()
        runs = [await world.run(ingestion, status=RunStatus.FAILED, queued_at=NOW + timedelta(minutes=n)) for n in range(3)]
        async with world.begin() as tx:
            assert await tx.runs.get_runs_by_ingestion(ingestion.id, limit=2) == [runs[2], runs[1]]

    @pytest.mark.scenario(73)
    async def test_an_ended_run_has_a_duration(self, world: World) -> None:
        run = await world.run(await world.ingestion())
        async with world.begin() as tx:
            started = await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=60)
            assert (started.started_at, started.ended_at, started.duration_seconds) == (NOW, None, None)
            ended = await tx.runs.update_status(run.id, RunStatus.SUCCESS, at=NOW + timedelta(seconds=90.5))
        assert (ended.ended_at, ended.duration_seconds) == (NOW + timedelta(seconds=90.5), 90.5)
        assert ended.lease_expires_at is None

    @pytest.mark.parametrize("started", [True, False])
    async def test_a_duration_is_never_negative(self, world: World, started: bool) -> None:
        run = await world.run(await world.ingestion(), started=started)
        async with world.begin() as tx:
            ended = await tx.runs.update_status(run.id, RunStatus.FAILED, at=NOW - timedelta(seconds=5))
        assert ended.duration_seconds == 0

    async def test_update_status_goes_by_the_declared_transitions(self, world: World) -> None:
        for status, to in itertools.product(RunStatus, RunStatus):
            run = await world.run(await world.ingestion(), status=status)
            async with world.begin() as tx:
                if RUN.allows(status, to):
                    run = await tx.runs.update_status(run.id, to, at=NOW)
                    assert run.status is to
                else:
                    with pytest.raises(ConflictError) as caught:
                        await tx.runs.update_status(run.id, to, at=NOW)
                    assert caught.value.reason is ConflictReason.WRONG_STATE
                assert await tx.runs.get_by_id(run.id) == run

    async def test_update_status_of_nothing(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            async with world.begin() as tx:
                await tx.runs.update_status(uuid4(), RunStatus.RUNNING, at=NOW)

    async def test_a_message_may_hold_anything(self, world: World) -> None:
        run = await world.run(await world.ingestion())
        async with world.begin() as tx:
            await tx.runs.update_status(run.id, RunStatus.FAILED, at=NOW, error_message="a\0b \ud800 " + "x" * 10_000)
        async with world.begin() as tx:
            message = (await tx.runs.get_by_id(run.id)).error_message
        assert message.startswith("a\N{REPLACEMENT CHARACTER}b ? xxx")
        assert len(message) == 4_000

    @pytest.mark.scenario(74)
    async def test_update_metrics_adds(self, world: World) -> None:
        run = await world.run(await world.ingestion())
        delta = RunMetrics(1, 2, 3, 4, 5, 6 * 2**40, 7, 8, 9 * 2**40)
        async with world.begin() as tx:
            await tx.runs.update_metrics(run.id, delta, files_total=10)
            await tx.runs.update_metrics(run.id, delta)
            await tx.runs.update_metrics(run.id, RunMetrics())
        async with world.begin() as tx:
            stored = await tx.runs.get_by_id(run.id)
        assert stored.metrics == RunMetrics(2, 4, 6, 8, 10, 12 * 2**40, 14, 16, 18 * 2**40)
        assert stored.files_total == 10
        assert replace(stored, **dict.fromkeys(_COUNTERS, 0), files_total=None) == run

    async def test_update_metrics_of_nothing_does_nothing(self, world: World) -> None:
        async with world.begin() as tx:
            await tx.runs.update_metrics(uuid4(), RunMetrics(1), files_total=1)

    async def test_listings_are_counted(self, world: World) -> None:
        run = await world.run(await world.ingestion(), started=True)
        async with world.begin() as tx:
            await tx.runs.count_listing(run.id)
            await tx.runs.count_listing(run.id)
            await tx.runs.count_listing(uuid4())
        async with world.begin() as tx:
            assert await tx.runs.get_by_id(run.id) == replace(run, listings=2)

    async def test_a_lease_is_renewed_while_it_runs(self, world: World) -> None:
        run = await world.run(await world.ingestion(), started=True, lease_seconds=60)
        async with world.begin() as tx:
            assert await tx.runs.renew_lease(run.id, seconds=600) is RunStatus.RUNNING
            renewed = (await tx.runs.get_by_id(run.id)).lease_expires_at
        assert timedelta(seconds=500) < renewed - run.lease_expires_at <= timedelta(seconds=600)

    async def test_a_lease_that_has_passed_cannot_be_renewed(self, world: World) -> None:
        run = await world.run(await world.ingestion(), started=True, lease_seconds=0)
        async with world.begin() as tx:
            assert await tx.runs.renew_lease(run.id, seconds=60) is None
            assert (await tx.runs.get_by_id(run.id)).lease_expires_at == run.lease_expires_at

    async def test_the_renewal_tells_that_the_run_is_to_stop(self, world: World) -> None:
        run = await world.run(await world.ingestion(), started=True)
        async with world.begin() as tx:
            await tx.runs.update_status(run.id, RunStatus.CANCELLING, at=NOW)
            assert await tx.runs.renew_lease(run.id, seconds=60) is RunStatus.CANCELLING
            await tx.runs.update_status(run.id, RunStatus.CANCELLED, at=NOW)
            assert await tx.runs.renew_lease(run.id, seconds=60) is None

    async def test_a_run_without_a_lease_has_none_to_renew(self, world: World) -> None:
        run = await world.run(await world.ingestion())
        async with world.begin() as tx:
            assert await tx.runs.renew_lease(run.id, seconds=60) is None
            assert await tx.runs.renew_lease(uuid4(), seconds=60) is None


_COUNTERS = RunMetrics.__dataclass_fields__
