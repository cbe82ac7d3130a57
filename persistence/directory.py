"""What is looked up before a tenant is known, or across all of them."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ARRAY, ColumnElement, DateTime, Table, Uuid, and_, bindparam, column, delete, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ledger.entities import BatchStatus
from domain.ports.unit_of_work import OutboxEntry, Subject, Topic
from domain.runs.entities import RunLimits, RunStatus
from domain.states import BEGUN_RUN
from domain.tenants import Principal, Role, Tenant
from domain.text import unstorable
from persistence.database import connection, transaction
from persistence.mapping import columns_of, entity_of, values_of
from persistence.repositories.access import usable
from persistence.repositories.runs import lease_end
from persistence.run_queue import TAKING, take_statement
from persistence.stats import compaction_statement
from persistence.tables import activity_events, api_keys, batches, idempotency_keys, ingestions, outbox, runs, tenants, webhook_deliveries


class SqlDirectory:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def principal_by_key(self, prefix: str, digest: bytes) -> Principal | None:
        statement = (
            select(*columns_of(Tenant), api_keys.c.digest, api_keys.c.role, api_keys.c.id, api_keys.c.name)
            .join(api_keys, api_keys.c.tenant_id == tenants.c.id)
            .where(api_keys.c.prefix == prefix, usable())
        )
        async with connection(self._engine) as opened:
            row = (await opened.execute(statement)).first()
        if row is None:
            return None
        *_, stored, role, key_id, name = row
        return Principal(entity_of(Tenant, row), role, key_id, name) if hmac.compare_digest(stored, digest) else None

    async def record_key_use(self, used: Mapping[UUID, datetime]) -> None:
        ids, moments = bindparam(None, list(used), type_=ARRAY(Uuid)), bindparam(None, list(used.values()), type_=ARRAY(DateTime(True)))
        given = func.unnest(ids, moments).table_valued(column("id", Uuid), column("at", DateTime(True)), name="given").render_derived()
        later = func.greatest(api_keys.c.last_used_at, given.c.at)
        async with transaction(self._engine) as opened:
            await opened.execute(update(api_keys).where(api_keys.c.id == given.c.id).values(last_used_at=later))

    async def tenant(self, tenant_id: UUID) -> Tenant | None:
        return await self._tenant(tenants.c.id == tenant_id)

    async def tenant_by_name(self, name: str) -> Tenant | None:
        return None if unstorable(name) else await self._tenant(tenants.c.name == name)

    async def ensure_tenant(self, tenant: Tenant) -> Tenant:
        statement = upsert(tenants).values(values_of(tenant, without=("created_at",)))
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={"grants": statement.excluded.grants})
        async with transaction(self._engine) as opened:
            return entity_of(Tenant, (await opened.execute(statement.returning(*columns_of(Tenant)))).one())

    async def ensure_api_key(self, tenant_id: UUID, *, name: str, prefix: str, digest: bytes, role: Role) -> None:
        values = {"id": uuid4(), "tenant_id": tenant_id, "name": name, "prefix": prefix, "digest": digest, "role": role}
        async with transaction(self._engine) as opened:
            await opened.execute(upsert(api_keys).values(values).on_conflict_do_nothing(index_elements=["prefix"]))

    async def due_ingestions(self, now: datetime, limit: int) -> Sequence[Ingestion]:
        statement = (
            select(*columns_of(Ingestion))
            .where(ingestions.c.status == IngestionStatus.ACTIVE, ingestions.c.next_due_at <= now)
            .order_by(ingestions.c.next_due_at)
            .limit(limit)
        )
        async with connection(self._engine) as opened:
            return [entity_of(Ingestion, row) for row in (await opened.execute(statement)).all()]

    async def listening_ingestions(self, limit: int, *, after: UUID | None = None) -> Sequence[Ingestion]:
        active = literal(IngestionStatus.ACTIVE, ingestions.c.status.type, literal_execute=True)
        return await self._ingestions(limit, after, ingestions.c.status == active, ingestions.c.queue_key.is_not(None))

    async def ingestions(self, limit: int, *, after: UUID | None = None) -> Sequence[Ingestion]:
        return await self._ingestions(limit, after)

    async def _ingestions(self, limit: int, after: UUID | None, *conditions: ColumnElement[bool]) -> Sequence[Ingestion]:
        statement = select(*columns_of(Ingestion)).where(*conditions).order_by(ingestions.c.id).limit(limit)
        if after is not None:
            statement = statement.where(ingestions.c.id > after)
        async with connection(self._engine) as opened:
            return [entity_of(Ingestion, row) for row in (await opened.execute(statement)).all()]

    async def waiting_runs(self, limit: int, *, queued_for_seconds: float) -> Sequence[Subject]:
        long_ago = func.clock_timestamp() - timedelta(seconds=queued_for_seconds)
        waiting = [literal(status, runs.c.status.type, literal_execute=True) for status in (RunStatus.QUEUED, RunStatus.CANCELLING)]
        statement = select(runs.c.tenant_id, runs.c.id).where(runs.c.status.in_(waiting), runs.c.queued_at <= long_ago)
        async with connection(self._engine) as opened:
            rows = (await opened.execute(statement.order_by(runs.c.queued_at, runs.c.id).limit(limit))).all()
        return [Subject(*row) for row in rows]

    async def late_ingestions(self, limit: int) -> Sequence[Subject]:
        statement = (
            select(ingestions.c.tenant_id, ingestions.c.id)
            .where(ingestions.c.status == IngestionStatus.ACTIVE, ingestions.c.late_at <= func.clock_timestamp())
            .order_by(ingestions.c.late_at)
            .limit(limit)
        )
        async with connection(self._engine) as opened:
            return [Subject(*row) for row in (await opened.execute(statement)).all()]

    async def take_runs(self, limit: int, limits: RunLimits, *, lease_seconds: float, only: Subject | None = None) -> Sequence[Subject]:
        statement = take_statement(limit, limits, lease_seconds=lease_seconds, only=only.id if only else None)
        async with transaction(self._engine) as opened:
            await opened.execute(select(func.pg_advisory_xact_lock(TAKING)))
            rows = (await opened.execute(statement)).all()
        return [Subject(tenant_id, id) for _, tenant_id, id in sorted(rows)]

    async def cancelling_runs(self, of: Sequence[Subject]) -> Sequence[Subject]:
        asked = func.any(bindparam(None, [run.id for run in of], type_=ARRAY(Uuid)))
        statement = select(runs.c.tenant_id, runs.c.id).where(runs.c.id == asked, runs.c.status == RunStatus.CANCELLING)
        async with connection(self._engine) as opened:
            return [Subject(*row) for row in (await opened.execute(statement)).all()]

    async def lost_runs(self, limit: int) -> Sequence[Subject]:
        return await self._expired(runs, runs.c.status.in_(BEGUN_RUN), limit)

    async def postpone_lost_run(self, run: Subject, *, seconds: float) -> None:
        lost = (runs.c.id == run.id, runs.c.status.in_(BEGUN_RUN), runs.c.lease_expires_at <= func.clock_timestamp())
        async with transaction(self._engine) as opened:
            await opened.execute(update(runs).where(*lost).values(lease_expires_at=lease_end(seconds)))

    async def lost_batches(self, limit: int) -> Sequence[Subject]:
        return await self._expired(batches, batches.c.status == BatchStatus.CLAIMED, limit)

    async def take_outbox(self, limit: int, *, topic: Topic | None = None, visible_after_seconds: float) -> Sequence[OutboxEntry]:
        due = (
            select(outbox.c.id)
            .where(outbox.c.due_at <= func.clock_timestamp(), *(() if topic is None else (outbox.c.topic == topic,)))
            .order_by(outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        statement = (
            update(outbox)
            .where(outbox.c.id == due.c.id)
            .values(due_at=lease_end(visible_after_seconds))
            .returning(outbox.c.id, outbox.c.topic, outbox.c.tenant_id, outbox.c.subject_id, outbox.c.attempts, outbox.c.revision)
        )
        async with transaction(self._engine) as opened:
            rows = (await opened.execute(statement)).all()
        return sorted((OutboxEntry(r[0], r[1], Subject(r[2], r[3]), r[4], r[5]) for r in rows), key=lambda entry: entry.id)

    async def finish_outbox(self, entry: OutboxEntry) -> None:
        async with transaction(self._engine) as opened:
            await opened.execute(delete(outbox).where(*_still(entry)))

    async def postpone_outbox(self, entry: OutboxEntry, *, seconds: float, error: str | None) -> None:
        failed = outbox.c.attempts + (0 if error is None else 1)
        values = {"due_at": func.clock_timestamp() + timedelta(seconds=seconds), "last_error": error, "attempts": failed}
        async with transaction(self._engine) as opened:
            await opened.execute(update(outbox).where(*_still(entry)).values(values))

    async def compact_file_counts(self, limit: int) -> int:
        async with transaction(self._engine) as opened:
            return await opened.scalar(compaction_statement(limit)) or 0

    async def forget_activity(self, *, older_than_seconds: float, limit: int) -> int:
        # By the oldest ids, which are about the oldest events: so it is bounded without an index on the moment.
        oldest = select(activity_events.c.id, activity_events.c.at).order_by(activity_events.c.id).limit(limit).subquery()
        old = select(oldest.c.id).where(oldest.c.at < func.clock_timestamp() - timedelta(seconds=older_than_seconds))
        async with transaction(self._engine) as opened:
            return (await opened.execute(delete(activity_events).where(activity_events.c.id.in_(old)))).rowcount

    async def forget_deliveries(self, *, older_than_seconds: float, limit: int) -> int:
        since = func.clock_timestamp() - timedelta(seconds=older_than_seconds)
        old = select(webhook_deliveries.c.id).where(webhook_deliveries.c.ended_at < since).order_by(webhook_deliveries.c.ended_at)
        async with transaction(self._engine) as opened:
            return (await opened.execute(delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(old.limit(limit))))).rowcount

    async def forget_idempotency_keys(self, *, older_than_seconds: float, limit: int) -> int:
        since = func.clock_timestamp() - timedelta(seconds=older_than_seconds)
        named = tuple_(idempotency_keys.c.tenant_id, idempotency_keys.c.operation, idempotency_keys.c.key)
        old = (
            select(idempotency_keys.c.tenant_id, idempotency_keys.c.operation, idempotency_keys.c.key)
            .where(idempotency_keys.c.created_at < since)
            .order_by(idempotency_keys.c.created_at)
            .limit(limit)
        )
        # The age once more, of the row as it is when it is deleted: a key that was taken over meanwhile is new.
        gone = delete(idempotency_keys).where(named.in_(old), idempotency_keys.c.created_at < since)
        async with transaction(self._engine) as opened:
            return (await opened.execute(gone)).rowcount

    async def _tenant(self, condition: ColumnElement[bool]) -> Tenant | None:
        async with connection(self._engine) as opened:
            row = (await opened.execute(select(*columns_of(Tenant)).where(condition))).first()
        return None if row is None else entity_of(Tenant, row)

    async def _expired(self, table: Table, condition: Any, limit: int) -> list[Subject]:
        statement = (
            select(table.c.tenant_id, table.c.id)
            .where(and_(condition, table.c.lease_expires_at <= func.clock_timestamp()))
            .order_by(table.c.lease_expires_at)
            .limit(limit)
        )
        async with connection(self._engine) as opened:
            return [Subject(*row) for row in (await opened.execute(statement)).all()]


def _still(entry: OutboxEntry) -> tuple[ColumnElement[bool], ...]:
    return outbox.c.id == entry.id, outbox.c.revision == entry.revision
