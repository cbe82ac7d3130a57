"""API keys, created, listed and revoked, and the trail of who changed what. For ADMINs alone, the reads too."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import strawberry

from domain import relations
from domain.access import api_keys, entities
from domain.access.api_keys import ApiKeyCreate
from domain.tenants import Role
from graphql_api.context import Info
from graphql_api.limits.cost_directive import WRITES
from graphql_api.operations.authorization import guarded
from graphql_api.operations.inputs import given, without_nulls
from graphql_api.relay.connections import After, ConnectionPage, First, connect
from graphql_api.relay.ids import required_key
from graphql_api.types import audit_event
from graphql_api.types.api_key import ApiKey, ApiKeyConnection, CreatedApiKey
from graphql_api.types.audit_event import AuditEventConnection
from graphql_api.types.errors import result_union

CreateApiKeyResult = result_union("CreateApiKeyResult", CreatedApiKey)
RevokeApiKeyResult = result_union("RevokeApiKeyResult", ApiKey)


@strawberry.input(description="A new API key.")
class CreateApiKeyInput:
    name: str = strawberry.field(description="What it is for; shown in lists and in the audit trail.")
    role: Role = strawberry.field(description="What it may do.")
    expires_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="From when on it lets nobody in; never unless told."
    )


@strawberry.type
class AccessQueries:
    @guarded(ApiKeyConnection, role=Role.ADMIN, description="Your tenant's API keys, the newest first.")
    @staticmethod
    async def api_keys(info: Info, first: First = None, after: After = None) -> ConnectionPage[entities.ApiKey]:
        return await connect(info, relations.API_KEYS, None, first=first, after=after)

    @guarded(AuditEventConnection, role=Role.ADMIN, description="Who changed what, the newest first.")
    @staticmethod
    async def audit_events(
        info: Info, first: First = None, after: After = None, filter: audit_event.Filter = None
    ) -> ConnectionPage[entities.AuditEvent]:
        return await connect(info, relations.AUDIT_EVENTS, None, filter=audit_event.filter_of(filter), first=first, after=after)


@strawberry.type
class AccessMutations:
    @guarded(
        CreateApiKeyResult, role=Role.ADMIN, cost=WRITES, description="Create an API key. Its secret is in the answer, and nowhere else."
    )
    @staticmethod
    async def create_api_key(
        info: Info, input: Annotated[CreateApiKeyInput, strawberry.argument(description="The new key.")]
    ) -> api_keys.CreatedApiKey:
        return await info.context.services.api_keys.create(info.context.principal, ApiKeyCreate.parse(without_nulls(given(input))))

    @guarded(
        RevokeApiKeyResult,
        role=Role.ADMIN,
        cost=WRITES,
        description="From now on the key lets nobody in. Your tenant's last ADMIN key cannot be revoked with a key.",
    )
    @staticmethod
    async def revoke_api_key(
        info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The key's id, not its secret.")]
    ) -> entities.ApiKey:
        key = required_key(entities.ApiKey, id, "API key")
        return await info.context.services.api_keys.revoke(info.context.principal, key)
