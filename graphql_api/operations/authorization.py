"""The role that an operation asks for, declared where the operation is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.types import Info as StrawberryInfo

from domain.access.entities import ApiKey, AuditEvent
from domain.errors import ForbiddenError
from domain.notifications.entities import Webhook, WebhookDelivery
from domain.tenants import Role
from graphql_api.limits.cost_directive import Cost

NODE_ROLES: Mapping[type, Role] = dict.fromkeys((ApiKey, AuditEvent, Webhook, WebhookDelivery), Role.ADMIN)
"""What `node(id:)` asks for, by the entity; VIEWER for the others."""


def require_role(role: Role, least: Role) -> None:
    """Raise `ForbiddenError` when `role` is less than `least`."""
    if not role.includes(least):
        raise ForbiddenError(f"this needs the role {least}; yours is {role}")


def require_role_for_node(role: Role, entity: type) -> None:
    """The same for fetching something by its id; whether it is there is not told."""
    require_role(role, NODE_ROLES.get(entity, Role.VIEWER))


class RequireRole(FieldExtension):
    """Refuses callers whose role is less than `least`, before the resolver is called."""

    def __init__(self, least: Role) -> None:
        self.least = least

    async def resolve_async(self, next_: Callable[..., Awaitable[Any]], source: Any, info: StrawberryInfo[Any, Any], **kwargs: Any) -> Any:
        require_role(info.context.principal.role, self.least)
        return await next_(source, info, **kwargs)


class Follow(RequireRole):
    """The same for subscriptions, which last: within the limits, and each page is resolved from what is then stored.

    The resolver gives pages; the client is sent one value after the other, and the next page is read when it has taken them.
    """

    async def resolve_async(self, next_: Callable[..., Awaitable[Any]], source: Any, info: StrawberryInfo[Any, Any], **kwargs: Any) -> Any:
        return self._values(info.context, await super().resolve_async(next_, source, info, **kwargs))

    async def _values(self, context: Any, pages: AsyncGenerator[Iterable[object], None]) -> AsyncIterator[object]:
        with context.services.streams.subscription(context.principal.tenant.id):
            async with aclosing(pages):
                async for page in pages:
                    context.loaders.forget()
                    for value in page:
                        yield value


def guarded(result: Any, *, role: Role, description: str, cost: Cost | None = None) -> Any:
    """A root field that gives the union `result`, for callers with at least `role`."""
    directives = () if cost is None else (cost,)
    return strawberry.field(
        graphql_type=result, description=f"{description} Role: {role}.", extensions=[RequireRole(role)], directives=directives
    )


def followed(type: Any, *, role: Role, description: str) -> Any:
    """A subscription that sends values of `type`, for callers with at least `role`; its resolver gives pages of them."""
    return strawberry.subscription(graphql_type=type, description=f"{description} Role: {role}.", extensions=[Follow(role)])
