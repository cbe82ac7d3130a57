"""The inputs of mutations. They only carry: the domain's input models say what is acceptable."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from domain.idempotency import KEYS_KEPT_SECONDS
from domain.ingestions.entities import (
    BadRowPolicy,
    ChangedFilePolicy,
    ClusterSize,
    DiscoveryMode,
    EngineType,
    ExecutionMode,
    FormatType,
    SchemaEvolution,
    SourceType,
)
from domain.ledger.schema_proposals import SchemaChangeVerdict
from domain.runs.entities import RefreshMode
from graphql_api.types.filters import ProcessedFileFilter
from graphql_api.types.scalars import BigInt

_ABSENT: Any = strawberry.UNSET
_KEYS_KEPT_DAYS = round(KEYS_KEPT_SECONDS / 86_400)


def given(input: object) -> dict[str, Any]:
    """An input as the domain's models take it: absent fields are left out, nulls stay, ids are left to the caller."""
    return {
        field.name: _plain(value)
        for field in dataclasses.fields(input)  # type: ignore[arg-type]  # strawberry's inputs are dataclasses
        if (value := getattr(input, field.name)) is not strawberry.UNSET
    }


def without_nulls(input: dict[str, Any]) -> dict[str, Any]:
    """For creation, where null means the default."""
    return {name: without_nulls(value) if isinstance(value, dict) else value for name, value in input.items() if value is not None}


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return given(value)
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return value


def _optional(description: str) -> Any:
    return strawberry.field(default=_ABSENT, description=description)


@strawberry.input(description="A location, and how its files are found.")
class SourceInput:
    path: str = strawberry.field(description="`s3://bucket/prefix/`, or an absolute folder under a granted root.")
    type: SourceType = strawberry.field(default=SourceType.S3, description="What kind of store it is.")
    glob: str | None = _optional('Which files below the path, such as `"**/*.json"`; all unless told.')
    modified_after: datetime | None = _optional("Leave out files modified at this moment or before.")
    min_age_seconds: int | None = _optional("Leave alone files younger than this: they may still be being written.")
    discovery: DiscoveryMode = strawberry.field(default=DiscoveryMode.LISTING, description="How new files are found.")
    credential: str | None = _optional("The name of a configured credential, never the secret.")
    queue: str | None = _optional(
        "With EVENTS, the name (no URL) of the SQS queue that gets the bucket's notifications. The credential says where it is. "
        "A queue belongs to one ingestion."
    )
    list_every_seconds: int | None = _optional(
        "With EVENTS, how often the source is listed all the same, for notifications that were lost: every six hours unless told."
    )


@strawberry.input(description="Pins a column's type.")
class ColumnHintInput:
    column: str = strawberry.field(description="A top-level column's name.")
    type: str = strawberry.field(description="Its type in Iceberg's notation, such as `timestamptz` or `decimal(10, 2)`.")


@strawberry.input(description="What the files are.")
class FormatInput:
    type: FormatType = strawberry.field(description="The file format.")
    options: JSON | None = _optional('Options of the format, such as `{"delimiter": ";"}` for CSV.')
    hints: list[ColumnHintInput] | None = _optional("Columns whose types are pinned.")


@strawberry.input(description="The Iceberg table that the files belong in. It is made by the first load.")
class DestinationInput:
    database: str = strawberry.field(description="The namespace in the catalog.")
    table: str = strawberry.field(description="The table's name.")
    catalog: str | None = _optional("The catalog's name; there is one.")
    partition_by: list[str] | None = _optional("Partition fields, such as `day(ts)` or `bucket(16, id)`.")
    sort_by: list[str] | None = _optional("Columns by which rows are sorted within a file.")


@strawberry.input(description="When runs come by themselves.")
class ScheduleInput:
    cron: str = strawberry.field(description="Minute, hour, day of month, month, day of week.")
    timezone: str = strawberry.field(default="UTC", description="An IANA time zone, in which the cron expression is read.")


@strawberry.input(description="What happens in the cases that differ from one owner to the next.")
class PoliciesInput:
    schema_evolution: SchemaEvolution | None = _optional("When a file brings new columns.")
    bad_rows: BadRowPolicy | None = _optional("When a row cannot be read as the table's types.")
    changed_files: ChangedFilePolicy | None = _optional("When a loaded path holds other content.")
    max_file_retries: int | None = _optional("How often a file may fail before it waits for a person.")
    max_files_per_run: int | None = _optional("How many files a run takes at most.")
    max_bytes_per_run: BigInt | None = _optional("How many bytes a run takes at most.")
    timeout_seconds: int | None = _optional("How long a run may take.")
    late_after_seconds: int | None = _optional(
        "For how long nothing may be loaded, while it is ACTIVE and has a schedule, before webhooks are told that data are late."
    )


@strawberry.input(description="What does the work.")
class ExecutionInput:
    engine: EngineType = strawberry.field(default=EngineType.EMBEDDED, description="What reads the files and writes the table.")
    cluster_size: ClusterSize = strawberry.field(default=ClusterSize.SMALL, description="How much a run asks for.")
    mode: ExecutionMode = strawberry.field(default=ExecutionMode.BATCH, description="How files are handed to the engine.")


