"""Whose things they are, who asks, and what a tenant has been granted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Role(StrEnum):
    """Each role may do what the ones before it may."""

    VIEWER = "VIEWER"
    OPERATOR = "OPERATOR"
    ADMIN = "ADMIN"

    def includes(self, other: Role) -> bool:
        """Whether this role may do what `other` may."""
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


@dataclass(frozen=True, slots=True)
class Grants:
    """What of the shared world a tenant may touch.

    `local_roots` are absolute folders; `namespaces` are catalog databases (`*` for any); `credentials` are names of
    configured credentials (`*` for any).
    """

    local_roots: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    id: UUID
    name: str
    grants: Grants
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the tenant comes from the credential and from nowhere else.

    `name` is the API key's, or the subject of the token that they came with instead; then there is no `api_key_id`.
    """

    tenant: Tenant
    role: Role
    api_key_id: UUID | None = None
    name: str = ""
