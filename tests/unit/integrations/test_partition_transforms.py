"""The SQL of partition transforms gives what Iceberg's own give, to the edges of each type."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal, localcontext
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyiceberg.schema import Schema
from pyiceberg.transforms import TruncateTransform
from pyiceberg.types import (
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from domain.errors import ValidationError
from integrations.engines.embedded.column_types import TIMESTAMP, TIMESTAMPTZ, from_iceberg
from integrations.engines.embedded.partition_transforms import PartitionValues, parse_partition

EPOCH = dt.date(1970, 1, 1)
FIRST_DAY, LAST_DAY = (dt.date.min - EPOCH).days, (dt.date.max - EPOCH).days
A_DAY = 86_400_000_000
FIRST_MOMENT, LAST_MOMENT = FIRST_DAY * A_DAY, (LAST_DAY + 1) * A_DAY - 1
GREATEST_WIDTH = 2**31 - 1


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(config={"python_enable_replacements": False})
    connection.execute("SET TimeZone = 'UTC'")
    yield connection
    connection.close()


def in_sql(connection: duckdb.DuckDBPyConnection, text: str, type_: IcebergType, values: list[Any]) -> list[Any]:
    """The partition value of each; dates and timestamps are given as days and microseconds."""
    schema = Schema(NestedField(1, "c", type_, required=False))
    numbers = pa.int32() if isinstance(type_, DateType) else pa.int64()
    of_time = isinstance(type_, DateType | TimestampType | TimestamptzType)
    array = pa.array(values, numbers).cast(from_iceberg(type_)) if of_time else pa.array(values, from_iceberg(type_))
    connection.register("given_rows", pa.table({"n": range(len(values)), "c": array}))
    connection.execute("CREATE OR REPLACE TEMP TABLE rows AS FROM given_rows")
    connection.unregister("given_rows")
    expression = PartitionValues(connection, schema).expression(1, parse_partition(text).transform, "rows", "rows")
    return [value for (value,) in connection.execute(f"SELECT {expression} FROM rows ORDER BY n").fetchall()]


def in_iceberg(text: str, type_: IcebergType, values: list[Any]) -> list[Any]:
    transform = parse_partition(text).transform.transform(type_)
    with localcontext(prec=60):
        return [transform(value) for value in values]


@pytest.mark.parametrize("transform", ["c", "year(c)", "month(c)", "day(c)", "bucket(7, c)"])
@given(days=st.lists(st.none() | st.integers(FIRST_DAY, LAST_DAY), max_size=20))
@example(days=[FIRST_DAY, LAST_DAY, -1, 0, -365, -366])
def test_dates(connection: duckdb.DuckDBPyConnection, transform: str, days: list[int | None]) -> None:
    assert in_sql(connection, transform, DateType(), days) == in_iceberg(transform, DateType(), days)


@pytest.mark.parametrize("type_", [TimestampType(), TimestamptzType()], ids=str)
@pytest.mark.parametrize("transform", ["c", "year(c)", "month(c)", "day(c)", "hour(c)", "bucket(7, c)"])
@given(
    moments=st.lists(st.none() | st.integers(FIRST_MOMENT, LAST_MOMENT), max_size=20), hours=st.lists(st.integers(-1_000_000, 70_389_528))
)
@example(moments=[FIRST_MOMENT, LAST_MOMENT, -1, 0, 1, None], hours=[70_389_528, 0, -1])
def test_timestamps(
    connection: duckdb.DuckDBPyConnection, type_: IcebergType, transform: str, moments: list[int | None], hours: list[int]
) -> None:
    before_each_hour = [hour * 3_600_000_000 - 1 for hour in hours]
    values = moments + before_each_hour
    assert in_sql(connection, transform, type_, values) == in_iceberg(transform, type_, values)


@pytest.mark.parametrize("type_", [TimestampType(), TimestamptzType()], ids=str)
def test_an_hour_that_is_no_int_is_none(connection: duckdb.DuckDBPyConnection, type_: IcebergType) -> None:
    last = 2**31 * 3_600_000_000 - 1
    first = -(2**31) * 3_600_000_000
    assert in_sql(connection, "hour(c)", type_, [last, last + 1, first, first - 1]) == [2**31 - 1, None, -(2**31), None]


@pytest.mark.parametrize(("type_", "bits"), [(IntegerType(), 31), (LongType(), 63)], ids=["int", "long"])
@given(data=st.data(), width=st.integers(1, GREATEST_WIDTH) | st.integers(1, 100))
def test_truncated_whole_numbers(
    connection: duckdb.DuckDBPyConnection, type_: IcebergType, bits: int, data: st.DataObject, width: int
) -> None:
    least, greatest = -(2**bits), 2**bits - 1
    edges = st.sampled_from([least, least + 1, greatest, greatest - 1, 0, -1])
    values = data.draw(st.lists(st.integers(least, greatest) | edges | st.integers(least, least + 2 * width), max_size=20))
    expected = in_iceberg(f"truncate({width}, c)", type_, values)
    found = in_sql(connection, f"truncate({width}, c)", type_, values)
    assert found == [value if value >= least else None for value in expected]


@given(data=st.data(), precision=st.integers(1, 38), width=st.integers(1, GREATEST_WIDTH) | st.integers(1, 100))
def test_truncated_decimals(connection: duckdb.DuckDBPyConnection, data: st.DataObject, precision: int, width: int) -> None:
    scale = data.draw(st.integers(0, precision))
    greatest = 10**precision - 1
    edges = st.sampled_from([-greatest, greatest, 0, -1, 1])
    unscaled = data.draw(st.lists(st.integers(-greatest, greatest) | edges, max_size=20))
    with localcontext(prec=60):
        values = [Decimal(value).scaleb(-scale) for value in unscaled]
        steps = [value - value % width for value in unscaled]
        expected = [Decimal(value).scaleb(-scale) if value >= -greatest else None for value in steps]
    type_ = DecimalType(precision, scale)
    assert in_sql(connection, f"truncate({width}, c)", type_, values) == expected
    short = [value for value in values if len(value.as_tuple().digits) <= 20]
    own = TruncateTransform[Any](width).transform(type_)
    with localcontext(prec=60):
        assert [own(value) for value in short] == [Decimal(value - value % width).scaleb(-scale) for value in map(_unscaled, short)]


def _unscaled(value: Decimal) -> int:
    sign, digits, _ = value.as_tuple()
    return (-1 if sign else 1) * int("".join(map(str, digits)))


@given(values=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), max_size=10), width=st.integers(1, 4))
def test_truncated_texts(connection: duckdb.DuckDBPyConnection, values: list[str], width: int) -> None:
    assert in_sql(connection, f"truncate({width}, c)", StringType(), values) == in_iceberg(f"truncate({width}, c)", StringType(), values)


@pytest.mark.parametrize("transform", ["year(c)", "month(c)", "day(c)", "hour(c)", "c"])
@pytest.mark.parametrize("type_", [TIMESTAMP, TIMESTAMPTZ], ids=str)
def test_a_moment_without_end_is_in_no_partition(connection: duckdb.DuckDBPyConnection, type_: pa.DataType, transform: str) -> None:
    iceberg = TimestamptzType() if type_ == TIMESTAMPTZ else TimestampType()
    assert in_sql(connection, transform, iceberg, [2**63 - 1]) == [None]


@pytest.mark.parametrize("text", ["truncate(2147483648, c)", "bucket(2147483648, c)", "truncate(0, c)"])
def test_numbers_that_are_no_int_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is not a partition"):
        parse_partition(text)
