"""An ingestion: where files land, what they are, which table they belong in, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class IngestionStatus(StrEnum):
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ERROR = "ERROR"
    DELETING = "DELETING"


class SourceType(StrEnum):
    S3 = "S3"
    LOCAL = "LOCAL"
    AZURE_BLOB = "AZURE_BLOB"
    GCS = "GCS"


class DiscoveryMode(StrEnum):
    LISTING = "LISTING"
    EVENTS = "EVENTS"


class FormatType(StrEnum):
    JSON = "JSON"
    CSV = "CSV"
    PARQUET = "PARQUET"
    AVRO = "AVRO"
    ORC = "ORC"


class SchemaEvolution(StrEnum):
    """What happens when a file brings columns that the table does not have."""

    ADD_NEW_COLUMNS = "ADD_NEW_COLUMNS"
    RESCUE = "RESCUE"
    FAIL_ON_NEW_COLUMNS = "FAIL_ON_NEW_COLUMNS"
    IGNORE = "IGNORE"
    REQUIRE_APPROVAL = "REQUIRE_APPROVAL"


class BadRowPolicy(StrEnum):
    """What happens to a row that cannot be read as the table's types."""

    FAIL_FILE = "FAIL_FILE"
    SKIP_ROW = "SKIP_ROW"
    RESCUE = "RESCUE"


class ChangedFilePolicy(StrEnum):
    """What happens when a loaded path holds other content than it did."""

    IGNORE = "IGNORE"
    APPEND = "APPEND"
    REPLACE = "REPLACE"


class EngineType(StrEnum):
    EMBEDDED = "EMBEDDED"
    SPARK = "SPARK"


class ExecutionMode(StrEnum):
    BATCH = "BATCH"
    STREAMING = "STREAMING"


class ClusterSize(StrEnum):
    SMALL = "SMALL"
    MEDIUM = "MEDIUM"
    LARGE = "LARGE"


@dataclass(frozen=True, slots=True)
class Source:
    """A location and how its objects are found.

    `path` is `s3://bucket/prefix/` or an absolute folder; `glob` is matched against the object's path relative to it;
    `credential` is the name of a configured credential, never the secret.

    Under EVENTS, `queue` is the name of the queue that gets the store's notifications and `queue_id` what the service calls it, by
    which it belongs to one ingestion; `list_every_seconds` is how often the source is listed all the same.
    """

    type: SourceType
    path: str
    glob: str | None = None
    modified_after: datetime | None = None
    min_age_seconds: int = 0
    discovery: DiscoveryMode = DiscoveryMode.LISTING
    credential: str | None = None
    queue: str | None = None
    queue_id: str | None = None
    list_every_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class ColumnHint:
    """Pins a top-level column's type, in Iceberg's notation (`timestamptz`, `decimal(10, 2)`)."""

    column: str
    type: str


@dataclass(frozen=True, slots=True)
class FormatSpec:
    """What the files are. `options` has been checked against the format's option model."""

    type: FormatType
    options: Mapping[str, object] = field(default_factory=dict)
    hints: tuple[ColumnHint, ...] = ()


@dataclass(frozen=True, slots=True)
class Destination:
    """The Iceberg table: `partition_by` holds transforms (`day(ts)`, `bucket(16, id)`), `sort_by` column names."""

    catalog: str
    database: str
    table: str
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Identifies the table among all tables; at most one ingestion holds it."""
        return f"{self.catalog}.{self.database}.{self.table}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """`cron` has five fields; `timezone` is an IANA name."""

    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Policies:
    """`late_after_seconds` is how long nothing may be loaded before data count as late (see `domain.notifications.lateness`)."""

    schema_evolution: SchemaEvolution = SchemaEvolution.ADD_NEW_COLUMNS
    bad_rows: BadRowPolicy = BadRowPolicy.FAIL_FILE
    changed_files: ChangedFilePolicy = ChangedFilePolicy.IGNORE
    max_file_retries: int = 3
    max_files_per_run: int | None = None
    max_bytes_per_run: int | None = None
    timeout_seconds: int | None = None
    late_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    engine: EngineType = EngineType.EMBEDDED
    cluster_size: ClusterSize = ClusterSize.SMALL
    mode: ExecutionMode = ExecutionMode.BATCH


@dataclass(frozen=True, slots=True)
class Reset:
    """What a refresh, a clear or a deletion has decided and what is still to be done; nothing is loaded before that.

    `drop_table` is the table to drop. `remove_rows` and `forget_files` are about the rows and the ledger's files whose path
    begins with `path_prefix`, or all of them without one. `requeue_files` has all that are HELD or FAILED be PENDING. Each step may be
    repeated, so a crash between them does no harm.
    """

    id: UUID
    drop_table: UUID | None = None
    remove_rows: bool = False
    forget_files: bool = False
    requeue_files: bool = False
    path_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class EventQueueState:
    """How the queue of an ingestion's notifications stood at a moment; see `domain.ports.event_queue.QueueState`.

    `problem` says why it could not be asked at that moment; then the numbers are those of the look before.
    """

    looked_at: datetime
    waiting: int = 0
    hidden: int = 0
    dead_letters: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Ingestion:
    """`generation` rises with each refresh; `version` with each change, for optimistic updates.

    `last_listed_at` is when the latest listing began that came to its end; None when the next run has to list, whatever its source's
    discovery.
    """

    id: UUID
    tenant_id: UUID
    name: str
    status: IngestionStatus
    source: Source
    format: FormatSpec
    destination: Destination
    schedule: Schedule | None
    policies: Policies
    execution: Execution
    checkpoint_path: str
    generation: int
    reset: Reset | None
    version: int
    consecutive_failures: int
    last_run_id: UUID | None
    last_run_at: datetime | None
    next_due_at: datetime | None
    last_listed_at: datetime | None
    event_queue: EventQueueState | None
    created_at: datetime
    updated_at: datetime

    @property
    def listing_due_at(self) -> datetime | None:
        """Under EVENTS, from when on a run lists the source all the same; else None, for each run does."""
        every = self.source.list_every_seconds
        if self.source.discovery is not DiscoveryMode.EVENTS or every is None:
            return None
        return self.created_at if self.last_listed_at is None else self.last_listed_at + timedelta(seconds=every)

    @property
    def reset_pending(self) -> bool:
        """Whether something is still to be done before anything is loaded."""
        return self.reset is not None