@strawberry.input(description="A new ingestion.")
class CreateIngestionInput:
    name: str = strawberry.field(description="Its name, unique among yours.")
    source: SourceInput = strawberry.field(description="Where files land.")
    format: FormatInput = strawberry.field(description="What the files are.")
    destination: DestinationInput = strawberry.field(description="Which table they belong in.")
    schedule: ScheduleInput | None = _optional("When runs come by themselves.")
    policies: PoliciesInput | None = _optional("What happens in the cases that differ.")
    execution: ExecutionInput | None = _optional("What does the work.")
    activate: bool = strawberry.field(default=False, description="Activate it at once.")
    idempotency_key: str | None = _optional(
        f"A repeated request with the same key gives the first one's result for {_KEYS_KEPT_DAYS} days."
    )


@strawberry.input(description="Changes to an ingestion. What is absent stays; null clears what can be cleared.")
class UpdateIngestionInput:
    id: strawberry.ID = strawberry.field(description="The ingestion.")
    expected_version: int | None = _optional("Refuse when its version is another.")
    name: str | None = _optional("Its new name.")
    glob: str | None = _optional("Which files below the path; null for all.")
    format_options: JSON | None = _optional("Options of the format.")
    hints: list[ColumnHintInput] | None = _optional("Columns whose types are pinned.")
    credential: str | None = _optional("The name of the credential that reads the source; null for the default.")
    discovery: DiscoveryMode | None = _optional("How new files are found; null for LISTING.")
    queue: str | None = _optional("With EVENTS, the name of the queue that gets the bucket's notifications.")
    list_every_seconds: int | None = _optional("With EVENTS, how often the source is listed all the same; null for the default.")
    schedule: ScheduleInput | None = _optional("When runs come by themselves; null for never.")
    policies: PoliciesInput | None = _optional("Policies to change; null for all defaults.")


@strawberry.input(description="A run to make.")
class RunIngestionInput:
    ingestion_id: strawberry.ID = strawberry.field(description="The ingestion.")
    idempotency_key: str | None = _optional(f"A repeated request with the same key gives the first one's run for {_KEYS_KEPT_DAYS} days.")


@strawberry.input(description="Files to look at.")
class PreviewIngestionInput:
    source: SourceInput = strawberry.field(description="Where the files are.")
    format: FormatInput = strawberry.field(description="What they are.")
    limit: int = strawberry.field(default=20, description="How many rows at most, up to 100.")


@strawberry.input(description="An ingestion to price.")
class EstimateCostInput:
    source: SourceInput = strawberry.field(description="Where the files are.")
    format: FormatInput = strawberry.field(description="What they are.")
    schedule: ScheduleInput | None = _optional("When runs would come by themselves.")
    execution: ExecutionInput | None = _optional("What would do the work.")


@strawberry.input(description="A run to try again.")
class RetryRunInput:
    run_id: strawberry.ID = strawberry.field(description="The run that left files unloaded.")
    idempotency_key: str | None = _optional(f"A repeated request with the same key gives the first one's run for {_KEYS_KEPT_DAYS} days.")


@strawberry.input(description="A table to load anew.")
class RefreshIngestionInput:
    ingestion_id: strawberry.ID = strawberry.field(description="The ingestion.")
    mode: RefreshMode = strawberry.field(description="What is loaded again once the table is gone.")
    confirm: bool = strawberry.field(default=False, description="That dropping the table is meant.")
    dry_run: bool = strawberry.field(default=False, description="Only say what would be done.")
    auto_run: bool = strawberry.field(default=True, description="Load at once; else the next run does.")
    idempotency_key: str | None = _optional(f"A repeated request with the same key gives the first one's run for {_KEYS_KEPT_DAYS} days.")


@strawberry.input(description="An ingestion to delete.")
class DeleteIngestionInput:
    id: strawberry.ID = strawberry.field(description="The ingestion.")
    delete_table: bool = strawberry.field(default=False, description="Drop the table too; else it stays as it is.")


@strawberry.input(description="What to make of a schema change.")
class DecideSchemaChangeInput:
    id: strawberry.ID = strawberry.field(description="The schema change.")
    decision: SchemaChangeVerdict = strawberry.field(description="What to make of it; for good.")
    reason: str | None = _optional("Why; it stands with the change.")


@strawberry.input(description="Files to forget, so that they are loaded again.")
class ClearProcessedFilesInput:
    ingestion_id: strawberry.ID = strawberry.field(description="The ingestion.")
    path_prefix: str | None = _optional("Only files whose path begins like this; all unless told.")
    confirm: bool = strawberry.field(default=False, description="That forgetting files and removing rows is meant.")
    keep_rows: bool = strawberry.field(default=False, description="Leave their rows in the table. Loaded again, they are doubled.")


@strawberry.input(description="Files to load again: by their ids, or those of an ingestion that pass a filter.")
class RetryFilesInput:
    ids: list[strawberry.ID] | None = _optional("The files, up to 1,000.")
    ingestion_id: strawberry.ID | None = _optional("The ingestion whose files are meant; not together with `ids`.")
    filter: ProcessedFileFilter | None = _optional("Which of the ingestion's files.")


@strawberry.input(description="Files to leave out: by their ids, or those of an ingestion that pass a filter.")
class SkipFilesInput:
    ids: list[strawberry.ID] | None = _optional("The files, up to 1,000.")
    ingestion_id: strawberry.ID | None = _optional("The ingestion whose files are meant; not together with `ids`.")
    filter: ProcessedFileFilter | None = _optional("Which of the ingestion's files.")
    reason: str | None = _optional("Why; it stands with the files as their message.")
