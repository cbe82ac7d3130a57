"""The history of a table's columns."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

import domain.schema_versions
from domain.ports import engine
from domain.runs import entities as run_entities
from graphql_api.context import Info
from graphql_api.limits.cost_directive import COUNTED
from graphql_api.relay.connections import ConnectionPage, PageInfo, total_count
from graphql_api.relay.node import Node
from graphql_api.types.resolved import resolved_from

if TYPE_CHECKING:
    from graphql_api.types.run import Run

_Run = Annotated["Run", strawberry.lazy("graphql_api.types.run")]


@strawberry.type(description="A column of the table.")
@resolved_from(engine.Column)
class Column:
    name: str = strawberry.field(description="Its name.")
    type: str = strawberry.field(description="Its type, in Iceberg's notation.")


@strawberry.type(description="A column whose type has changed.")
class TypeChange:
    column: str = strawberry.field(description="Its name.")
    before: str = strawberry.field(description="The type that it had.")
    after: str = strawberry.field(description="The type that it has.")


@strawberry.type(description="What changed from one version to the next.")
class SchemaDiff:
    added: list[Column] = strawberry.field(description="New columns.")
    removed: list[Column] = strawberry.field(description="Columns that are gone.")
    changed: list[TypeChange] = strawberry.field(description="Columns with another type.")


@strawberry.type(description="The table's columns from one accepted change to the next.")
@resolved_from(domain.schema_versions.SchemaVersion)
class SchemaVersion(Node):
    version: int = strawberry.field(description="Counts from 1, without a gap.")
    diff: SchemaDiff = strawberry.field(description="What changed from the version before.")
    created_at: datetime = strawberry.field(description="When it was accepted.")

    @strawberry.field(graphql_type=list[Column], description="The columns, in the table's order.")
    @staticmethod
    def columns(root: strawberry.Parent[domain.schema_versions.SchemaVersion]) -> list[engine.Column]:
        return list(root.schema.columns)

    @strawberry.field(graphql_type=_Run | None, description="The run that brought it.")
    @staticmethod
    async def run(root: strawberry.Parent[domain.schema_versions.SchemaVersion], info: Info) -> run_entities.Run | None:
        return await info.context.loaders.node(run_entities.Run, root.run_id)


@strawberry.type(description="A schema version in a connection.")
class SchemaVersionEdge:
    cursor: str = strawberry.field(description="Its place, for `after`.")
    node: SchemaVersion = strawberry.field(description="The schema version.")


@strawberry.type(description="A page of schema versions.")
@resolved_from(ConnectionPage)
class SchemaVersionConnection:
    edges: list[SchemaVersionEdge] = strawberry.field(description="The page's schema versions with their cursors.")
    nodes: list[SchemaVersion] = strawberry.field(description="The page's schema versions.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(resolver=total_count, directives=(COUNTED,), description="How many there are, on all pages.")
