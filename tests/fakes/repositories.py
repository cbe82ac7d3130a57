"""The small repositories in memory; the ledger has a file of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from domain.activity.entities import ActivityKind
from domain.activity.notes import ActivityNotes, kind_of_run
from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.ingestions.entities import EventQueueState, Ingestion, IngestionStatus, Reset
from domain.ledger.entities import Batch, BatchStatus, ProcessedFile
from domain.ports.engine import ColumnChange
from domain.runs.entities import Run, RunMetrics, RunStatus
from domain.schema_changes import SchemaChange, SchemaChangeDecision
from domain.schema_versions import SchemaVersion
from domain.states import ACTIVE_RUN, INGESTION, RUN
from domain.text import readable
from tests.fakes.database import FakeDatabase, State

E = TypeVar("E")


class Scope:
    """A transaction, and the tenant whose rows alone are seen and touched through it."""

    def __init__(self, database: FakeDatabase, state: State, tenant_id: UUID) -> None:
        self.database = database
        self.state = state
        self.tenant_id = tenant_id
        self.activity = ActivityNotes()

    def now(self) -> datetime:
        return self.database.clock.now()

    def lease_end(self, seconds: float) -> datetime:
        return self.now() + timedelta(seconds=seconds)

    def owned(self, entity: type[E]) -> list[E]:
        return [row for row in self.state.rows_of(entity).values() if row.tenant_id == self.tenant_id]

    def find(self, entity: type[E], id: object) -> E | None:
        row = self.state.rows_of(entity).get(id)
        return row if row is not None and row.tenant_id == self.tenant_id else None

    def require_ingestion(self, id: UUID) -> None:
        if self.find(Ingestion, id) is None:
            raise NotFoundError("ingestion")


class FakeIngestionRepository:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._rows = scope.state.ingestions

    async def create(self, ingestion: Ingestion) -> Ingestion:
        assert self._scope.tenant_id in self._scope.state.tenants, "a tenant that nobody has created"
        created = replace(ingestion, tenant_id=self._scope.tenant_id)
        self._check_name(created)
        if any(other.destination.key == created.destination.key for other in self._rows.values()):
            raise ConflictError(ConflictReason.DESTINATION_TAKEN, "the destination table belongs to an ingestion")
        self._check_queue(created)
        self._rows[created.id] = created
        self._scope.activity.add(ActivityKind.INGESTION_CREATED, created.id)
        return created

    async def get_by_id(self, id: UUID, *, for_update: bool = False) -> Ingestion | None:
        return self._scope.find(Ingestion, id)

    async def get_by_tenant(self, *, limit: int, after: UUID | None = None) -> Sequence[Ingestion]:
        return [i for i in self._sorted() if after is None or i.id > after][:limit]

    async def get_active_ingestions(self) -> Sequence[Ingestion]:
        return [i for i in self._sorted() if i.status is IngestionStatus.ACTIVE]

    async def get_by_files(self, file_ids: Sequence[int]) -> Sequence[Ingestion]:
        of_files = {file.ingestion_id for file in self._scope.owned(ProcessedFile) if file.id in file_ids}
        return [i for i in self._sorted() if i.id in of_files]

    async def update(self, ingestion: Ingestion) -> Ingestion:
        present = self._scope.find(Ingestion, ingestion.id)
        if present is None or present.version != ingestion.version:
            raise ConflictError(ConflictReason.STALE_VERSION, "the ingestion has changed since it was read")
        self._check_name(replace(ingestion, tenant_id=self._scope.tenant_id))
        self._check_queue(ingestion)
        changed = (
            "name",
            "source",
            "format",
            "destination",
            "schedule",
            "policies",
            "execution",
        )
        self._scope.activity.add(ActivityKind.INGESTION_UPDATED, present.id)
        return self._store(present, version=present.version + 1, **{name: getattr(ingestion, name) for name in changed})

    async def update_status(self, id: UUID, status: IngestionStatus, *, next_due_at: datetime | None) -> Ingestion:
        present = self._scope.find(Ingestion, id)
        if present is None:
            raise NotFoundError("ingestion")
        INGESTION.require(present.status, status)
        self._scope.activity.add(ActivityKind.INGESTION_STATUS_CHANGED, id)
        failures = 0 if status is IngestionStatus.ACTIVE else present.consecutive_failures
        return self._store(present, status=status, next_due_at=next_due_at, version=present.version + 1, consecutive_failures=failures)

    async def set_next_due(self, id: UUID, next_due_at: datetime | None) -> None:
        self._touch(id, next_due_at=next_due_at)

    async def expect_data(self, id: UUID) -> None:
        present = self._scope.find(Ingestion, id)
        if present is None:
            return
        self._scope.state.late_at.pop(id, None)
        seconds = present.policies.late_after_seconds
        if present.status is IngestionStatus.ACTIVE and present.schedule is not None and seconds is not None:
            self._scope.state.late_at[id] = self._scope.lease_end(seconds)

    async def take_lateness(self, id: UUID) -> bool:
        present, late_at = self._scope.find(Ingestion, id), self._scope.state.late_at.get(id)
        if present is None or present.status is not IngestionStatus.ACTIVE or late_at is None or late_at > self._scope.now():
            return False
        del self._scope.state.late_at[id]
        return True

    async def update_last_run(self, id: UUID, run_id: UUID, at: datetime, *, consecutive_failures: int) -> None:
        self._touch(id, last_run_id=run_id, last_run_at=at, consecutive_failures=consecutive_failures)

    async def set_last_listed(self, id: UUID, at: datetime | None) -> None:
        self._set(id, last_listed_at=at)

    async def set_event_queue(self, id: UUID, state: EventQueueState) -> None:
        self._set(id, event_queue=state)

    async def set_table(self, id: UUID, table_uuid: UUID) -> None:
        if self._touch(id):
            self._scope.state.table_uuids[id] = table_uuid

    async def get_table(self, id: UUID) -> UUID | None:
        return self._scope.state.table_uuids.get(id) if self._scope.find(Ingestion, id) else None

    async def see_snapshots(self, id: UUID, snapshots: int) -> int | None:
        if self._scope.find(Ingestion, id) is None:
            return None
        before = self._scope.state.snapshots_seen.get(id)
        self._scope.state.snapshots_seen[id] = snapshots
        return before

    async def begin_reset(self, id: UUID, reset: Reset, *, generation: int, checkpoint_path: str) -> Ingestion:
        present = self._scope.find(Ingestion, id)
        if present is None:
            raise NotFoundError("ingestion")
        if generation != present.generation:
            self._scope.state.table_uuids.pop(id, None)
        self._scope.activity.add(ActivityKind.INGESTION_RESET_BEGUN, id)
        fields = {"reset": reset, "generation": generation, "checkpoint_path": checkpoint_path, "last_listed_at": None}
        return self._store(present, version=present.version + 1, **fields)

    async def finish_reset(self, id: UUID, reset_id: UUID) -> bool:
        present = self._scope.find(Ingestion, id)
        if present is None or present.reset is None or present.reset.id != reset_id:
            return False
        self._scope.activity.add(ActivityKind.INGESTION_RESET_DONE, id)
        return self._touch(id, reset=None)

    async def delete(self, id: UUID) -> bool:
        if self._scope.find(Ingestion, id) is None:
            return False
        state = self._scope.state
        del state.ingestions[id]
        self._scope.activity.add(ActivityKind.INGESTION_DELETED, id)
        state.table_uuids.pop(id, None)
        state.snapshots_seen.pop(id, None)
        state.late_at.pop(id, None)
        gone = [key for key, webhook in state.webhooks.items() if webhook.ingestion_id == id]
        for key in gone:
            del state.webhooks[key]
        for key in [key for key, delivery in state.deliveries.items() if delivery.webhook_id in gone]:
            del state.deliveries[key]
        tables: list[dict[Any, Any]] = [state.runs, state.batches, state.files, state.attempts, state.schema_versions]
        tables.append(state.schema_changes)
        for table in tables:
            for key in [key for key, row in table.items() if row.ingestion_id == id]:
                del table[key]
        return True

    def _sorted(self) -> list[Ingestion]:
        return sorted(self._scope.owned(Ingestion), key=lambda i: i.id)

    def _check_name(self, ingestion: Ingestion) -> None:
        if any(other.name == ingestion.name and other.id != ingestion.id for other in self._scope.owned(Ingestion)):
            raise ConflictError(ConflictReason.DUPLICATE_NAME, f"there is an ingestion named {ingestion.name!r}")

    def _check_queue(self, ingestion: Ingestion) -> None:
        queue = ingestion.source.queue_id
        if queue is not None and any(other.source.queue_id == queue and other.id != ingestion.id for other in self._rows.values()):
            raise ConflictError(ConflictReason.QUEUE_TAKEN, "the queue belongs to an ingestion")

    def _set(self, id: UUID, **fields: Any) -> None:
        """What is no change of the ingestion that anybody made."""
        present = self._scope.find(Ingestion, id)
        if present is not None:
            self._rows[id] = replace(present, **fields)

    def _touch(self, id: UUID, **fields: Any) -> bool:
        present = self._scope.find(Ingestion, id)
        if present is None:
            return False
        self._store(present, **fields)
        return True

    def _store(self, present: Ingestion, **fields: Any) -> Ingestion:
        changed = replace(present, updated_at=self._scope.now(), **fields)
        self._rows[present.id] = changed
        return changed


class FakeRunRepository:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._rows = scope.state.runs

    async def create(self, run: Run) -> Run:
        self._scope.require_ingestion(run.ingestion_id)
        of_ingestion = [other for other in self._rows.values() if other.ingestion_id == run.ingestion_id]
        if run.status in ACTIVE_RUN and any(other.status in ACTIVE_RUN for other in of_ingestion):
            raise ConflictError(ConflictReason.RUN_ACTIVE, "the ingestion has an active run")
        assert run.due_at is None or all(other.due_at != run.due_at for other in of_ingestion), "this firing has its run"
        created = replace(run, tenant_id=self._scope.tenant_id)
        self._rows[run.id] = created
        self._scope.activity.add(kind_of_run(created.status), created.ingestion_id, created.id)
        return created

    async def get_by_id(self, id: UUID) -> Run | None:
        return self._scope.find(Run, id)

    async def get_active(self, ingestion_id: UUID) -> Run | None:
        return next((r for r in self._scope.owned(Run) if r.ingestion_id == ingestion_id and r.status in ACTIVE_RUN), None)

    async def hold_running(self, id: UUID) -> bool:
        present = self._scope.find(Run, id)
        return present is not None and present.status is RunStatus.RUNNING

    async def get_scheduled(self, ingestion_id: UUID, due_at: datetime) -> Run | None:
        return next((r for r in self._scope.owned(Run) if r.ingestion_id == ingestion_id and r.due_at == due_at), None)

    async def get_by_flow_run(self, flow_run_id: str) -> Run | None:
        return next((r for r in self._scope.owned(Run) if r.flow_run_id == flow_run_id), None)

    async def set_flow_run(self, id: UUID, flow_run_id: str) -> None:
        present = self._scope.find(Run, id)
        if present is not None:
            self._rows[id] = replace(present, flow_run_id=flow_run_id)

    async def get_runs_by_ingestion(
        self, ingestion_id: UUID, *, since: datetime | None = None, until: datetime | None = None, limit: int
    ) -> Sequence[Run]:
        found = [
            r
            for r in self._scope.owned(Run)
            if r.ingestion_id == ingestion_id and (since is None or r.queued_at >= since) and (until is None or r.queued_at < until)
        ]
        return sorted(found, key=lambda r: (r.queued_at, r.id), reverse=True)[:limit]

    async def update_status(
        self, id: UUID, status: RunStatus, *, at: datetime, error_message: str | None = None, lease_seconds: float | None = None
    ) -> Run:
        present = self._scope.find(Run, id)
        if present is None:
            raise NotFoundError("run")
        RUN.require(present.status, status)
        fields: dict[str, Any] = {"status": status}
        if status is RunStatus.RUNNING:
            fields["started_at"] = at
        if status not in ACTIVE_RUN:
            seconds = (at - (present.started_at or at)).total_seconds()
            fields |= {"ended_at": at, "duration_seconds": max(0.0, seconds), "lease_expires_at": None}
        if error_message is not None:
            fields["error_message"] = readable(error_message)
        if lease_seconds is not None:
            fields["lease_expires_at"] = self._scope.lease_end(lease_seconds)
        changed = replace(present, **fields)
        self._rows[id] = changed
        self._scope.activity.add(kind_of_run(status), changed.ingestion_id, id)
        return changed

    async def update_metrics(self, id: UUID, delta: RunMetrics, *, files_total: int | None = None) -> None:
        present = self._scope.find(Run, id)
        if present is not None and (delta != RunMetrics() or files_total is not None):
            self._scope.activity.add(ActivityKind.RUN_PROGRESSED, present.ingestion_id, id)
            total = present.files_total if files_total is None else files_total
            self._rows[id] = replace(present, files_total=total, **dataclasses.asdict(present.metrics + delta))

    async def count_listing(self, id: UUID) -> None:
        present = self._scope.find(Run, id)
        if present is not None:
            self._rows[id] = replace(present, listings=present.listings + 1)

    async def renew_lease(self, id: UUID, *, seconds: float) -> RunStatus | None:
        present = self._scope.find(Run, id)
        if present is None or present.status not in ACTIVE_RUN or not _runs(present.lease_expires_at, self._scope):
            return None
        self._rows[id] = replace(present, lease_expires_at=self._scope.lease_end(seconds))
        return present.status


class FakeBatchRepository:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._rows = scope.state.batches

    async def open(self, *, id: UUID, ingestion_id: UUID, run_id: UUID, table_uuid: UUID | None, lease_seconds: float) -> Batch:
        self._scope.require_ingestion(ingestion_id)
        self._rows[id] = Batch(
            id=id,
            tenant_id=self._scope.tenant_id,
            ingestion_id=ingestion_id,
            run_id=run_id,
            status=BatchStatus.CLAIMED,
            epoch=1,
            lease_expires_at=self._scope.lease_end(lease_seconds),
            table_uuid=table_uuid,
            snapshot_id=None,
            files=0,
            created_at=self._scope.now(),
            settled_at=None,
        )
        return self._rows[id]

    async def get_by_id(self, id: UUID) -> Batch | None:
        return self._scope.find(Batch, id)

    async def get_abandoned(self, ingestion_id: UUID) -> Sequence[Batch]:
        at_work = {run.id for run in self._scope.owned(Run) if run.status in ACTIVE_RUN}
        found = [b for b in self._scope.owned(Batch) if b.ingestion_id == ingestion_id and b.status is BatchStatus.CLAIMED]
        return sorted((b for b in found if b.run_id not in at_work), key=lambda b: (b.created_at, b.id))

    async def renew_lease(self, batch: Batch, *, seconds: float) -> bool:
        held = self._held(batch)
        if held is None or not _runs(held.lease_expires_at, self._scope):
            return False
        self._rows[held.id] = replace(held, lease_expires_at=self._scope.lease_end(seconds))
        return True

    async def take_over(self, id: UUID, *, lease_seconds: float, only_expired: bool) -> Batch | None:
        present = self._scope.find(Batch, id)
        if present is None or present.status is not BatchStatus.CLAIMED:
            return None
        if only_expired and _runs(present.lease_expires_at, self._scope):
            return None
        taken = replace(present, epoch=present.epoch + 1, lease_expires_at=self._scope.lease_end(lease_seconds))
        self._rows[id] = taken
        return taken

    async def commit(self, batch: Batch, *, snapshot_id: int | None, files: int) -> bool:
        return self._settle(batch, status=BatchStatus.COMMITTED, snapshot_id=snapshot_id, files=files)

    async def release(self, batch: Batch) -> bool:
        return self._settle(batch, status=BatchStatus.RELEASED)

    def _settle(self, batch: Batch, **fields: Any) -> bool:
        held = self._held(batch)
        if held is None:
            return False
        self._rows[held.id] = replace(held, settled_at=self._scope.now(), **fields)
        return True

    def _held(self, batch: Batch) -> Batch | None:
        present = self._scope.find(Batch, batch.id)
        return present if present and present.status is BatchStatus.CLAIMED and present.epoch == batch.epoch else None


class FakeSchemaVersionRepository:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def latest(self, ingestion_id: UUID) -> SchemaVersion | None:
        versions = [v for v in self._scope.owned(SchemaVersion) if v.ingestion_id == ingestion_id]
        return max(versions, key=lambda v: v.version, default=None)

    async def append(self, version: SchemaVersion) -> SchemaVersion:
        self._scope.require_ingestion(version.ingestion_id)
        latest = await self.latest(version.ingestion_id)
        assert latest is None or version.version != latest.version, "this version is stored"
        id = self._scope.database.next_id()
        appended = replace(version, id=id, tenant_id=self._scope.tenant_id, created_at=self._scope.now())
        self._scope.state.schema_versions[id] = appended
        self._scope.activity.add(ActivityKind.SCHEMA_CHANGED, appended.ingestion_id, appended.run_id)
        return appended


class FakeSchemaChangeRepository:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._rows = scope.state.schema_changes

    async def propose(
        self, *, id: UUID, ingestion_id: UUID, run_id: UUID, digest: str, changes: tuple[ColumnChange, ...], example_path: str
    ) -> SchemaChange:
        self._scope.require_ingestion(ingestion_id)
        assert digest not in {change.digest for change in await self.get_open(ingestion_id)}, "this change is proposed"
        self._rows[id] = SchemaChange(
            id=id,
            tenant_id=self._scope.tenant_id,
            ingestion_id=ingestion_id,
            run_id=run_id,
            digest=digest,
            changes=changes,
            example_path=example_path,
            proposed_at=self._scope.now(),
            decision=SchemaChangeDecision.PENDING,
            decided_at=None,
            decided_by=None,
            decision_reason=None,
        )
        self._scope.activity.add(ActivityKind.SCHEMA_CHANGE_PROPOSED, ingestion_id, run_id)
        return self._rows[id]

    async def get_by_id(self, id: UUID) -> SchemaChange | None:
        return self._scope.find(SchemaChange, id)

    async def get_open(self, ingestion_id: UUID) -> Sequence[SchemaChange]:
        return sorted((c for c in self._of(ingestion_id) if _is_open(c)), key=lambda c: (c.proposed_at, c.id))

    async def get_decided(self, ingestion_id: UUID) -> Sequence[SchemaChange]:
        return sorted((c for c in self._of(ingestion_id) if not _is_open(c)), key=lambda c: (c.decided_at, c.id))

    async def decide(self, decided: SchemaChange) -> bool:
        present = self._scope.find(SchemaChange, decided.id)
        if present is None or not _is_open(present):
            return False
        fields = {name: getattr(decided, name) for name in ("decision", "decided_at", "decided_by", "decision_reason")}
        self._rows[present.id] = replace(present, **fields)
        self._scope.activity.add(ActivityKind.SCHEMA_CHANGE_DECIDED, present.ingestion_id)
        return True

    async def withdraw_needless(self, ingestion_id: UUID) -> int:
        waited_for = {file.schema_change_id for file in self._scope.owned(ProcessedFile)}
        needless = [change for change in await self.get_open(ingestion_id) if change.id not in waited_for]
        for change in needless:
            del self._rows[change.id]
            self._scope.activity.add(ActivityKind.SCHEMA_CHANGE_WITHDRAWN, ingestion_id)
        return len(needless)

    def _of(self, ingestion_id: UUID) -> list[SchemaChange]:
        return [change for change in self._scope.owned(SchemaChange) if change.ingestion_id == ingestion_id]


def _is_open(change: SchemaChange) -> bool:
    return change.decision is SchemaChangeDecision.PENDING


def _runs(lease_expires_at: datetime | None, scope: Scope) -> bool:
    return lease_expires_at is not None and lease_expires_at > scope.now()
