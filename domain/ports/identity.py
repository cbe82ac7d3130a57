"""Who a bearer token speaks for, when it is no API key of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from domain.tenants import Role


@dataclass(frozen=True, slots=True)
class Identity:
    """What a good token says. `tenant` is the name of a tenant, which may not exist here."""

    subject: str
    tenant: str
    role: Role


class TokenVerifier(Protocol):
    async def verify(self, token: str) -> Identity | None:
        """None for a token that is not good. Raises `UnavailableError` when that cannot be told at present."""
        ...
