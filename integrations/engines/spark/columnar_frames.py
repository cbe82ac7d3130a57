"""Parquet, ORC and Avro files as frames: each file says which columns it has, and of which types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.connect import functions as F
from pyspark.sql.types import DataType

from domain.ingestions.entities import FormatType, SchemaEvolution
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.casts import Cast
from integrations.engines.embedded.column_types import STRING, TIMESTAMP, TIMESTAMPTZ, UnsupportedTypeError
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import ColumnNamesError, TargetColumns
from integrations.engines.spark.casts import from_text, from_typed
from integrations.engines.spark.frames import NUMBERED_SQL, PLACE, PLACE_SQL, PROBLEM, RAW, URI, Frame, SparkSource
from integrations.engines.spark.types import from_spark, identifier, literal
from integrations.engines.spark.unreadable import reason

_LOOKS = 8
_Types = tuple[tuple[str, pa.DataType], ...]


def _cast(value: str, source: pa.DataType, target: pa.DataType, hinted: bool) -> Cast:
    # As in the embedded engine: a hint may make text of a file something else, which nothing else may.
    return from_text(value, target) if hinted and source == STRING else from_typed(value, source, target)


def _as_typed(name: str, type_: pa.DataType) -> str:
    column = identifier(name)
    return f"CAST({column} AS TIMESTAMP_NTZ) AS {column}" if type_ == TIMESTAMP else column


class ColumnarFrames:
    def __init__(self, source: SparkSource, format_: FormatType, rules: RowRules) -> None:
        self._source = source
        self._format = format_.value.lower()
        self._options = {"parquet.page.verify-checksum.enabled": "true"} if format_ is FormatType.PARQUET else {}
        self._rules = rules
        self._types: dict[int, _Types] = {}

    def survey(self, files: Sequence[LoadFile]) -> None:
        for file in files:
            file.empty = file.size_bytes == 0
        files = [file for file in files if file.is_open]
        with ThreadPoolExecutor(_LOOKS, thread_name_prefix="spark-schemas") as pool:
            list(pool.map(self._look, [file for file in files if file.index not in self._types]))
        for types, alike in self._by_types(files).items():
            counted = self._rows(types, alike, numbered=False).groupBy(URI).agg(F.expr("count(*)").alias("rows"))
            rows = {self._source.index_of(row[URI]): row["rows"] for row in counted.toArrow().to_pylist()}
            for file in alike:
                file.rows_read = rows.get(file.index, 0)

    def offer(self, files: Sequence[LoadFile], target: TargetColumns) -> None:
        known = target.columns
        for file in files:
            named = dict(self._types[file.index]) if file.rows_read or self._format != "avro" else {}
            types = named if file.rows_read else {}
            try:
                # A file without rows brings no columns, but is judged by its names all the same.
                target.check_types(named)
                new = [name for name in named if name not in known]
                if new and not target.creating and self._rules.evolution is SchemaEvolution.FAIL_ON_NEW_COLUMNS:
                    shown = ", ".join(f'"{name}"' for name in new)
                    raise ColumnNamesError(f"The file has columns that the table does not have: {shown}.")
                target.offer(types)
                file.asks_for = target.needs(types)
            except ColumnNamesError as error:
                file.fail(str(error))

    def frames(self, files: Sequence[LoadFile], *, numbered: bool = False) -> list[Frame]:
        return [
            Frame(
                self._rows(types, alike, numbered=numbered),
                alike,
                dict(types),
                {name: identifier(name) for name, _ in types},
                _cast,
                unit="Row",
                clean=True,
            )
            for types, alike in self._by_types(files).items()
        ]

    def _look(self, file: LoadFile) -> None:
        try:
            read = self._source.read(self._format, [file], **self._options).schema
            types = tuple((field.name, self._type(field.dataType)) for field in read.fields)
            self._types[file.index] = types
        except PySparkException as error:
            file.fail(reason(error))
        except UnsupportedTypeError as error:
            file.fail(f"The file cannot be loaded: {error}.")

    def _type(self, read: DataType) -> pa.DataType:
        type_ = from_spark(read)
        # ORC's timestamps have no zone; Spark takes them for moments of the session's, which is UTC.
        return TIMESTAMP if self._format == "orc" and type_ == TIMESTAMPTZ else type_

    def _by_types(self, files: Sequence[LoadFile]) -> dict[_Types, list[LoadFile]]:
        groups: dict[_Types, list[LoadFile]] = defaultdict(list)
        for file in files:
            if file.is_open:
                groups[self._types[file.index]].append(file)
        return groups

    def _rows(self, types: _Types, files: Sequence[LoadFile], *, numbered: bool) -> DataFrame:
        read = self._source.read(self._format, files, **self._options)
        columns = [_as_typed(name, type_) for name, type_ in types]
        rows = read.selectExpr(f"_metadata.file_path AS {URI}", f"{PLACE_SQL} AS {PLACE}", *columns)
        names = [identifier(name) for name, _ in types]
        if numbered:
            rows = rows.selectExpr(URI, f"{NUMBERED_SQL} AS {PLACE}", *names)
        raw = f"to_json(named_struct({', '.join(f'{literal(name)}, {identifier(name)}' for name, _ in types)}))" if types else "'{}'"
        return rows.selectExpr(URI, PLACE, f"{raw} AS {RAW}", f"CAST(NULL AS STRING) AS {PROBLEM}", *names)
