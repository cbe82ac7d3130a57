"""What every load of a batch does with its table, whoever has written the rows: find it, commit under the guard, and tell of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from pyiceberg.table import Table

from domain.ports.engine import (
    BatchOutcome,
    CommitGuard,
    FileOutcome,
    LoadBatch,
    OutcomeStatus,
    Replaced,
    TableMissingError,
    TableSchema,
    TableUnavailableError,
)
from domain.steps import Step, reached
from integrations.engines.embedded.batch_files import EMPTY_FILE, LoadFile
from integrations.engines.embedded.commits import forbid_retries, snapshot_of_batch
from integrations.engines.embedded.replaced_rows import ReplacedRows
from integrations.engines.embedded.row_rewrite import Rewrite
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.tables import Tables, catalog_errors, table_schema, user_columns
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.embedded.workspaces import Workspace

COMMIT_TRIES = 10
"""How often a load meets a concurrent commit before it gives up; each time it starts from the table's new state."""


class TableLoad:
    """The table as it was loaded last, and what is to happen to it. What is not async blocks."""

    def __init__(self, tables: Tables, threads: WorkerThreads, batch: LoadBatch) -> None:
        self._tables = tables
        self._threads = threads
        self._batch = batch
        self._rules = RowRules.of(batch.policies)
        self._files: Sequence[LoadFile] = ()
        self._table: Table | None = None
        self._rewrite: Rewrite | None = None
        self._schema_before: TableSchema | None = None

    async def _commit_under(
        self, guard: CommitGuard, prepare: Callable[[], Awaitable[bool]], commit: Callable[[], int | None]
    ) -> BatchOutcome:
        """Prepare, ask the guard and try to commit, until the batch is in the table. `prepare` answers whether there is anything to commit,
        `commit` with the snapshot, or None when the table has moved and has been taken as it is now.
        """
        for _ in range(COMMIT_TRIES):
            if not await prepare():
                return self._outcome(None)
            reached(Step.WRITTEN)
            await guard()
            reached(Step.GUARDED)
            snapshot_id = await self._threads.run_to_end(commit)
            if snapshot_id is not None:
                reached(Step.COMMITTED)
                return self._outcome(snapshot_id)
        message = f"{self._batch.destination.key} was changed by others {COMMIT_TRIES} times while a batch tried to commit; try again"
        raise TableUnavailableError(message)

    async def _find_first(self) -> None:
        await self._threads.run_to_end(self._find)
        self._schema_before = self._schema()

    def _find(self) -> None:
        """Raises `TableMissingError`, `TableReplacedError`: to load the rest into another table would hide that the first is gone."""
        destination, known = self._batch.destination, self._batch.table_uuid
        with catalog_errors():
            table = self._tables.find_the_one(destination, known)
            if table is None and known is not None:
                raise TableMissingError(f"{destination.key}, which was loaded into before, is gone; a refresh makes it anew")
            self._table = None if table is None else forbid_retries(table)

    def _find_again(self) -> Table:
        """The table as it is now, after a conflict. Raises `TableUnavailableError` when it is not there, or not the same."""
        before = self._table
        self._find()
        if self._table is None or (before is not None and self._table.metadata.table_uuid != before.metadata.table_uuid):
            raise TableUnavailableError(f"{self._batch.destination.key} was dropped or replaced while a batch was being loaded into it")
        return self._table

    def _replaces(self) -> Replaced:
        """The rows that go with this load: files that cannot be loaded, or not yet, replace nothing."""
        left = {file.path for file in self._files if file.failure is not None or file.needs}
        return {path: batches for path, batches in self._batch.replaces.items() if path not in left}

    def _taken(self) -> set[str]:
        """The paths whose content this load speaks of, be it by their rows or by those that they replace."""
        replaces = self._replaces()
        return {file.path for file in self._files if file.is_open or file.path in replaces}

    def _take_out_replaced(self, work: Workspace) -> None:
        """Write the table's data files anew without the rows that are replaced."""
        if self._table is not None:
            with catalog_errors():
                self._rewrite = ReplacedRows(self._table, self._replaces()).taken_out(work)

    def _discard_rewrite(self) -> None:
        rewrite, self._rewrite = self._rewrite, None
        if rewrite is not None:
            rewrite.discard()

    def _snapshot_id(self, table: Table) -> int:
        """Of the batch, in the table that has just been committed to."""
        self._table = table
        snapshot = snapshot_of_batch(table, self._batch.batch_id)
        assert snapshot is not None
        return snapshot.snapshot_id

    def _schema(self) -> TableSchema | None:
        return None if self._table is None else table_schema(user_columns(self._table.schema()))

    def _outcome(self, snapshot_id: int | None) -> BatchOutcome:
        files = [_file_outcome(item.file_id, file) for item, file in zip(self._batch.files, self._files, strict=True)]
        uuid = None if self._table is None else UUID(str(self._table.metadata.table_uuid))
        snapshots = len(self._table.metadata.snapshots) if self._table is not None and snapshot_id is not None else None
        return BatchOutcome(files, snapshot_id, uuid, self._schema_before, self._schema(), snapshots)


def _file_outcome(file_id: int, file: LoadFile) -> FileOutcome:
    if file.failure is not None:
        return FileOutcome(file_id, OutcomeStatus.FAILED, message=file.failure, transient=file.transient)
    if file.needs:
        return FileOutcome(file_id, OutcomeStatus.NEEDS_APPROVAL, needs=file.needs)
    if file.empty:
        return FileOutcome(file_id, OutcomeStatus.SKIPPED, message=EMPTY_FILE)
    return FileOutcome(file_id, OutcomeStatus.LOADED, file.rows, file.rows_skipped, file.rows_rescued)
