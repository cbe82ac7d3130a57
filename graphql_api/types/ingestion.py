"""The Ingestion type and its parts."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry
from strawberry.scalars import JSON

import domain.schema_changes
import domain.schema_versions
from domain import relations
from domain.costs import actual, estimator
from domain.ingestions import entities
from domain.ingestions.entities import (
    BadRowPolicy,
    ChangedFilePolicy,
    ClusterSize,
    DiscoveryMode,
    EngineType,
    ExecutionMode,
    FormatType,
    IngestionStatus,
    SchemaEvolution,
    SourceType,
)
from domain.ledger import entities as ledger_entities
from domain.ledger import stats as ledger_stats
from domain.runs import entities as run_entities
from domain.runs.entities import RunStatus
from domain.schema_changes import SchemaChangeDecision
from graphql_api.context import Info
from graphql_api.limits.cost_directive import COUNTED
from graphql_api.loaders import EstimateKey, TotalsKey
from graphql_api.relay.connections import After, Before, ConnectionPage, First, Last, PageInfo, connect, total_count
from graphql_api.relay.node import Node
from graphql_api.types.exploration import ActualCost, CostEstimate
from graphql_api.types.filters import ProcessedFileFilter, to_domain
from graphql_api.types.orders import FileOrder
from graphql_api.types.resolved import resolved_from
from graphql_api.types.scalars import BigInt
from graphql_api.types.stats import IngestionStats

if TYPE_CHECKING:
    from graphql_api.types.processed_file import ProcessedFileConnection
    from graphql_api.types.run import Run, RunConnection
    from graphql_api.types.schema_change import SchemaChangeConnection
    from graphql_api.types.schema_version import SchemaVersionConnection

_Run = Annotated["Run", strawberry.lazy("graphql_api.types.run")]
_RunConnection = Annotated["RunConnection", strawberry.lazy("graphql_api.types.run")]
_FileConnection = Annotated["ProcessedFileConnection", strawberry.lazy("graphql_api.types.processed_file")]
_SchemaChangeConnection = Annotated["SchemaChangeConnection", strawberry.lazy("graphql_api.types.schema_change")]
_SchemaVersionConnection = Annotated["SchemaVersionConnection", strawberry.lazy("graphql_api.types.schema_version")]

_OF_DECIDED = {
    True: (SchemaChangeDecision.APPROVED, SchemaChangeDecision.REJECTED),
    False: (SchemaChangeDecision.PENDING,),
}


@strawberry.type(description="A location, and how its files are found.")
class Source:
    type: SourceType = strawberry.field(description="What kind of store it is.")
    path: str = strawberry.field(description="`s3://bucket/prefix/`, or an absolute folder.")
    glob: str | None = strawberry.field(description="Which files below the path; null for all.")
    modified_after: datetime | None = strawberry.field(description="Files modified at this moment or before are left out.")
    min_age_seconds: int = strawberry.field(description="Files younger than this may still be being written, and are left alone.")
    discovery: DiscoveryMode = strawberry.field(description="How new files are found.")
    credential: str | None = strawberry.field(description="The name of the credential that reads it; null for the default.")
    queue: str | None = strawberry.field(description="Under EVENTS, the name of the queue that gets the bucket's notifications.")
    list_every_seconds: int | None = strawberry.field(
        description="Under EVENTS, how often it is listed all the same, for notifications that were lost; null when each run lists it."
    )


@strawberry.type(description="How the queue of an ingestion's notifications stood when it was looked at. The numbers are approximate.")
class EventQueueState:
    looked_at: datetime = strawberry.field(description="When that was.")
    waiting: int = strawberry.field(description="Messages that the next run receives.")
    hidden: int = strawberry.field(description="Messages in a run's hands, or put off: their files are too young yet.")
    dead_letters: int | None = strawberry.field(
        description="Messages that nobody could make anything of, in the queue behind it; null without one, or when it is not shown."
    )
    problem: str | None = strawberry.field(
        description="Why it could not be looked at. The numbers are those of the look before then, and each run lists the source."
    )


@strawberry.type(description="A column's pinned type.")
class ColumnHint:
    column: str = strawberry.field(description="The top-level column's name.")
    type: str = strawberry.field(description="Its type in Iceberg's notation, such as `timestamptz` or `decimal(10, 2)`.")


@strawberry.type(description="What the files are.")
class FormatSpec:
    type: FormatType = strawberry.field(description="The file format.")
    options: JSON = strawberry.field(description="The format's options that were given.")
    hints: list[ColumnHint] = strawberry.field(description="Columns whose types are pinned.")


@strawberry.type(description="The Iceberg table that the files belong in.")
class Destination:
    catalog: str = strawberry.field(description="The catalog's name.")
    database: str = strawberry.field(description="The namespace in the catalog.")
    table: str = strawberry.field(description="The table's name.")
    partition_by: list[str] = strawberry.field(description="Partition fields, such as `day(ts)` or `bucket(16, id)`.")
    sort_by: list[str] = strawberry.field(description="Columns by which rows are sorted within a file.")


@strawberry.type(description="When runs come by themselves.")
class Schedule:
    cron: str = strawberry.field(description="Minute, hour, day of month, month, day of week.")
    timezone: str = strawberry.field(description="The IANA time zone in which the cron expression is read.")


@strawberry.type(description="What happens in the cases that differ from one owner to the next.")
class Policies:
    schema_evolution: SchemaEvolution = strawberry.field(description="When a file brings new columns.")
    bad_rows: BadRowPolicy = strawberry.field(description="When a row cannot be read as the table's types.")
    changed_files: ChangedFilePolicy = strawberry.field(description="When a loaded path holds other content.")
    max_file_retries: int = strawberry.field(description="How often a file may fail before it waits for a person.")
    max_files_per_run: int | None = strawberry.field(description="How many files a run takes at most; null for all.")
    max_bytes_per_run: BigInt | None = strawberry.field(description="How many bytes a run takes at most; null for all.")
    timeout_seconds: int | None = strawberry.field(description="How long a run may take; null for as long as it needs.")
    late_after_seconds: int | None = strawberry.field(
        description="For how long nothing may be loaded before webhooks are told that data are late; null for ever."
    )


@strawberry.type(description="What does the work.")
class Execution:
    engine: EngineType = strawberry.field(description="What reads the files and writes the table.")
    cluster_size: ClusterSize = strawberry.field(description="How much a run asks for.")
    mode: ExecutionMode = strawberry.field(description="How files are handed to the engine.")


@strawberry.type(description="Where files land, which table they belong in, and when they are loaded.")
@resolved_from(entities.Ingestion)
class Ingestion(Node):
    name: str = strawberry.field(description="Its name, unique among yours.")
    status: IngestionStatus = strawberry.field(description="Where it is in its life.")
    source: Source = strawberry.field(description="Where files land.")
    format: FormatSpec = strawberry.field(description="What the files are.")
    destination: Destination = strawberry.field(description="Which table they belong in.")
    schedule: Schedule | None = strawberry.field(description="When runs come by themselves; null for never.")
    policies: Policies = strawberry.field(description="What happens in the cases that differ.")
    execution: Execution = strawberry.field(description="What does the work.")
    checkpoint_path: str = strawberry.field(description="Where streaming mode keeps its progress; unique to it.")
    generation: int = strawberry.field(description="How often the table has been begun anew, from 1.")
    reset_pending: bool = strawberry.field(
        description="Whether a refresh, a clear or a deletion has rows or files still to remove; nothing is loaded before that."
    )
    version: int = strawberry.field(description="Rises with each change; for `expectedVersion` in updates.")
    next_due_at: datetime | None = strawberry.field(description="When its schedule fires next; null while it does not.")
    last_run_at: datetime | None = strawberry.field(description="When its latest run ended; null before the first.")
    last_listed_at: datetime | None = strawberry.field(
        description="When the latest listing of its source began that came to its end; null when the next run lists it."
    )
    event_queue: EventQueueState | None = strawberry.field(
        description="How the queue of its notifications stands, looked at every few seconds while it is ACTIVE; null without one."
    )
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")

    @strawberry.field(graphql_type=_Run | None, description="The run that ended last; null before the first.")
    @staticmethod
    async def last_run(root: strawberry.Parent[entities.Ingestion], info: Info) -> run_entities.Run | None:
        return await info.context.loaders.node(run_entities.Run, root.last_run_id)

    @strawberry.field(graphql_type=IngestionStats, description="How its ledger stands, in numbers.")
    @staticmethod
    async def stats(root: strawberry.Parent[entities.Ingestion], info: Info) -> ledger_stats.IngestionStats:
        return await info.context.loaders.stats.load(root.id)

    @strawberry.field(
        graphql_type=CostEstimate | None,
        directives=(COUNTED,),
        description="What it will cost, from what the ledger knows of its source; null while that is nothing. The source is not listed.",
    )
    @staticmethod
    async def estimated_cost(root: strawberry.Parent[entities.Ingestion], info: Info) -> estimator.CostEstimate | None:
        loaders = info.context.loaders
        since, until = actual.cost_range(None, None, now=loaders.asked_at)
        stats, recent = await asyncio.gather(loaders.stats.load(root.id), loaders.run_totals.load(TotalsKey(root.id, since, until)))
        measure = actual.measured_by_ledger(stats, recent)
        if measure is None:
            return None
        return await loaders.estimates.load(EstimateKey(measure, root.format.type, root.execution.cluster_size, root.schedule))

    @strawberry.field(
        graphql_type=ActualCost,
        directives=(COUNTED,),
        description="What its ended runs of a range have cost: the last 30 days unless told, and 366 days at most.",
    )
    @staticmethod
    async def actual_cost(
        root: strawberry.Parent[entities.Ingestion],
        info: Info,
        since: Annotated[
            datetime | None, strawberry.argument(description="Queued at this moment or later: 30 days before the end unless told.")
        ] = None,
        until: Annotated[datetime | None, strawberry.argument(description="Queued before this moment: now unless told.")] = None,
    ) -> actual.ActualCost:
        loaders = info.context.loaders
        key = TotalsKey(root.id, *actual.cost_range(since, until, now=loaders.asked_at))
        totals, stats = await asyncio.gather(loaders.run_totals.load(key), loaders.stats.load(root.id))
        return actual.actual_cost(info.context.services.costs, root, totals, stats)

    @strawberry.field(graphql_type=_RunConnection, description="Its runs, the newest first.")
    @staticmethod
    async def runs(
        root: strawberry.Parent[entities.Ingestion],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        since: Annotated[datetime | None, strawberry.argument(description="Queued at this moment or later.")] = None,
        until: Annotated[datetime | None, strawberry.argument(description="Queued before this moment.")] = None,
        status: Annotated[list[RunStatus] | None, strawberry.argument(description="In one of these statuses.")] = None,
    ) -> ConnectionPage[run_entities.Run]:
        filter = relations.RunFilter(status=tuple(status) if status is not None else None, since=since, until=until)
        return await connect(info, relations.INGESTION_RUNS, root.id, filter=filter, first=first, after=after, last=last, before=before)

    @strawberry.field(graphql_type=_FileConnection, description="Its files as the ledger knows them, the newest first unless told.")
    @staticmethod
    async def files(
        root: strawberry.Parent[entities.Ingestion],
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[ProcessedFileFilter | None, strawberry.argument(description="Which files.")] = None,
        order_by: Annotated[FileOrder, strawberry.argument(description="In which order.")] = FileOrder.NEWEST,
    ) -> ConnectionPage[ledger_entities.ProcessedFile]:
        return await connect(
            info,
            relations.INGESTION_FILES,
            root.id,
            filter=to_domain(relations.ProcessedFileFilter, filter),
            order=order_by.name,
            first=first,
            after=after,
            last=last,
            before=before,
        )

    @strawberry.field(graphql_type=_SchemaVersionConnection, description="The history of its table's columns, the newest first.")
    @staticmethod
    async def schema_versions(
        root: strawberry.Parent[entities.Ingestion], info: Info, first: First = None, after: After = None
    ) -> ConnectionPage[domain.schema_versions.SchemaVersion]:
        return await connect(info, relations.INGESTION_SCHEMA_VERSIONS, root.id, first=first, after=after)

    @strawberry.field(
        graphql_type=_SchemaChangeConnection, description="Changes of its table's columns that people decide on, proposed last first."
    )
    @staticmethod
    async def schema_changes(
        root: strawberry.Parent[entities.Ingestion],
        info: Info,
        first: First = None,
        after: After = None,
        decided: Annotated[bool | None, strawberry.argument(description="Only those that are, or are not, decided.")] = None,
    ) -> ConnectionPage[domain.schema_changes.SchemaChange]:
        filter = relations.SchemaChangeFilter(decision=None if decided is None else _OF_DECIDED[decided])
        return await connect(info, relations.INGESTION_SCHEMA_CHANGES, root.id, filter=filter, first=first, after=after)


@strawberry.type(description="An ingestion in a connection.")
class IngestionEdge:
    cursor: str = strawberry.field(description="Its place, for `after` and `before`.")
    node: Ingestion = strawberry.field(description="The ingestion.")


@strawberry.type(description="A page of ingestions.")
@resolved_from(ConnectionPage)
class IngestionConnection:
    edges: list[IngestionEdge] = strawberry.field(description="The page's ingestions with their cursors.")
    nodes: list[Ingestion] = strawberry.field(description="The page's ingestions.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(
        resolver=total_count, directives=(COUNTED,), description="How many there are under the filter, on all pages."
    )
