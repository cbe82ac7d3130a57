"""The audit trail: who changed what, and when."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from domain import relations
from domain.access import entities
from domain.errors import ValidationError
from domain.text import unstorable
from graphql_api.limits.cost_directive import COUNTED
from graphql_api.relay.connections import ConnectionPage, PageInfo, total_count
from graphql_api.relay.ids import KINDS, decode_any_id, encode_id
from graphql_api.relay.node import Node
from graphql_api.types.filters import to_domain
from graphql_api.types.resolved import resolved_from

_NOBODY = UUID(int=0)


@strawberry.type(description="One change that somebody made.")
@resolved_from(entities.AuditEvent)
class AuditEvent(Node):
    at: datetime = strawberry.field(description="When.")
    actor: str = strawberry.field(description="Who: the name of the API key, or the subject of the token.")
    operation: str = strawberry.field(description="What: the mutation's name.")

    @strawberry.field(description="What was changed. It may be gone: `node(id:)` tells. Null for files named by their ids.")
    @staticmethod
    def subject_id(root: strawberry.Parent[entities.AuditEvent]) -> strawberry.ID | None:
        if root.subject_kind is None or root.subject_id is None:
            return None
        return strawberry.ID(encode_id(KINDS[root.subject_kind][0], root.subject_id))

    @strawberry.field(description="The API key that the actor used; null for a token.")
    @staticmethod
    def api_key_id(root: strawberry.Parent[entities.AuditEvent]) -> strawberry.ID | None:
        return None if root.api_key_id is None else strawberry.ID(encode_id(entities.ApiKey, root.api_key_id))


@strawberry.type(description="A change in a connection.")
class AuditEventEdge:
    cursor: str = strawberry.field(description="Its place, for `after`.")
    node: AuditEvent = strawberry.field(description="The change.")


@strawberry.type(description="A page of changes.")
@resolved_from(ConnectionPage)
class AuditEventConnection:
    edges: list[AuditEventEdge] = strawberry.field(description="The page's changes with their cursors.")
    nodes: list[AuditEvent] = strawberry.field(description="The page's changes.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(
        resolver=total_count, directives=(COUNTED,), description="How many there are under the filter, on all pages."
    )


@strawberry.input(description="Which changes; what is absent filters nothing.")
class AuditEventFilter:
    operation: list[str] | None = strawberry.field(default=None, description="By one of these mutations.")
    subject_id: strawberry.ID | None = strawberry.field(default=None, description="Of this ingestion, run, API key, webhook or delivery.")
    since: datetime | None = strawberry.field(default=None, description="At this moment or later.")
    until: datetime | None = strawberry.field(default=None, description="Before this moment.")


Filter = Annotated[AuditEventFilter | None, strawberry.argument(description="Which changes.")]


def filter_of(given: AuditEventFilter | None) -> relations.AuditEventFilter:
    """The domain's filter. An id that is none filters like the id of something that is not there. Raises `ValidationError`."""
    for operation in (given and given.operation) or ():
        if problem := unstorable(operation):
            raise ValidationError.of("filter", "operation", message=problem)
    filter = to_domain(relations.AuditEventFilter, given)
    if filter.subject_id is None:
        return filter
    found = decode_any_id(str(filter.subject_id))
    return dataclasses.replace(filter, subject_id=found[1] if found and isinstance(found[1], UUID) else _NOBODY)
