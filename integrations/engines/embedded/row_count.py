"""How many rows a table holds of each source file. Everything here blocks."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain.ingestions.entities import Destination
from domain.ports.engine import SOURCE_FILE_COLUMN
from integrations.engines.embedded.tables import Tables, catalog_errors
from integrations.engines.embedded.workspaces import Workspace

CHUNK = 5_000


class RowCount:
    """Counted by DuckDB, which uses the disk when there are more files than memory has room for."""

    def __init__(self, work: Workspace, tables: Tables, destination: Destination, table_uuid: UUID | None) -> None:
        self._connection = work.connection
        self._counted = False
        with catalog_errors():
            table = tables.find_the_one(destination, table_uuid)
            if table is None or SOURCE_FILE_COLUMN not in table.schema().column_names:
                return
            self._connection.register("source_files", table.scan(selected_fields=(SOURCE_FILE_COLUMN,)).to_arrow_batch_reader())
            self._connection.execute(
                f"SELECT {SOURCE_FILE_COLUMN}, count(*) FROM source_files"
                f" WHERE {SOURCE_FILE_COLUMN} IS NOT NULL GROUP BY ALL ORDER BY {SOURCE_FILE_COLUMN}"
            )
            self._counted = True

    def next_chunk(self) -> Sequence[tuple[str, int]]:
        """The next files in the order of their paths; none at the end."""
        return self._connection.fetchmany(CHUNK) if self._counted else []
