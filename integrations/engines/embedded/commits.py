"""Commits to a table: one snapshot each, refused when main has moved. Everything here blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from domain.ports.engine import BATCH_ID_PROPERTY, EPOCH_PROPERTY
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.row_rewrite import Rewrite
from integrations.engines.embedded.tables import COMMIT_RETRIES, iceberg_schema


def forbid_retries(table: Table) -> Table:
    """Make sure that PyIceberg does not retry commits by itself, on a table that others have made."""
    if table.metadata.properties.get(COMMIT_RETRIES) == "0":
        return table
    with table.transaction() as transaction:
        transaction.set_properties({COMMIT_RETRIES: "0"})
    return table.refresh()


def evolved_schema(table: Table, columns: Mapping[str, pa.DataType]) -> Schema:
    """The schema, with ids, that the table will have once `columns` are merged into it; changes nothing."""
    transaction = Transaction(table)
    _merge(transaction, columns)
    return transaction.table_metadata.schema()


def commit_batch(
    table: Table,
    added: Sequence[DataFile],
    columns: Mapping[str, pa.DataType],
    *,
    batch_id: UUID,
    epoch: int,
    rewrite: Rewrite | None = None,
) -> Table:
    """Add files, and the columns they brought, and put others into the place of those with rows that go, in one commit.

    Raises `CommitConflictError` when the table has moved since it was loaded. Anything else that is raised leaves it open whether
    the commit took place.
    """
    transaction = table.transaction()
    if columns:
        _merge(transaction, columns)
    stage_batch(transaction, added, batch_id=batch_id, epoch=epoch, rewrite=rewrite)
    return commit(transaction)


def stage_batch(transaction: Transaction, added: Sequence[DataFile], *, batch_id: UUID, epoch: int, rewrite: Rewrite | None) -> None:
    """The batch's snapshot, as part of a transaction."""
    properties = {BATCH_ID_PROPERTY: str(batch_id), EPOCH_PROPERTY: str(epoch)}
    if rewrite is not None:
        _exchange(transaction, rewrite.old, [*rewrite.new, *added], properties)
    else:
        with transaction.update_snapshot(snapshot_properties=properties).merge_append() as snapshot:
            for data_file in added:
                snapshot.append_data_file(data_file)


def replace_files(table: Table, old: Sequence[DataFile], new: Sequence[DataFile], properties: Mapping[str, str]) -> Table:
    """Take data files out and put others in, in one commit. Raises as `commit_batch` does."""
    transaction = table.transaction()
    _exchange(transaction, old, new, properties)
    return commit(transaction)


def _exchange(transaction: Transaction, old: Sequence[DataFile], new: Sequence[DataFile], properties: Mapping[str, str]) -> None:
    with transaction.update_snapshot(snapshot_properties=dict(properties)).overwrite() as snapshot:
        for file in old:
            snapshot.delete_data_file(file)
        for file in new:
            snapshot.append_data_file(file)


def append_nothing(table: Table, properties: Mapping[str, str]) -> Table:
    """Commit an empty snapshot on main, so that whoever has loaded the table before cannot commit any more."""
    transaction = table.transaction()
    with transaction.update_snapshot(snapshot_properties=dict(properties)).fast_append():
        pass
    return commit(transaction)


def commit(transaction: Transaction) -> Table:
    """Raises `CommitConflictError`."""
    try:
        return transaction.commit_transaction()
    except CommitFailedException as error:
        raise CommitConflictError(str(error)) from error


def _merge(transaction: Transaction, columns: Mapping[str, pa.DataType]) -> None:
    with transaction.update_schema() as update:
        update.union_by_name(iceberg_schema(columns))


def snapshot_of_batch(table: Table, batch_id: UUID) -> Snapshot | None:
    """The snapshot in main's ancestry that carries the batch."""
    for snapshot in main_ancestry(table):
        if snapshot.summary is not None and snapshot.summary.additional_properties.get(BATCH_ID_PROPERTY) == str(batch_id):
            return snapshot
    return None


def main_ancestry(table: Table) -> Iterable[Snapshot]:
    """Main's snapshots, newest first, as far back as they have not expired."""
    return ancestors_of(table.metadata.snapshot_by_name("main"), table.metadata)
