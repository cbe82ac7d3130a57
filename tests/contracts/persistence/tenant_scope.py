"""No method of any repository, and no relation of the reader, shows or touches another tenant's rows.

The methods are found by looking at the ports, so that a new one cannot be forgotten: it fails here until it has its line.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from domain import relations
from domain.access.entities import ApiKey
from domain.errors import ConflictError, NotFoundError
from domain.ingestions.entities import ChangedFilePolicy, EventQueueState, Ingestion, IngestionStatus, Policies, Reset
from domain.ledger.entities import Batch, FileStatus, ProcessedFile
from domain.notifications.entities import DeliveryStatus, Webhook, WebhookDelivery
from domain.ports.reader import Reader, Window
from domain.ports.repositories import Discovered, FileSelection
from domain.ports.unit_of_work import Topic, UnitOfWork
from domain.ports.webhooks import Attempt
from domain.relations import AUDIT_EVENTS, WEBHOOKS, AuditEventFilter, NoFilter, Relation
from domain.runs.entities import Run, RunMetrics, RunStatus
from domain.runs.totals import RunTotals
from domain.schema_changes import SchemaChange, SchemaChangeDecision
from domain.schema_versions import SchemaVersion
from domain.tenants import Role
from tests.contracts.persistence.world import World
from tests.factories import (
    NOW,
    a_principal,
    a_proposal,
    a_run,
    a_schedule,
    a_schema_version,
    a_stored_object,
    a_webhook,
    an_api_key,
    an_event,
    failed,
    loaded,
    needing,
    skipped,
    stored_objects,
)


@dataclass
class Victim:
    """A tenant's rows of every kind: `working` is in the hands of `batch`, whose lease has expired, and is to replace an earlier version;

    `waiting` is PENDING, and `change` is a proposal for which `held` waits.
    """

    ingestion: Ingestion
    reset: Reset
    run: Run
    batch: Batch
    working: ProcessedFile
    waiting: ProcessedFile
    done: ProcessedFile
    failed: ProcessedFile
    version: SchemaVersion
    change: SchemaChange
    held: ProcessedFile
    key: ApiKey
    webhook: Webhook
    pending: WebhookDelivery
    delivered: WebhookDelivery


Call = Callable[[UnitOfWork, Victim], Awaitable[Any]]
_NOTHING: Any = object()
"""For a call that answers nothing."""


def approved(change: SchemaChange) -> SchemaChange:
    return replace(change, decision=SchemaChangeDecision.APPROVED, decided_at=NOW, decided_by="me", decision_reason="so")


async def _own_new_key(tx: UnitOfWork, victim: Victim) -> bool:
    key = await tx.api_keys.create(an_api_key(tenant_id=victim.key.tenant_id, role=Role.VIEWER), b"0" * 32)
    return key.tenant_id == tx.tenant_id


CALLS: Mapping[str, tuple[Call, Any]] = {
    "ingestions.create": (lambda tx, v: tx.ingestions.create(replace(v.ingestion, id=uuid4())), ConflictError),
    "ingestions.get_by_id": (lambda tx, v: tx.ingestions.get_by_id(v.ingestion.id, for_update=True), None),
    "ingestions.get_by_tenant": (lambda tx, v: tx.ingestions.get_by_tenant(limit=10), []),
    "ingestions.get_active_ingestions": (lambda tx, v: tx.ingestions.get_active_ingestions(), []),
    "ingestions.get_by_files": (lambda tx, v: tx.ingestions.get_by_files([v.done.id, v.waiting.id]), []),
    "ingestions.update": (lambda tx, v: tx.ingestions.update(replace(v.ingestion, name="mine")), ConflictError),
    "ingestions.update_status": (
        lambda tx, v: tx.ingestions.update_status(v.ingestion.id, IngestionStatus.PAUSED, next_due_at=NOW),
        NotFoundError,
    ),
    "ingestions.set_next_due": (lambda tx, v: tx.ingestions.set_next_due(v.ingestion.id, None), _NOTHING),
    "ingestions.expect_data": (lambda tx, v: tx.ingestions.expect_data(v.ingestion.id), _NOTHING),
    "ingestions.take_lateness": (lambda tx, v: tx.ingestions.take_lateness(v.ingestion.id), False),
    "ingestions.update_last_run": (
        lambda tx, v: tx.ingestions.update_last_run(v.ingestion.id, v.run.id, NOW, consecutive_failures=9),
        _NOTHING,
    ),
    "ingestions.set_last_listed": (lambda tx, v: tx.ingestions.set_last_listed(v.ingestion.id, NOW), _NOTHING),
    "ingestions.set_event_queue": (lambda tx, v: tx.ingestions.set_event_queue(v.ingestion.id, EventQueueState(NOW)), _NOTHING),
    "ingestions.set_table": (lambda tx, v: tx.ingestions.set_table(v.ingestion.id, uuid4()), _NOTHING),
    "ingestions.see_snapshots": (lambda tx, v: tx.ingestions.see_snapshots(v.ingestion.id, 1), None),
    "ingestions.get_table": (lambda tx, v: tx.ingestions.get_table(v.ingestion.id), None),
    "ingestions.begin_reset": (
        lambda tx, v: tx.ingestions.begin_reset(v.ingestion.id, Reset(uuid4()), generation=9, checkpoint_path="mine"),
        NotFoundError,
    ),
    "ingestions.finish_reset": (lambda tx, v: tx.ingestions.finish_reset(v.ingestion.id, v.reset.id), False),
    "ingestions.delete": (lambda tx, v: tx.ingestions.delete(v.ingestion.id), False),
    "runs.create": (lambda tx, v: tx.runs.create(a_run(ingestion_id=v.ingestion.id, status=RunStatus.SUCCESS)), NotFoundError),
    "runs.get_by_id": (lambda tx, v: tx.runs.get_by_id(v.run.id), None),
    "runs.get_active": (lambda tx, v: tx.runs.get_active(v.ingestion.id), None),
    "runs.hold_running": (lambda tx, v: tx.runs.hold_running(v.run.id), False),
    "runs.get_scheduled": (lambda tx, v: tx.runs.get_scheduled(v.ingestion.id, NOW), None),
    "runs.get_by_flow_run": (lambda tx, v: tx.runs.get_by_flow_run(v.run.flow_run_id), None),
    "runs.set_flow_run": (lambda tx, v: tx.runs.set_flow_run(v.run.id, "mine"), _NOTHING),
    "runs.get_runs_by_ingestion": (lambda tx, v: tx.runs.get_runs_by_ingestion(v.ingestion.id, limit=10), []),
    "runs.update_status": (lambda tx, v: tx.runs.update_status(v.run.id, RunStatus.FAILED, at=NOW), NotFoundError),
    "runs.update_metrics": (lambda tx, v: tx.runs.update_metrics(v.run.id, RunMetrics(1), files_total=1), _NOTHING),
    "runs.count_listing": (lambda tx, v: tx.runs.count_listing(v.run.id), _NOTHING),
    "runs.renew_lease": (lambda tx, v: tx.runs.renew_lease(v.run.id, seconds=600), None),
    "files.record_discovered": (
        lambda tx, v: tx.files.record_discovered(v.ingestion.id, [a_stored_object(), a_stored_object(v.waiting.path, etag="mine")]),
        Discovered(),
    ),
    "files.requeue_due_failures": (lambda tx, v: tx.files.requeue_due_failures(v.ingestion.id, max_retries=100), []),
    "files.any_waiting": (lambda tx, v: tx.files.any_waiting(v.ingestion.id, max_retries=100), False),
    "files.assign_unloaded": (lambda tx, v: tx.files.assign_unloaded(v.ingestion.id, of_run=v.run.id, to_run=uuid4()), []),
    "files.get_known_paths": (lambda tx, v: tx.files.get_known_paths(v.ingestion.id, [v.done.path]), set()),
    "files.get_by_path_order": (lambda tx, v: tx.files.get_by_path_order(v.ingestion.id, after=None, limit=10), []),
    "files.get_by_path": (lambda tx, v: tx.files.get_by_path(v.ingestion.id, v.done.path), None),
    "files.get_replaced": (lambda tx, v: tx.files.get_replaced(v.batch), {}),
    "files.supersede": (lambda tx, v: tx.files.supersede(v.batch, [v.working.id]), 0),
    "files.get_earlier_versions": (lambda tx, v: tx.files.get_earlier_versions(v.ingestion.id, v.working.path, limit=10), []),
    "files.rows_of_earlier_versions": (lambda tx, v: tx.files.rows_of_earlier_versions(v.ingestion.id, [v.working.path]), {}),
    "files.requeue": (lambda tx, v: tx.files.requeue(FileSelection(ids=(v.failed.id,))), []),
    "files.skip": (lambda tx, v: tx.files.skip(FileSelection(ingestion_id=v.ingestion.id), reason="mine"), []),
    "files.count_pending": (lambda tx, v: tx.files.count_pending(v.ingestion.id, at_most=10), 0),
    "files.claim": (lambda tx, v: tx.files.claim(v.batch, max_files=10, max_bytes=2**40), []),
    "files.claim_paths": (lambda tx, v: tx.files.claim_paths(v.batch, [v.waiting.path]), []),
    "files.lock_file_for_processing": (lambda tx, v: tx.files.lock_file_for_processing(v.batch, v.waiting.stored_object), None),
    "files.get_processed_file_paths": (lambda tx, v: tx.files.get_processed_file_paths(v.ingestion.id, [v.done.path]), set()),
    "files.get_processed_files": (lambda tx, v: tx.files.get_processed_files(v.ingestion.id, status=list(FileStatus), limit=10), []),
    "files.get_failed_files": (lambda tx, v: tx.files.get_failed_files(v.ingestion.id, max_retries=100, limit=10), []),
    "files.get_stale_processing_files": (lambda tx, v: tx.files.get_stale_processing_files(v.ingestion.id, limit=10), []),
    "files.mark_success": (lambda tx, v: tx.files.mark_success(v.batch, [loaded(v.working)], snapshot_id=1), 0),
    "files.mark_failed": (lambda tx, v: tx.files.mark_failed(v.batch, [failed(v.working)], max_retries=3, retry_base_seconds=1), 0),
    "files.mark_skipped": (lambda tx, v: tx.files.mark_skipped(v.batch, [skipped(v.working)]), 0),
    "files.mark_held": (lambda tx, v: tx.files.mark_held(v.batch, [needing(v.working)], {v.working.id: v.change.id}), 0),
    "files.release_held": (lambda tx, v: tx.files.release_held(v.ingestion.id), []),
    "files.release": (lambda tx, v: tx.files.release(v.batch), 0),
    "files.batch_files": (lambda tx, v: tx.files.batch_files(v.batch.id), []),
    "files.count_by_status": (lambda tx, v: tx.files.count_by_status(v.ingestion.id), {}),
    "files.delete_by_ingestion": (lambda tx, v: tx.files.delete_by_ingestion(v.ingestion.id), 0),
    "batches.open": (
        lambda tx, v: tx.batches.open(id=uuid4(), ingestion_id=v.ingestion.id, run_id=v.run.id, table_uuid=None, lease_seconds=60),
        NotFoundError,
    ),
    "batches.get_by_id": (lambda tx, v: tx.batches.get_by_id(v.batch.id), None),
    "batches.get_abandoned": (lambda tx, v: tx.batches.get_abandoned(v.ingestion.id), []),
    "batches.renew_lease": (lambda tx, v: tx.batches.renew_lease(v.batch, seconds=600), False),
    "batches.take_over": (lambda tx, v: tx.batches.take_over(v.batch.id, lease_seconds=60, only_expired=False), None),
    "batches.commit": (lambda tx, v: tx.batches.commit(v.batch, snapshot_id=1, files=1), False),
    "batches.release": (lambda tx, v: tx.batches.release(v.batch), False),
    "schema_versions.latest": (lambda tx, v: tx.schema_versions.latest(v.ingestion.id), None),
    "schema_versions.append": (
        lambda tx, v: tx.schema_versions.append(a_schema_version(ingestion_id=v.ingestion.id, version=2)),
        NotFoundError,
    ),
    "schema_changes.propose": (lambda tx, v: tx.schema_changes.propose(**a_proposal(v.ingestion.id)), NotFoundError),
    "schema_changes.get_by_id": (lambda tx, v: tx.schema_changes.get_by_id(v.change.id), None),
    "schema_changes.get_open": (lambda tx, v: tx.schema_changes.get_open(v.ingestion.id), []),
    "schema_changes.get_decided": (lambda tx, v: tx.schema_changes.get_decided(v.ingestion.id), []),
    "schema_changes.decide": (lambda tx, v: tx.schema_changes.decide(approved(v.change)), False),
    "schema_changes.withdraw_needless": (lambda tx, v: tx.schema_changes.withdraw_needless(v.ingestion.id), 0),
    "outbox.add": (lambda tx, v: tx.outbox.add(Topic.RUN, v.run.id), _NOTHING),
    "idempotency_keys.claim": (lambda tx, v: tx.idempotency_keys.claim("create", "key", "mine", uuid4()), None),
    "idempotency_keys.take_over": (lambda tx, v: tx.idempotency_keys.take_over("create", "key", v.ingestion.id, uuid4()), False),
    "api_keys.create": (_own_new_key, True),
    "api_keys.get_by_id": (lambda tx, v: tx.api_keys.get_by_id(v.key.id), None),
    "api_keys.hold_admins": (lambda tx, v: tx.api_keys.hold_admins(), []),
    "api_keys.revoke": (lambda tx, v: tx.api_keys.revoke(v.key.id, NOW), None),
    "webhooks.create": (
        lambda tx, v: tx.webhooks.create(a_webhook(ingestion_id=v.ingestion.id), b"mine", at_most=100),
        NotFoundError,
    ),
    "webhooks.get_by_id": (lambda tx, v: tx.webhooks.get_by_id(v.webhook.id, for_update=True), None),
    "webhooks.delete": (lambda tx, v: tx.webhooks.delete(v.webhook.id), False),
    "webhooks.enqueue": (lambda tx, v: tx.webhooks.enqueue(an_event(ingestion_id=v.ingestion.id), to=v.webhook.id), []),
    "webhooks.get_outgoing": (lambda tx, v: tx.webhooks.get_outgoing(v.pending.id), None),
    "webhooks.record_attempt": (
        lambda tx, v: tx.webhooks.record_attempt(v.pending, Attempt(NOW, DeliveryStatus.DELIVERED, None, 200, None)),
        False,
    ),
    "webhooks.requeue": (lambda tx, v: tx.webhooks.requeue(v.delivered.id, NOW), None),
    "audit.record": (lambda tx, v: tx.audit.record(a_principal(name="mine"), "createRun", "Run", v.run.id), _NOTHING),
}

RELATIONS = [relation for relation in vars(relations).values() if isinstance(relation, Relation)]


def ports_methods() -> set[str]:
    """`repository.method` for every method of every repository of the unit of work."""
    methods = set()
    for name, member in inspect.getmembers(UnitOfWork, lambda member: isinstance(member, property)):
        port = typing.get_type_hints(member.fget)["return"]
        methods |= {f"{name}.{method}" for method, _ in inspect.getmembers(port, inspect.isfunction) if not method.startswith("_")}
    return methods


class TenantScopeContract:
    async def test_every_method_of_the_ports_is_walked(self) -> None:
        assert ports_methods() == set(CALLS)
        asked = {"by_ids", "pages", "counts", "stats", "run_totals"}
        assert {name for name, _ in inspect.getmembers(Reader, inspect.isfunction) if name[0] != "_"} == asked

    async def test_a_transaction_sees_and_touches_nothing_of_another_tenant(self, world: World) -> None:
        victim = await a_victim(world)
        before = await _everything(world, victim)
        for name, (call, expected) in CALLS.items():
            answer = await _as_the_other(world, call, victim)
            assert answer == (None if expected is _NOTHING else expected), name
            assert await _everything(world, victim) == before, name

    async def test_a_reader_sees_nothing_of_another_tenant(self, world: World) -> None:
        victim = await a_victim(world)
        mine, others = world.reader, world.reader_of(world.other.id)
        (trail,) = await world.reader.pages(AUDIT_EVENTS, [None], Window(limit=1, order="NEWEST", filter=AuditEventFilter()))
        owned = (victim.ingestion, victim.run, victim.working, victim.version, victim.change, victim.key, victim.webhook, victim.pending)
        entities = (*owned, *await world.attempts(victim.done), *(edge.node for edge in trail.edges))
        assert {type(entity) for entity in entities} >= {relation.entity for relation in RELATIONS}
        for entity in entities:
            assert await mine.by_ids(type(entity), [entity.id]) != [None]
            assert await others.by_ids(type(entity), [entity.id]) == [None]
        for relation in RELATIONS:
            parents = [_parent(relation, victim)]
            for order in relation.orders:
                window = Window(limit=10, order=order, filter=relation.filter())
                (page,), (seen,) = await others.pages(relation, parents, window), await mine.pages(relation, parents, window)
                assert (page.edges, page.has_next, page.has_previous) == ([], False, False), relation.name
                assert seen.edges, relation.name
            assert await others.counts(relation, parents, relation.filter()) == [0], relation.name
            assert await mine.counts(relation, parents, relation.filter()) > [0], relation.name
        async with world.begin() as tx:
            await tx.runs.update_status(victim.run.id, RunStatus.SUCCESS, at=NOW)
        whose, ever = [victim.ingestion.id], (NOW - timedelta(days=1), NOW + timedelta(days=1))
        assert [stats.files for stats in await mine.stats(whose)] == [6]
        assert await others.stats(whose) == await others.stats([uuid4()])
        assert [totals.runs for totals in await mine.run_totals(whose, *ever)] == [1]
        assert await others.run_totals(whose, *ever) == [RunTotals()]


def _parent(relation: Relation[Any], victim: Victim) -> Any:
    parent = relation.link.parent if relation.link else relation.parent
    parents = {"ingestion_id": victim.ingestion, "run_id": victim.run, "file_id": victim.done}
    parents |= {"webhook_id": victim.webhook, "schema_change_id": victim.change}
    return None if parent is None else parents[parent].id


async def _as_the_other(world: World, call: Call, victim: Victim) -> Any:
    """The call's answer, or the type of its error."""
    try:
        async with world.begin(world.other) as tx:
            return await call(tx, victim)
    except (ConflictError, NotFoundError) as error:
        return type(error)


