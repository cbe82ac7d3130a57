"""Changes of a table's columns that people decide on."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

import domain.schema_changes
from domain import relations
from domain.ingestions import entities as ingestion_entities
from domain.ledger import entities as ledger_entities
from domain.runs import entities as run_entities
from domain.schema_changes import SchemaChangeDecision
from graphql_api.context import Info
from graphql_api.limits.cost_directive import COUNTED
from graphql_api.relay.connections import After, ConnectionPage, First, PageInfo, connect, total_count
from graphql_api.relay.node import Node
from graphql_api.types.resolved import resolved_from
from graphql_api.types.schema_version import SchemaDiff

if TYPE_CHECKING:
    from graphql_api.types.ingestion import Ingestion
    from graphql_api.types.processed_file import ProcessedFileConnection
    from graphql_api.types.run import Run

_Ingestion = Annotated["Ingestion", strawberry.lazy("graphql_api.types.ingestion")]
_FileConnection = Annotated["ProcessedFileConnection", strawberry.lazy("graphql_api.types.processed_file")]
_Run = Annotated["Run", strawberry.lazy("graphql_api.types.run")]


@strawberry.type(description="A change of the table's columns that files need, and what was decided about it.")
@resolved_from(domain.schema_changes.SchemaChange)
class SchemaChange(Node):
    diff: SchemaDiff = strawberry.field(
        description="What it adds and changes, relative to the table's columns at the time and to what was approved by then."
    )
    example_path: str = strawberry.field(description="A file that needs it.")
    proposed_at: datetime = strawberry.field(description="When a run met it first.")
    decision: SchemaChangeDecision = strawberry.field(description="Whether it was approved.")
    decided_at: datetime | None = strawberry.field(description="When that was decided; null before.")
    decided_by: str | None = strawberry.field(description="Who decided: the name of the API key, or the subject of the token.")
    decision_reason: str | None = strawberry.field(description="What they gave as the reason.")

    @strawberry.field(graphql_type=_Ingestion, description="The ingestion whose table it is about.")
    @staticmethod
    async def ingestion(root: strawberry.Parent[domain.schema_changes.SchemaChange], info: Info) -> ingestion_entities.Ingestion | None:
        return await info.context.loaders.node(ingestion_entities.Ingestion, root.ingestion_id)

    @strawberry.field(graphql_type=_Run | None, description="The run that met it first.")
    @staticmethod
    async def run(root: strawberry.Parent[domain.schema_changes.SchemaChange], info: Info) -> run_entities.Run | None:
        return await info.context.loaders.node(run_entities.Run, root.run_id)

    @strawberry.field(graphql_type=_FileConnection, description="The files that wait for it; none once it is decided.")
    @staticmethod
    async def held_files(
        root: strawberry.Parent[domain.schema_changes.SchemaChange], info: Info, first: First = None, after: After = None
    ) -> ConnectionPage[ledger_entities.ProcessedFile]:
        return await connect(info, relations.SCHEMA_CHANGE_FILES, root.id, first=first, after=after)


@strawberry.type(description="A schema change in a connection.")
class SchemaChangeEdge:
    cursor: str = strawberry.field(description="Its place, for `after`.")
    node: SchemaChange = strawberry.field(description="The schema change.")


@strawberry.type(description="A page of schema changes.")
@resolved_from(ConnectionPage)
class SchemaChangeConnection:
    edges: list[SchemaChangeEdge] = strawberry.field(description="The page's schema changes with their cursors.")
    nodes: list[SchemaChange] = strawberry.field(description="The page's schema changes.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(resolver=total_count, directives=(COUNTED,), description="How many there are, on all pages.")
