"""Rows of some source files, taken out of a table in one commit. Everything here blocks but the loop around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import StartsWith

from domain.ingestions.entities import Destination
from domain.ports.engine import SOURCE_FILE_COLUMN, TableUnavailableError
from domain.steps import Step, reached
from integrations.engines.embedded.commits import forbid_retries, replace_files
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.row_rewrite import Rewrite, rewritten
from integrations.engines.embedded.tables import Tables, catalog_errors
from integrations.engines.embedded.worker_threads import WorkerThreads
from integrations.engines.embedded.workspaces import Workspace

REMOVAL_TRIES = 10
REMOVED_PREFIX_PROPERTY = "autoloader.removed-prefix"


async def remove_rows(
    work: Workspace,
    tables: Tables,
    threads: WorkerThreads,
    destination: Destination,
    table_uuid: UUID | None,
    path_prefix: str,
    guard: Callable[[], Awaitable[None]],
) -> int:
    """See `domain.ports.engine.Engine.remove_rows`. Files that hold other rows too are written anew, without the ones to go."""
    for _ in range(REMOVAL_TRIES):
        removal = await threads.run_to_end(partial(_prepare, work, tables, destination, table_uuid, path_prefix), stop=work.stop)
        if removal is None:
            return 0
        reached(Step.REMOVAL_WRITTEN)
        try:
            await guard()
        except BaseException:
            await threads.run_to_end(removal.discard)
            raise
        # A commit that fails in another way, or whose end nobody waits for, may have happened: then its files stay.
        if await threads.run_to_end(partial(_committed, removal, path_prefix)):
            return removal.rows
        await threads.run_to_end(removal.discard)
    raise TableUnavailableError(f"{destination.key} was changed by others {REMOVAL_TRIES} times while rows were being removed; try again")


def _prepare(work: Workspace, tables: Tables, destination: Destination, table_uuid: UUID | None, path_prefix: str) -> Rewrite | None:
    def going(rows: pa.Table) -> pa.ChunkedArray:
        return pc.fill_null(pc.starts_with(rows.column(SOURCE_FILE_COLUMN), pattern=path_prefix), False)

    with catalog_errors():
        table = tables.find_the_one(destination, table_uuid)
        if table is None or SOURCE_FILE_COLUMN not in table.schema().column_names:
            return None
        table = forbid_retries(table)
        tasks = table.scan(StartsWith(term=SOURCE_FILE_COLUMN, value=path_prefix)).plan_files()
        return rewritten(work, table, tasks, [SOURCE_FILE_COLUMN], going)


def _committed(removal: Rewrite, path_prefix: str) -> bool:
    """False when the table has moved since it was read."""
    with catalog_errors():
        try:
            replace_files(removal.table, removal.old, removal.new, {REMOVED_PREFIX_PROPERTY: path_prefix})
        except CommitConflictError:
            return False
    return True
