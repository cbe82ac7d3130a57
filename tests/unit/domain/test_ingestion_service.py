"""The life of an ingestion: created, changed, activated, paused, resumed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import ConflictError, ConflictReason, FieldError, NotFoundError, ValidationError
from domain.ingestions.checkpoints import Checkpoints
from domain.ingestions.entities import Ingestion, IngestionStatus, Schedule
from domain.ingestions.inputs import IngestionCreate, IngestionUpdate
from domain.ingestions.service import IngestionService
from domain.ports.object_store import SourceUnavailableError
from domain.ports.unit_of_work import Subject, Topic
from domain.tenants import Grants, Principal
from tests.factories import BUCKET, NOW, a_create_input, a_principal, a_tenant
from tests.workbench import Workbench

HOURLY = {"cron": "0 * * * *"}


@pytest.fixture
def service(bench: Workbench) -> IngestionService:
    bench.stores.add_location(BUCKET)
    return IngestionService(bench.unit_of_work, bench.stores, bench.clock, Checkpoints("s3://checkpoints/root/"))


@pytest.fixture
def me(bench: Workbench) -> Principal:
    return a_principal(bench.tenant)


async def create(service: IngestionService, me: Principal, **fields: Any) -> Ingestion:
    return await service.create_ingestion(me, IngestionCreate.parse(a_create_input(**fields)))


async def update(service: IngestionService, me: Principal, ingestion: Ingestion, **fields: Any) -> Ingestion:
    return await service.update_ingestion(me, ingestion.id, IngestionUpdate.parse(fields))


async def outbox(bench: Workbench) -> list[tuple[Topic, Subject]]:
    return [(entry.topic, entry.subject) for entry in await bench.directory.take_outbox(100, visible_after_seconds=0)]


class TestCreate:
    async def test_a_draft_is_stored_and_to_be_reconciled(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        created = await create(service, me, schedule=HOURLY)
        assert (created.status, created.version, created.generation, created.next_due_at) == (IngestionStatus.DRAFT, 1, 1, None)
        assert (created.tenant_id, created.created_at, created.updated_at) == (bench.tenant.id, NOW, NOW)
        assert await bench.stored(created) == created
        assert await outbox(bench) == [(Topic.INGESTION, Subject(bench.tenant.id, created.id))]

    @pytest.mark.scenario(24)
    async def test_each_has_a_checkpoint_path_of_its_own(self, service: IngestionService, me: Principal) -> None:
        created = [await create(service, me) for _ in range(3)]
        assert [i.checkpoint_path for i in created] == [f"s3://checkpoints/root/{i.tenant_id}/{i.id}/1" for i in created]
        assert len({i.checkpoint_path for i in created}) == 3

    async def test_activated_at_once_it_is_due_at_the_next_firing(self, service: IngestionService, me: Principal) -> None:
        created = await create(service, me, schedule=HOURLY, activate=True)
        assert (created.status, created.next_due_at) == (IngestionStatus.ACTIVE, NOW + timedelta(hours=1))
        assert (await create(service, me, activate=True)).next_due_at is None

    @pytest.mark.parametrize(
        ("reason", "field"),
        [(SourceUnavailableError.NO_CREDENTIALS, "credential"), (SourceUnavailableError.UNREACHABLE, "path")],
    )
    async def test_a_source_that_cannot_be_listed_is_refused(
        self, service: IngestionService, me: Principal, bench: Workbench, reason: str, field: str
    ) -> None:
        bench.stores.check_failure = SourceUnavailableError(reason, "why, for a person")
        with pytest.raises(ValidationError) as caught:
            await create(service, me)
        assert [(f.path, f.message) for f in caught.value.fields] == [(("source", field), "why, for a person")]
        await _assert_nothing_stored(service, me, bench)

    async def test_what_is_not_granted_is_refused(self, service: IngestionService, bench: Workbench) -> None:
        grants = Grants(local_roots=("/granted",), namespaces=("mine",), credentials=("default",))
        poor = a_principal(await bench.directory.ensure_tenant(a_tenant(grants=grants)))
        mine = {"database": "mine", "table": "events"}
        for fields, path in (
            ({"destination": {"database": "lake", "table": "x"}}, ("destination", "database")),
            ({"destination": mine, "source": {"type": "LOCAL", "path": "/elsewhere"}}, ("source", "path")),
            ({"destination": mine, "source": {"path": BUCKET, "credential": "x"}}, ("source", "credential")),
        ):
            with pytest.raises(ValidationError) as caught:
                await create(service, poor, **fields)
            assert [f.path for f in caught.value.fields] == [path]
        await _assert_nothing_stored(service, poor, bench)
        assert (await create(service, poor, destination=mine)).name

    async def test_conflicts_store_nothing(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        first = await create(service, me, name="orders")
        await outbox(bench)
        destination = {"database": first.destination.database, "table": first.destination.table}
        for fields, reason in (
            ({"name": "orders"}, ConflictReason.DUPLICATE_NAME),
            ({"destination": destination}, ConflictReason.DESTINATION_TAKEN),
        ):
            with pytest.raises(ConflictError) as caught:
                await create(service, me, idempotency_key="k", **fields)
            assert caught.value.reason is reason
        assert len(await service.list_ingestions(me)) == len(await outbox(bench)) == 1
        assert (await create(service, me, idempotency_key="k")).name != "orders"

    async def test_the_queue_has_to_answer_and_to_be_free(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        source = {"path": BUCKET, "discovery": "EVENTS", "queue": "notifications"}
        with pytest.raises(ValidationError) as caught:
            await create(service, me, source=source)
        assert caught.value.fields == (FieldError(("source", "queue"), "there is no queue notifications"),)
        await _assert_nothing_stored(service, me, bench)
        bench.event_queue()
        created = await create(service, me, source=source)
        assert (created.source.queue_id, created.last_listed_at, created.event_queue) == ("fake notifications", None, None)
        with pytest.raises(ConflictError) as taken:
            await create(service, me, source=source)
        assert taken.value.reason is ConflictReason.QUEUE_TAKEN

    async def test_a_request_that_comes_again_is_answered_and_not_repeated(self, service: IngestionService, me: Principal) -> None:
        input = IngestionCreate.parse(a_create_input(idempotency_key="k"))
        created = await asyncio.gather(*(service.create_ingestion(me, input) for _ in range(20)))
        assert len({i.id for i in created}) == 1
        assert len(await service.list_ingestions(me)) == 1
        with pytest.raises(ConflictError) as caught:
            await create(service, me, idempotency_key="k")
        assert caught.value.reason is ConflictReason.IDEMPOTENCY_KEY_REUSED

    async def test_what_a_request_made_and_is_gone_is_made_once_more(
        self, service: IngestionService, me: Principal, bench: Workbench
    ) -> None:
        input = IngestionCreate.parse(a_create_input(idempotency_key="k"))
        first = await service.create_ingestion(me, input)
        async with bench.unit_of_work(me.tenant.id) as tx:
            assert await tx.ingestions.delete(first.id)
        again = await asyncio.gather(*(service.create_ingestion(me, input) for _ in range(20)))
        assert {i.id for i in again} == {again[0].id}
        assert again[0].id != first.id
        assert await service.list_ingestions(me) == [again[0]]


class TestUpdate:
    async def test_what_is_given_changes_and_the_rest_stays(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        created = await create(service, me, source={"path": BUCKET, "glob": "*.json"})
        await outbox(bench)
        changed = await update(service, me, created, name="renamed", policies={"timeout_seconds": 60})
        assert (changed.name, changed.policies.timeout_seconds, changed.version) == ("renamed", 60, 2)
        assert (changed.source, changed.format, changed.destination) == (created.source, created.format, created.destination)
        assert await outbox(bench) == [(Topic.INGESTION, Subject(bench.tenant.id, created.id))]

    async def test_another_source_is_listed_by_the_next_run(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        bench.event_queue()
        bench.stores.credentials = ["other"]
        created = await create(service, me, source={"path": BUCKET, "discovery": "EVENTS", "queue": "notifications"})

        async def listed_after(**fields: Any) -> bool:
            async with bench.unit_of_work(bench.tenant.id) as tx:
                await tx.ingestions.set_last_listed(created.id, NOW)
            changed = await update(service, me, created, **fields)
            assert changed.source.queue_id == "fake notifications"
            return changed.last_listed_at is None

        assert not await listed_after(name="renamed")
        assert await listed_after(glob="*.json")
        assert await listed_after(credential="other")

    async def test_the_expected_version_is_held_to(self, service: IngestionService, me: Principal) -> None:
        created = await create(service, me)
        assert (await update(service, me, created, name="a", expected_version=1)).version == 2
        for version in (1, 3):
            with pytest.raises(ConflictError) as caught:
                await update(service, me, created, name="b", expected_version=version)
            assert caught.value.reason is ConflictReason.STALE_VERSION

    async def test_of_concurrent_updates_none_is_lost(self, service: IngestionService, me: Principal) -> None:
        created = await create(service, me)
        fields = [{"name": "new"}, {"glob": "*.csv"}, {"policies": {"timeout_seconds": 60}}]
        results = await asyncio.gather(*(update(service, me, created, **f) for f in fields), return_exceptions=True)
        kept = [result for result in results if isinstance(result, Ingestion)]
        refused = [result for result in results if isinstance(result, ConflictError)]
        assert (len(kept), len(refused)) == (1, 2)
        assert {error.reason for error in refused} == {ConflictReason.STALE_VERSION}

    async def test_a_new_schedule_sets_the_next_firing(self, service: IngestionService, me: Principal) -> None:
        active = await create(service, me, schedule=HOURLY, activate=True)
        changed = await update(service, me, active, schedule={"cron": "30 * * * *"})
        assert (changed.schedule, changed.next_due_at) == (Schedule("30 * * * *"), NOW + timedelta(minutes=30))
        cleared = await update(service, me, changed, schedule=None)
        assert (cleared.schedule, cleared.next_due_at) == (None, None)
        draft = await create(service, me)
        assert (await update(service, me, draft, schedule=HOURLY)).next_due_at is None

    async def test_a_firing_meanwhile_is_not_undone(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        active = await create(service, me, schedule=HOURLY, activate=True)
        fired = NOW + timedelta(hours=2)
        check = bench.stores.open

        def fire_meanwhile(*asked: Any) -> Any:
            return _Firing(check(*asked), bench, active, fired)

        bench.stores.open = fire_meanwhile  # type: ignore[method-assign]  # this test's own stores
        changed = await update(service, me, active, glob="*.csv")
        assert changed.next_due_at == fired

    async def test_a_new_credential_is_tried(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        created = await create(service, me)
        with pytest.raises(ValidationError) as caught:
            await update(service, me, created, credential="unknown")
        assert [f.path for f in caught.value.fields] == [("credential",)]
        bench.stores.credentials = ["lake"]
        assert (await update(service, me, created, credential="lake")).source.credential == "lake"

    async def test_what_is_not_there(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        theirs = await create(service, a_principal(await bench.directory.ensure_tenant(a_tenant())))
        deleting = await bench.ingestion(status=IngestionStatus.DELETING)
        for id in (uuid4(), theirs.id, deleting.id):
            with pytest.raises(NotFoundError):
                await service.update_ingestion(me, id, IngestionUpdate.parse({"name": "x"}))
            for change in (service.activate, service.pause, service.resume):
                with pytest.raises(NotFoundError):
                    await change(me, id)


class TestStatus:
    @pytest.mark.parametrize("status", [status for status in IngestionStatus if status is not IngestionStatus.DELETING])
    @pytest.mark.parametrize(
        ("verb", "allowed", "to"),
        [
            ("activate", {IngestionStatus.DRAFT}, IngestionStatus.ACTIVE),
            ("pause", {IngestionStatus.ACTIVE, IngestionStatus.ERROR}, IngestionStatus.PAUSED),
            ("resume", {IngestionStatus.PAUSED, IngestionStatus.ERROR}, IngestionStatus.ACTIVE),
        ],
    )
    async def test_changes(
        self,
        service: IngestionService,
        me: Principal,
        bench: Workbench,
        status: IngestionStatus,
        verb: str,
        allowed: set[IngestionStatus],
        to: IngestionStatus,
    ) -> None:
        ingestion = await bench.ingestion(status=status, schedule=Schedule("0 * * * *"), consecutive_failures=3)
        change = getattr(service, verb)
        if status not in allowed:
            with pytest.raises(ConflictError) as caught:
                await change(me, ingestion.id)
            assert caught.value.reason is ConflictReason.WRONG_STATE
            assert await bench.stored(ingestion) == ingestion
            assert await outbox(bench) == []
            return
        changed = await change(me, ingestion.id)
        assert changed.status is to
        assert changed.next_due_at == (NOW + timedelta(hours=1) if to is IngestionStatus.ACTIVE else None)
        assert changed.consecutive_failures == (0 if to is IngestionStatus.ACTIVE else 3)
        assert await outbox(bench) == [(Topic.INGESTION, Subject(bench.tenant.id, ingestion.id))]

    async def test_a_resumed_schedule_does_not_make_up_for_the_pause(
        self, service: IngestionService, me: Principal, bench: Workbench
    ) -> None:
        active = await create(service, me, schedule=HOURLY, activate=True)
        await service.pause(me, active.id)
        bench.clock.set(datetime(2026, 3, 5, 7, 20, tzinfo=UTC))
        assert (await service.resume(me, active.id)).next_due_at == datetime(2026, 3, 5, 8, tzinfo=UTC)


class TestList:
    @pytest.mark.scenario(27)
    async def test_of_the_tenants_own_page_by_page(self, service: IngestionService, me: Principal, bench: Workbench) -> None:
        other = a_principal(await bench.directory.ensure_tenant(a_tenant()))
        theirs = await create(service, other)
        mine = sorted([(await create(service, me)).id for _ in range(3)])
        first = await service.list_ingestions(me, limit=2)
        assert [i.id for i in (*first, *await service.list_ingestions(me, limit=2, after=first[-1].id))] == mine
        assert [i.id for i in await service.list_ingestions(other)] == [theirs.id]


class _Firing:
    """A store whose access check lasts as long as the schedule takes to fire."""

    def __init__(self, store: Any, bench: Workbench, ingestion: Ingestion, fired: datetime) -> None:
        self._store, self._bench, self._ingestion, self._fired = store, bench, ingestion, fired

    async def check_access(self) -> None:
        await self._store.check_access()
        async with self._bench.unit_of_work(self._ingestion.tenant_id) as tx:
            await tx.ingestions.set_next_due(self._ingestion.id, self._fired)


async def _assert_nothing_stored(service: IngestionService, me: Principal, bench: Workbench) -> None:
    assert await service.list_ingestions(me) == []
    assert await outbox(bench) == []
