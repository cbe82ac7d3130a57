"""The source's listing, the ledger and the table's rows, side by side."""

from __future__ import annotations

import strawberry

from domain.ledger import completeness
from domain.ledger.completeness import DifferenceKind
from domain.ledger.entities import FileStatus
from graphql_api.types.resolved import resolved_from
from graphql_api.types.scalars import BigInt


@strawberry.type(description="What two of the three say differently of one path.")
class Difference:
    kind: DifferenceKind = strawberry.field(description="Which difference it is.")
    path: str = strawberry.field(description="`s3://bucket/key`, or the absolute path of a local file.")
    status: FileStatus | None = strawberry.field(description="The ledger's word on the current version; null where it knows no such file.")
    ledger_rows: BigInt | None = strawberry.field(
        description="Rows of all its versions that the ledger says are in the table; null when it says none are."
    )
    table_rows: BigInt | None = strawberry.field(description="Rows that were counted; null where they were not.")


@strawberry.type(description="How many differences of a kind there are.")
class DifferenceCount:
    kind: DifferenceKind = strawberry.field(description="Which difference it is.")
    count: BigInt = strawberry.field(description="How many paths it is found at.")


@strawberry.type(description="The source's listing, the ledger and the table's rows, side by side.")
@resolved_from(completeness.Completeness)
class Completeness:
    consistent: bool = strawberry.field(description="Whether the table holds exactly the rows that the ledger says it holds.")
    run_active: bool = strawberry.field(description="Whether a run was active: then a difference may be one of moments.")
    listed_files: BigInt = strawberry.field(description="Files that the source lists and its filters let pass.")
    ledger_files: BigInt = strawberry.field(description="Files that the ledger knows.")
    ledger_rows: BigInt = strawberry.field(description="Rows that the ledger says are in the table.")
    table_files: BigInt = strawberry.field(description="Files that rows of the table are from.")
    table_rows: BigInt = strawberry.field(description="Rows of files in the table.")
    differences: list[Difference] = strawberry.field(description="The first 100 of each kind.")

    @strawberry.field(description="How many there are of each kind that was found.")
    @staticmethod
    def counts(root: strawberry.Parent[completeness.Completeness]) -> list[DifferenceCount]:
        return [DifferenceCount(kind=kind, count=BigInt(root.counts[kind])) for kind in DifferenceKind if root.counts[kind]]
