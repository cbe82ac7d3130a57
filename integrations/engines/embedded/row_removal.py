"""Rows of some source files, taken out of a table in one commit. Everything here blocks but the loop around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, StartsWith
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from domain.ingestions.entities import Destination
from domain.ports.engine import SOURCE_FILE_COLUMN, TableUnavailableError
from domain.steps import Step, reached
from integrations.engines.embedded.commits import forbid_retries, replace_files
from integrations.engines.embedded.data_files import DataFileWriter, remove_data_files
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.maintenance import rows_by_path
from integrations.engines.embedded.settings import EmbeddedEngineSettings
from integrations.engines.embedded.tables import Tables, catalog_errors
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.embedded.workspaces import Workspace

REMOVAL_TRIES = 10
REMOVED_PREFIX_PROPERTY = "autoloader.removed-prefix"


@dataclass(frozen=True, slots=True)
class _Removal:
    """Data files with rows to go, and those that hold what stays of them."""

    table: Table
    old: list[DataFile]
    new: list[DataFile]
    rows: int


async def remove_rows(
    settings: EmbeddedEngineSettings,
    tables: Tables,
    threads: WorkerThreads,
    destination: Destination,
    table_uuid: UUID | None,
    path_prefix: str,
    guard: Callable[[], Awaitable[None]],
) -> int:
    """See `domain.ports.engine.Engine.remove_rows`. Files that hold other rows too are written anew, without the ones to go."""
    for _ in range(REMOVAL_TRIES):
        removal = await threads.run_to_end(partial(_prepare, settings, tables, destination, table_uuid, path_prefix))
        if removal is None:
            return 0
        discard = partial(remove_data_files, removal.table.io, removal.new)
        reached(Step.REMOVAL_WRITTEN)
        try:
            await guard()
        except BaseException:
            await threads.run_to_end(discard)
            raise
        # A commit that fails in another way, or whose end nobody waits for, may have happened: then its files stay.
        if await threads.run_to_end(partial(_committed, removal, path_prefix)):
            return removal.rows
        await threads.run_to_end(discard)
    raise TableUnavailableError(f"{destination.key} was changed by others {REMOVAL_TRIES} times while rows were being removed; try again")


def _prepare(
    settings: EmbeddedEngineSettings, tables: Tables, destination: Destination, table_uuid: UUID | None, path_prefix: str
) -> _Removal | None:
    with catalog_errors():
        table = tables.find_the_one(destination, table_uuid)
        if table is None or SOURCE_FILE_COLUMN not in table.schema().column_names:
            return None
        return _rewritten(settings, forbid_retries(table), path_prefix)


def _rewritten(settings: EmbeddedEngineSettings, table: Table, path_prefix: str) -> _Removal | None:
    old: list[DataFile] = []
    new: list[DataFile] = []
    removed = 0
    work = Workspace(settings)
    try:
        writer = DataFileWriter(work.connection, table, table.schema(), work.folder)
        for task in table.scan(StartsWith(term=SOURCE_FILE_COLUMN, value=path_prefix)).plan_files():
            rows = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue()).to_table([task])
            staying = _not_below(rows, path_prefix)
            if len(staying) == len(rows):
                continue
            old.append(task.file)
            removed += len(rows) - len(staying)
            if len(staying):
                work.connection.register("staying", staying)
                new += writer.write("FROM staying", rows_by_path(staying)).data_files
    except BaseException:
        remove_data_files(table.io, new)
        raise
    finally:
        work.close()
    return _Removal(table, old, new, removed) if old else None


def _not_below(rows: pa.Table, path_prefix: str) -> pa.Table:
    below = pc.starts_with(rows.column(SOURCE_FILE_COLUMN), pattern=path_prefix)
    return rows.filter(pc.invert(pc.fill_null(below, False)))


def _committed(removal: _Removal, path_prefix: str) -> bool:
    """False when the table has moved since it was read."""
    with catalog_errors():
        try:
            replace_files(removal.table, removal.old, removal.new, {REMOVED_PREFIX_PROPERTY: path_prefix})
        except CommitConflictError:
            return False
    return True
