"""The directory in memory."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from domain.access.entities import ApiKey
from domain.ingestions.entities import Ingestion, IngestionStatus
from domain.ledger.entities import BatchStatus
from domain.ports.unit_of_work import OutboxEntry, Subject, Topic
from domain.runs.entities import RunLimits, RunStatus
from domain.states import ACTIVE_RUN, BEGUN_RUN
from domain.tenants import Principal, Role, Tenant
from domain.text import readable
from tests.fakes.access import usable
from tests.fakes.database import FakeDatabase

T = TypeVar("T")


class FakeDirectory:
    def __init__(self, database: FakeDatabase) -> None:
        self._database = database

    async def principal_by_key(self, prefix: str, digest: bytes) -> Principal | None:
        async with self._database.transaction() as state:
            key = next((key for key in state.api_keys.values() if key.prefix == prefix), None)
            if key is None or state.digests[key.id] != digest or not usable(key, self._database.clock.now()):
                return None
            return Principal(state.tenants[key.tenant_id], key.role, key.id, key.name)

    async def record_key_use(self, used: Mapping[UUID, datetime]) -> None:
        async with self._database.transaction() as state:
            for id, at in used.items():
                if id in state.api_keys:
                    key = state.api_keys[id]
                    state.api_keys[id] = replace(key, last_used_at=max(key.last_used_at or at, at))

    async def tenant(self, tenant_id: UUID) -> Tenant | None:
        async with self._database.transaction() as state:
            return state.tenants.get(tenant_id)

    async def tenant_by_name(self, name: str) -> Tenant | None:
        async with self._database.transaction() as state:
            return next((tenant for tenant in state.tenants.values() if tenant.name == name), None)

    async def ensure_tenant(self, tenant: Tenant) -> Tenant:
        async with self._database.transaction() as state:
            present = next((t for t in state.tenants.values() if t.name == tenant.name), None)
            stored = replace(present, grants=tenant.grants) if present else replace(tenant, created_at=self._database.clock.now())
            state.tenants[stored.id] = stored
            return stored

    async def ensure_api_key(self, tenant_id: UUID, *, name: str, prefix: str, digest: bytes, role: Role) -> None:
        async with self._database.transaction() as state:
            if all(key.prefix != prefix for key in state.api_keys.values()):
                key = ApiKey(uuid4(), tenant_id, name, prefix, role, self._database.clock.now(), None, None, None)
                state.api_keys[key.id], state.digests[key.id] = key, digest

    async def due_ingestions(self, now: datetime, limit: int) -> Sequence[Ingestion]:
        async with self._database.transaction() as state:
            due = [
                (ingestion.next_due_at, ingestion)
                for ingestion in state.ingestions.values()
                if ingestion.status is IngestionStatus.ACTIVE and ingestion.next_due_at is not None and ingestion.next_due_at <= now
            ]
        return [ingestion for _, ingestion in sorted(due, key=lambda pair: pair[0])][:limit]

    async def listening_ingestions(self, limit: int, *, after: UUID | None = None) -> Sequence[Ingestion]:
        listening = [i for i in await self.ingestions(2**31, after=after) if i.status is IngestionStatus.ACTIVE and i.source.queue_id]
        return listening[:limit]

    async def ingestions(self, limit: int, *, after: UUID | None = None) -> Sequence[Ingestion]:
        async with self._database.transaction() as state:
            later = [ingestion for id, ingestion in state.ingestions.items() if after is None or id > after]
        return sorted(later, key=lambda ingestion: ingestion.id)[:limit]

    async def waiting_runs(self, limit: int, *, queued_for_seconds: float) -> Sequence[Subject]:
        long_ago = self._database.clock.now() - timedelta(seconds=queued_for_seconds)
        async with self._database.transaction() as state:
            waiting = [r for r in state.runs.values() if r.status in (RunStatus.QUEUED, RunStatus.CANCELLING) and r.queued_at <= long_ago]
        return [Subject(r.tenant_id, r.id) for r in sorted(waiting, key=lambda r: (r.queued_at, r.id))][:limit]

    async def late_ingestions(self, limit: int) -> Sequence[Subject]:
        async with self._database.transaction() as state:
            active = [i for i in state.ingestions.values() if i.status is IngestionStatus.ACTIVE]
            late = [(state.late_at[i.id], i) for i in active if i.id in state.late_at]
        return [Subject(i.tenant_id, i.id) for _, i in self._expired(late, limit)]

    async def take_runs(self, limit: int, limits: RunLimits, *, lease_seconds: float, only: Subject | None = None) -> Sequence[Subject]:
        async with self._database.transaction() as state:
            now = self._database.clock.now()
            active = [r for r in state.runs.values() if r.status in ACTIVE_RUN]
            waiting = [r for r in active if r.status is RunStatus.QUEUED and (r.lease_expires_at is None or r.lease_expires_at <= now)]
            if only is not None:
                waiting = [r for r in active if r.id == only.id and r.status is RunStatus.QUEUED]
            in_hand = [r for r in active if r not in waiting and (r.status is not RunStatus.QUEUED or r.lease_expires_at is not None)]
            of_tenant = Counter(r.tenant_id for r in in_hand)
            of_engine = Counter(state.ingestions[r.ingestion_id].execution.engine for r in in_hand)
            turns = []
            for run in sorted(waiting, key=lambda r: (r.queued_at, r.id)):
                of_tenant[run.tenant_id] += 1
                turns.append((of_tenant[run.tenant_id], run))
            taken = []
            for turn, run in sorted(turns, key=lambda pair: (pair[0], pair[1].queued_at, pair[1].id)):
                engine = state.ingestions[run.ingestion_id].execution.engine
                if limits.per_tenant is not None and turn > limits.per_tenant:
                    continue
                if of_engine[engine] >= limits.per_engine.get(engine, sys.maxsize) or len(taken) == limit:
                    continue
                of_engine[engine] += 1
                state.runs[run.id] = replace(run, lease_expires_at=now + timedelta(seconds=lease_seconds))
                taken.append(Subject(run.tenant_id, run.id))
        return taken

    async def cancelling_runs(self, of: Sequence[Subject]) -> Sequence[Subject]:
        async with self._database.transaction() as state:
            asked = [(run, state.runs.get(run.id)) for run in of]
        return [run for run, stored in asked if stored is not None and stored.status is RunStatus.CANCELLING]

    async def lost_runs(self, limit: int) -> Sequence[Subject]:
        async with self._database.transaction() as state:
            leased = [(r.lease_expires_at, r) for r in state.runs.values() if r.status in BEGUN_RUN and r.lease_expires_at is not None]
        return [Subject(r.tenant_id, r.id) for _, r in self._expired(leased, limit)]

    async def postpone_lost_run(self, run: Subject, *, seconds: float) -> None:
        async with self._database.transaction() as state:
            now, lost = self._database.clock.now(), state.runs.get(run.id)
            if lost and lost.status in BEGUN_RUN and lost.lease_expires_at is not None and lost.lease_expires_at <= now:
                state.runs[run.id] = replace(lost, lease_expires_at=now + timedelta(seconds=seconds))

    async def lost_batches(self, limit: int) -> Sequence[Subject]:
        async with self._database.transaction() as state:
            leased = [(b.lease_expires_at, b) for b in state.batches.values() if b.status is BatchStatus.CLAIMED]
        return [Subject(b.tenant_id, b.id) for _, b in self._expired(leased, limit)]

    async def take_outbox(self, limit: int, *, topic: Topic | None = None, visible_after_seconds: float) -> Sequence[OutboxEntry]:
        async with self._database.transaction() as state:
            now = self._database.clock.now()
            due = (row for row in state.outbox.values() if row.due_at <= now and topic in (None, row.topic))
            taken = [
                replace(row, due_at=now + timedelta(seconds=visible_after_seconds)) for row in sorted(due, key=lambda row: row.id)[:limit]
            ]
            state.outbox.update({row.id: row for row in taken})
        return [OutboxEntry(row.id, row.topic, row.subject, row.attempts, row.revision) for row in taken]

    async def finish_outbox(self, entry: OutboxEntry) -> None:
        async with self._database.transaction() as state:
            row = state.outbox.get(entry.id)
            if row is not None and row.revision == entry.revision:
                del state.outbox[entry.id]

    async def postpone_outbox(self, entry: OutboxEntry, *, seconds: float, error: str | None) -> None:
        async with self._database.transaction() as state:
            row = state.outbox.get(entry.id)
            if row is not None and row.revision == entry.revision:
                due_at = self._database.clock.now() + timedelta(seconds=seconds)
                failed, said = row.attempts + (0 if error is None else 1), None if error is None else readable(error)
                state.outbox[entry.id] = replace(row, due_at=due_at, attempts=failed, last_error=said)

    async def compact_file_counts(self, limit: int) -> int:
        """Nothing to sum up: the fake counts its files when it is asked."""
        return 0

    async def forget_activity(self, *, older_than_seconds: float, limit: int) -> int:
        async with self._database.transaction() as state:
            since = self._database.clock.now() - timedelta(seconds=older_than_seconds)
            old = [id for id in sorted(state.activity)[:limit] if state.activity[id].at < since]
            for id in old:
                del state.activity[id]
        return len(old)

    async def forget_deliveries(self, *, older_than_seconds: float, limit: int) -> int:
        async with self._database.transaction() as state:
            since = self._database.clock.now() - timedelta(seconds=older_than_seconds)
            ended = [(d.ended_at, d.id) for d in state.deliveries.values() if d.ended_at is not None and d.ended_at < since]
            old = [id for _, id in sorted(ended)[:limit]]
            for id in old:
                del state.deliveries[id]
        return len(old)

    async def forget_idempotency_keys(self, *, older_than_seconds: float, limit: int) -> int:
        async with self._database.transaction() as state:
            since = self._database.clock.now() - timedelta(seconds=older_than_seconds)
            old = [(row.created_at, name) for name, row in state.idempotency_keys.items() if row.created_at < since]
            for _, name in sorted(old)[:limit]:
                del state.idempotency_keys[name]
        return min(len(old), limit)

    def _expired(self, leased: list[tuple[datetime, T]], limit: int) -> list[tuple[datetime, T]]:
        now = self._database.clock.now()
        return sorted((pair for pair in leased if pair[0] <= now), key=lambda pair: pair[0])[:limit]
