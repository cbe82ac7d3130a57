"""The ledger's types: files, and what each run did about them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

import domain.schema_changes
from domain import relations
from domain.ingestions import entities as ingestion_entities
from domain.ledger import entities
from domain.ledger.entities import FileStatus
from domain.ledger.stepwise import MOST_AT_ONCE, Changed
from domain.runs import entities as run_entities
from graphql_api.context import Info
from graphql_api.limits.cost_directive import COUNTED
from graphql_api.relay.connections import After, ConnectionPage, First, PageInfo, connect, total_count
from graphql_api.relay.node import Node
from graphql_api.types.resolved import resolved_from
from graphql_api.types.scalars import BigInt

if TYPE_CHECKING:
    from graphql_api.types.ingestion import Ingestion
    from graphql_api.types.run import Run
    from graphql_api.types.schema_change import SchemaChange

_Ingestion = Annotated["Ingestion", strawberry.lazy("graphql_api.types.ingestion")]
_SchemaChange = Annotated["SchemaChange", strawberry.lazy("graphql_api.types.schema_change")]
_Run = Annotated["Run", strawberry.lazy("graphql_api.types.run")]


@strawberry.type(description="What one run did with one file. It stays, whatever happens to the file later.")
@resolved_from(entities.FileAttempt)
class FileAttempt(Node):
    outcome: FileStatus = strawberry.field(description="What came of it: SUCCESS, FAILED, SKIPPED or HELD.")
    rows: BigInt = strawberry.field(description="Rows that it put into the table.")
    rows_skipped: BigInt = strawberry.field(description="Rows left out by the bad-row policy.")
    rows_rescued: BigInt = strawberry.field(description="Rows with something in `_rescued_data`.")
    error_message: str | None = strawberry.field(description="Why it failed, was skipped or is held; null on success.")
    attempted_at: datetime = strawberry.field(description="When it was settled.")

    @strawberry.field(description="The table commit that carried it: the value of `_batch_id` in the rows.")
    @staticmethod
    def batch_id(root: strawberry.Parent[entities.FileAttempt]) -> str:
        return str(root.batch_id)

    @strawberry.field(graphql_type=_Run, description="The run that did it.")
    @staticmethod
    async def run(root: strawberry.Parent[entities.FileAttempt], info: Info) -> run_entities.Run | None:
        return await info.context.loaders.node(run_entities.Run, root.run_id)


@strawberry.type(description="An attempt in a connection.")
class FileAttemptEdge:
    cursor: str = strawberry.field(description="Its place, for `after`.")
    node: FileAttempt = strawberry.field(description="The attempt.")


@strawberry.type(description="A page of attempts.")
@resolved_from(ConnectionPage)
class FileAttemptConnection:
    edges: list[FileAttemptEdge] = strawberry.field(description="The page's attempts with their cursors.")
    nodes: list[FileAttempt] = strawberry.field(description="The page's attempts.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(resolver=total_count, directives=(COUNTED,), description="How many there are, on all pages.")


@strawberry.type(description="One version of a file, as the ledger knows it.")
@resolved_from(entities.ProcessedFile)
class ProcessedFile(Node):
    path: str = strawberry.field(description="`s3://bucket/key`, or the absolute path of a local file.")
    status: FileStatus = strawberry.field(description="Where it is in its life.")
    size_bytes: BigInt = strawberry.field(description="Its size when it was listed last.")
    etag: str = strawberry.field(description="The store's mark of this content.")
    modified_at: datetime = strawberry.field(description="When the store says it was written.")
    current: bool = strawberry.field(description="Whether it is the newest version of its path that the ledger knows.")
    rows: BigInt | None = strawberry.field(description="The rows that it put into the table; null before the first attempt.")
    rows_skipped: BigInt | None = strawberry.field(description="Its rows left out by the bad-row policy.")
    rows_rescued: BigInt | None = strawberry.field(description="Its rows with something in `_rescued_data`.")
    generation: int | None = strawberry.field(
        description="The ingestion's generation when it was loaded; its rows are in the table if that is still the same."
    )
    retry_count: int = strawberry.field(description="How often it has failed.")
    next_retry_at: datetime | None = strawberry.field(description="When it is tried again by itself; null when it is not.")
    error_message: str | None = strawberry.field(description="Why it failed, was skipped or is held; null otherwise.")
    discovered_at: datetime = strawberry.field(description="When it was seen first.")
    processed_at: datetime | None = strawberry.field(description="When it was settled last; null before.")

    @strawberry.field(description="The table snapshot that brought its rows; null when there is none.")
    @staticmethod
    def snapshot_id(root: strawberry.Parent[entities.ProcessedFile]) -> str | None:
        # 64 bits, all of them used: as a JSON number it would lose digits in JavaScript.
        return None if root.snapshot_id is None else str(root.snapshot_id)

    @strawberry.field(graphql_type=_Ingestion, description="The ingestion that it belongs to.")
    @staticmethod
    async def ingestion(root: strawberry.Parent[entities.ProcessedFile], info: Info) -> ingestion_entities.Ingestion | None:
        return await info.context.loaders.node(ingestion_entities.Ingestion, root.ingestion_id)

    @strawberry.field(graphql_type=_Run | None, description="The run that claimed it last; null before the first.")
    @staticmethod
    async def run(root: strawberry.Parent[entities.ProcessedFile], info: Info) -> run_entities.Run | None:
        return await info.context.loaders.node(run_entities.Run, root.run_id)

    @strawberry.field(graphql_type=_SchemaChange | None, description="The schema change that it waits for; null when it waits for none.")
    @staticmethod
    async def schema_change(root: strawberry.Parent[entities.ProcessedFile], info: Info) -> domain.schema_changes.SchemaChange | None:
        held = root.status is FileStatus.HELD
        return await info.context.loaders.node(domain.schema_changes.SchemaChange, root.schema_change_id if held else None)

    @strawberry.field(graphql_type=FileAttemptConnection, description="What each run did with it, the newest first.")
    @staticmethod
    async def attempts(
        root: strawberry.Parent[entities.ProcessedFile], info: Info, first: First = None, after: After = None
    ) -> ConnectionPage[entities.FileAttempt]:
        return await connect(info, relations.FILE_ATTEMPTS, root.id, first=first, after=after)


@strawberry.type(description="A file in a connection.")
class ProcessedFileEdge:
    cursor: str = strawberry.field(description="Its place, for `after` and `before`.")
    node: ProcessedFile = strawberry.field(description="The file as it is now.")
    attempt: FileAttempt | None = strawberry.field(description="In `Run.files`: what that run did with it. Null elsewhere.")


@strawberry.type(description="A page of files.")
@resolved_from(ConnectionPage)
class ProcessedFileConnection:
    edges: list[ProcessedFileEdge] = strawberry.field(description="The page's files with their cursors.")
    nodes: list[ProcessedFile] = strawberry.field(description="The page's files.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")
    total_count: int = strawberry.field(
        resolver=total_count, directives=(COUNTED,), description="How many there are under the filter, on all pages."
    )


@strawberry.type(description="Files that are being forgotten.")
class FilesCleared:
    count: BigInt = strawberry.field(description="How many. It is done before the next run loads anything; see `resetPending`.")


@strawberry.type(description="Files whose status was changed.")
class FilesChanged:
    count: BigInt = strawberry.field(description="How many; files in a status that does not allow it are not among them.")
    more: bool = strawberry.field(
        description=f"Whether there may be others: {MOST_AT_ONCE:,} are changed at once. The same mutation, asked again, goes on with them."
    )

    @classmethod
    def of(cls, changed: Changed) -> FilesChanged:
        return cls(count=BigInt(changed.files), more=changed.more)
