"""What outbox, idempotency keys and `Directory` promise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from domain.errors import ConflictError, ConflictReason
from domain.ingestions.entities import IngestionStatus
from domain.ports.unit_of_work import Subject, Topic
from domain.runs.entities import RunStatus
from domain.tenants import Grants, Principal, Role
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_notified_source, a_tenant


class IdempotencyContract:
    async def test_a_new_key_stands_for_its_subject(self, world: World) -> None:
        subject, other = uuid4(), uuid4()
        async with world.begin() as tx:
            assert await tx.idempotency_keys.claim("create", "key", "same", subject) is None
        async with world.begin() as tx:
            assert await tx.idempotency_keys.claim("create", "key", "same", other) == subject
            assert await tx.idempotency_keys.claim("create", "key", "same", other) == subject

    async def test_another_request_under_the_key_is_refused(self, world: World) -> None:
        async with world.begin() as tx:
            await tx.idempotency_keys.claim("create", "key", "one", uuid4())
        async with world.begin() as tx:
            with pytest.raises(ConflictError) as caught:
                await tx.idempotency_keys.claim("create", "key", "another", uuid4())
        assert caught.value.reason is ConflictReason.IDEMPOTENCY_KEY_REUSED

    async def test_keys_are_the_tenants_and_the_operations_own(self, world: World) -> None:
        async with world.begin() as tx:
            await tx.idempotency_keys.claim("create", "key", "same", uuid4())
            assert await tx.idempotency_keys.claim("run", "key", "other", uuid4()) is None
        async with world.begin(world.other) as tx:
            assert await tx.idempotency_keys.claim("create", "key", "other", uuid4()) is None

    async def test_a_key_is_taken_over_from_the_subject_that_it_stands_for(self, world: World) -> None:
        first, second, third = uuid4(), uuid4(), uuid4()
        async with world.begin() as tx:
            await tx.idempotency_keys.claim("create", "key", "same", first)
            await tx.idempotency_keys.claim("create", "other", "same", first)
            assert await tx.idempotency_keys.take_over("create", "key", first, second)
            assert not await tx.idempotency_keys.take_over("create", "key", first, third)
            assert not await tx.idempotency_keys.take_over("create", "none", first, third)
        async with world.begin(world.other) as tx:
            assert not await tx.idempotency_keys.take_over("create", "key", second, third)
        async with world.begin() as tx:
            assert await tx.idempotency_keys.claim("create", "key", "same", third) == second
            assert await tx.idempotency_keys.claim("create", "other", "same", third) == first

    async def test_old_keys_are_forgotten_and_no_more_than_asked(self, world: World) -> None:
        subject = uuid4()
        for tenant in (world.tenant, world.other, world.tenant):
            async with world.begin(tenant) as tx:
                await tx.idempotency_keys.claim("create", str(uuid4()), "same", subject)
        async with world.begin() as tx:
            await tx.idempotency_keys.claim("create", "key", "same", subject)
        forget = world.directory.forget_idempotency_keys
        assert await forget(older_than_seconds=3_600, limit=10) == 0
        assert await forget(older_than_seconds=-1, limit=3) == 3
        async with world.begin() as tx:
            assert await tx.idempotency_keys.claim("create", "key", "same", uuid4()) == subject, "the oldest go first"
        assert [await forget(older_than_seconds=-1, limit=3) for _ in range(2)] == [1, 0]
        async with world.begin() as tx:
            assert await tx.idempotency_keys.claim("create", "key", "another", subject) is None

    async def test_a_key_whose_transaction_failed_is_new_again(self, world: World) -> None:
        with pytest.raises(ConflictError):
            await _claim_and_fail(world)
        async with world.begin() as tx:
            assert await tx.idempotency_keys.claim("create", "key", "same", uuid4()) is None


class OutboxContract:
    async def test_what_is_added_is_taken_oldest_first(self, world: World) -> None:
        subjects = [uuid4() for _ in range(3)]
        async with world.begin() as tx:
            await tx.outbox.add(Topic.RUN, subjects[0])
            await tx.outbox.add(Topic.INGESTION, subjects[1])
        async with world.begin(world.other) as tx:
            await tx.outbox.add(Topic.RUN, subjects[2])
        first = await world.directory.take_outbox(2, visible_after_seconds=60)
        rest = await world.directory.take_outbox(2, visible_after_seconds=60)
        assert [(e.topic, e.subject, e.attempts) for e in (*first, *rest)] == [
            (Topic.RUN, Subject(world.tenant.id, subjects[0]), 0),
            (Topic.INGESTION, Subject(world.tenant.id, subjects[1]), 0),
            (Topic.RUN, Subject(world.other.id, subjects[2]), 0),
        ]
        assert len(first) == 2
        assert await world.directory.take_outbox(2, visible_after_seconds=60) == []

    async def test_what_is_rolled_back_is_not_there(self, world: World) -> None:
        with pytest.raises(ConflictError):
            await _claim_and_fail(world)
        assert await world.directory.take_outbox(10, visible_after_seconds=60) == []

    async def test_what_is_not_finished_comes_again(self, world: World) -> None:
        await _added(world)
        (first,) = await world.directory.take_outbox(10, visible_after_seconds=0)
        (second,) = await world.directory.take_outbox(10, visible_after_seconds=0)
        assert second == first, "taking it is no try that has failed"
        await world.directory.finish_outbox(second)
        assert await world.directory.take_outbox(10, visible_after_seconds=0) == []

    async def test_a_subject_waits_once_and_its_tries_begin_anew(self, world: World) -> None:
        subject = await _added(world)
        (first,) = await world.directory.take_outbox(10, visible_after_seconds=60)
        await world.directory.postpone_outbox(first, seconds=0, error="not now")
        (failed,) = await world.directory.take_outbox(10, visible_after_seconds=60)
        assert failed.attempts == 1
        await _added(world, subject)
        (second,) = await world.directory.take_outbox(10, visible_after_seconds=60)
        assert (second.id, second.subject, second.attempts) == (first.id, first.subject, 0)
        assert second.revision > first.revision

    async def test_an_entry_added_again_survives_the_end_of_the_earlier_one(self, world: World) -> None:
        subject = await _added(world)
        (earlier,) = await world.directory.take_outbox(10, visible_after_seconds=60)
        await _added(world, subject)
        await world.directory.finish_outbox(earlier)
        await world.directory.postpone_outbox(earlier, seconds=600, error="too late to count")
        (later,) = await world.directory.take_outbox(10, visible_after_seconds=60)
        assert later.subject == earlier.subject

    async def test_a_postponed_entry_waits(self, world: World) -> None:
        await _added(world)
        (entry,) = await world.directory.take_outbox(10, visible_after_seconds=60)
        await world.directory.postpone_outbox(entry, seconds=0, error="what failed: \0\ud800")
        (again,) = await world.directory.take_outbox(10, visible_after_seconds=0)
        assert again == replace(entry, attempts=1)
        await world.directory.postpone_outbox(again, seconds=0, error=None)
        assert await world.directory.take_outbox(10, visible_after_seconds=0) == [again]
        await world.directory.postpone_outbox(again, seconds=600, error=None)
        assert await world.directory.take_outbox(10, visible_after_seconds=0) == []

    async def test_topics_of_one_subject_are_two_entries(self, world: World) -> None:
        subject = await _added(world)
        async with world.begin() as tx:
            await tx.outbox.add(Topic.INGESTION, subject)
        assert len(await world.directory.take_outbox(10, visible_after_seconds=60)) == 2

    async def test_one_topic_is_taken_and_the_others_wait(self, world: World) -> None:
        subject = await _added(world)
        async with world.begin() as tx:
            await tx.outbox.add(Topic.INGESTION, subject)
            await tx.outbox.add(Topic.INGESTION, another := uuid4())
        taken = await world.directory.take_outbox(10, topic=Topic.INGESTION, visible_after_seconds=60)
        assert [(entry.topic, entry.subject.id) for entry in taken] == [(Topic.INGESTION, subject), (Topic.INGESTION, another)]
        (left,) = await world.directory.take_outbox(10, visible_after_seconds=60)
        assert left.topic is Topic.RUN

    async def test_tenants_do_not_share_entries(self, world: World) -> None:
        subject = await _added(world)
        async with world.begin(world.other) as tx:
            await tx.outbox.add(Topic.RUN, subject)
        taken = await world.directory.take_outbox(10, visible_after_seconds=60)
        assert {entry.subject for entry in taken} == {Subject(world.tenant.id, subject), Subject(world.other.id, subject)}


class DirectoryContract:
    async def test_tenants(self, world: World) -> None:
        assert await world.directory.tenant(world.tenant.id) == world.tenant
        assert await world.directory.tenant(uuid4()) is None
        assert await world.directory.tenant_by_name(world.other.name) == world.other
        assert [await world.directory.tenant_by_name(name) for name in ("", "nobody", "nul\0", "\ud800")] == [None] * 4

    async def test_ensure_tenant_gives_the_tenant_of_that_name_new_grants(self, world: World) -> None:
        grants = Grants(local_roots=("/a", "/b"), namespaces=("lake",), credentials=())
        ensured = await world.directory.ensure_tenant(a_tenant(name=world.tenant.name, grants=grants))
        assert ensured == replace(world.tenant, grants=grants)
        assert await world.directory.tenant(world.tenant.id) == ensured
        assert await world.directory.tenant(world.other.id) == world.other

    async def test_principal_by_key(self, world: World) -> None:
        await world.directory.ensure_api_key(world.tenant.id, name="mine", prefix="abc", digest=b"1" * 32, role=Role.OPERATOR)
        found = await world.directory.principal_by_key("abc", b"1" * 32)
        assert found == Principal(world.tenant, Role.OPERATOR, found.api_key_id, "mine")
        assert found.api_key_id is not None
        assert await world.directory.principal_by_key("abc", b"2" * 32) is None
        assert await world.directory.principal_by_key("abd", b"1" * 32) is None

    async def test_a_known_prefix_keeps_its_key(self, world: World) -> None:
        for digest, role in ((b"1" * 32, Role.ADMIN), (b"2" * 32, Role.VIEWER)):
            await world.directory.ensure_api_key(world.tenant.id, name="mine", prefix="abc", digest=digest, role=role)
        assert (await world.directory.principal_by_key("abc", b"1" * 32)).role is Role.ADMIN
        assert await world.directory.principal_by_key("abc", b"2" * 32) is None

    async def test_old_activity_is_forgotten_the_oldest_first_and_no_more_than_asked(self, world: World) -> None:
        for _ in range(3):
            await world.ingestion()
        assert await world.directory.forget_activity(older_than_seconds=3_600, limit=10) == 0
        assert await world.directory.forget_activity(older_than_seconds=-1, limit=2) == 2
        assert await world.directory.forget_activity(older_than_seconds=-1, limit=2) == 1
        assert await world.directory.forget_activity(older_than_seconds=-1, limit=2) == 0

    async def test_due_ingestions_are_active_ones_whose_time_has_come_longest_due_first(self, world: World) -> None:
        async def due(minutes: int, status: IngestionStatus = IngestionStatus.ACTIVE, **fields: object) -> object:
            return await world.ingestion(status=status, next_due_at=NOW + timedelta(minutes=minutes), **fields)

        now, earlier = await due(0), await due(-10)
        await due(1)
        await due(-5, IngestionStatus.PAUSED)
        await world.ingestion(status=IngestionStatus.ACTIVE)
        others = await due(-20, tenant=world.other)
        assert await world.directory.due_ingestions(NOW, 10) == [others, earlier, now]
        assert await world.directory.due_ingestions(NOW, 1) == [others]

    async def test_active_ingestions_with_a_queue_by_id_a_page_at_a_time(self, world: World) -> None:
        active = {"status": IngestionStatus.ACTIVE}
        listening = [
            await world.ingestion(tenant, source=a_notified_source(f"queue {number}"), **active)
            for number, tenant in enumerate((world.tenant, world.other, world.tenant))
        ]
        await world.ingestion(**active)
        await world.ingestion(source=a_notified_source("paused"), status=IngestionStatus.PAUSED)
        listening.sort(key=lambda ingestion: ingestion.id)
        assert await world.directory.listening_ingestions(10) == listening
        assert await world.directory.listening_ingestions(2) == listening[:2]
        assert await world.directory.listening_ingestions(2, after=listening[1].id) == listening[2:]

    async def test_all_ingestions_by_id_a_page_at_a_time(self, world: World) -> None:
        made = [await world.ingestion(), await world.ingestion(tenant=world.other), await world.ingestion()]
        made.sort(key=lambda ingestion: ingestion.id)
        assert await world.directory.ingestions(10) == made
        assert await world.directory.ingestions(2) == made[:2]
        assert await world.directory.ingestions(2, after=made[1].id) == made[2:]

    async def test_waiting_runs_are_queued_or_cancelling_for_a_while_the_oldest_first(self, world: World) -> None:
        # On the database's clock, which is not the tests': so far apart that it does not matter.
        ages = {RunStatus.QUEUED: 3, RunStatus.CANCELLING: 2, RunStatus.RUNNING: 4, RunStatus.SUCCESS: 5}
        long_ago = datetime(2001, 1, 1, tzinfo=UTC)
        runs = {
            status: await world.run(await world.ingestion(), status=status, queued_at=long_ago - timedelta(hours=hours))
            for status, hours in ages.items()
        }
        await world.run(await world.ingestion(), queued_at=datetime(2999, 1, 1, tzinfo=UTC))
        waiting = [Subject(world.tenant.id, runs[status].id) for status in (RunStatus.QUEUED, RunStatus.CANCELLING)]
        assert await world.directory.waiting_runs(10, queued_for_seconds=60) == waiting
        assert await world.directory.waiting_runs(1, queued_for_seconds=60) == waiting[:1]

    async def test_lost_runs_are_active_ones_whose_lease_has_expired(self, world: World) -> None:
        async def run(lease_seconds: float, status: RunStatus | None = None) -> Subject:
            run = await world.run(await world.ingestion(), started=True, lease_seconds=lease_seconds)
            if status:
                async with world.begin() as tx:
                    await tx.runs.update_status(run.id, status, at=NOW)
            return Subject(world.tenant.id, run.id)

        lost = [await run(0), await run(0, RunStatus.CANCELLING)]
        await run(60)
        await run(0, RunStatus.SUCCESS)
        await world.run(await world.ingestion())
        assert await world.directory.lost_runs(10) == lost
        assert await world.directory.lost_runs(1) == lost[:1]

    async def test_a_lost_run_that_is_postponed_lets_the_others_have_their_turn(self, world: World) -> None:
        first, second = [await world.run(await world.ingestion(), started=True, lease_seconds=0) for _ in range(2)]
        running = await world.run(await world.ingestion(), started=True, lease_seconds=60)
        lost = [Subject(run.tenant_id, run.id) for run in (first, second)]
        await world.directory.postpone_lost_run(lost[0], seconds=60)
        assert await world.directory.lost_runs(10) == lost[1:]
        await world.directory.postpone_lost_run(lost[1], seconds=0)
        # Of a run that is not lost nothing changes, and nothing of what is not there.
        await world.directory.postpone_lost_run(Subject(running.tenant_id, running.id), seconds=0)
        await world.directory.postpone_lost_run(Subject(world.tenant.id, uuid4()), seconds=0)
        assert await world.directory.lost_runs(10) == lost[1:]

    async def test_lost_batches_are_claimed_ones_whose_lease_has_expired(self, world: World) -> None:
        ingestion = await world.ingestion()
        lost = [await world.open_batch(ingestion, lease_seconds=0) for _ in range(2)]
        await world.open_batch(ingestion, lease_seconds=60)
        settled = await world.open_batch(ingestion, lease_seconds=0)
        async with world.begin() as tx:
            await tx.batches.release(settled)
        subjects = [Subject(world.tenant.id, batch.id) for batch in lost]
        assert await world.directory.lost_batches(10) == subjects
        assert await world.directory.lost_batches(1) == subjects[:1]


async def _added(world: World, subject: object = None) -> object:
    subject = subject or uuid4()
    async with world.begin() as tx:
        await tx.outbox.add(Topic.RUN, subject)
    return subject


async def _claim_and_fail(world: World) -> None:
    async with world.begin() as tx:
        await tx.outbox.add(Topic.RUN, uuid4())
        await tx.idempotency_keys.claim("create", "key", "same", uuid4())
        raise ConflictError(ConflictReason.WRONG_STATE, "something else went wrong")
