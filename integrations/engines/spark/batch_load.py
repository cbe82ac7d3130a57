"""One batch on its way into its table: Spark writes it to a branch of its own, PyIceberg publishes it under the guard."""

from __future__ import annotations

import logging

from pyspark.errors import PySparkException

from domain.ports.engine import (
    BATCH_ID_COLUMN,
    RESCUED_DATA_COLUMN,
    SOURCE_FILE_COLUMN,
    BatchOutcome,
    CommitGuard,
    LoadBatch,
    TableUnavailableError,
)
from domain.steps import Step, reached
from integrations.engines.embedded.column_types import UnsupportedTypeError
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.settings import EmbeddedEngineSettings
from integrations.engines.embedded.table_load import COMMIT_TRIES, TableLoad
from integrations.engines.embedded.tables import Tables, catalog_errors, user_columns
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.embedded.workspaces import Workspace
from integrations.engines.spark.additive_columns import with_room
from integrations.engines.spark.branches import Prepared, abandon, branch_name, prepared, publish
from integrations.engines.spark.client import SparkConnectClient, unavailable
from integrations.engines.spark.loading import SparkLoading
from integrations.engines.spark.opened_source import OpenedSource
from integrations.engines.spark.types import identifier, literal

log = logging.getLogger(__name__)


