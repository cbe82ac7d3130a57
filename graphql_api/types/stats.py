"""How an ingestion's ledger stands, in numbers."""

from __future__ import annotations

from datetime import datetime

import strawberry

from domain.ledger.entities import FileStatus
from graphql_api.types.scalars import BigInt


@strawberry.type(description="The files in one status.")
class FileCount:
    status: FileStatus = strawberry.field(description="The status.")
    files: BigInt = strawberry.field(description="How many there are.")
    size_bytes: BigInt = strawberry.field(description="Their size.")


@strawberry.type(description="Files that wait to be loaded.")
class Backlog:
    files: BigInt = strawberry.field(description="How many wait.")
    size_bytes: BigInt = strawberry.field(description="Their size.")
    oldest_discovered_at: datetime | None = strawberry.field(
        description="When the one that is known longest was seen first; null when none waits."
    )


@strawberry.type(description="How an ingestion's ledger stands. Asking costs the same however many files it has.")
class IngestionStats:
    files: BigInt = strawberry.field(description="Paths that the ledger knows.")
    size_bytes: BigInt = strawberry.field(description="Their size.")
    by_status: list[FileCount] = strawberry.field(
        description="Files in each status, those with none too, each counted as its current version; of SUPERSEDED: the versions that"
        " newer ones have replaced. Of SUCCESS: those whose rows are in the table."
    )
    earlier_versions: BigInt = strawberry.field(
        description="Versions of files that are not the current ones, and whose rows are in the table; they are not among the SUCCESS ones."
    )
    files_absent_by_refresh: BigInt = strawberry.field(
        description="Files that were loaded before a refresh and are not in the table; they are not among the SUCCESS ones here."
    )
    files_held: BigInt = strawberry.field(
        description="Files that wait for a schema change to be approved; `schemaChanges(decided: false)` has the changes."
    )
    bytes_loaded: BigInt = strawberry.field(description="Size of the loaded files, earlier versions included.")
    rows_loaded: BigInt = strawberry.field(description="Rows that they have in the table.")
    rows_skipped: BigInt = strawberry.field(description="Rows of loaded files that were left out by the bad-row policy.")
    rows_rescued: BigInt = strawberry.field(description="Rows of loaded files with something in `_rescued_data`.")
    success_rate: float | None = strawberry.field(
        description="Loaded files among those that are loaded or FAILED, from 0 to 1; null when there are none of either."
    )
    backlog: Backlog = strawberry.field(description="Files that wait to be loaded.")
    last_success_at: datetime | None = strawberry.field(description="When a run ended SUCCESS last; null before the first.")
