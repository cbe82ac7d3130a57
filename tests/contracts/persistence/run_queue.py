"""What the queue of runs promises: turns, limits and leases."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from domain.ingestions.entities import EngineType, Execution
from domain.ports.unit_of_work import Subject
from domain.runs.entities import RunLimits, RunStatus
from domain.tenants import Tenant
from tests.contracts.persistence.world import World
from tests.factories import NOW


class RunQueueContract:
    async def test_runs_are_taken_in_turns_of_tenants_and_by_age(self, world: World) -> None:
        mine = [await _queued(world, minute) for minute in range(3)]
        theirs = [await _queued(world, minute, world.other) for minute in (5, 6)]
        take = partial(world.directory.take_runs, limits=RunLimits(), lease_seconds=60)
        assert await take(2) == [mine[0], theirs[0]]
        assert await take(9) == [mine[1], theirs[1], mine[2]]
        assert await take(9) == []

    async def test_no_more_runs_are_taken_than_a_tenant_may_have(self, world: World) -> None:
        await world.run(await world.ingestion(), started=True, lease_seconds=60)
        mine = [await _queued(world, minute) for minute in range(3)]
        theirs = [await _queued(world, minute, world.other) for minute in range(3, 5)]
        take = partial(world.directory.take_runs, 9, limits=RunLimits(per_tenant=2), lease_seconds=60)
        assert await take() == [theirs[0], mine[0], theirs[1]]
        async with world.begin() as tx:
            await tx.runs.update_status(mine[0].id, RunStatus.CANCELLED, at=NOW)
        assert await take() == [mine[1]]

    async def test_no_more_runs_are_taken_than_a_cluster_may_have(self, world: World) -> None:
        on_spark = Execution(engine=EngineType.SPARK)
        spark = [await _queued(world, minute, execution=on_spark) for minute in range(3)]
        here = [await _queued(world, minute) for minute in range(3, 5)]
        take = partial(world.directory.take_runs, 9, limits=RunLimits(per_engine={EngineType.SPARK: 2}), lease_seconds=60)
        assert await take() == [spark[0], spark[1], *here]
        assert await take() == []
        async with world.begin() as tx:
            await tx.runs.update_status(spark[1].id, RunStatus.RUNNING, at=NOW, lease_seconds=60)
            await tx.runs.update_status(spark[0].id, RunStatus.CANCELLED, at=NOW)
        assert await take() == [spark[2]]

    async def test_a_run_that_was_taken_and_has_not_begun_is_taken_again_when_its_lease_has_expired(self, world: World) -> None:
        run = await _queued(world, 0)
        take = partial(world.directory.take_runs, 9, RunLimits(per_tenant=1))
        assert await take(lease_seconds=0) == [run]
        assert await world.directory.lost_runs(9) == []
        assert await take(lease_seconds=60) == [run]
        assert await take(lease_seconds=60) == []
        async with world.begin() as tx:
            begun = await tx.runs.update_status(run.id, RunStatus.RUNNING, at=NOW, lease_seconds=0)
        assert begun.status is RunStatus.RUNNING
        assert await take(lease_seconds=60) == []

    async def test_a_run_that_was_chosen_by_others_is_taken_if_there_is_room(self, world: World) -> None:
        first, second = [await _queued(world, minute) for minute in range(2)]
        take = partial(world.directory.take_runs, 1, RunLimits(per_tenant=1), lease_seconds=60)
        assert await take(only=second) == [second]
        assert await take(only=first) == []
        # It may have been taken by an earlier try.
        assert await take(only=second) == [second]
        async with world.begin() as tx:
            await tx.runs.update_status(second.id, RunStatus.RUNNING, at=NOW, lease_seconds=60)
        assert await take(only=second) == []
        assert await take(only=Subject(world.tenant.id, uuid4())) == []

    async def test_cancelling_runs_are_told_from_others(self, world: World) -> None:
        runs = [await world.run(await world.ingestion(), status=status) for status in (RunStatus.CANCELLING, RunStatus.RUNNING)]
        asked, goes_on = [Subject(world.tenant.id, run.id) for run in runs]
        assert await world.directory.cancelling_runs([asked, goes_on, Subject(world.tenant.id, uuid4())]) == [asked]
        assert await world.directory.cancelling_runs([]) == []


async def _queued(world: World, minute: int, tenant: Tenant | None = None, **ingestion: Any) -> Subject:
    run = await world.run(await world.ingestion(tenant, **ingestion), queued_at=NOW + timedelta(minutes=minute))
    return Subject(run.tenant_id, run.id)