class SparkBatchLoad(TableLoad):
    """Prepares a branch, and moves what it holds onto main under the guard. A branch that did not get in is removed."""

    def __init__(
        self,
        settings: EmbeddedEngineSettings,
        tables: Tables,
        threads: WorkerThreads,
        batch: LoadBatch,
        source: OpenedSource,
        client: SparkConnectClient,
    ) -> None:
        super().__init__(tables, threads, batch)
        self._settings = settings
        self._source = source
        self._files = source.files
        self._client = client
        self._branch = branch_name(batch.batch_id, batch.epoch)
        self._loading: SparkLoading | None = None
        self._prepared: Prepared | None = None
        self._branched = False
        """Whether there may be a branch whose files are surely not on main."""

    async def run(self, guard: CommitGuard) -> BatchOutcome:
        try:
            reached(Step.STAGED)
            await self._find_first()
            return await self._commit_under(guard, self._ready, self._publish)
        finally:
            await self._threads.run_to_end(self._discard)

    async def _ready(self) -> bool:
        """Whether there is anything to commit: a branch for the table as it is, of files as they were listed, without the replaced rows."""
        if self._loading is None:
            await self._threads.run_to_end(self._read, stop=self._client.interrupt)
            await self._leave_out_changed()
            while self._open_rows:
                await self._threads.run_to_end(self._write, stop=self._client.interrupt)
                if not await self._leave_out_changed():
                    break
        if self._replaces():
            await self._threads.run_to_end(self._take_out)
        return self._prepared is not None or self._rewrite is not None

    @property
    def _open_rows(self) -> int:
        return self._loading.rows if self._loading is not None else 0

    def _read(self) -> None:
        existing = None if self._table is None else user_columns(self._table.schema())
        loading = SparkLoading(self._source.spark, self._batch.format, self._rules, self._batch.decisions)
        try:
            try:
                loading.read(self._files, existing)
            except PySparkException:
                if not loading.fail_unreadable():
                    raise
        except PySparkException as error:
            raise self._failed(error) from error
        except UnsupportedTypeError as error:
            raise TableUnavailableError(f"{self._batch.destination.key} cannot be loaded by Spark: {error}") from error
        self._loading = loading

    async def _leave_out_changed(self) -> bool:
        """Fail the files that are not the listed ones any more; whether there were any. What has been written with them goes."""
        changed = await self._source.changed(self._taken())
        for file in self._files:
            if file.path in changed:
                file.fail("The file changed while it was being loaded.", transient=True)
        if changed:
            await self._threads.run_to_end(self._discard)
        return bool(changed)

    def _write(self) -> None:
        """Write the open files' rows to a new branch, and count them there."""
        assert self._loading is not None
        with catalog_errors():
            self._make_room(self._loading)
        assert self._table is not None
        try:
            counted = self._append(self._loading)
        except PySparkException as error:
            try:
                found = self._loading.fail_unreadable()
            except PySparkException:
                found = False
            if not found:
                raise self._failed(error) from error
            self._write_again()
            return
        with catalog_errors():
            self._table = self._table.refresh()
            self._prepared = prepared(self._table, self._branch)
        self._compare(counted)

    def _append(self, loading: SparkLoading) -> dict[str, int]:
        """The rows of each path on the branch."""
        name, session = self._table_name, self._client.connect()
        self._branched = True
        session.sql(f"ALTER TABLE {name} CREATE OR REPLACE BRANCH {identifier(self._branch)}")
        assert self._table is not None
        rescue_column = RESCUED_DATA_COLUMN in self._table.schema().column_names
        loading.append(f"{name}.branch_{self._branch}", self._batch, rescue_column=rescue_column)
        counted = session.sql(
            f"SELECT {SOURCE_FILE_COLUMN}, count(*) FROM {name} VERSION AS OF {literal(self._branch)}"
            f" WHERE {BATCH_ID_COLUMN} = {literal(str(self._batch.batch_id))} GROUP BY 1"
        )
        return dict(map(tuple, counted.collect()))

    def _write_again(self) -> None:
        """Without the files that have failed since."""
        self._discard()
        if self._open_rows:
            self._write()

    def _make_room(self, loading: SparkLoading) -> None:
        """The table, with the columns that the batch brings."""
        destination, columns = self._batch.destination, loading.target.columns
        self._table = with_room(self._tables, destination, self._table, columns, rescue_column=self._rules.rescues)

    def _compare(self, counted: dict[str, int]) -> None:
        """Fail the files of which not exactly the rows that were read have been written, and write the others again."""
        wrong = [file for file in self._files if file.is_open and counted.get(file.path, 0) != file.rows]
        if not wrong:
            return
        for file in wrong:
            file.fail(f"{file.rows} rows were read, but {counted.get(file.path, 0)} were written: did the file change?", transient=True)
        self._write_again()

    def _take_out(self) -> None:
        work = Workspace(self._settings)
        try:
            self._take_out_replaced(work)
        finally:
            work.close()

    def _publish(self) -> int | None:
        """The snapshot of the batch, or None when the table has moved and the next try may begin."""
        assert self._table is not None
        found = self._prepared or Prepared(self._branch, (), ())
        rewrite, self._rewrite = self._rewrite, None
        # From here on nobody can say without asking the table whether the branch's files are on main.
        self._prepared = None
        self._branched = False
        with catalog_errors():
            try:
                table = publish(self._table, found, batch_id=self._batch.batch_id, epoch=self._batch.epoch, rewrite=rewrite)
            except CommitConflictError:
                if rewrite is not None:
                    rewrite.discard()
                self._start_over(found)
                return None
        return self._snapshot_id(table)

    def _start_over(self, found: Prepared) -> None:
        """Take the table as it is now. The branch's data files are as good as they were, unless a file that waits has a place by now."""
        table = self._find_again()
        if any(file.needs for file in self._files):
            self._branched = bool(found.added)
            self._discard()
            self._loading = None
            for file in self._files:
                if file.failure is None:
                    file.begin_again()
            return
        if not found.added:
            return
        again = prepared(table, self._branch)
        if {file.file_path for file in again.added} != {file.file_path for file in found.added}:
            raise TableUnavailableError(f"the branch of a batch in {self._batch.destination.key} was changed by others; try again")
        self._prepared = again
        self._branched = True

    def _discard(self) -> None:
        """Remove a branch whose files are surely not on main."""
        self._prepared = None
        self._discard_rewrite()
        if not self._branched or self._table is None:
            return
        self._branched = False
        for _ in range(COMMIT_TRIES):
            with catalog_errors():
                table = self._tables.find(self._batch.destination)
                if table is None or table.metadata.table_uuid != self._table.metadata.table_uuid:
                    return
                try:
                    abandon(table, prepared(table, self._branch))
                    self._table = table.refresh()
                    return
                except CommitConflictError:
                    continue
        log.warning("a branch stays behind, for the next optimization to sweep: %s", self._branch)

    def _failed(self, error: PySparkException) -> TableUnavailableError:
        # Spark's own words may name hosts, buckets and data: they are for the log, and tenants see the message.
        log.warning("Spark failed over a batch", exc_info=error)
        return TableUnavailableError(unavailable(error).message)

    @property
    def _table_name(self) -> str:
        destination = self._batch.destination
        return ".".join(identifier(part) for part in (destination.catalog, destination.database, destination.table))
