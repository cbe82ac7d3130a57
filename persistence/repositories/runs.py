from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, literal, select
from sqlalchemy.exc import IntegrityError

from domain.activity.entities import ActivityKind
from domain.activity.notes import kind_of_run
from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.runs.entities import Run, RunMetrics, RunStatus
from domain.states import ACTIVE_RUN, RUN
from persistence.mapping import columns_of, values_of
from persistence.repositories.conflicts import constraint_of, owned_ingestion
from persistence.repositories.scope import TenantScope
from persistence.tables import runs


def lease_end(seconds: float) -> Any:
    """Leases live on the database's clock, and on the moment, not on the transaction's start."""
    return func.clock_timestamp() + timedelta(seconds=seconds)


class SqlRunRepository:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def create(self, run: Run) -> Run:
        statement = insert(runs).values(values_of(run) | {"tenant_id": self._scope.tenant_id}).returning(*columns_of(Run))
        try:
            with owned_ingestion("runs"):
                async with self._scope.connection.begin_nested():
                    created = await self._scope.first(Run, statement)
        except IntegrityError as error:
            if constraint_of(error) == "uq_runs_active":
                raise ConflictError(ConflictReason.RUN_ACTIVE, "the ingestion has an active run") from None
            raise
        assert created is not None
        self._scope.activity.add(kind_of_run(created.status), created.ingestion_id, created.id)
        return created

    async def get_by_id(self, id: UUID) -> Run | None:
        return await self._scope.first(Run, self._scope.select(Run).where(runs.c.id == id))

    async def get_active(self, ingestion_id: UUID) -> Run | None:
        active = runs.c.status.in_([literal(status, runs.c.status.type, literal_execute=True) for status in ACTIVE_RUN])
        return await self._scope.first(Run, self._scope.select(Run).where(runs.c.ingestion_id == ingestion_id, active))

    async def hold_running(self, id: UUID) -> bool:
        running = select(runs.c.id).where(self._scope.owns(runs), runs.c.id == id, runs.c.status == RunStatus.RUNNING)
        return await self._scope.connection.scalar(running.with_for_update(read=True)) is not None

    async def get_scheduled(self, ingestion_id: UUID, due_at: datetime) -> Run | None:
        return await self._scope.first(Run, self._scope.select(Run).where(runs.c.ingestion_id == ingestion_id, runs.c.due_at == due_at))

    async def get_by_flow_run(self, flow_run_id: str) -> Run | None:
        return await self._scope.first(Run, self._scope.select(Run).where(runs.c.flow_run_id == flow_run_id))

    async def set_flow_run(self, id: UUID, flow_run_id: str) -> None:
        await self._scope.changed(self._scope.update(runs).where(runs.c.id == id).values(flow_run_id=flow_run_id))

    async def get_runs_by_ingestion(
        self, ingestion_id: UUID, *, since: datetime | None = None, until: datetime | None = None, limit: int
    ) -> Sequence[Run]:
        statement = self._scope.select(Run).where(runs.c.ingestion_id == ingestion_id)
        if since is not None:
            statement = statement.where(runs.c.queued_at >= since)
        if until is not None:
            statement = statement.where(runs.c.queued_at < until)
        return await self._scope.all(Run, statement.order_by(runs.c.queued_at.desc(), runs.c.id.desc()).limit(limit))

    async def update_status(
        self, id: UUID, status: RunStatus, *, at: datetime, error_message: str | None = None, lease_seconds: float | None = None
    ) -> Run:
        values: dict[str, Any] = {"status": status}
        if status is RunStatus.RUNNING:
            values["started_at"] = at
        if status not in ACTIVE_RUN:
            moment = literal(at, runs.c.ended_at.type)
            # Never below 0, though the clock that started the run may be ahead of the one that ends it.
            duration = func.greatest(func.extract("epoch", moment - func.coalesce(runs.c.started_at, moment)), 0)
            values |= {"ended_at": at, "duration_seconds": duration, "lease_expires_at": None}
        if error_message is not None:
            values["error_message"] = error_message
        if lease_seconds is not None:
            values["lease_expires_at"] = lease_end(lease_seconds)
        changed = await self._scope.first(
            Run,
            self._scope.update(runs)
            .where(runs.c.id == id, runs.c.status.in_(RUN.sources(status)))
            .values(values)
            .returning(*columns_of(Run)),
        )
        if changed is None:
            present = await self.get_by_id(id)
            if present is None:
                raise NotFoundError("run")
            RUN.require(present.status, status)
            raise ConflictError(ConflictReason.WRONG_STATE, "the run is being changed by somebody else")
        self._scope.activity.add(kind_of_run(changed.status), changed.ingestion_id, changed.id)
        return changed

    async def update_metrics(self, id: UUID, delta: RunMetrics, *, files_total: int | None = None) -> None:
        added = {name: getattr(delta, name) for name in RunMetrics.__dataclass_fields__}
        values: dict[str, Any] = {name: runs.c[name] + amount for name, amount in added.items() if amount}
        if files_total is not None:
            values["files_total"] = files_total
        if not values:
            return
        statement = self._scope.update(runs).where(runs.c.id == id).values(values).returning(runs.c.ingestion_id)
        ingestion_id: UUID | None = await self._scope.connection.scalar(statement)
        if ingestion_id is not None:
            self._scope.activity.add(ActivityKind.RUN_PROGRESSED, ingestion_id, id)

    async def count_listing(self, id: UUID) -> None:
        await self._scope.changed(self._scope.update(runs).where(runs.c.id == id).values(listings=runs.c.listings + 1))

    async def renew_lease(self, id: UUID, *, seconds: float) -> RunStatus | None:
        statement = (
            self._scope.update(runs)
            .where(runs.c.id == id, runs.c.status.in_(ACTIVE_RUN), runs.c.lease_expires_at > func.clock_timestamp())
            .values(lease_expires_at=lease_end(seconds))
            .returning(runs.c.status)
        )
        status: RunStatus | None = await self._scope.connection.scalar(statement)
        return status
