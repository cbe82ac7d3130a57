"""What is remembered, by intent. Every repository is bound to one tenant and to one transaction, and never commits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from domain.ingestions.entities import ChangedFilePolicy, EventQueueState, Ingestion, IngestionStatus, Reset
from domain.ledger.entities import Batch, ClaimedFile, FileStatus, ProcessedFile
from domain.ports.engine import ColumnChange, FileOutcome, Replaced
from domain.ports.object_store import StoredObject
from domain.relations import ProcessedFileFilter
from domain.runs.entities import Run, RunMetrics, RunStatus
from domain.schema_changes import SchemaChange
from domain.schema_versions import SchemaVersion


class IngestionRepository(Protocol):
    async def create(self, ingestion: Ingestion) -> Ingestion:
        """Raises `ConflictError`: DUPLICATE_NAME within the tenant, DESTINATION_TAKEN or QUEUE_TAKEN by anybody's ingestion.

        The transaction may go on after it.
        """
        ...

    async def get_by_id(self, id: UUID, *, for_update: bool = False) -> Ingestion | None:
        """`for_update` holds the row against other writers until the transaction ends."""
        ...

    async def get_by_tenant(self, *, limit: int, after: UUID | None = None) -> Sequence[Ingestion]:
        """The tenant's ingestions by id, at most `limit` after the one with id `after`."""
        ...

    async def get_active_ingestions(self) -> Sequence[Ingestion]:
        """Those that are ACTIVE, by id."""
        ...

    async def get_by_files(self, file_ids: Sequence[int]) -> Sequence[Ingestion]:
        """Those that these files are of, by id."""
        ...

    async def update(self, ingestion: Ingestion) -> Ingestion:
        """Store what may change, raise `version` by one and touch `updated_at`; returns what is now stored.

        Status, next firing, last run and listing, failures and the queue's state stay as they are: other methods own them, and may have
        changed them since.
        Raises `ConflictError` STALE_VERSION when the stored version is not `ingestion.version`, DUPLICATE_NAME, QUEUE_TAKEN.
        """
        ...

    async def update_status(self, id: UUID, status: IngestionStatus, *, next_due_at: datetime | None) -> Ingestion:
        """Becoming ACTIVE forgets earlier failures.

        Raises `ConflictError` WRONG_STATE unless the transition is declared; `NotFoundError`.
        """
        ...

    async def set_next_due(self, id: UUID, next_due_at: datetime | None) -> None: ...

    async def expect_data(self, id: UUID) -> None:
        """From now on its data are late after `policies.late_after_seconds`, on the database's clock; never without that policy or a
        schedule, nor while it is not ACTIVE."""
        ...

    async def take_lateness(self, id: UUID) -> bool:
        """Whether its data are late. After True they are not any more, until they have been expected again."""
        ...

    async def update_last_run(self, id: UUID, run_id: UUID, at: datetime, *, consecutive_failures: int) -> None: ...

    async def set_last_listed(self, id: UUID, at: datetime | None) -> None:
        """None: the next run lists the source. It is no change of the ingestion that anybody made."""
        ...

    async def set_event_queue(self, id: UUID, state: EventQueueState) -> None:
        """Remember how its queue stood. It is no change of the ingestion that anybody made."""
        ...

    async def set_table(self, id: UUID, table_uuid: UUID) -> None:
        """Remember which table the ingestion loads into."""
        ...

    async def get_table(self, id: UUID) -> UUID | None: ...

    async def see_snapshots(self, id: UUID, snapshots: int) -> int | None:
        """Remember how many snapshots the ingestion's table has now; how many it had when that was remembered last."""
        ...

    async def begin_reset(self, id: UUID, reset: Reset, *, generation: int, checkpoint_path: str) -> Ingestion:
        """Store what is to be done before anything more is loaded, in place of a reset that is not done yet.

        A new generation has no table yet, and the next run lists the source. Raises `version` by one. Raises `NotFoundError`.
        """
        ...

    async def finish_reset(self, id: UUID, reset_id: UUID) -> bool:
        """The reset is done; False when it was done before, or another has taken its place."""
        ...

    async def delete(self, id: UUID) -> bool:
        """Removes the ingestion and, by cascade, its runs, files, attempts, batches and schema versions."""
        ...


