"""Rows into the table's data files, and what Iceberg's manifests say of them."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import duckdb
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    DataFileStatistics,
    MetricModeTypes,
    MetricsMode,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, ListType, MapType, StructType

from domain.errors import ValidationError
from domain.ports.engine import SOURCE_FILE_COLUMN
from integrations.engines.embedded.column_types import identifier, literal
from integrations.engines.embedded.errors import PartitionValueError, RowsLostError
from integrations.engines.embedded.partition_transforms import PartitionValues
from integrations.engines.embedded.parts import INTERNAL_PREFIX

MOST_PARTITIONS = 10_000
"""More than this in one batch is a column with too many values."""
MOST_FILE_BYTES = 256 << 20
"""A file of a table without a sort order ends with the row group that takes it past this."""
_PARTITION = f"{INTERNAL_PREFIX}partition"
_ROWS = f"{INTERNAL_PREFIX}rows"
_UPLOADS = 8


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """Data files in place but not in the table, and the schema they were written for."""

    data_files: Sequence[DataFile]
    schema: Schema
    spec: PartitionSpec
    io: FileIO

    def remove(self) -> None:
        """For files that are surely not in the table."""
        remove_data_files(self.io, self.data_files)


class DataFileWriter:
    """Writes relations of one DuckDB connection as Parquet files of one table.

    `schema` is the table's schema as it will be when the files are committed. On a local warehouse the files are written in place;
    for any other they go through `scratch`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: Table, schema: Schema, scratch: Path) -> None:
        self._connection = connection
        self._table = table
        self._schema = schema
        self._scratch = scratch
        self._spec = table.spec()

    def write(self, query: str, rows_by_path: Mapping[str, int]) -> WrittenFiles:
        """Write the rows of a query whose columns are named as the table's. Files of a failed attempt are removed.

        Raises `RowsLostError` unless the files then hold exactly `rows_by_path` of each source path.
        """
        folder_url = self._table.location_provider().new_data_location(uuid.uuid4().hex)
        local = local_path(folder_url)
        folder = local or self._scratch / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            written = self._write_into(folder, folder_url, query, rows_by_path)
            if local is None:
                self._upload(written)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if local is None:
            shutil.rmtree(folder, ignore_errors=True)
        return WrittenFiles(list(written.values()), self._schema, self._spec, self._table.io)

    def rehearse(self, query: str, rows_by_path: Mapping[str, int]) -> None:
        """Raise what `write` raises over these rows, and leave nothing behind."""
        folder = self._scratch / uuid.uuid4().hex
        folder.mkdir()
        try:
            self._write_into(folder, "", query, rows_by_path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _write_into(self, folder: Path, folder_url: str, query: str, rows_by_path: Mapping[str, int]) -> dict[Path, DataFile]:
        paths, partitions = self._copy(query, folder)
        self._compare(rows_by_path, self._rows_by_path(paths))
        return {
            path: self._data_file(path, f"{folder_url}/{path.relative_to(folder).as_posix()}", partitions.get(path, ())) for path in paths
        }

    def _copy(self, query: str, folder: Path) -> tuple[list[Path], dict[Path, tuple[Any, ...]]]:
        """The files written, and the partition values of each."""
        if self._spec.is_unpartitioned():
            self._copy_to(folder / "part-0.parquet" if self._order() else folder, f"SELECT * FROM ({query}){self._order()}")
            return sorted(folder.glob("*.parquet")), {}
        rows = f"({query}) AS {_ROWS}"
        names = [f"{_PARTITION}_{number}" for number in range(len(self._spec.fields))]
        aliased, partitions = self._partitions(rows, names)
        if len(names) == 1 and not any(isinstance(values[0], str) for values, _ in partitions.values()):
            # A number names its folder. Text may be too long for that, so its partitions are numbered.
            numbered = f"SELECT *, {aliased} FROM {rows}{self._order(first=names[0])}"
            by_folder = {"__HIVE_DEFAULT_PARTITION__" if text is None else text: values for values, text in partitions.values()}
            folder_column = names[0]
        else:
            matches = " AND ".join(f"r.{name} IS NOT DISTINCT FROM s.{name}" for name in names)
            numbered = (
                f"SELECT r.* EXCLUDE ({', '.join(names)}), s.{_PARTITION}"
                f" FROM (SELECT *, {aliased} FROM {rows}) r JOIN partitions s ON {matches}{self._order(first=_PARTITION)}"
            )
            by_folder = {str(number): values for number, (values, _) in partitions.items()}
            folder_column = _PARTITION
        with self._in_order():
            self._copy_to(folder, numbered, f"PARTITION_BY ({folder_column})")
        paths = sorted(folder.glob("*/*.parquet"))
        return paths, {path: by_folder[path.parent.name.partition("=")[2]] for path in paths}

    def _partitions(self, rows: str, names: Sequence[str]) -> tuple[str, dict[int, tuple[tuple[Any, ...], str | None]]]:
        """The SQL of the rows' partition values under these names, and the partitions that there are, by number: the values, and the first
        one as DuckDB writes it.

        Leaves them in the table `partitions`. Raises `PartitionValueError`.
        """
        fields = self._spec.fields
        values = PartitionValues(self._connection, self._schema)
        expressions = [values.expression(field.source_id, field.transform, rows, _ROWS) for field in fields]
        aliased = ", ".join(f"{expression} AS {name}" for expression, name in zip(expressions, names, strict=True))
        sources = [self._schema.find_field(field.source_id) for field in fields]
        given = ", ".join(f"{identifier(source.name)} IS NOT NULL AS {name}_given" for source, name in zip(sources, names, strict=True))
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE partitions AS SELECT row_number() OVER () AS {_PARTITION}, *"
            f" FROM (SELECT DISTINCT {aliased}, {given} FROM {rows})"
        )
        found = self._connection.execute(f"SELECT *, CAST({names[0]} AS VARCHAR) FROM partitions ORDER BY {_PARTITION}").fetchall()
        if len(found) > MOST_PARTITIONS:
            message = f"one batch holds {len(found)} partitions, more than {MOST_PARTITIONS}: partition by fewer values"
            raise ValidationError.of("destination", "partitionBy", message=message)
        partitions = {}
        for number, *row, text in found:
            partition, are_given = tuple(row[: len(fields)]), row[len(fields) :]
            for field, source, value, is_given in zip(fields, sources, partition, are_given, strict=True):
                if is_given and not _is_partition(value, field, source.field_type):
                    message = f'The column "{source.name}" has a value beyond what the table\'s partition "{field.name}" can hold'
                    raise PartitionValueError(f"{message} ({field.transform}).")
            partitions[number] = (partition, text)
        return aliased, partitions

    def _copy_to(self, target: Path, query: str, *options: str) -> None:
        # Where DuckDB begins another file, it does not keep the order.
        sizes = [] if self._order() else [f"FILE_SIZE_BYTES {MOST_FILE_BYTES}"]
        shown = ", ".join(["FORMAT parquet", "COMPRESSION zstd", f"FIELD_IDS {self._field_ids()}", *options, *sizes])
        self._connection.execute(f"COPY ({query}) TO {literal(str(target))} ({shown})")

    @contextmanager
    def _in_order(self) -> Iterator[None]:
        """Several threads that part rows keep no order of them."""
        if not self._order():
            yield
            return
        self._connection.execute("SET threads = 1")
        try:
            yield
        finally:
            self._connection.execute("RESET threads")

    def _order(self, first: str | None = None) -> str:
        names = [identifier(self._schema.find_field(field.source_id).name) for field in self._table.sort_order().fields]
        if not names:
            return ""
        return f" ORDER BY {', '.join([*([first] if first else []), *(f'{name} NULLS FIRST' for name in names)])}"

    def _field_ids(self) -> str:
        return f"{{{', '.join(f'{identifier(field.name)}: {_ids(field.field_id, field.field_type)}' for field in self._schema.fields)}}}"

    def _rows_by_path(self, paths: Sequence[Path]) -> dict[str, int]:
        files = ", ".join(literal(str(path)) for path in paths)
        query = f"SELECT {identifier(SOURCE_FILE_COLUMN)}, count(*) FROM read_parquet([{files}], hive_partitioning = false) GROUP BY 1"
        return dict(self._connection.execute(query).fetchall())

    @staticmethod
    def _compare(expected: Mapping[str, int], written: Mapping[str, int]) -> None:
        for path, rows in expected.items():
            if written.get(path, 0) != rows:
                raise RowsLostError(f"{path}: {rows} rows were read, but {written.get(path, 0)} were written; nothing was committed")

    def _data_file(self, path: Path, url: str, partition: tuple[Any, ...]) -> DataFile:
        statistics = self._statistics(path)
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=url,
            file_format=FileFormat.PARQUET,
            partition=Record(*partition),
            file_size_in_bytes=path.stat().st_size,
            sort_order_id=self._table.sort_order().order_id or None,
            spec_id=self._spec.spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def _statistics(self, path: Path) -> DataFileStatistics:
        metadata = pq.read_metadata(path)
        plan = compute_statistics_plan(self._schema, self._table.properties)
        ids = parquet_path_to_id_mapping(self._schema)
        try:
            return data_file_statistics_from_parquet_metadata(metadata, plan, ids)
        except OverflowError:
            # Python has no date before the year 1 or after 9999. A column that has one goes without bounds: then no reader skips the file.
            counts = MetricsMode(MetricModeTypes.COUNTS)
            plan |= {ids[name]: replace(plan[ids[name]], mode=counts) for name in _columns_beyond_python(metadata)}
            return data_file_statistics_from_parquet_metadata(metadata, plan, ids)

    def _upload(self, written: Mapping[Path, DataFile]) -> None:
        def upload(path: Path, data_file: DataFile) -> None:
            with path.open("rb") as source, self._table.io.new_output(data_file.file_path).create() as target:
                while data := source.read(8 << 20):
                    target.write(data)

        with ThreadPoolExecutor(min(_UPLOADS, len(written)), thread_name_prefix="upload") as pool:
            list(pool.map(upload, written.keys(), written.values()))


