"""Parquet, Avro and ORC files into parts, by the schemas that they carry themselves."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.orc as po
import pyarrow.parquet as pq

from domain.ingestions.entities import FormatType, SchemaEvolution
from integrations.engines.embedded.avro_files import check_avro, read_avro
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.column_types import UnsupportedTypeError, canonical, identifier, literal, sql_type
from integrations.engines.embedded.content import FileContentError
from integrations.engines.embedded.int96_timestamps import Int96Unit, int96_unit
from integrations.engines.embedded.parquet_checksums import verify_checksums
from integrations.engines.embedded.parts import FILE, LINE, PATH, PROBLEM, RAW, SURPLUS, Part
from integrations.engines.embedded.raw_rows import row_as_json
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import ColumnNamesError, TargetColumns
from integrations.engines.embedded.workspaces import Workspace

_ROW = "__autoloader_row"
_NUMBERED = "file_row_number"
"""What DuckDB calls a row's number: a file that has such a column of its own cannot be numbered by it."""


@dataclass(frozen=True, slots=True)
class ColumnarFile:
    """A file after its schema and its row count have been read. `in_duckdb` when DuckDB reads its columns without loss.

    `int96` is the unit for its INT96 timestamps, None when it has none.
    """

    file: LoadFile
    types: Mapping[str, pa.DataType]
    rows: int
    in_duckdb: bool
    int96: Int96Unit | None

    @property
    def shape(self) -> tuple[tuple[str, pa.DataType], ...]:
        return tuple(self.types.items())


