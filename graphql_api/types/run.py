"""The Run type."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from domain import relations
from domain.costs import actual
from domain.ingestions import entities as ingestion_entities
from domain.ledger import entities as ledger_entities
from domain.runs import entities
from domain.runs.entities import RefreshMode, RunStatus, RunTrigger
from domain.runs.totals import RunTotals
from graphql_api.context import Info
from graphql_api.limits.cost_directive import COUNTED
from graphql_api.relay.connections import After, Before, ConnectionPage, First, Last, PageInfo, connect, total_count
from graphql_api.relay.node import Node
from graphql_api.types.exploration import ActualCost
from graphql_api.types.filters import ProcessedFileFilter, to_domain
from graphql_api.types.resolved import resolved_from
from graphql_api.types.scalars import BigInt

if TYPE_CHECKING:
    from graphql_api.types.ingestion import Ingestion
    from graphql_api.types.processed_file import ProcessedFileConnection

_Ingestion = Annotated["Ingestion", strawberry.lazy("graphql_api.types.ingestion")]
_Run = Annotated["Run", strawberry.lazy("graphql_api.types.run")]
_FileConnection = Annotated["ProcessedFileConnection", strawberry.lazy("graphql_api.types.processed_file")]


@strawberry.type(description="What a refresh does.")
class RefreshOrder:
    mode: RefreshMode = strawberry.field(description="What is loaded again once the table is gone.")
    load: bool = strawberry.field(description="Whether the same run loads it.")


@strawberry.type(description="One pass of an ingestion, from discovery to completion.")
@resolved_from(entities.Run)
class Run(Node):
    status: RunStatus = strawberry.field(description="Where it is in its life.")
    trigger: RunTrigger = strawberry.field(description="Why it came to be.")
    retry_count: int = strawberry.field(description="How many runs it retries, one behind the other.")
    refresh: RefreshOrder | None = strawberry.field(description="What a refresh does; null for other triggers.")
    due_at: datetime | None = strawberry.field(description="The schedule's moment that it answers; null for other triggers.")
    queued_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When a worker took it up; null before.")
    ended_at: datetime | None = strawberry.field(description="When it ended; null before.")
    duration_seconds: float | None = strawberry.field(description="From start to end; null before the end.")
    files_discovered: int = strawberry.field(description="Files that it found new or changed.")
    files_processed: int = strawberry.field(description="Files that it loaded.")
    files_failed: int = strawberry.field(description="Files that it could not load; each says why.")
    files_skipped: int = strawberry.field(description="Files that it left out, such as empty ones.")
    files_held: int = strawberry.field(description="Files that it left waiting for schema changes to be approved.")
    rows_written: BigInt = strawberry.field(description="Rows that it put into the table.")
    rows_skipped: BigInt = strawberry.field(description="Rows that it left out by the bad-row policy.")
    rows_rescued: BigInt = strawberry.field(description="Rows written with something in `_rescued_data`.")
    bytes_processed: BigInt = strawberry.field(description="Size of the files that it loaded.")
    progress: float = strawberry.field(description="From 0 to 1.")
    error_message: str | None = strawberry.field(description="What went wrong; null when nothing did.")
    flow_run_id: str | None = strawberry.field(description="The orchestrator's id of it, where one orchestrates.")

    @strawberry.field(graphql_type=_Ingestion, description="The ingestion that it is a run of.")
    @staticmethod
    async def ingestion(root: strawberry.Parent[entities.Run], info: Info) -> ingestion_entities.Ingestion | None:
        return await info.context.loaders.node(ingestion_entities.Ingestion, root.ingestion_id)

    @strawberry.field(graphql_type=_Run | None, description="The run that it retries; null when it retries none.")
    @staticmethod
    async def retry_of(root: strawberry.Parent[entities.Run], info: Info) -> entities.Run | None:
        return await info.context.loaders.node(entities.Run, root.retry_of_id)

    @strawberry.field(graphql_type=ActualCost, description="What it has cost; nothing before its end.")
    @staticmethod
    async def actual_cost(root: strawberry.Parent[entities.Run], info: Info) -> actual.ActualCost | None:
        loaders, entity = info.context.loaders, ingestion_entities.Ingestion
        ingestion, stats = await asyncio.gather(loaders.node(entity, root.ingestion_id), loaders.stats.load(root.ingestion_id))
        return None if ingestion is None else actual.actual_cost(info.context.services.costs, ingestion, RunTotals.of(root), stats)

    @strawberry.field(
        graphql_type=_FileConnection,
        description="Files that it is done with, in the order of settling; each edge has what it did.",
    )
    @staticmethod
    async def files(
        root: strawberry.Parent[entities.Run],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[
            ProcessedFileFilter | None, strawberry.argument(description="Which files; `status` is the outcome in this run.")
        ] = None,
    ) -> ConnectionPage[ledger_entities.ProcessedFile]:
        return await connect(
            info,
            relations.RUN_FILES,
            root.id,
            filter=to_domain(relations.RunFileFilter, filter),
            first=first,
            after=after,
            last=last,
            before=before,
        )


@strawberry.type(description="A run in a connection.")
class RunEdge:
    cursor: str = strawberry.field(description="Its place, for `after` and `before`.")
    node: Run = strawberry.field(description="The run.")


@strawberry.type(description="A page of runs.")
@resolved_from(ConnectionPage)
class RunConnection:
    edges: list[RunEdge] = strawberry.field(description="The page's runs with their cursors.")
    nodes: list[Run] = strawberry.field(description="The page's runs.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(
        resolver=total_count, directives=(COUNTED,), description="How many there are under the filter, on all pages."
    )
