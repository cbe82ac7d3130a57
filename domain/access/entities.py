"""What lets somebody in, and what is remembered of what they changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.tenants import Role


@dataclass(frozen=True, slots=True)
class ApiKey:
    """All of a key but its secret, of which nobody has more than a digest. `prefix` is its public part."""

    id: UUID
    tenant_id: UUID
    name: str
    prefix: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Who changed what, and when.

    `actor` is the name of the API key or the subject of the token; `operation` the mutation's name; `subject_kind` and
    `subject_id` say what it changed, which may be gone by now; they are None together, when it changed several things at once.
    """

    id: int
    tenant_id: UUID
    at: datetime
    actor: str
    api_key_id: UUID | None
    operation: str
    subject_kind: str | None
    subject_id: UUID | None