class ColumnarReader:
    """Reads the files of one load. Its parts are careful ones from the start."""

    def __init__(self, work: Workspace, format_: FormatType, target: TargetColumns, rules: RowRules, threads: int) -> None:
        self._work = work
        self._connection = work.connection
        self._format = format_
        self._target = target
        self._rules = rules
        self._threads = threads
        self._names = (f"columnar_{number}" for number in itertools.count())

    def read(self, files: Sequence[LoadFile]) -> tuple[list[Part], list[LoadFile]]:
        with ThreadPoolExecutor(self._threads, thread_name_prefix="columnar") as pool:
            looked = [item for item in pool.map(self._look, files) if item is not None]
        parts: list[Part] = []
        for in_duckdb in (True, False):
            groups: dict[tuple[tuple[str, pa.DataType], ...], list[ColumnarFile]] = defaultdict(list)
            for item in looked:
                if item.in_duckdb is in_duckdb and item.rows:
                    groups[item.shape].append(item)
            read = self._view if in_duckdb else self._table
            parts += [part for part in map(read, groups.values()) if part is not None]
        for part in parts:
            self._offer(part)
        return parts, []

    def read_carefully(self, files: Sequence[LoadFile]) -> list[Part]:
        """Nothing is left to read: the parts are careful ones."""
        return []

    def unreadable(self, files: Sequence[LoadFile]) -> dict[int, str]:
        """Which of the files DuckDB cannot read to the end, and why; by index. Halves its way to them."""
        if self._format is not FormatType.PARQUET or not files:
            return {}
        listed = ", ".join(literal(str(file.local)) for file in files)
        try:
            self._connection.execute(f"SELECT max(hash(COLUMNS(*))) FROM read_parquet([{listed}], union_by_name = true)").fetchall()
        except duckdb.Error as error:
            if len(files) == 1:
                return {files[0].index: f"The Parquet file is damaged: {str(error).splitlines()[0]}"}
            middle = len(files) // 2
            return self.unreadable(files[:middle]) | self.unreadable(files[middle:])
        return {}

    def _look(self, file: LoadFile) -> ColumnarFile | None:
        self._work.check()
        if file.size_bytes == 0 or not file.local.stat().st_size:
            file.empty = True
            return None
        try:
            schema, rows, in_duckdb, int96 = self._look_inside(file)
            types = {}
            self._target.check_names(schema.names)
            for field in schema:
                try:
                    types[field.name] = canonical(field.type)
                except UnsupportedTypeError as error:
                    raise FileContentError(f'The column "{field.name}" cannot be stored: {error}.') from None
            self._target.check_types(types)
            self._refuse_new(schema.names)
        except (FileContentError, ColumnNamesError) as error:
            file.fail(str(error))
            return None
        except OSError as error:
            file.fail(f"The file could not be read: {error.strerror or error}.", transient=True)
            return None
        file.rows_read = rows
        return ColumnarFile(file, types, rows, in_duckdb, int96)

    def _look_inside(self, file: LoadFile) -> tuple[pa.Schema, int, bool, Int96Unit | None]:
        """The schema, and what `ColumnarFile` calls `rows`, `in_duckdb` and `int96`."""
        match self._format:
            case FormatType.PARQUET:
                return _look_at_parquet(file, self._work.check)
            case FormatType.AVRO:
                rows = check_avro(file.local)
                return (read_avro(file.local, rows=0).schema if rows else pa.schema([])), rows, False, None
        try:
            orc = po.ORCFile(file.local)
        except pa.ArrowException as error:
            raise FileContentError(f"The file is not a whole ORC file: {_first_line(error)}") from None
        return orc.schema, orc.nrows, False, None

    def _refuse_new(self, names: Sequence[str]) -> None:
        if self._target.creating or self._rules.evolution is not SchemaEvolution.FAIL_ON_NEW_COLUMNS:
            return
        known = self._target.columns
        if new := [name for name in names if name not in known]:
            shown = ", ".join(f'"{name}"' for name in new)
            raise ColumnNamesError(f"The file has columns that the table does not have: {shown}.")

    def _view(self, files: Sequence[ColumnarFile]) -> Part:
        """Files that DuckDB reads where they are."""
        listed = ", ".join(literal(str(item.file.local)) for item in files)
        indexes = ", ".join(f"({literal(str(item.file.local))}, {item.file.index}::INTEGER)" for item in files)
        relation = next(self._names)
        source = f"read_parquet([{listed}], filename = '{PATH}', {_NUMBERED} = true, hive_partitioning = false)"
        self._connection.execute(
            f"CREATE TEMP VIEW {relation} AS SELECT {self._columns(files[0].types, f'r.{_NUMBERED} + 1')}"
            f" FROM {source} r JOIN (VALUES {indexes}) AS f({PATH}, {FILE}) USING ({PATH})"
        )
        return self._part(relation, files)

    def _table(self, files: Sequence[ColumnarFile]) -> Part | None:
        """Files that come through Arrow, kept inside DuckDB."""
        relation = next(self._names)
        created = False
        for item in files:
            number = 0
            try:
                for table in self._tables(item):
                    self._work.check()
                    rows = table.append_column(_ROW, pa.array(range(number + 1, number + table.num_rows + 1), pa.int64()))
                    rows = rows.append_column(FILE, pa.array([item.file.index] * table.num_rows, pa.int32()))
                    number += table.num_rows
                    self._connection.register("columnar_rows", rows)
                    columns = self._columns(item.types, _ROW)
                    verb = f"INSERT INTO {relation}" if created else f"CREATE TEMP TABLE {relation} AS"
                    self._connection.execute(f"{verb} SELECT {columns} FROM columnar_rows r")
                    created = True
                if number != item.rows:
                    raise FileContentError(f"The file says that it has {item.rows} rows, but {number} could be read.")
            except FileContentError as error:
                item.file.fail(str(error))
        return self._part(relation, files) if created else None

    def _tables(self, item: ColumnarFile) -> Iterator[pa.Table]:
        path = item.file.local
        try:
            match self._format:
                case FormatType.PARQUET:
                    for batch in pq.ParquetFile(path, coerce_int96_timestamp_unit=item.int96).iter_batches():
                        yield pa.Table.from_batches([batch])
                case FormatType.AVRO:
                    yield read_avro(path)
                case _:
                    orc = po.ORCFile(path)
                    for stripe in range(orc.nstripes):
                        yield pa.Table.from_batches([orc.read_stripe(stripe)])
        except (pa.ArrowException, OSError) as error:
            raise FileContentError(f"The file is damaged: {_first_line(error)}") from None

    @staticmethod
    def _columns(types: Mapping[str, pa.DataType], row: str) -> str:
        return ", ".join(
            [
                *(f"CAST(r.{identifier(name)} AS {sql_type(type_)}) AS {identifier(name)}" for name, type_ in types.items()),
                FILE,
                f"CAST({row} AS BIGINT) AS {LINE}",
                f"{row_as_json('r', types)} AS {RAW}",
                f"CAST(NULL AS VARCHAR) AS {PROBLEM}",
                f"CAST(NULL AS VARCHAR) AS {SURPLUS}",
            ]
        )

    @staticmethod
    def _part(relation: str, files: Sequence[ColumnarFile]) -> Part:
        brought = {item.file.index: frozenset(item.types) for item in files}
        return Part(relation, files[0].types, [item.file for item in files], careful=True, typed=True, unit="Row", brought=brought)

    def _offer(self, part: Part) -> None:
        files = [file for file in part.files if file.is_open]
        try:
            self._target.offer(part.types if files else {})
        except ColumnNamesError as error:
            for file in files:
                file.fail(str(error))
        asks_for = self._target.needs(part.types)
        for file in files:
            file.asks_for = asks_for


def _look_at_parquet(file: LoadFile, check: Callable[[], None]) -> tuple[pa.Schema, int, bool, Int96Unit | None]:
    try:
        metadata = pq.read_metadata(file.local)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise FileContentError(f"The file is not a whole Parquet file: {_first_line(error)}") from None
    verify_checksums(file.local, metadata)
    try:
        int96 = int96_unit(file.local, metadata, check)
        if int96:
            schema = pq.ParquetFile(file.local, coerce_int96_timestamp_unit=int96).schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise FileContentError(f"The Parquet file is damaged: {_first_line(error)}") from None
    in_duckdb = int96 is None and _NUMBERED not in map(str.lower, schema.names)
    return schema, metadata.num_rows, in_duckdb, int96


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
