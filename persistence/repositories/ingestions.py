from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Double, and_, bindparam, case, cast, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from domain.activity.entities import ActivityKind
from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.ingestions.entities import EventQueueState, Ingestion, IngestionStatus, Reset
from domain.states import INGESTION
from persistence.mapping import columns_of, values_of
from persistence.repositories.conflicts import constraint_of
from persistence.repositories.scope import TenantScope
from persistence.tables import ingestions, processed_files

_OWNED_ELSEWHERE = (
    "status",
    "next_due_at",
    "consecutive_failures",
    "last_run_id",
    "last_run_at",
    "last_listed_at",
    "event_queue",
    "reset",
    "generation",
    "checkpoint_path",
)
_FIXED = ("id", "tenant_id", "created_at", "updated_at", "version", *_OWNED_ELSEWHERE)
"""What `update` leaves alone: it never changes, or another method owns it."""


class SqlIngestionRepository:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def create(self, ingestion: Ingestion) -> Ingestion:
        owned = {"tenant_id": self._scope.tenant_id, "destination_key": ingestion.destination.key, "queue_key": ingestion.source.queue_id}
        values = values_of(ingestion) | owned
        created = await self._write(insert(ingestions).values(values).returning(*columns_of(Ingestion)), ingestion)
        self._scope.activity.add(ActivityKind.INGESTION_CREATED, created.id)
        return created

    async def get_by_id(self, id: UUID, *, for_update: bool = False) -> Ingestion | None:
        statement = self._scope.select(Ingestion).where(ingestions.c.id == id)
        if for_update:
            # NO KEY: rows that refer to the ingestion may be written meanwhile.
            statement = statement.with_for_update(key_share=True)
        return await self._scope.first(Ingestion, statement)

    async def get_by_tenant(self, *, limit: int, after: UUID | None = None) -> Sequence[Ingestion]:
        statement = self._scope.select(Ingestion).order_by(ingestions.c.id).limit(limit)
        return await self._scope.all(Ingestion, statement if after is None else statement.where(ingestions.c.id > after))

    async def get_active_ingestions(self) -> Sequence[Ingestion]:
        active = ingestions.c.status == IngestionStatus.ACTIVE
        return await self._scope.all(Ingestion, self._scope.select(Ingestion).where(active).order_by(ingestions.c.id))

    async def get_by_files(self, file_ids: Sequence[int]) -> Sequence[Ingestion]:
        asked = func.any(bindparam(None, list(file_ids), type_=ARRAY(BigInteger)))
        owners = select(processed_files.c.ingestion_id).where(self._scope.owns(processed_files), processed_files.c.id == asked)
        statement = self._scope.select(Ingestion).where(ingestions.c.id.in_(owners))
        return await self._scope.all(Ingestion, statement.order_by(ingestions.c.id))

    async def update(self, ingestion: Ingestion) -> Ingestion:
        values = values_of(ingestion, without=_FIXED) | {"version": ingestions.c.version + 1, "queue_key": ingestion.source.queue_id}
        statement = (
            self._scope.update(ingestions)
            .where(ingestions.c.id == ingestion.id, ingestions.c.version == ingestion.version)
            .values(values)
            .returning(*columns_of(Ingestion))
        )
        updated = await self._write(statement, ingestion)
        self._scope.activity.add(ActivityKind.INGESTION_UPDATED, updated.id)
        return updated

    async def update_status(self, id: UUID, status: IngestionStatus, *, next_due_at: datetime | None) -> Ingestion:
        values: dict[str, Any] = {"status": status, "next_due_at": next_due_at, "version": ingestions.c.version + 1}
        if status is IngestionStatus.ACTIVE:
            values["consecutive_failures"] = 0
        changed = await self._scope.first(
            Ingestion,
            self._scope.update(ingestions)
            .where(ingestions.c.id == id, ingestions.c.status.in_(INGESTION.sources(status)))
            .values(values)
            .returning(*columns_of(Ingestion)),
        )
        if changed is None:
            present = await self.get_by_id(id)
            if present is None:
                raise NotFoundError("ingestion")
            INGESTION.require(present.status, status)
            raise ConflictError(ConflictReason.STALE_VERSION, "the ingestion is being changed by somebody else")
        self._scope.activity.add(ActivityKind.INGESTION_STATUS_CHANGED, changed.id)
        return changed

    async def set_next_due(self, id: UUID, next_due_at: datetime | None) -> None:
        await self._touch(id, next_due_at=next_due_at)

    async def expect_data(self, id: UUID) -> None:
        seconds = cast(ingestions.c.policies["late_after_seconds"].astext, Double)
        expected = and_(ingestions.c.status == IngestionStatus.ACTIVE, ingestions.c.schedule.is_not(None), seconds.is_not(None))
        late_at = case((expected, func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)), else_=None)
        statement = self._scope.update(ingestions).where(ingestions.c.id == id, or_(expected, ingestions.c.late_at.is_not(None)))
        # It is no change of the ingestion that anybody made.
        await self._scope.changed(statement.values(late_at=late_at, updated_at=ingestions.c.updated_at))

    async def take_lateness(self, id: UUID) -> bool:
        late = and_(ingestions.c.status == IngestionStatus.ACTIVE, ingestions.c.late_at <= func.clock_timestamp())
        statement = self._scope.update(ingestions).where(ingestions.c.id == id, late)
        return await self._scope.changed(statement.values(late_at=None, updated_at=ingestions.c.updated_at)) > 0

    async def update_last_run(self, id: UUID, run_id: UUID, at: datetime, *, consecutive_failures: int) -> None:
        await self._touch(id, last_run_id=run_id, last_run_at=at, consecutive_failures=consecutive_failures)

    async def set_last_listed(self, id: UUID, at: datetime | None) -> None:
        await self._touch(id, last_listed_at=at, updated_at=ingestions.c.updated_at)

    async def set_event_queue(self, id: UUID, state: EventQueueState) -> None:
        await self._touch(id, event_queue=state, updated_at=ingestions.c.updated_at)

    async def set_table(self, id: UUID, table_uuid: UUID) -> None:
        await self._touch(id, table_uuid=table_uuid)

    async def get_table(self, id: UUID) -> UUID | None:
        found: UUID | None = await self._scope.connection.scalar(
            select(ingestions.c.table_uuid).where(self._scope.owns(ingestions), ingestions.c.id == id)
        )
        return found

    async def see_snapshots(self, id: UUID, snapshots: int) -> int | None:
        seen = (
            select(ingestions.c.id, ingestions.c.snapshots_seen)
            .where(self._scope.owns(ingestions), ingestions.c.id == id)
            .with_for_update()
            .cte("seen")
        )
        statement = (
            self._scope.update(ingestions)
            .where(ingestions.c.id == seen.c.id)
            .values(snapshots_seen=snapshots, updated_at=ingestions.c.updated_at)
            .returning(seen.c.snapshots_seen)
        )
        before: int | None = await self._scope.connection.scalar(statement)
        return before

    async def begin_reset(self, id: UUID, reset: Reset, *, generation: int, checkpoint_path: str) -> Ingestion:
        same_table = case((ingestions.c.generation == generation, ingestions.c.table_uuid), else_=None)
        values = {
            "reset": reset,
            "generation": generation,
            "checkpoint_path": checkpoint_path,
            "table_uuid": same_table,
            "last_listed_at": None,
            "version": ingestions.c.version + 1,
        }
        statement = self._scope.update(ingestions).where(ingestions.c.id == id).values(values)
        changed = await self._scope.first(Ingestion, statement.returning(*columns_of(Ingestion)))
        if changed is None:
            raise NotFoundError("ingestion")
        self._scope.activity.add(ActivityKind.INGESTION_RESET_BEGUN, id)
        return changed

    async def finish_reset(self, id: UUID, reset_id: UUID) -> bool:
        still = ingestions.c.reset["id"].astext == str(reset_id)
        done = await self._scope.changed(self._scope.update(ingestions).where(ingestions.c.id == id, still).values(reset=None)) > 0
        if done:
            self._scope.activity.add(ActivityKind.INGESTION_RESET_DONE, id)
        return done

    async def delete(self, id: UUID) -> bool:
        deleted = await self._scope.changed(self._scope.delete(ingestions).where(ingestions.c.id == id)) > 0
        if deleted:
            self._scope.activity.add(ActivityKind.INGESTION_DELETED, id)
        return deleted

    async def _touch(self, id: UUID, **values: Any) -> None:
        await self._scope.changed(self._scope.update(ingestions).where(ingestions.c.id == id).values(values))

    async def _write(self, statement: Any, ingestion: Ingestion) -> Ingestion:
        try:
            async with self._scope.connection.begin_nested():
                written = await self._scope.first(Ingestion, statement)
        except IntegrityError as error:
            match constraint_of(error):
                case "uq_ingestions_name":
                    raise ConflictError(ConflictReason.DUPLICATE_NAME, f"there is an ingestion named {ingestion.name!r}") from None
                case "uq_ingestions_destination":
                    raise ConflictError(ConflictReason.DESTINATION_TAKEN, "the destination table belongs to an ingestion") from None
                case "uq_ingestions_queue":
                    raise ConflictError(ConflictReason.QUEUE_TAKEN, "the queue belongs to an ingestion") from None
            raise
        if written is None:
            raise ConflictError(ConflictReason.STALE_VERSION, "the ingestion has changed since it was read")
        return written
