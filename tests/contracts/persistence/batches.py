"""What `BatchRepository` and `SchemaVersionRepository` promise."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from domain.errors import NotFoundError
from domain.ledger.entities import BatchStatus
from domain.runs.entities import RunStatus
from domain.schema_versions import SchemaDiff
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_schema, a_schema_version


class BatchRepositoryContract:
    async def test_open(self, world: World) -> None:
        ingestion, id, run_id, table = await world.ingestion(), uuid4(), uuid4(), uuid4()
        async with world.begin() as tx:
            opened = await tx.batches.open(id=id, ingestion_id=ingestion.id, run_id=run_id, table_uuid=table, lease_seconds=60)
        assert (opened.id, opened.tenant_id, opened.ingestion_id, opened.run_id) == (id, world.tenant.id, ingestion.id, run_id)
        assert (opened.status, opened.epoch, opened.table_uuid) == (BatchStatus.CLAIMED, 1, table)
        assert (opened.snapshot_id, opened.files, opened.settled_at) == (None, 0, None)
        assert timedelta(seconds=59) < opened.lease_expires_at - opened.created_at < timedelta(seconds=61)
        async with world.begin() as tx:
            assert await tx.batches.get_by_id(id) == opened
            assert await tx.batches.get_by_id(uuid4()) is None

    async def test_open_for_no_ingestion(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            async with world.begin() as tx:
                await tx.batches.open(id=uuid4(), ingestion_id=uuid4(), run_id=uuid4(), table_uuid=None, lease_seconds=60)

    async def test_a_running_lease_is_renewed(self, world: World) -> None:
        batch = await world.open_batch(await world.ingestion(), lease_seconds=60)
        async with world.begin() as tx:
            assert await tx.batches.renew_lease(batch, seconds=600)
            renewed = await tx.batches.get_by_id(batch.id)
        assert timedelta(seconds=500) < renewed.lease_expires_at - batch.lease_expires_at <= timedelta(seconds=600)
        assert renewed.epoch == 1

    async def test_an_expired_lease_cannot_be_renewed(self, world: World) -> None:
        batch = await world.open_batch(await world.ingestion(), lease_seconds=0)
        async with world.begin() as tx:
            assert not await tx.batches.renew_lease(batch, seconds=60)

    async def test_taking_over_raises_the_epoch_and_shuts_the_old_holder_out(self, world: World) -> None:
        batch = await world.open_batch(await world.ingestion(), lease_seconds=60)
        async with world.begin() as tx:
            taken = await tx.batches.take_over(batch.id, lease_seconds=600, only_expired=False)
        assert (taken.epoch, taken.status) == (2, BatchStatus.CLAIMED)
        assert taken.lease_expires_at > batch.lease_expires_at
        async with world.begin() as tx:
            assert not await tx.batches.renew_lease(batch, seconds=60)
            assert not await tx.batches.commit(batch, snapshot_id=1, files=1)
            assert not await tx.batches.release(batch)
            assert await tx.batches.get_by_id(batch.id) == taken
            assert await tx.batches.renew_lease(taken, seconds=600)
            assert await tx.batches.commit(taken, snapshot_id=2**62, files=3)
            settled = await tx.batches.get_by_id(batch.id)
        assert (settled.status, settled.snapshot_id, settled.files) == (BatchStatus.COMMITTED, 2**62, 3)
        assert settled.settled_at is not None

    async def test_only_an_expired_lease_is_taken_when_that_is_asked(self, world: World) -> None:
        ingestion = await world.ingestion()
        running, expired = await world.open_batch(ingestion, lease_seconds=60), await world.open_batch(ingestion, lease_seconds=0)
        async with world.begin() as tx:
            assert await tx.batches.take_over(running.id, lease_seconds=60, only_expired=True) is None
            assert (await tx.batches.take_over(expired.id, lease_seconds=60, only_expired=True)).epoch == 2
            assert await tx.batches.take_over(expired.id, lease_seconds=60, only_expired=True) is None
            assert await tx.batches.take_over(uuid4(), lease_seconds=60, only_expired=False) is None

    @pytest.mark.parametrize("settled", [BatchStatus.COMMITTED, BatchStatus.RELEASED])
    async def test_a_settled_batch_stays_settled(self, world: World, settled: BatchStatus) -> None:
        batch = await world.open_batch(await world.ingestion(), lease_seconds=60)
        async with world.begin() as tx:
            if settled is BatchStatus.COMMITTED:
                assert await tx.batches.commit(batch, snapshot_id=None, files=0)
            else:
                assert await tx.batches.release(batch)
            before = await tx.batches.get_by_id(batch.id)
            assert before.status is settled
            assert not await tx.batches.commit(batch, snapshot_id=1, files=1)
            assert not await tx.batches.release(batch)
            assert not await tx.batches.renew_lease(batch, seconds=60)
            assert await tx.batches.take_over(batch.id, lease_seconds=60, only_expired=False) is None
            assert await tx.batches.get_by_id(batch.id) == before

    async def test_an_expired_holder_may_still_settle_while_nobody_has_taken_over(self, world: World) -> None:
        batch = await world.open_batch(await world.ingestion(), lease_seconds=0)
        async with world.begin() as tx:
            assert await tx.batches.commit(batch, snapshot_id=1, files=1)

    async def test_abandoned_batches_are_open_ones_of_runs_that_have_ended(self, world: World) -> None:
        ingestion = await world.ingestion()
        lost = await world.run(ingestion, started=True)
        left, settled = [await world.open_batch(ingestion, run_id=lost.id) for _ in range(2)]
        async with world.begin() as tx:
            assert await tx.batches.release(settled)
            assert await tx.batches.get_abandoned(ingestion.id) == []
            await tx.runs.update_status(lost.id, RunStatus.FAILED, at=NOW)
        at_work = await world.run(ingestion, started=True)
        await world.open_batch(ingestion, run_id=at_work.id)
        of_nobody = await world.open_batch(ingestion)
        await world.open_batch(await world.ingestion())
        async with world.begin() as tx:
            assert await tx.batches.get_abandoned(ingestion.id) == [left, of_nobody]


class SchemaVersionRepositoryContract:
    async def test_versions_follow_each_other(self, world: World) -> None:
        ingestion = await world.ingestion()
        first = a_schema_version(ingestion_id=ingestion.id, run_id=uuid4(), schema=a_schema("id", "at: timestamptz"))
        wider = a_schema("id: double", "name: string")
        second = a_schema_version(ingestion_id=ingestion.id, version=2, schema=wider, diff=SchemaDiff.between(first.schema, wider))
        async with world.begin() as tx:
            assert await tx.schema_versions.latest(ingestion.id) is None
            stored = await tx.schema_versions.append(first)
            assert await tx.schema_versions.latest(ingestion.id) == stored
        async with world.begin() as tx:
            newer = await tx.schema_versions.append(second)
            assert await tx.schema_versions.latest(ingestion.id) == newer
        assert (stored.version, stored.run_id, stored.schema, stored.diff) == (1, first.run_id, first.schema, first.diff)
        assert (newer.version, newer.schema, newer.diff) == (2, wider, second.diff)
        assert newer.id > stored.id
        assert stored.tenant_id == world.tenant.id

    async def test_append_for_no_ingestion(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            async with world.begin() as tx:
                await tx.schema_versions.append(a_schema_version(ingestion_id=uuid4()))