async def a_victim(world: World) -> Victim:
    # Whose data are late at once.
    late = {"schedule": a_schedule(), "policies": Policies(late_after_seconds=0)}
    ingestion = await world.ingestion(status=IngestionStatus.ACTIVE, next_due_at=NOW, **late)
    run = await world.run(ingestion, started=True, due_at=NOW, flow_run_id="theirs")
    outdated = a_stored_object("changed.json")
    await world.discover(ingestion, [outdated])
    loading, [earlier] = await world.claim(ingestion, run_id=run.id)
    async with world.begin() as tx:
        await tx.files.mark_success(loading, [loaded(earlier)], snapshot_id=1)
    objects = stored_objects(5)
    await world.discover(ingestion, objects[:3])
    settled, (done, bad, held) = await world.claim(ingestion, files=3, run_id=run.id)
    async with world.begin() as tx:
        reset = Reset(uuid4(), remove_rows=True)
        await tx.ingestions.begin_reset(ingestion.id, reset, generation=1, checkpoint_path="theirs")
        await tx.ingestions.set_table(ingestion.id, uuid4())
        await tx.files.mark_success(settled, [loaded(done)], snapshot_id=1)
        await tx.files.mark_failed(settled, [failed(bad)], max_retries=100, retry_base_seconds=0)
        change = await tx.schema_changes.propose(**a_proposal(ingestion.id, run_id=run.id))
        await tx.files.mark_held(settled, [needing(held)], {held.id: change.id})
        await tx.schema_changes.propose(**a_proposal(ingestion.id))
        await tx.schema_changes.decide(approved(await tx.schema_changes.propose(**a_proposal(ingestion.id))))
        version = await tx.schema_versions.append(a_schema_version(ingestion_id=ingestion.id))
        await tx.outbox.add(Topic.RUN, run.id)
        await tx.idempotency_keys.claim("create", "key", "fingerprint", ingestion.id)
        key = await tx.api_keys.create(an_api_key(tenant_id=ingestion.tenant_id), b"1" * 32)
        await tx.audit.record(a_principal(world.tenant, name="theirs"), "createApiKey", "ApiKey", key.id)
        webhook = await tx.webhooks.create(a_webhook(ingestion_id=ingestion.id), b"theirs", at_most=100)
        [delivered] = await tx.webhooks.enqueue(an_event(ingestion_id=ingestion.id))
        await tx.webhooks.record_attempt(delivered, Attempt(NOW, DeliveryStatus.DELIVERED, None, 200, None))
        [pending] = await tx.webhooks.enqueue(an_event(ingestion_id=ingestion.id))
        await tx.ingestions.expect_data(ingestion.id)
    await world.discover(ingestion, [replace(outdated, etag="v2")], changed_files=ChangedFilePolicy.REPLACE)
    await world.discover(ingestion, objects[3:])
    batch, (working,) = await world.claim(ingestion, files=1, run_id=run.id, lease_seconds=0)
    waiting = (await world.files(ingestion))[4]
    return Victim(ingestion, reset, run, batch, working, waiting, done, bad, version, change, held, key, webhook, pending, delivered)


