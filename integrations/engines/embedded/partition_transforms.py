"""Partition transforms: written in a destination, applied in SQL, stored in Iceberg's representation."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    YearTransform,
)
from pyiceberg.types import IcebergType

from domain.errors import ValidationError
from integrations.engines.embedded.column_types import (
    BOOLEAN,
    DATE,
    INT,
    LONG,
    STRING,
    TIMESTAMP,
    TIMESTAMPTZ,
    decimal_of,
    from_iceberg,
    identifier,
    is_decimal,
    sql_type,
)
from integrations.engines.embedded.type_merging import LONGEST_DECIMAL

_WRITTEN = re.compile(r"(?P<name>[a-z]+)\((?:(?P<number>\d+)\s*,\s*)?(?P<column>[^(),]+)\)")
_OF_TIME: dict[str, type[Transform[Any, Any]]] = {
    "year": YearTransform,
    "month": MonthTransform,
    "day": DayTransform,
    "hour": HourTransform,
}
_NUMBERS = {DATE: pa.int32(), TIMESTAMP: pa.int64(), TIMESTAMPTZ: pa.int64()}
_GREATEST_NUMBER = 2**31 - 1
"""Of buckets and of a truncation's width: other readers keep an int for it."""
_HOUR = 3_600_000_000
_SUFFIX = {"bucket": "_bucket", "truncate": "_trunc", "year": "_year", "month": "_month", "day": "_day", "hour": "_hour"}


@dataclass(frozen=True, slots=True)
class WrittenPartition:
    """`name` is the partition field's own name."""

    column: str
    transform: Transform[Any, Any]
    name: str


def parse_partition(text: str) -> WrittenPartition:
    """`c`, `identity(c)`, `year(c)`, `month(c)`, `day(c)`, `hour(c)`, `bucket(n, c)`, `truncate(n, c)`."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        return WrittenPartition(text.strip(), IdentityTransform(), text.strip())
    kind, column, number = match["name"], match["column"].strip(), match["number"]
    if kind == "identity" and number is None:
        return WrittenPartition(column, IdentityTransform(), column)
    if kind in _OF_TIME and number is None:
        return WrittenPartition(column, _OF_TIME[kind](), column + _SUFFIX[kind])
    if kind == "bucket" and number is not None and 0 < int(number) <= _GREATEST_NUMBER:
        return WrittenPartition(column, BucketTransform(int(number)), column + _SUFFIX[kind])
    if kind == "truncate" and number is not None and 0 < int(number) <= _GREATEST_NUMBER:
        return WrittenPartition(column, TruncateTransform(int(number)), column + _SUFFIX[kind])
    message = f"{text!r} is not a partition; write a column, or year, month, day or hour of one, or bucket(n, column), truncate(n, column)"
    raise ValidationError.of("destination", "partitionBy", message=message)


class PartitionValues:
    """The SQL of a table's partition values for rows of one relation.

    Bucket numbers come from Iceberg's own hash, for each distinct value once.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, table_schema: Schema) -> None:
        self._connection = connection
        self._schema = table_schema
        self._numbers = itertools.count()

    def expression(self, source_id: int, transform: Transform[Any, Any], rows: str, alias: str) -> str:
        """SQL that gives the partition value in Iceberg's representation, of `rows` under their `alias`; null also for a value that has
        none, as its type cannot hold it.

        May make a temporary table.
        """
        field = self._schema.find_field(source_id)
        column, type_ = identifier(field.name), from_iceberg(field.field_type)
        match transform:
            case IdentityTransform():
                return _identity(column, type_)
            case YearTransform():
                return f"year({column}) - 1970"
            case MonthTransform():
                return f"(year({column}) - 1970) * 12 + month({column}) - 1"
            case DayTransform():
                return f"date_diff('day', DATE '1970-01-01', CAST({column} AS DATE))"
            case HourTransform():
                return _hour(f"epoch_us({column})")
            case TruncateTransform():
                return _truncated(column, type_, transform.width)
            case BucketTransform():
                return self._bucket(column, field.field_type, transform, rows, alias)
        raise ValidationError.of("destination", "partitionBy", message=f"the table is partitioned by {transform}, which is not supported")

    def _bucket(self, column: str, type_: IcebergType, transform: BucketTransform[Any], source: str, alias: str) -> str:
        rows = self._connection.sql(f"SELECT DISTINCT {column} AS value FROM {source} WHERE {column} IS NOT NULL").to_arrow_table()
        bucket = transform.transform(type_)
        values = rows.column("value")
        # As numbers: Python has no moment before the year 1 or after 9999.
        hashed = values.cast(_NUMBERS[values.type]) if values.type in _NUMBERS else values
        buckets = pa.array([bucket(value) for value in hashed.to_pylist()], pa.int32())
        name = f"buckets_{next(self._numbers)}"
        self._connection.register("bucket_rows", pa.table({"value": values, "bucket": buckets}))
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM bucket_rows")
        self._connection.unregister("bucket_rows")
        return f"(SELECT bucket FROM {name} WHERE {name}.value = {alias}.{column})"


def _hour(microseconds: str) -> str:
    # DuckDB's division of whole numbers goes towards zero.
    return f"TRY_CAST({microseconds} // {_HOUR} - CAST({microseconds} % {_HOUR} < 0 AS INTEGER) AS INTEGER)"


def _identity(column: str, type_: pa.DataType) -> str:
    if type_ == DATE:
        return f"date_diff('day', DATE '1970-01-01', {column})"
    if type_ in {TIMESTAMP, TIMESTAMPTZ}:
        return f"epoch_us({column})"
    if type_ in {INT, LONG, STRING, BOOLEAN} or is_decimal(type_):
        return column
    message = f"a column of type {sql_type(type_)} cannot be a partition as it is; use bucket or truncate"
    raise ValidationError.of("destination", "partitionBy", message=message)


def _truncated(column: str, type_: pa.DataType, width: int) -> str:
    if type_ == STRING:
        return f"left({column}, {width})"
    if is_decimal(type_):
        wide, step = sql_type(decimal_of(LONGEST_DECIMAL, type_.scale)), f"{Decimal(width).scaleb(-type_.scale):f}"
        step = f"CAST('{step}' AS {wide})"
    elif type_ in {INT, LONG}:
        wide, step = "HUGEINT", str(width)
    else:
        message = f"a column of type {sql_type(type_)} cannot be truncated for a partition; use bucket"
        raise ValidationError.of("destination", "partitionBy", message=message)
    value = f"CAST({column} AS {wide})"
    rest = f"({value} % {step})"
    below = f"CASE WHEN {rest} < 0 THEN {rest} + {step} ELSE {rest} END"
    # The last step down may lead out of the type, and for the longest decimals out of the computation.
    return f"TRY_CAST(TRY({value} - {below}) AS {sql_type(type_)})"
