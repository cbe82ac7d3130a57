"""The ledger: what is known of every file, and what each run did about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.ports.object_store import StoredObject


class FileStatus(StrEnum):
    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    HELD = "HELD"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True, slots=True)
class ProcessedFile:
    """One version of a path; at most one version of a path is `current`.

    Rows of an earlier version that is SUCCESS are still in the table; of one that is SUPERSEDED they have left it. `replaces`: loading
    this version takes out what earlier ones have brought. `run_id` and `batch_id` are those of the latest claim; `generation` is the
    ingestion's when the file was loaded: its rows are in the table only while the ingestion has not been refreshed since. `retry_count`
    counts failures; `next_retry_at` is when the next automatic try is due, None when it waits for a person. `schema_change_id` is the
    change that a HELD file waits for; it stays when the file is PENDING again, until that has been settled.
    """

    id: int
    tenant_id: UUID
    ingestion_id: UUID
    path: str
    current: bool
    replaces: bool
    status: FileStatus
    size_bytes: int
    etag: str
    modified_at: datetime
    run_id: UUID | None
    batch_id: UUID | None
    rows: int | None
    rows_skipped: int | None
    rows_rescued: int | None
    snapshot_id: int | None
    generation: int | None
    retry_count: int
    next_retry_at: datetime | None
    error_message: str | None
    schema_change_id: UUID | None
    discovered_at: datetime
    processed_at: datetime | None

    @property
    def stored_object(self) -> StoredObject:
        """The object as it was when it was last listed: what a load must read."""
        return StoredObject(self.path, self.size_bytes, self.etag, self.modified_at)


@dataclass(frozen=True, slots=True)
class ClaimedFile:
    """What a load needs of a file that its batch has in hand. A claim is thousands of them, and reading the rest takes most of its time."""

    id: int
    path: str
    replaces: bool
    size_bytes: int
    etag: str
    modified_at: datetime

    @property
    def stored_object(self) -> StoredObject:
        """The object as it was when it was last listed: what a load must read."""
        return StoredObject(self.path, self.size_bytes, self.etag, self.modified_at)


@dataclass(frozen=True, slots=True)
class FileAttempt:
    """What one run did with one file; kept for good, so that a retry erases no evidence."""

    id: int
    tenant_id: UUID
    ingestion_id: UUID
    run_id: UUID
    file_id: int
    batch_id: UUID
    outcome: FileStatus
    rows: int
    rows_skipped: int
    rows_rescued: int
    error_message: str | None
    attempted_at: datetime


class BatchStatus(StrEnum):
    CLAIMED = "CLAIMED"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that one table commit carries, and the lease under which a worker may make that commit.

    `epoch` rises each time the lease passes to another; a mark under an older epoch is refused. `table_uuid` is the
    table that the ingestion had loaded into when the batch was claimed, None when it had none.
    """

    id: UUID
    tenant_id: UUID
    ingestion_id: UUID
    run_id: UUID
    status: BatchStatus
    epoch: int
    lease_expires_at: datetime
    table_uuid: UUID | None
    snapshot_id: int | None
    files: int
    created_at: datetime
    settled_at: datetime | None
