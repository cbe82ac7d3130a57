"""The tenant's API keys and audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, insert, or_, select

from domain.access.entities import ApiKey
from domain.tenants import Principal, Role
from persistence.mapping import columns_of, values_of
from persistence.repositories.scope import TenantScope
from persistence.tables import api_keys, audit_events


def usable() -> ColumnElement[bool]:
    """Keys that let somebody in. They expire on the database's clock."""
    return and_(api_keys.c.revoked_at.is_(None), or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now()))


class SqlApiKeyRepository:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def create(self, key: ApiKey, digest: bytes) -> ApiKey:
        values = values_of(key) | {"tenant_id": self._scope.tenant_id, "digest": digest}
        created = await self._scope.first(ApiKey, insert(api_keys).values(values).returning(*columns_of(ApiKey)))
        assert created is not None
        return created

    async def get_by_id(self, id: UUID) -> ApiKey | None:
        return await self._scope.first(ApiKey, self._scope.select(ApiKey).where(api_keys.c.id == id))

    async def hold_admins(self) -> Sequence[UUID]:
        statement = (
            select(api_keys.c.id)
            .where(self._scope.owns(api_keys), api_keys.c.role == Role.ADMIN, usable())
            .order_by(api_keys.c.id)
            .with_for_update()
        )
        return (await self._scope.connection.scalars(statement)).all()

    async def revoke(self, id: UUID, at: datetime) -> ApiKey | None:
        statement = self._scope.update(api_keys).where(api_keys.c.id == id, api_keys.c.revoked_at.is_(None))
        return await self._scope.first(ApiKey, statement.values(revoked_at=at).returning(*columns_of(ApiKey)))


class SqlAuditTrail:
    def __init__(self, scope: TenantScope) -> None:
        self._scope = scope

    async def record(self, principal: Principal, operation: str, subject_kind: str | None = None, subject_id: UUID | None = None) -> None:
        values = {
            "tenant_id": self._scope.tenant_id,
            "actor": principal.name,
            "api_key_id": principal.api_key_id,
            "operation": operation,
            "subject_kind": subject_kind,
            "subject_id": subject_id,
        }
        await self._scope.connection.execute(insert(audit_events).values(values))