async def _everything(world: World, victim: Victim) -> list[Any]:
    """All that the tenant has."""
    async with world.begin() as tx:
        own = [
            await tx.ingestions.get_by_tenant(limit=10),
            await tx.ingestions.get_table(victim.ingestion.id),
            await tx.runs.get_runs_by_ingestion(victim.ingestion.id, limit=10),
            await tx.batches.get_by_id(victim.batch.id),
            await tx.schema_versions.latest(victim.ingestion.id),
            await tx.schema_changes.get_open(victim.ingestion.id),
            await tx.schema_changes.get_decided(victim.ingestion.id),
            await tx.idempotency_keys.claim("create", "key", "fingerprint", uuid4()),
            await tx.api_keys.get_by_id(victim.key.id),
            await tx.api_keys.hold_admins(),
            await tx.files.get_replaced(victim.batch),
            await tx.files.get_earlier_versions(victim.ingestion.id, victim.working.path, limit=10),
            await tx.files.rows_of_earlier_versions(victim.ingestion.id, [victim.working.path]),
            await tx.webhooks.get_by_id(victim.webhook.id),
            await tx.webhooks.get_outgoing(victim.pending.id),
        ]
        assert all(own)
    late = await world.directory.late_ingestions(10)
    deliveries = await world.reader.by_ids(WebhookDelivery, [victim.pending.id, victim.delivered.id])
    webhooks = await world.reader.counts(WEBHOOKS, [None], NoFilter())
    trail = await world.reader.counts(AUDIT_EVENTS, [None], AuditEventFilter())
    entries = await world.directory.take_outbox(100, visible_after_seconds=0)
    outbox = [(entry.id, entry.revision) for entry in entries if entry.subject.tenant_id == world.tenant.id]
    attempts = [await world.attempts(file) for file in await world.files(victim.ingestion)]
    return [own, late, deliveries, webhooks, trail, outbox, attempts, await world.files(victim.ingestion)]
