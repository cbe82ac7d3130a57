"""API keys and the audit trail in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from domain.access.entities import ApiKey, AuditEvent
from domain.tenants import Principal, Role
from domain.text import readable
from tests.fakes.repositories import Scope


def usable(key: ApiKey, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


class FakeApiKeyRepository:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._rows = scope.state.api_keys

    async def create(self, key: ApiKey, digest: bytes) -> ApiKey:
        assert all(other.prefix != key.prefix for other in self._rows.values()), "this prefix is in use"
        self._rows[key.id] = replace(key, tenant_id=self._scope.tenant_id)
        self._scope.state.digests[key.id] = digest
        return self._rows[key.id]

    async def get_by_id(self, id: UUID) -> ApiKey | None:
        return self._scope.find(ApiKey, id)

    async def hold_admins(self) -> Sequence[UUID]:
        now = self._scope.now()
        return sorted(key.id for key in self._scope.owned(ApiKey) if key.role is Role.ADMIN and usable(key, now))

    async def revoke(self, id: UUID, at: datetime) -> ApiKey | None:
        present = self._scope.find(ApiKey, id)
        if present is None or present.revoked_at is not None:
            return None
        self._rows[id] = replace(present, revoked_at=at)
        return self._rows[id]


class FakeAuditTrail:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def record(self, principal: Principal, operation: str, subject_kind: str | None = None, subject_id: UUID | None = None) -> None:
        id, now = self._scope.database.next_id(), self._scope.now()
        actor = readable(principal.name)
        event = AuditEvent(id, self._scope.tenant_id, now, actor, principal.api_key_id, operation, subject_kind, subject_id)
        self._scope.state.audit_events[id] = event
