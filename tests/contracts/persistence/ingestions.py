"""What an `IngestionRepository` promises."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import uuid4

import pytest

from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.ingestions.entities import (
    BadRowPolicy,
    ColumnHint,
    EventQueueState,
    FormatSpec,
    FormatType,
    Ingestion,
    IngestionStatus,
    Policies,
    Reset,
)
from domain.ledger.entities import Batch, ProcessedFile
from domain.runs.entities import Run
from domain.states import INGESTION
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_destination, a_notified_source, a_schedule, a_schema_version, a_source, an_ingestion, loaded


class IngestionRepositoryContract:
    @pytest.mark.scenario(62)
    async def test_create_stores_every_field(self, world: World) -> None:
        ingestion = an_ingestion(
            tenant_id=world.tenant.id,
            status=IngestionStatus.ACTIVE,
            source=a_source(glob="**/*.csv", modified_after=NOW, min_age_seconds=60, credential="lake"),
            format=FormatSpec(FormatType.CSV, {"delimiter": ";", "null_values": ["", "NA"]}, (ColumnHint("at", "timestamptz"),)),
            destination=a_destination(partition_by=("day(at)", "bucket(16, id)"), sort_by=("id",)),
            schedule=a_schedule(timezone="Europe/Berlin"),
            policies=Policies(bad_rows=BadRowPolicy.SKIP_ROW, max_files_per_run=10, max_bytes_per_run=2**50, timeout_seconds=60),
            consecutive_failures=2,
            last_run_id=uuid4(),
            last_run_at=NOW,
            next_due_at=NOW + timedelta(hours=1),
        )
        async with world.begin() as tx:
            assert await tx.ingestions.create(ingestion) == ingestion
        async with world.begin() as tx:
            assert await tx.ingestions.get_by_id(ingestion.id) == ingestion

    async def test_a_queue_belongs_to_one_ingestion_among_all_tenants(self, world: World) -> None:
        first = await world.ingestion(source=a_notified_source("one"))
        second = await world.ingestion(world.other, source=a_notified_source("two"))
        with pytest.raises(ConflictError) as caught:
            await world.ingestion(world.other, source=a_notified_source("one"))
        assert (caught.value.reason, caught.value.message) == (ConflictReason.QUEUE_TAKEN, "the queue belongs to an ingestion")
        with pytest.raises(ConflictError) as caught:
            async with world.begin(world.other) as tx:
                await tx.ingestions.update(replace(second, source=first.source))
        assert caught.value.reason is ConflictReason.QUEUE_TAKEN
        async with world.begin() as tx:
            await tx.ingestions.update(replace(first, source=a_source()))
        async with world.begin(world.other) as tx:
            assert (await tx.ingestions.update(replace(second, source=first.source))).source == first.source

    async def test_looks_are_remembered_and_are_nobodys_change(self, world: World) -> None:
        ingestion = await world.ingestion(source=a_notified_source())
        state = EventQueueState(NOW, waiting=1, hidden=2, dead_letters=3, problem="why")
        async with world.begin() as tx:
            await tx.ingestions.set_last_listed(ingestion.id, NOW)
            await tx.ingestions.set_event_queue(ingestion.id, state)
        seen = replace(ingestion, last_listed_at=NOW, event_queue=state)
        async with world.begin() as tx:
            assert await tx.ingestions.get_by_id(ingestion.id) == seen
            changed = await tx.ingestions.update(replace(ingestion, name="other"))
            assert (changed.last_listed_at, changed.event_queue) == (NOW, state), "an update leaves them alone"
            reset = await tx.ingestions.begin_reset(ingestion.id, Reset(uuid4()), generation=1, checkpoint_path="x")
            assert (reset.last_listed_at, reset.event_queue) == (None, state)
            await tx.ingestions.set_last_listed(ingestion.id, NOW)
            await tx.ingestions.set_last_listed(ingestion.id, None)
            found = await tx.ingestions.get_by_id(ingestion.id)
            assert found is not None
            assert found.last_listed_at is None

    async def test_the_owner_is_the_one_whose_transaction_it_is(self, world: World) -> None:
        async with world.begin() as tx:
            created = await tx.ingestions.create(an_ingestion(tenant_id=world.other.id))
        assert created.tenant_id == world.tenant.id

    async def test_what_is_rolled_back_was_never_there(self, world: World) -> None:
        ingestion = an_ingestion(tenant_id=world.tenant.id)
        with suppress(ZeroDivisionError):
            async with world.begin() as tx:
                await tx.ingestions.create(ingestion)
                raise ZeroDivisionError
        async with world.begin() as tx:
            assert await tx.ingestions.get_by_id(ingestion.id) is None

    async def test_a_name_is_taken_once_in_a_tenant(self, world: World) -> None:
        first = await world.ingestion(name="orders")
        with pytest.raises(ConflictError) as caught:
            await world.ingestion(name="orders")
        assert caught.value.reason is ConflictReason.DUPLICATE_NAME
        assert "'orders'" in caught.value.message
        assert (await world.ingestion(world.other, name="orders")).name == first.name

    async def test_a_destination_is_taken_once_among_all_tenants(self, world: World) -> None:
        first = await world.ingestion()
        with pytest.raises(ConflictError) as caught:
            await world.ingestion(world.other, destination=first.destination)
        assert caught.value.reason is ConflictReason.DESTINATION_TAKEN
        assert first.name not in caught.value.message

    async def test_a_transaction_goes_on_after_a_conflict(self, world: World) -> None:
        await world.ingestion(name="orders")
        async with world.begin() as tx:
            with pytest.raises(ConflictError):
                await tx.ingestions.create(an_ingestion(name="orders"))
            created = await tx.ingestions.create(an_ingestion(name="returns"))
        async with world.begin() as tx:
            assert await tx.ingestions.get_by_id(created.id) == created

    @pytest.mark.scenario(63)
    async def test_get_by_id(self, world: World) -> None:
        ingestion = await world.ingestion()
        async with world.begin() as tx:
            assert await tx.ingestions.get_by_id(ingestion.id) == ingestion
            assert await tx.ingestions.get_by_id(ingestion.id, for_update=True) == ingestion
            assert await tx.ingestions.get_by_id(uuid4()) is None

    @pytest.mark.scenario(64)
    async def test_get_by_tenant_pages_by_id_through_the_tenants_own(self, world: World) -> None:
        await world.ingestion(world.other)
        mine = sorted([(await world.ingestion()).id for _ in range(3)])
        async with world.begin() as tx:
            first = await tx.ingestions.get_by_tenant(limit=2)
            rest = await tx.ingestions.get_by_tenant(limit=2, after=first[-1].id)
        assert [i.id for i in first] == mine[:2]
        assert [i.id for i in rest] == mine[2:]

    @pytest.mark.scenario(65)
    async def test_get_active_ingestions(self, world: World) -> None:
        ingestions = [await world.ingestion(status=status) for status in (*IngestionStatus, IngestionStatus.ACTIVE)]
        await world.ingestion(world.other, status=IngestionStatus.ACTIVE)
        async with world.begin() as tx:
            active = await tx.ingestions.get_active_ingestions()
        assert [i.id for i in active] == sorted(i.id for i in ingestions if i.status is IngestionStatus.ACTIVE)
        assert len(active) == 2

    @pytest.mark.scenario(66, 137)
    async def test_update_stores_what_may_change_and_touches_updated_at(self, world: World) -> None:
        before = await world.ingestion()
        wanted = replace(
            before,
            name="renamed",
            source=a_source(glob="*.csv"),
            format=FormatSpec(FormatType.CSV),
            schedule=a_schedule(),
            policies=Policies(max_file_retries=9),
        )
        async with world.begin() as tx:
            updated = await tx.ingestions.update(wanted)
        assert updated == replace(wanted, version=2, updated_at=updated.updated_at)
        assert updated.updated_at > before.updated_at
        async with world.begin() as tx:
            assert await tx.ingestions.get_by_id(before.id) == updated
            again = await tx.ingestions.update(replace(updated, name="again"))
        assert again.updated_at > updated.updated_at

    async def test_update_leaves_alone_what_other_methods_own(self, world: World) -> None:
        seen = await world.ingestion(status=IngestionStatus.ACTIVE)
        run_id = uuid4()
        async with world.begin() as tx:
            await tx.ingestions.set_next_due(seen.id, NOW)
            await tx.ingestions.update_last_run(seen.id, run_id, NOW, consecutive_failures=3)
        async with world.begin() as tx:
            stored = await tx.ingestions.update(replace(seen, name="new", status=IngestionStatus.PAUSED, tenant_id=world.other.id))
        assert (stored.status, stored.next_due_at, stored.tenant_id) == (IngestionStatus.ACTIVE, NOW, world.tenant.id)
        assert (stored.last_run_id, stored.last_run_at, stored.consecutive_failures) == (run_id, NOW, 3)

    async def test_a_reset_is_stored_until_it_is_done(self, world: World) -> None:
        before = await world.ingestion()
        table = uuid4()
        first = Reset(uuid4(), drop_table=table, remove_rows=True, forget_files=True, path_prefix="s3://landing/a")
        async with world.begin() as tx:
            await tx.ingestions.set_table(before.id, table)
            begun = await tx.ingestions.begin_reset(before.id, first, generation=1, checkpoint_path="file:///checkpoints/2")
            assert await tx.ingestions.get_table(before.id) == table
        assert (begun.reset, begun.generation, begun.checkpoint_path, begun.version) == (first, 1, "file:///checkpoints/2", 2)
        second = Reset(uuid4())
        async with world.begin() as tx:
            assert await tx.ingestions.get_by_id(before.id) == begun
            begun = await tx.ingestions.begin_reset(before.id, second, generation=2, checkpoint_path="file:///checkpoints/3")
            # A new generation has no table yet.
            assert (begun.generation, await tx.ingestions.get_table(before.id)) == (2, None)
        async with world.begin() as tx:
            assert [await tx.ingestions.finish_reset(before.id, reset.id) for reset in (first, second, second)] == [False, True, False]
            done = await tx.ingestions.get_by_id(before.id)
        assert (done.reset, done.generation, done.reset_pending) == (None, 2, False)

    async def test_a_reset_of_no_ingestion(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            async with world.begin() as tx:
                await tx.ingestions.begin_reset(uuid4(), Reset(uuid4()), generation=1, checkpoint_path="")

    async def test_update_of_what_has_changed_since_is_refused(self, world: World) -> None:
        seen = await world.ingestion()
        async with world.begin() as tx:
            await tx.ingestions.update(replace(seen, name="first"))
        with pytest.raises(ConflictError) as caught:
            async with world.begin() as tx:
                await tx.ingestions.update(replace(seen, name="second"))
        assert caught.value.reason is ConflictReason.STALE_VERSION
        async with world.begin() as tx:
            assert (await tx.ingestions.get_by_id(seen.id)).name == "first"

    async def test_update_to_a_taken_name_is_refused(self, world: World) -> None:
        await world.ingestion(name="orders")
        ingestion = await world.ingestion()
        with pytest.raises(ConflictError) as caught:
            async with world.begin() as tx:
                await tx.ingestions.update(replace(ingestion, name="orders"))
        assert caught.value.reason is ConflictReason.DUPLICATE_NAME

    @pytest.mark.scenario(68)
    async def test_update_status_goes_by_the_declared_transitions(self, world: World) -> None:
        for status, to in itertools.product(IngestionStatus, IngestionStatus):
            ingestion = await world.ingestion(status=status)
            async with world.begin() as tx:
                if INGESTION.allows(status, to):
                    ingestion = await tx.ingestions.update_status(ingestion.id, to, next_due_at=NOW)
                    assert (ingestion.status, ingestion.next_due_at, ingestion.version) == (to, NOW, 2)
                else:
                    with pytest.raises(ConflictError) as caught:
                        await tx.ingestions.update_status(ingestion.id, to, next_due_at=NOW)
                    assert caught.value.reason is ConflictReason.WRONG_STATE
                assert await tx.ingestions.get_by_id(ingestion.id) == ingestion

    async def test_update_status_of_nothing(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            async with world.begin() as tx:
                await tx.ingestions.update_status(uuid4(), IngestionStatus.ACTIVE, next_due_at=None)

    async def test_becoming_active_forgets_earlier_failures(self, world: World) -> None:
        ingestion = await world.ingestion(status=IngestionStatus.ERROR, consecutive_failures=5)
        async with world.begin() as tx:
            assert (await tx.ingestions.update_status(ingestion.id, IngestionStatus.PAUSED, next_due_at=None)).consecutive_failures == 5
            assert (await tx.ingestions.update_status(ingestion.id, IngestionStatus.ACTIVE, next_due_at=None)).consecutive_failures == 0

    @pytest.mark.scenario(69)
    async def test_update_last_run(self, world: World) -> None:
        ingestion, run_id = await world.ingestion(), uuid4()
        async with world.begin() as tx:
            await tx.ingestions.update_last_run(ingestion.id, run_id, NOW, consecutive_failures=1)
            stored = await tx.ingestions.get_by_id(ingestion.id)
        expected = replace(ingestion, last_run_id=run_id, last_run_at=NOW, consecutive_failures=1, updated_at=stored.updated_at)
        assert stored == expected

    async def test_set_next_due(self, world: World) -> None:
        ingestion = await world.ingestion()
        async with world.begin() as tx:
            await tx.ingestions.set_next_due(ingestion.id, NOW)
            stored = await tx.ingestions.get_by_id(ingestion.id)
            assert (stored.next_due_at, stored.version) == (NOW, 1)
            await tx.ingestions.set_next_due(ingestion.id, None)
            assert (await tx.ingestions.get_by_id(ingestion.id)).next_due_at is None

    async def test_the_table_is_remembered(self, world: World) -> None:
        ingestion, table = await world.ingestion(), uuid4()
        async with world.begin() as tx:
            assert await tx.ingestions.get_table(ingestion.id) is None
            await tx.ingestions.set_table(ingestion.id, table)
        async with world.begin() as tx:
            assert await tx.ingestions.get_table(ingestion.id) == table

    async def test_how_many_snapshots_were_seen_is_remembered_and_is_no_change(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        async with world.begin() as tx:
            assert [await tx.ingestions.see_snapshots(ingestion.id, snapshots) for snapshots in (49, 51, 3)] == [None, 49, 51]
            assert await tx.ingestions.see_snapshots(other.id, 1) is None
            assert await tx.ingestions.see_snapshots(uuid4(), 1) is None
            assert await tx.ingestions.get_by_id(ingestion.id) == ingestion

    @pytest.mark.scenario(67, 136)
    async def test_delete_takes_all_that_belongs_to_the_ingestion(self, world: World) -> None:
        gone, kept = await _filled_ingestion(world), await _filled_ingestion(world)
        async with world.begin() as tx:
            assert await tx.ingestions.delete(gone.ingestion.id)
            assert not await tx.ingestions.delete(gone.ingestion.id)
        assert await _what_is_there(world, gone) == (False, False, False, False, 0, 0)
        assert await _what_is_there(world, kept) == (True, True, True, True, 2, 1)

    async def test_delete_frees_name_and_destination(self, world: World) -> None:
        first = await world.ingestion()
        async with world.begin() as tx:
            await tx.ingestions.delete(first.id)
        second: Ingestion = await world.ingestion(name=first.name, destination=first.destination)
        assert second.id != first.id


@dataclass
class _Filled:
    ingestion: Ingestion
    run: Run
    batch: Batch
    file: ProcessedFile


async def _filled_ingestion(world: World) -> _Filled:
    """With a run, a batch, two files, an attempt at one of them, and a schema version."""
    ingestion = await world.ingestion()
    await world.discover(ingestion, 2)
    run = await world.run(ingestion)
    batch, files = await world.claim(ingestion, files=1, run_id=run.id)
    async with world.begin() as tx:
        await tx.files.mark_success(batch, [loaded(files[0])], snapshot_id=1)
        await tx.schema_versions.append(a_schema_version(ingestion_id=ingestion.id))
    return _Filled(ingestion, run, batch, files[0])


async def _what_is_there(world: World, filled: _Filled) -> tuple[bool, bool, bool, bool, int, int]:
    """Ingestion, run, batch and schema version; how many files and attempts."""
    async with world.begin() as tx:
        found = (
            await tx.ingestions.get_by_id(filled.ingestion.id),
            await tx.runs.get_by_id(filled.run.id),
            await tx.batches.get_by_id(filled.batch.id),
            await tx.schema_versions.latest(filled.ingestion.id),
        )
    ingestion, run, batch, version = (entity is not None for entity in found)
    return ingestion, run, batch, version, len(await world.files(filled.ingestion)), len(await world.attempts(filled.file))
