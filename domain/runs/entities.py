"""A run: one pass of an ingestion from discovery to completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.ingestions.entities import EngineType


class RunStatus(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCESS = "SUCCESS"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    NO_NEW_FILES = "NO_NEW_FILES"
    CANCELLED = "CANCELLED"


class RunTrigger(StrEnum):
    MANUAL = "MANUAL"
    SCHEDULED = "SCHEDULED"
    EVENT = "EVENT"
    RETRY = "RETRY"
    REFRESH = "REFRESH"


class RefreshMode(StrEnum):
    """What is loaded again once the table is gone: everything, or only what was never loaded."""

    FULL = "FULL"
    NEW_ONLY = "NEW_ONLY"


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a REFRESH run is to do; without `load` it ends when the table is gone."""

    mode: RefreshMode
    load: bool = True


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """What a run has done so far; added to once per batch. Rows and bytes are of loaded files only."""

    files_discovered: int = 0
    files_processed: int = 0
    files_failed: int = 0
    files_skipped: int = 0
    files_held: int = 0
    rows_written: int = 0
    rows_skipped: int = 0
    rows_rescued: int = 0
    bytes_processed: int = 0

    def __add__(self, other: RunMetrics) -> RunMetrics:
        return RunMetrics(
            self.files_discovered + other.files_discovered,
            self.files_processed + other.files_processed,
            self.files_failed + other.files_failed,
            self.files_skipped + other.files_skipped,
            self.files_held + other.files_held,
            self.rows_written + other.rows_written,
            self.rows_skipped + other.rows_skipped,
            self.rows_rescued + other.rows_rescued,
            self.bytes_processed + other.bytes_processed,
        )

    @property
    def files_settled(self) -> int:
        """Files that the run is done with, whatever came of them."""
        return self.files_processed + self.files_failed + self.files_skipped + self.files_held


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How many runs may be in hand at once, of all processes together: of each tenant, and on the cluster behind an engine."""

    per_tenant: int | None = None
    per_engine: Mapping[EngineType, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """`files_total` is what the run has to do, known once discovery has ended; progress follows from it.

    `lists` tells whether it looks for files and takes whatever waits. A retry of a run that had come to the end of its
    listing does not: it takes what that one has left. `listings` is how often it has listed its source to the end. `due_at` is
    the moment of the schedule that fired, on SCHEDULED runs; `lease_expires_at` tells when a run whose worker is silent counts as
    lost. `duration_seconds` is set with `ended_at`.
    """

    id: UUID
    tenant_id: UUID
    ingestion_id: UUID
    status: RunStatus
    trigger: RunTrigger
    refresh: Refresh | None
    retry_of_id: UUID | None
    retry_count: int
    lists: bool
    listings: int
    due_at: datetime | None
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_seconds: float | None
    lease_expires_at: datetime | None
    files_total: int | None
    files_discovered: int
    files_processed: int
    files_failed: int
    files_skipped: int
    files_held: int
    rows_written: int
    rows_skipped: int
    rows_rescued: int
    bytes_processed: int
    error_message: str | None
    flow_run_id: str | None

    @property
    def metrics(self) -> RunMetrics:
        """The counters as one value."""
        return RunMetrics(
            self.files_discovered,
            self.files_processed,
            self.files_failed,
            self.files_skipped,
            self.files_held,
            self.rows_written,
            self.rows_skipped,
            self.rows_rescued,
            self.bytes_processed,
        )

    @property
    def progress(self) -> float:
        """From 0 to 1: the share of the run's files that are settled; 1 once it has ended."""
        if self.ended_at is not None:
            return 1.0
        if not self.files_total:
            return 0.0
        return min(1.0, self.metrics.files_settled / self.files_total)
