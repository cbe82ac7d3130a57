"""One batch on its way into its table."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from domain.ports.engine import (
    BatchOutcome,
    CommitGuard,
    LoadBatch,
    TableUnavailableError,
)
from domain.ports.object_store import ObjectStore
from domain.steps import Step, reached
from integrations.engines.embedded.batch_files import LoadFile, load_files
from integrations.engines.embedded.column_types import UnsupportedTypeError
from integrations.engines.embedded.commits import commit_batch, evolved_schema, forbid_retries
from integrations.engines.embedded.data_files import WrittenFiles
from integrations.engines.embedded.errors import CommitConflictError, PartitionValueError, may_lie_with_files
from integrations.engines.embedded.isolation import isolated
from integrations.engines.embedded.loading import Loading
from integrations.engines.embedded.settings import EmbeddedEngineSettings
from integrations.engines.embedded.table_load import TableLoad
from integrations.engines.embedded.tables import Tables, catalog_errors, user_columns
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.embedded.workspaces import Workspace

log = logging.getLogger(__name__)

_TELLS_NOTHING_OF_A_FILE = (duckdb.OutOfMemoryException, duckdb.InterruptException, duckdb.InternalError, duckdb.FatalException)
"""After these DuckDB may fail over any file, be it in order or not."""


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
        """Read the files and write the data files, unless that has been done for the table as it is.

        Files over which that cannot be done fail, and do not keep the others out. Each way of finding them is gone once, the cheapest
        first, so that there is an end.
        """
        if self._loading is not None:
            return
        alone, in_company = (partial(self._fail_isolated, together=together) for together in (False, True))
        ways = iter((self._fail_unreadable, alone, in_company))
        with _surroundings():
            while True:
                try:
                    self._read_and_write()
                    return
                except Exception as error:
                    self._work.check()
                    if not any(way(error) for way in ways):
                        raise
                self._forget()

    def _fail_unreadable(self, error: Exception) -> bool:
        """Fail the files that DuckDB cannot read; whether there are any."""
        asks_duckdb = isinstance(error, duckdb.Error) and not isinstance(error, _TELLS_NOTHING_OF_A_FILE)
        return asks_duckdb and self._loading is not None and self._loading.fail_unreadable()

    def _fail_isolated(self, error: Exception, *, together: bool) -> bool:
        """Fail the files that raise something of their own, each by itself or `together` with others; whether there are any."""
        if not may_lie_with_files(error):
            return False
        log.warning("a batch could not be read or written, which may be for one of its files", exc_info=error)
        found = False
        for file, reason in isolated([file for file in self._files if file.is_open], self._error_over, together=together):
            found = True
            log.warning("the file %s could not be loaded", file.path, exc_info=reason)
            file.fail(_told(reason))
        return found

    def _error_over(self, files: Sequence[LoadFile]) -> Exception | None:
        """What it is in these files that cannot be loaded, None when they can be. Leaves nothing behind, in them neither."""
        self._work.check()
        self._work.forget()
        try:
            loading = self._new_loading()
            loading.read([_fresh(file) for file in files])
            if loading.rows:
                loading.rehearse(self._table or self._planned(loading), str(self._batch.batch_id))
        except Exception as error:
            self._work.check()
            if not may_lie_with_files(error):
                raise
            return error
        return None

    def _read_and_write(self) -> None:
        self._loading = self._new_loading()
        self._loading.read(self._files)
        if self._loading.rows:
            if self._table is None:
                self._write_and_create(self._loading)
            else:
                self._written = self._loading.write(self._table, str(self._batch.batch_id))

    def _new_loading(self) -> Loading:
        try:
            existing = None if self._table is None else user_columns(self._table.schema())
        except UnsupportedTypeError as error:
            raise TableUnavailableError(f"{self._batch.destination.key} cannot be loaded into: {error}") from error
        target = TargetColumns(existing, self._batch.format.hints, self._rules.evolution, self._batch.decisions)
        return Loading(self._work, self._settings, self._batch.format, target, self._rules)

    def _planned(self, loading: Loading) -> Table:
        return self._tables.planned(self._batch.destination, loading.target.columns, rescue_column=self._rules.rescues)

    def _write_and_create(self, loading: Loading) -> None:
        """Write first: a table that is created has the columns of files that can be loaded."""
        planned = self._planned(loading)
        written = self._written = loading.write(planned, str(self._batch.batch_id))
        destination, columns, rescues = self._batch.destination, loading.target.columns, self._rules.rescues
        table = self._table = forbid_retries(self._tables.find_or_create(destination, columns, rescue_column=rescues))
        reached(Step.TABLE_CREATED)
        if (table.schema(), table.spec(), table.location()) != (written.schema, written.spec, planned.location()):
            # Somebody else has created it in the meantime.
            self._discard()
            self._forget()
            self._read_and_write()

    def _leave_out(self, paths: Collection[str]) -> None:
        """Write the data files again without files whose bytes may not be the listed ones."""
        assert self._loading is not None
        self._discard()
        for file in self._files:
            if file.path in paths:
                file.fail("The file changed while it was being loaded.", transient=True)
        if self._loading.rows:
            assert self._table is not None
            with _surroundings():
                self._written = self._loading.write(self._table, str(self._batch.batch_id))

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
        if written is not None:
            written.remove()
        self._discard_rewrite()


@contextmanager
def _surroundings() -> Iterator[None]:
    """What is raised over no file in particular becomes `TableUnavailableError`."""
    with catalog_errors():
        try:
            yield
        except duckdb.Error as error:
            # Out of memory or disk, most likely. Its words may show data and paths: they are for the log.
            log.warning("a batch could not be read or written", exc_info=error)
            kind = type(error).__name__
            raise TableUnavailableError(f"the batch could not be read or written ({kind}); the server's log tells more") from error


def _fresh(file: LoadFile) -> LoadFile:
    fresh = replace(file)
    fresh.begin_again()
    return fresh


def _told(error: Exception) -> str:
    """What a person is told of a file that could not be loaded. Most errors' own words may show data and paths: they are for the log."""
    if isinstance(error, PartitionValueError):
        return str(error)
    return f"The file could not be loaded ({type(error).__name__}); the server's log tells more."
