"""Has a batch of a lost worker been committed, and can it still be? Everything here blocks."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from pyiceberg.table import Table

from domain.ingestions.entities import Destination
from domain.ports.engine import (
    BATCH_ID_COLUMN,
    SOURCE_FILE_COLUMN,
    BatchEvidence,
    Replaced,
    TableMissingError,
    TableUnavailableError,
)
from integrations.engines.embedded.commits import append_nothing, forbid_retries, main_ancestry, snapshot_of_batch
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.replaced_rows import ReplacedRows
from integrations.engines.embedded.tables import Tables, catalog_errors

FENCE_BATCH_PROPERTY = "autoloader.fence-batch-id"
FENCE_EPOCH_PROPERTY = "autoloader.fence-epoch"
FENCE_TRIES = 10


def fence(
    tables: Tables, destination: Destination, table_uuid: UUID | None, batch_id: UUID, epoch: int, replaces: Replaced
) -> BatchEvidence | None:
    """See `domain.ports.engine.Engine.fence`."""
    with catalog_errors():
        table = _fenced(tables, destination, table_uuid, batch_id, epoch)
        snapshot = snapshot_of_batch(table, batch_id)
        if snapshot is None and _reaches_back_to_the_first(table):
            return None
        rows = _rows_by_path(table, batch_id)
        # A batch of empty files brings no row that tells of it: then the rows tell that have gone.
        replaced = replaces.keys() - ReplacedRows(table, replaces).by_path().keys()
        if snapshot is None and not rows and not replaced:
            return None
        return BatchEvidence(snapshot.snapshot_id if snapshot else None, rows, frozenset(replaced))


def _fenced(tables: Tables, destination: Destination, table_uuid: UUID | None, batch_id: UUID, epoch: int) -> Table:
    """The table after an empty snapshot of ours, which no commit that was prepared before it can follow."""
    properties = {FENCE_BATCH_PROPERTY: str(batch_id), FENCE_EPOCH_PROPERTY: str(epoch)}
    for _ in range(FENCE_TRIES):
        table = tables.find_the_one(destination, table_uuid)
        if table is None:
            raise TableMissingError(f"there is no table {destination.key}")
        try:
            return append_nothing(forbid_retries(table), properties)
        except CommitConflictError:
            continue
    raise TableUnavailableError(f"{destination.key} was changed by others {FENCE_TRIES} times while it was being fenced; try again")


def _reaches_back_to_the_first(table: Table) -> bool:
    """Whether no snapshot of main's ancestry has expired.

    The first snapshot of a table has the sequence number 1. A missing parent says nothing: expiry may cut the reference to it.
    """
    oldest = next(reversed(list(main_ancestry(table))), None)
    return oldest is None or oldest.sequence_number == 1


def _rows_by_path(table: Table, batch_id: UUID) -> dict[str, int]:
    """Rows of the batch in the table as it is now, by the path they came from."""
    columns = (SOURCE_FILE_COLUMN, BATCH_ID_COLUMN)
    names = set(table.schema().column_names)
    if not names.issuperset(columns):
        missing = ", ".join(name for name in columns if name not in names)
        raise TableUnavailableError(f"{'.'.join(table.name())} has lost its columns {missing}: it cannot say what was loaded")
    rows: Counter[str] = Counter()
    for batch in table.scan(f"{BATCH_ID_COLUMN} = '{batch_id}'", selected_fields=columns).to_arrow_batch_reader():
        for item in batch.column(SOURCE_FILE_COLUMN).value_counts().to_pylist():
            rows[item["values"]] += item["counts"]
    return dict(rows)
