"""One batch on its way into its table."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from uuid import UUID

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from domain.ports.engine import (
    BatchOutcome,
    CommitGuard,
    FileOutcome,
    LoadBatch,
    OutcomeStatus,
    Replaced,
    TableSchema,
    TableUnavailableError,
)
from domain.ports.object_store import ObjectStore
from domain.steps import Step, reached
from integrations.engines.embedded.batch_files import EMPTY_FILE, LoadFile, load_files
from integrations.engines.embedded.commits import commit_batch, evolved_schema, forbid_retries, snapshot_of_batch
from integrations.engines.embedded.data_files import WrittenFiles, remove_data_files
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.loading import Loading
from integrations.engines.embedded.replaced_rows import ReplacedRows
from integrations.engines.embedded.row_rewrite import Rewrite
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.settings import EmbeddedEngineSettings
from integrations.engines.embedded.tables import Tables, catalog_errors, table_schema, user_columns
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.embedded.workspaces import Workspace

log = logging.getLogger(__name__)

COMMIT_TRIES = 10
"""How often a load meets a concurrent commit before it gives up; each time it starts from the table's new state."""


class BatchLoad:
    """Prepares data files, and brings them into the table under the guard. Files that did not get in are removed."""

    def __init__(
        self,
        settings: EmbeddedEngineSettings,
        tables: Tables,
        threads: WorkerThreads,
        batch: LoadBatch,
        store: ObjectStore,
        work: Workspace,
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._threads = threads
        self._batch = batch
        self._store = store
        self._work = work
        self._rules = RowRules.of(batch.policies)
        self._files: Sequence[LoadFile] = ()
        self._loading: Loading | None = None
        self._table: Table | None = None
        self._written: WrittenFiles | None = None
        self._rewrite: Rewrite | None = None
        self._schema_before: TableSchema | None = None

    async def run(self, guard: CommitGuard) -> BatchOutcome:
        objects = [file.object for file in self._batch.files]
        self._files = load_files(await self._store.stage(objects, self._work.staged))
        try:
            reached(Step.STAGED)
            await self._threads.run_to_end(self._find)
            self._schema_before = self._schema()
            for _ in range(COMMIT_TRIES):
                await self._threads.run_to_end(self._prepare, stop=self._work.stop)
                taken = {file.path for file in self._files if file.is_open or file.path in self._replaces()}
                changed = await self._store.changed_since_staged([stored for stored in objects if stored.path in taken])
                if changed:
                    await self._threads.run_to_end(partial(self._leave_out, changed))
                if self._replaces():
                    await self._threads.run_to_end(self._take_out_replaced, stop=self._work.stop)
                if self._written is None and self._rewrite is None:
                    return self._outcome(None)
                reached(Step.WRITTEN)
                await guard()
                reached(Step.GUARDED)
                snapshot_id = await self._threads.run_to_end(self._commit)
                if snapshot_id is not None:
                    reached(Step.COMMITTED)
                    return self._outcome(snapshot_id)
            message = f"{self._batch.destination.key} was changed by others {COMMIT_TRIES} times while a batch tried to commit; try again"
            raise TableUnavailableError(message)
        finally:
            await self._threads.run_to_end(self._discard)

    def _find(self) -> None:
        with catalog_errors():
            table = self._tables.find(self._batch.destination)
            self._table = None if table is None else forbid_retries(table)

    def _prepare(self) -> None:
        """Read the files and write the data files, unless that has been done for the table as it is."""
        if self._loading is not None:
            return
        try:
            try:
                self._read_and_write()
            except duckdb.Error:
                self._work.check()
                if self._loading is None or not self._loading.fail_unreadable():
                    raise
                self._forget()
                self._read_and_write()
        except duckdb.Error as error:
            # Out of memory or disk, most likely. Its words may show data and paths: they are for the log.
            log.warning("a batch could not be read or written", exc_info=error)
            kind = type(error).__name__
            raise TableUnavailableError(f"the batch could not be read or written ({kind}); the server's log tells more") from error

    def _read_and_write(self) -> None:
        self._loading = self._new_loading()
        self._loading.read(self._files)
        if self._loading.rows:
            if self._table is None:
                self._create(self._loading)
            self._write(self._loading)

    def _new_loading(self) -> Loading:
        existing = None if self._table is None else user_columns(self._table.schema())
        target = TargetColumns(existing, self._batch.format.hints, self._rules.evolution, self._batch.decisions)
        return Loading(self._work, self._settings, self._batch.format, target, self._rules)

    def _create(self, loading: Loading) -> None:
        with catalog_errors():
            columns, rescue = loading.target.columns, self._rules.rescues
            self._table = self._tables.find_or_create(self._batch.destination, columns, rescue_column=rescue)
        reached(Step.TABLE_CREATED)

    def _write(self, loading: Loading) -> None:
        assert self._table is not None
        with catalog_errors():
            self._written = loading.write(self._table, str(self._batch.batch_id))

    def _leave_out(self, paths: Collection[str]) -> None:
        """Write the data files again without files whose bytes may not be the listed ones."""
        assert self._loading is not None
        self._discard()
        for file in self._files:
            if file.path in paths:
                file.fail("The file changed while it was being loaded.", transient=True)
        if self._loading.rows:
            self._write(self._loading)

    def _replaces(self) -> Replaced:
        """The rows that go with this load: files that cannot be loaded, or not yet, replace nothing."""
        left = {file.path for file in self._files if file.failure is not None or file.needs}
        return {path: batches for path, batches in self._batch.replaces.items() if path not in left}

    def _take_out_replaced(self) -> None:
        """Write the table's data files anew without the rows that are replaced."""
        if self._table is not None:
            with catalog_errors():
                self._rewrite = ReplacedRows(self._table, self._replaces()).taken_out(self._work)

    def _commit(self) -> int | None:
        """The snapshot of the batch, or None when the table has moved and the next try may begin."""
        assert self._table is not None
        assert self._loading is not None
        written, self._written = self._written, None
        rewrite, self._rewrite = self._rewrite, None
        columns = self._loading.columns_with_provenance() if written else {}
        added = written.data_files if written else []
        batch = self._batch
        with catalog_errors():
            try:
                table = commit_batch(self._table, added, columns, batch_id=batch.batch_id, epoch=batch.epoch, rewrite=rewrite)
            except CommitConflictError:
                self._written = written
                if rewrite is not None:
                    rewrite.discard()
                self._start_over(written, columns)
                return None
        self._table = table
        snapshot = snapshot_of_batch(table, self._batch.batch_id)
        assert snapshot is not None
        return snapshot.snapshot_id

    def _start_over(self, written: WrittenFiles | None, columns: Mapping[str, pa.DataType]) -> None:
        """Take the table as it is now. The data files stay as long as they fit its schema."""
        before = self._table
        self._find()
        if self._table is None or (before is not None and self._table.metadata.table_uuid != before.metadata.table_uuid):
            raise TableUnavailableError(f"{self._batch.destination.key} was dropped or replaced while a batch was being loaded into it")
        if written is None:
            self._forget()
        elif evolved_schema(self._table, columns) != written.schema or self._table.spec() != written.spec:
            self._discard()
            self._forget()

    def _forget(self) -> None:
        """Be ready to read the files again."""
        self._loading = None
        self._work.forget()
        for file in self._files:
            file.begin_again()

    def _discard(self) -> None:
        """Remove what was written and is surely not in the table."""
        written, self._written = self._written, None
        if written is not None and self._table is not None:
            remove_data_files(self._table.io, written.data_files)
        rewrite, self._rewrite = self._rewrite, None
        if rewrite is not None:
            rewrite.discard()

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
