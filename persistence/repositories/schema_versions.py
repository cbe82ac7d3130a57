from __future__ import annotations

from uuid import UUID

from sqlalchemy import insert, select

from domain.activity.entities import ActivityKind
from domain.schema_versions import SchemaVersion
from persistence.mapping import columns_of, values_of
from persistence.repositories.conflicts import owned_ingestion
from persistence.repositories.scope import TenantScope
from persistence.tables import ingestions, schema_versions


class SqlSchemaVersionRepository:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def latest(self, ingestion_id: UUID) -> SchemaVersion | None:
        # The ingestion's row is held, so that two writers number their versions one after the other.
        await self._scope.connection.execute(
            select(ingestions.c.id).where(self._scope.owns(ingestions), ingestions.c.id == ingestion_id).with_for_update(key_share=True)
        )
        statement = self._scope.select(SchemaVersion).where(schema_versions.c.ingestion_id == ingestion_id)
        return await self._scope.first(SchemaVersion, statement.order_by(schema_versions.c.version.desc()).limit(1))

    async def append(self, version: SchemaVersion) -> SchemaVersion:
        values = values_of(version, without=("id", "created_at")) | {"tenant_id": self._scope.tenant_id}
        statement = insert(schema_versions).values(values).returning(*columns_of(SchemaVersion))
        with owned_ingestion("schema_versions"):
            appended = await self._scope.first(SchemaVersion, statement)
        assert appended is not None
        self._scope.activity.add(ActivityKind.SCHEMA_CHANGED, appended.ingestion_id, appended.run_id)
        return appended
