"""API keys as their tenant's ADMINs see them: everything but the secret, which only the answer to createApiKey has."""

from __future__ import annotations

from datetime import datetime

import strawberry

from domain.access import api_keys, entities
from domain.tenants import Role
from graphql_api.limits.cost_directive import COUNTED
from graphql_api.relay.connections import ConnectionPage, PageInfo, total_count
from graphql_api.relay.node import Node
from graphql_api.types.resolved import resolved_from


@strawberry.type(description="A key with which programs call this API.")
@resolved_from(entities.ApiKey)
class ApiKey(Node):
    name: str = strawberry.field(description="What it is for.")
    prefix: str = strawberry.field(description="Its public part, by which it is told from others: it begins with `al_` and this.")
    role: Role = strawberry.field(description="What it may do.")
    created_at: datetime = strawberry.field(description="When it was created.")
    expires_at: datetime | None = strawberry.field(description="From when on it lets nobody in; null for never.")
    last_used_at: datetime | None = strawberry.field(description="When it let somebody in last, to the minute; null before the first time.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked; null when it was not.")


@strawberry.type(description="A key, and its secret, which is shown now and never again.")
@resolved_from(api_keys.CreatedApiKey)
class CreatedApiKey:
    api_key: ApiKey = strawberry.field(description="The key.")
    secret: str = strawberry.field(description="What to send as `Authorization: Bearer ...`. Keep it: only its digest is stored.")


@strawberry.type(description="A key in a connection.")
class ApiKeyEdge:
    cursor: str = strawberry.field(description="Its place, for `after`.")
    node: ApiKey = strawberry.field(description="The key.")


@strawberry.type(description="A page of keys.")
@resolved_from(ConnectionPage)
class ApiKeyConnection:
    edges: list[ApiKeyEdge] = strawberry.field(description="The page's keys with their cursors.")
    nodes: list[ApiKey] = strawberry.field(description="The page's keys.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(resolver=total_count, directives=(COUNTED,), description="How many there are, on all pages.")
