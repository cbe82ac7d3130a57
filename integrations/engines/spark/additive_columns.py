"""A table with room for the columns that are to be written: made, or given what it lacks. Everything here blocks."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyiceberg.table import Table

from domain.ingestions.entities import Destination
from domain.ports.engine import TableUnavailableError
from domain.steps import Step, reached
from integrations.engines.embedded.commits import commit, evolved_schema
from integrations.engines.embedded.errors import CommitConflictError
from integrations.engines.embedded.table_load import COMMIT_TRIES
from integrations.engines.embedded.tables import Tables, iceberg_schema, with_provenance


def with_room(
    tables: Tables, destination: Destination, table: Table | None, columns: Mapping[str, pa.DataType], *, rescue_column: bool
) -> Table:
    """An additive commit of its own, which may be repeated. Raises `TableUnavailableError`."""
    if table is None:
        table = tables.find_or_create(destination, columns, rescue_column=rescue_column)
        reached(Step.TABLE_CREATED)
    wanted = with_provenance(columns, rescue_column=rescue_column)
    for _ in range(COMMIT_TRIES):
        if evolved_schema(table, wanted) == table.schema():
            return table
        transaction = table.transaction()
        with transaction.update_schema() as update:
            update.union_by_name(iceberg_schema(wanted))
        try:
            return commit(transaction)
        except CommitConflictError:
            table = table.refresh()
    raise TableUnavailableError(f"{destination.key} was changed by others {COMMIT_TRIES} times; try again")
