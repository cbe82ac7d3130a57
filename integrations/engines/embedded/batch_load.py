"""One batch on its way into its table."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import partial

import duckdb
import pyarrow as pa

from domain.ports.engine import (
    BatchOutcome,
    CommitGuard,
    LoadBatch,
    TableUnavailableError,
)
from domain.ports.object_store import ObjectStore
from domain.steps import Step, reached
from integrations.engines.embedded.batch_files import load_files
from integrations.engines.embedded.commits import commit_batch, evolved_schema
from integrations.engines.embedded.data_files import WrittenFiles, remove_data_files
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.loading import Loading
from integrations.engines.embedded.settings import EmbeddedEngineSettings
from integrations.engines.embedded.table_load import TableLoad
from integrations.engines.embedded.tables import Tables, catalog_errors, user_columns
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.embedded.workspaces import Workspace

log = logging.getLogger(__name__)


class BatchLoad(TableLoad):
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
        super().__init__(tables, threads, batch)
        self._settings = settings
        self._store = store
        self._work = work
        self._loading: Loading | None = None
        self._written: WrittenFiles | None = None

    async def run(self, guard: CommitGuard) -> BatchOutcome:
        self._files = load_files(await self._store.stage([file.object for file in self._batch.files], self._work.staged))
        try:
            reached(Step.STAGED)
            await self._find_first()
            return await self._commit_under(guard, self._prepared, self._commit)
        finally:
            await self._threads.run_to_end(self._discard)

    async def _prepared(self) -> bool:
        """Whether there is anything to commit, with the data files written for the table as it is, of files as they were listed."""
        await self._threads.run_to_end(self._prepare, stop=self._work.stop)
        taken = self._taken()
        changed = await self._store.changed_since_staged([file.object for file in self._batch.files if file.object.path in taken])
        if changed:
            await self._threads.run_to_end(partial(self._leave_out, changed))
        if self._replaces():
            await self._threads.run_to_end(partial(self._take_out_replaced, self._work), stop=self._work.stop)
        return self._written is not None or self._rewrite is not None

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
        return self._snapshot_id(table)

    def _start_over(self, written: WrittenFiles | None, columns: Mapping[str, pa.DataType]) -> None:
        """Take the table as it is now. The data files stay as long as they fit its schema."""
        table = self._find_again()
        if written is None:
            self._forget()
        elif evolved_schema(table, columns) != written.schema or table.spec() != written.spec:
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
        self._discard_rewrite()
