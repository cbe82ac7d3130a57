"""API keys given out and taken back."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from pydantic import AwareDatetime

from domain.access.entities import ApiKey
from domain.api_keys import digest_of, generate_key, prefix_of
from domain.clock import Clock
from domain.errors import ConflictError, ConflictReason, NotFoundError, ValidationError
from domain.ingestions.inputs import InputModel, Name
from domain.ports.unit_of_work import UnitOfWorkFactory
from domain.tenants import Principal, Role


class ApiKeyCreate(InputModel):
    name: Name
    role: Role
    expires_at: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class CreatedApiKey:
    """`secret` is the whole key: it is in no other object, and is shown once."""

    api_key: ApiKey
    secret: str = field(repr=False)


class ApiKeyService:
    def __init__(self, unit_of_work: UnitOfWorkFactory, clock: Clock) -> None:
        self._unit_of_work = unit_of_work
        self._clock = clock

    async def create(self, principal: Principal, input: ApiKeyCreate) -> CreatedApiKey:
        """A new key of the caller's tenant. Raises `ValidationError` when it would have expired already."""
        now = self._clock.now()
        if input.expires_at is not None and input.expires_at <= now:
            raise ValidationError.of("expires_at", message="must be in the future")
        secret = generate_key()
        key = ApiKey(
            id=uuid4(),
            tenant_id=principal.tenant.id,
            name=input.name,
            prefix=prefix_of(secret) or "",
            role=input.role,
            created_at=now,
            expires_at=input.expires_at,
            last_used_at=None,
            revoked_at=None,
        )
        async with self._unit_of_work(principal.tenant.id) as tx:
            created = await tx.api_keys.create(key, digest_of(secret))
            await tx.audit.record(principal, "createApiKey", "ApiKey", key.id)
        return CreatedApiKey(created, secret)

    async def revoke(self, principal: Principal, id: UUID) -> ApiKey:
        """From now on the key lets nobody in; a key revoked before stays as it is.

        Raises `NotFoundError`, and `ConflictError` (LAST_ADMIN_KEY) for the tenant's last ADMIN key: without it nobody could make
        another. A caller who is not let in by a key (but by a token) can, and may revoke it.
        """
        async with self._unit_of_work(principal.tenant.id) as tx:
            # Held first: two ADMINs who revoke each other's keys at once would lock both out.
            admins = await tx.api_keys.hold_admins()
            present = await tx.api_keys.get_by_id(id)
            if present is None:
                raise NotFoundError("API key")
            if principal.api_key_id is not None and list(admins) == [id]:
                raise ConflictError(ConflictReason.LAST_ADMIN_KEY, "this is the last ADMIN key: create another one first")
            revoked = await tx.api_keys.revoke(id, self._clock.now())
            if revoked is None:
                return present
            await tx.audit.record(principal, "revokeApiKey", "ApiKey", id)
            return revoked