class RunRepository(Protocol):
    async def create(self, run: Run) -> Run:
        """Raises `ConflictError` RUN_ACTIVE when the ingestion has an active run (the transaction may go on); `NotFoundError`."""
        ...

    async def get_by_id(self, id: UUID) -> Run | None: ...

    async def get_active(self, ingestion_id: UUID) -> Run | None:
        """The ingestion's run that is queued or under way."""
        ...

    async def hold_running(self, id: UUID) -> bool:
        """Whether the run is RUNNING; if so it stays that until the transaction ends."""
        ...

    async def get_scheduled(self, ingestion_id: UUID, due_at: datetime) -> Run | None:
        """The run that the schedule's firing at `due_at` has made."""
        ...

    async def get_by_flow_run(self, flow_run_id: str) -> Run | None:
        """The run that the orchestrator executes under this id."""
        ...

    async def set_flow_run(self, id: UUID, flow_run_id: str) -> None:
        """Remember under which id the orchestrator executes the run."""
        ...

    async def get_runs_by_ingestion(
        self, ingestion_id: UUID, *, since: datetime | None = None, until: datetime | None = None, limit: int
    ) -> Sequence[Run]:
        """Newest first; `since` is inclusive, `until` exclusive, by `queued_at`."""
        ...

    async def update_status(
        self, id: UUID, status: RunStatus, *, at: datetime, error_message: str | None = None, lease_seconds: float | None = None
    ) -> Run:
        """Sets `started_at` on RUNNING, and `ended_at` with `duration_seconds` (since the start, 0 without one) on an end.

        `lease_seconds` from now on the database's clock is when the run counts as lost. Raises `ConflictError`
        WRONG_STATE unless the transition is declared; `NotFoundError`.
        """
        ...

    async def update_metrics(self, id: UUID, delta: RunMetrics, *, files_total: int | None = None) -> None:
        """Add `delta` to the counters; set `files_total` when given."""
        ...

    async def count_listing(self, id: UUID) -> None:
        """The run has come to the end of a listing of its source."""
        ...

    async def renew_lease(self, id: UUID, *, seconds: float) -> RunStatus | None:
        """Put the lease's end `seconds` from now, if it has not passed; the run's status, or None when the lease was lost."""
        ...


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a listing's chunk brought: objects never seen, and known ones whose content is new and is to be loaded."""

    new: int = 0
    changed: int = 0


FILES_AT_ONCE = 10_000
"""Files that one statement changes, so that it takes a second or so, whatever the size of the ledger."""


@dataclass(frozen=True, slots=True)
class FileSelection:
    """Files that somebody points at: those with `ids`, or else those of an ingestion that pass a filter."""

    ids: tuple[int, ...] | None = None
    ingestion_id: UUID | None = None
    filter: ProcessedFileFilter = field(default_factory=ProcessedFileFilter)


