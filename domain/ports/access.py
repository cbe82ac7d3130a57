"""The tenant's API keys and its audit trail, inside the unit of work's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.access.entities import ApiKey
from domain.tenants import Principal


class ApiKeyRepository(Protocol):
    async def create(self, key: ApiKey, digest: bytes) -> ApiKey:
        """Store a key under the SHA-256 digest of its whole text."""
        ...

    async def get_by_id(self, id: UUID) -> ApiKey | None: ...

    async def hold_admins(self) -> Sequence[UUID]:
        """The ADMIN keys that let somebody in at present, by id, held against other writers until the transaction ends."""
        ...

    async def revoke(self, id: UUID, at: datetime) -> ApiKey | None:
        """The key, from now on revoked; None when there is none, or when it was revoked before."""
        ...


class AuditTrail(Protocol):
    async def record(self, principal: Principal, operation: str, subject_kind: str | None = None, subject_id: UUID | None = None) -> None:
        """Remember, with this transaction, that the principal has done `operation` (to the subject, if there is one)."""
        ...