def _is_partition(value: Any, field: PartitionField, source: IcebergType) -> bool:
    """PyIceberg has to write the value for people, too, and knows days and hours of the years 1 to 9999 only."""
    try:
        if value is not None:
            field.transform.to_human_string(source, value)
    except OverflowError:
        return False
    return value is not None


def _columns_beyond_python(metadata: pq.FileMetaData) -> set[str]:
    """The columns, by their path in the file, whose least or greatest value is no value of Python's."""
    found = set()
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            try:
                if column.is_stats_set:
                    _ = column.statistics.min, column.statistics.max
            except OverflowError:
                found.add(column.path_in_schema)
    return found


def _ids(field_id: int, type_: IcebergType) -> str:
    """DuckDB's notation for a column's field ids."""
    match type_:
        case StructType():
            inner = [f"{identifier(field.name)}: {_ids(field.field_id, field.field_type)}" for field in type_.fields]
        case ListType():
            inner = [f"element: {_ids(type_.element_id, type_.element_type)}"]
        case MapType():
            inner = [f"key: {_ids(type_.key_id, type_.key_type)}", f"value: {_ids(type_.value_id, type_.value_type)}"]
        case _:
            return str(field_id)
    return f"{{__duckdb_field_id: {field_id}, {', '.join(inner)}}}"


def local_path(url: str) -> Path | None:
    """The path behind a `file:` URL or a plain path; None for a remote one."""
    parsed = urlparse(url)
    if parsed.scheme == "file":
        return Path(parsed.path)
    return Path(url) if not parsed.scheme and os.path.isabs(url) else None


def remove_data_files(io: FileIO, data_files: Sequence[DataFile]) -> None:
    """Remove files that are in no table. What cannot be removed is left: it costs space, and nothing else."""
    folders = set()
    for data_file in data_files:
        path = local_path(data_file.file_path)
        try:
            if path is None:
                io.delete(data_file.file_path)
            else:
                path.unlink(missing_ok=True)
                folders.add(path.parent)
        except OSError:
            continue
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        _remove_if_empty(folder)
        if folder.name.startswith(_PARTITION):
            _remove_if_empty(folder.parent)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