class ProcessedFileRepository(Protocol):
    """The ledger. Everything here is set-based: as many statements per call, whatever the number of files.

    Of the versions of a path, methods mean the current one unless they speak of earlier ones. Those that change files of which there may
    be any number do a step of it: of the files after the one with id `after`, by id, at most `limit`; they return the ids of the
    changed ones, by id, and none only when no more are left (see `domain.ledger.stepwise`).
    """

    async def record_discovered(
        self, ingestion_id: UUID, objects: Sequence[StoredObject], *, changed_files: ChangedFilePolicy = ChangedFilePolicy.IGNORE
    ) -> Discovered:
        """Enter unknown objects as PENDING. An unloaded file (PENDING, HELD, FAILED, SKIPPED) with new content is PENDING anew.

        Of a loaded file (SUCCESS) with new content a new version is entered, unless the policy is IGNORE; it `replaces` the earlier ones
        under REPLACE. An unloaded version that has changed again goes by the policy of now, or under IGNORE by what it was found under.
        Files in work stay as they are. An object may appear at most once in `objects`.
        """
        ...

    async def requeue_due_failures(
        self, ingestion_id: UUID, *, max_retries: int, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        """FAILED -> PENDING for files whose next try is due (the database's clock) and whose retries are not used up: a step."""
        ...

    async def any_waiting(self, ingestion_id: UUID, *, max_retries: int) -> bool:
        """Whether a run would find files to load: PENDING ones, or failures whose next try is due as in `requeue_due_failures`."""
        ...

    async def count_pending(self, ingestion_id: UUID, *, at_most: int, assigned_to: UUID | None = None) -> int:
        """How many files are PENDING (and assigned to that run, if given), counting no further than `at_most`."""
        ...

    async def assign_unloaded(
        self, ingestion_id: UUID, *, of_run: UUID, to_run: UUID, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        """Make the files that one run had before it and that are not loaded PENDING, and assign them to another run: a step.

        These are its FAILED files, whatever their retries, those that it claimed and released, and those that it had not come to: that
        were known when it ended, and are PENDING. Files that another run has in hand stay where they are.
        """
        ...

    async def requeue(self, selection: FileSelection, *, after: int = 0, limit: int = FILES_AT_ONCE) -> Sequence[int]:
        """FAILED | SKIPPED -> PENDING, as a person asks: whatever their retries, and at once; a step."""
        ...

    async def skip(self, selection: FileSelection, *, reason: str, after: int = 0, limit: int = FILES_AT_ONCE) -> Sequence[int]:
        """PENDING | HELD | FAILED -> SKIPPED with the reason, as a person asks: a step."""
        ...

    async def claim(
        self, batch: Batch, *, max_files: int, max_bytes: int, at_least_one: bool = True, assigned_to: UUID | None = None
    ) -> Sequence[ClaimedFile]:
        """PENDING -> PROCESSING for the oldest files that nobody else is claiming, into `batch`; returned by id.

        Stops before the bytes go past `max_bytes`; only the first file may, when `at_least_one` is to be taken.

        With `assigned_to`, only files that are assigned to that run.
        """
        ...

    async def claim_paths(self, batch: Batch, paths: Collection[str]) -> Sequence[ClaimedFile]:
        """PENDING -> PROCESSING for the current files of these paths, into `batch`; returned by id. Waits for who is claiming them."""
        ...

    async def lock_file_for_processing(self, batch: Batch, object: StoredObject) -> ProcessedFile | None:
        """Claim one object with its present size and etag, entering it when it is new; None when it is not PENDING:

        somebody holds it, it is done, or it waits for its next try.
        """
        ...

    async def get_replaced(self, batch: Batch) -> Replaced:
        """The rows in the table that the batch's PROCESSING files replace, for paths that have any."""
        ...

    async def supersede(self, batch: Batch, file_ids: Sequence[int]) -> int:
        """SUCCESS -> SUPERSEDED for the earlier versions of these files' paths; how many."""
        ...

    async def get_earlier_versions(self, ingestion_id: UUID, path: str, *, limit: int) -> Sequence[ProcessedFile]:
        """The versions of a path but the current one, the newest first."""
        ...

    async def rows_of_earlier_versions(self, ingestion_id: UUID, paths: Collection[str]) -> Mapping[str, int]:
        """Rows in the table of versions that are not current any more, by path; a path without such a version is absent."""
        ...

    async def get_processed_file_paths(self, ingestion_id: UUID, paths: Collection[str]) -> set[str]:
        """Which of the given paths are done (SUCCESS or SKIPPED)."""
        ...

    async def get_by_path(self, ingestion_id: UUID, path: str) -> ProcessedFile | None:
        """The current version of a path."""
        ...

    async def get_known_paths(self, ingestion_id: UUID, paths: Collection[str]) -> set[str]:
        """Which of the given paths are in the ledger, whatever came of them."""
        ...

    async def get_by_path_order(self, ingestion_id: UUID, *, after: str | None, limit: int) -> Sequence[ProcessedFile]:
        """Current files in the order of their paths (by code points), at most `limit` after a path."""
        ...

    async def get_processed_files(
        self, ingestion_id: UUID, *, status: Sequence[FileStatus], limit: int, after: int = 0
    ) -> Sequence[ProcessedFile]:
        """Current files by id, in the given statuses."""
        ...

    async def get_failed_files(self, ingestion_id: UUID, *, max_retries: int, limit: int) -> Sequence[ProcessedFile]:
        """FAILED files with retries left, by id."""
        ...

    async def get_stale_processing_files(self, ingestion_id: UUID, *, limit: int) -> Sequence[ProcessedFile]:
        """PROCESSING files whose batch's lease has expired on the database's clock, by id."""
        ...

    async def mark_success(self, batch: Batch, outcomes: Sequence[FileOutcome], *, snapshot_id: int | None) -> int:
        """PROCESSING -> SUCCESS with the outcome's counts, and an attempt each; how many. Only files of the batch change."""
        ...

    async def mark_failed(self, batch: Batch, outcomes: Sequence[FileOutcome], *, max_retries: int, retry_base_seconds: float) -> int:
        """PROCESSING -> FAILED with the message, `retry_count` one higher, and an attempt each.

        The next try is due `retry_base_seconds * 2**(retry_count - 1)` later (at most a day), never once retries are used up.
        """
        ...

    async def mark_skipped(self, batch: Batch, outcomes: Sequence[FileOutcome]) -> int:
        """PROCESSING -> SKIPPED with the reason, and an attempt each."""
        ...

    async def mark_held(self, batch: Batch, outcomes: Sequence[FileOutcome], waiting_for: Mapping[int, UUID]) -> int:
        """PROCESSING -> HELD for the schema change that each file waits for (by the file's id), and an attempt each."""
        ...

    async def release_held(
        self, ingestion_id: UUID, *, outdated: bool = False, after: int = 0, limit: int = FILES_AT_ONCE
    ) -> Sequence[int]:
        """HELD -> PENDING: a step. `outdated`: only those held before the newest schema version, or for a change that is decided."""
        ...

    async def release(self, batch: Batch) -> int:
        """PROCESSING -> PENDING for the batch's files that are not settled; leaves no attempt."""
        ...

    async def batch_files(self, batch_id: UUID) -> Sequence[ClaimedFile]:
        """The batch's PROCESSING files, by id."""
        ...

    async def count_by_status(self, ingestion_id: UUID, *, path_prefix: str | None = None) -> Mapping[FileStatus, int]:
        """How many current files there are (below a prefix), by status; a status without files is absent."""
        ...

    async def delete_by_ingestion(self, ingestion_id: UUID, *, path_prefix: str | None = None, limit: int | None = None) -> int:
        """Forget the ingestion's files (below a prefix), attempts included, at most `limit`; how many."""
        ...


class BatchRepository(Protocol):
    """Leases live on the database's clock, and each change of hands raises the epoch."""

    async def open(self, *, id: UUID, ingestion_id: UUID, run_id: UUID, table_uuid: UUID | None, lease_seconds: float) -> Batch:
        """A new CLAIMED batch at epoch 1. Raises `NotFoundError` when there is no such ingestion."""
        ...

    async def get_by_id(self, id: UUID) -> Batch | None: ...

    async def get_abandoned(self, ingestion_id: UUID) -> Sequence[Batch]:
        """The ingestion's CLAIMED batches whose run has ended (or is gone), whatever their lease."""
        ...

    async def renew_lease(self, batch: Batch, *, seconds: float) -> bool:
        """Put the lease's end `seconds` from now; False when it has expired, or the epoch has passed on, or the batch is settled."""
        ...

    async def take_over(self, id: UUID, *, lease_seconds: float, only_expired: bool) -> Batch | None:
        """Raise the epoch and hold the lease anew; None when the batch is settled or (`only_expired`) its lease still runs."""
        ...

    async def commit(self, batch: Batch, *, snapshot_id: int | None, files: int) -> bool:
        """CLAIMED -> COMMITTED at the batch's epoch; False when the epoch has passed on or the batch is settled."""
        ...

    async def release(self, batch: Batch) -> bool:
        """CLAIMED -> RELEASED at the batch's epoch; False as in `commit`."""
        ...


class SchemaChangeRepository(Protocol):
    async def propose(
        self, *, id: UUID, ingestion_id: UUID, run_id: UUID, digest: str, changes: tuple[ColumnChange, ...], example_path: str
    ) -> SchemaChange:
        """A new PENDING change. The digest must not be that of another one. Raises `NotFoundError` when there is no such ingestion."""
        ...

    async def get_by_id(self, id: UUID) -> SchemaChange | None: ...

    async def get_open(self, ingestion_id: UUID) -> Sequence[SchemaChange]:
        """The ingestion's PENDING changes, the oldest first."""
        ...

    async def get_decided(self, ingestion_id: UUID) -> Sequence[SchemaChange]:
        """The ingestion's APPROVED and REJECTED changes, the earliest decision first."""
        ...

    async def decide(self, decided: SchemaChange) -> bool:
        """Store the decision on a PENDING change; False when it is not PENDING any more."""
        ...

    async def withdraw_needless(self, ingestion_id: UUID) -> int:
        """Forget PENDING changes that no file waits for any more, nor waits to be looked at again for; how many."""
        ...


class SchemaVersionRepository(Protocol):
    async def latest(self, ingestion_id: UUID) -> SchemaVersion | None:
        """Holds the ingestion against other writers, so that two of them number their versions one after the other."""
        ...

    async def append(self, version: SchemaVersion) -> SchemaVersion:
        """Store the next version; `version.id` is not used. Raises `NotFoundError` when there is no such ingestion."""
        ...
