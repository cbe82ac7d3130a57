"""Why a file is, or is not, in the table."""

from __future__ import annotations

from datetime import datetime

import strawberry

from domain.ledger import entities as ledger_entities
from domain.ledger import explanation as explanations
from domain.ledger.entities import FileStatus
from domain.ledger.explanation import FileState
from domain.ports import object_store
from graphql_api.types.processed_file import ProcessedFile
from graphql_api.types.resolved import resolved_from
from graphql_api.types.scalars import BigInt


@strawberry.type(description="A file as the store shows it now.")
@resolved_from(object_store.StoredObject)
class ObjectAtSource:
    size_bytes: BigInt = strawberry.field(description="Its size.")
    etag: str = strawberry.field(description="The store's mark of its content.")
    modified_at: datetime = strawberry.field(description="When the store says it was written.")


@strawberry.type(description="A content that a path held before, and that was loaded.")
class EarlierVersion:
    status: FileStatus = strawberry.field(description="SUCCESS: its rows are in the table; SUPERSEDED: they have left it.")
    size_bytes: BigInt = strawberry.field(description="Its size.")
    etag: str = strawberry.field(description="The store's mark of this content.")
    modified_at: datetime = strawberry.field(description="When the store says it was written.")
    rows: BigInt | None = strawberry.field(description="The rows that it put into the table.")
    generation: int | None = strawberry.field(
        description="The ingestion's generation when it was loaded; of another than the present one, no rows are in the table."
    )
    processed_at: datetime | None = strawberry.field(description="When it was loaded.")


@strawberry.type(description="Why a file is, or is not, in the table.")
@resolved_from(explanations.FileExplanation)
class FileExplanation:
    path: str = strawberry.field(description="The path that was asked about.")
    state: FileState = strawberry.field(description="Where it stands.")
    explanation: str = strawberry.field(description="The same for a person, with what is known.")
    at_source: ObjectAtSource | None = strawberry.field(description="What the store shows now; null when nothing is there.")
    source_problem: str | None = strawberry.field(description="Why the store could not be asked; null when it was.")
    earlier_versions: list[EarlierVersion] = strawberry.field(
        description="What the ledger knows of earlier contents of the path, the newest first, 100 at most."
    )

    @strawberry.field(graphql_type=ProcessedFile | None, description="The ledger's file; null when it was never listed.")
    @staticmethod
    def file(root: strawberry.Parent[explanations.FileExplanation]) -> ledger_entities.ProcessedFile | None:
        return root.file
