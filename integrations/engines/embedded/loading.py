"""From staged files to data files ready to be committed. Everything here blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa
from pyiceberg.table import Table

from domain.ingestions.entities import FormatSpec, FormatType
from domain.ports.engine import BATCH_ID_COLUMN, RESCUED_DATA_COLUMN, SOURCE_FILE_COLUMN
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.column_types import identifier, literal
from integrations.engines.embedded.columnar_reader import ColumnarReader
from integrations.engines.embedded.commits import evolved_schema
from integrations.engines.embedded.csv_reader import CsvReader
from integrations.engines.embedded.data_files import DataFileWriter, WrittenFiles
from integrations.engines.embedded.json_reader import JsonReader
from integrations.engines.embedded.parts import FILE, Part
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.settings import EmbeddedEngineSettings
from integrations.engines.embedded.settling import Settlement
from integrations.engines.embedded.tables import with_provenance
from integrations.engines.embedded.target_columns import TargetColumns
from integrations.engines.embedded.workspaces import Workspace


class Reader(Protocol):
    """Reads one format. `read` comes first; what it or the policies doubt is then read carefully."""

    def read(self, files: Sequence[LoadFile]) -> tuple[list[Part], list[LoadFile]]: ...

    def read_carefully(self, files: Sequence[LoadFile]) -> list[Part]: ...

    def unreadable(self, files: Sequence[LoadFile]) -> dict[int, str]:
        """After DuckDB has failed over the files: which it cannot read, and why, by index."""
        ...


class Loading:
    """Reads the files of one batch, or of a preview, into rows that are ready to be written."""

    def __init__(
        self, work: Workspace, settings: EmbeddedEngineSettings, format_: FormatSpec, target: TargetColumns, rules: RowRules
    ) -> None:
        self.files: Sequence[LoadFile] = ()
        self.target = target
        self._work = work
        self._rules = rules
        self._settlement = Settlement(work.connection, target, rules)
        self._reader = _reader(work, settings, format_, target, rules)

    def read(self, files: Sequence[LoadFile]) -> None:
        self.files = files
        present = [file for file in files if file.is_open]
        parts, doubtful = self._reader.read(present)
        if doubtful:
            careful = self._reader.read_carefully(doubtful)
            again = [file for part in parts for file in self._settlement.settle(part, {file.index for file in doubtful})]
            parts = careful
        else:
            again = []
        again += [file for part in parts for file in self._settlement.settle(part)]
        again = list({file.index: file for file in again}.values())
        for file in again:
            file.rows_read = 0
        if again:
            for part in self._reader.read_carefully(again):
                self._settlement.settle(part)
        if any(file.failure or file.needs for file in files):
            self._settlement.drop_columns_of_left_files()

    def fail_unreadable(self) -> bool:
        """After DuckDB has failed: fail the files that it cannot read; whether there are any."""
        found = self._reader.unreadable([file for file in self.files if file.is_open])
        for file in self.files:
            if file.index in found:
                file.fail(found[file.index])
        return bool(found)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files if file.is_open)

    def columns_with_provenance(self) -> dict[str, pa.DataType]:
        return with_provenance(self.target.columns, rescue_column=self._rules.rescues)

    def statement(self, *, rescue_column: bool = False) -> str:
        """The rows to be stored, with `FILE`; with `_rescued_data` when rows may be rescued, or a table has it from earlier."""
        return self._settlement.statement(rescue_column=rescue_column or self._rules.rescues)

    def write(self, table: Table, batch_id: str) -> WrittenFiles:
        """Write the open files' rows as data files of the table."""
        return self._writer(table).write(*self._stored_rows(table, batch_id))

    def rehearse(self, table: Table, batch_id: str) -> None:
        """Raise what `write` raises, and leave nothing behind."""
        self._writer(table).rehearse(*self._stored_rows(table, batch_id))

    def _writer(self, table: Table) -> DataFileWriter:
        schema = evolved_schema(table, self.columns_with_provenance())
        return DataFileWriter(self._work.connection, table, schema, self._work.folder)

    def _stored_rows(self, table: Table, batch_id: str) -> tuple[str, dict[str, int]]:
        """The query for the rows as the table has them, and how many there are of each path."""
        open_files = [file for file in self.files if file.is_open]
        paths = pa.table({FILE: pa.array([file.index for file in open_files], pa.int32()), "path": [file.path for file in open_files]})
        self._work.connection.register("batch_files", paths)
        rows = self.statement(rescue_column=RESCUED_DATA_COLUMN in table.schema().column_names)
        query = (
            f"SELECT stored.* EXCLUDE ({FILE}), batch_files.path AS {identifier(SOURCE_FILE_COLUMN)},"
            f" {literal(batch_id)} AS {identifier(BATCH_ID_COLUMN)}"
            f" FROM ({rows}) stored JOIN batch_files USING ({FILE})"
        )
        return query, {file.path: file.rows for file in open_files}


def _reader(work: Workspace, settings: EmbeddedEngineSettings, format_: FormatSpec, target: TargetColumns, rules: RowRules) -> Reader:
    match format_.type:
        case FormatType.JSON:
            return JsonReader(work, format_, target, rules, settings.threads)
        case FormatType.CSV:
            return CsvReader(work, format_, target, rules, settings.threads)
    return ColumnarReader(work, format_.type, target, rules, settings.threads)
