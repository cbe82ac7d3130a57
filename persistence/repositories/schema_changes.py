from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import exists, insert

from domain.activity.entities import ActivityKind
from domain.ports.engine import ColumnChange
from domain.schema_changes import SchemaChange, SchemaChangeDecision
from persistence.mapping import columns_of
from persistence.repositories.conflicts import owned_ingestion
from persistence.repositories.scope import TenantScope
from persistence.tables import processed_files, schema_changes


class SqlSchemaChangeRepository:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def propose(
        self, *, id: UUID, ingestion_id: UUID, run_id: UUID, digest: str, changes: tuple[ColumnChange, ...], example_path: str
    ) -> SchemaChange:
        values = {
            "id": id,
            "tenant_id": self._scope.tenant_id,
            "ingestion_id": ingestion_id,
            "run_id": run_id,
            "digest": digest,
            "changes": changes,
            "example_path": example_path,
            "decision": SchemaChangeDecision.PENDING,
        }
        statement = insert(schema_changes).values(values).returning(*columns_of(SchemaChange))
        with owned_ingestion("schema_changes"):
            proposed = await self._scope.first(SchemaChange, statement)
        assert proposed is not None
        self._scope.activity.add(ActivityKind.SCHEMA_CHANGE_PROPOSED, ingestion_id, run_id)
        return proposed

    async def get_by_id(self, id: UUID) -> SchemaChange | None:
        return await self._scope.first(SchemaChange, self._scope.select(SchemaChange).where(schema_changes.c.id == id))

    async def get_open(self, ingestion_id: UUID) -> Sequence[SchemaChange]:
        statement = self._scope.select(SchemaChange).where(
            schema_changes.c.ingestion_id == ingestion_id, schema_changes.c.decision == SchemaChangeDecision.PENDING
        )
        return await self._scope.all(SchemaChange, statement.order_by(schema_changes.c.proposed_at, schema_changes.c.id))

    async def get_decided(self, ingestion_id: UUID) -> Sequence[SchemaChange]:
        statement = self._scope.select(SchemaChange).where(
            schema_changes.c.ingestion_id == ingestion_id, schema_changes.c.decision != SchemaChangeDecision.PENDING
        )
        return await self._scope.all(SchemaChange, statement.order_by(schema_changes.c.decided_at, schema_changes.c.id))

    async def decide(self, decided: SchemaChange) -> bool:
        statement = (
            self._scope.update(schema_changes)
            .where(schema_changes.c.id == decided.id, schema_changes.c.decision == SchemaChangeDecision.PENDING)
            .values(
                decision=decided.decision,
                decided_at=decided.decided_at,
                decided_by=decided.decided_by,
                decision_reason=decided.decision_reason,
            )
        )
        changed = await self._scope.changed(statement) > 0
        if changed:
            self._scope.activity.add(ActivityKind.SCHEMA_CHANGE_DECIDED, decided.ingestion_id)
        return changed

    async def withdraw_needless(self, ingestion_id: UUID) -> int:
        waited_for = exists().where(self._scope.owns(processed_files), processed_files.c.schema_change_id == schema_changes.c.id)
        needless = self._scope.delete(schema_changes).where(
            schema_changes.c.ingestion_id == ingestion_id, schema_changes.c.decision == SchemaChangeDecision.PENDING, ~waited_for
        )
        withdrawn = await self._scope.changed(needless)
        if withdrawn:
            self._scope.activity.add(ActivityKind.SCHEMA_CHANGE_WITHDRAWN, ingestion_id)
        return withdrawn
