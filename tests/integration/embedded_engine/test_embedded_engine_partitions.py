"""Partitioned and sorted tables: each row in the file of its partition, whatever the transform."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import replace
from decimal import Decimal, localcontext

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table

from domain.errors import ValidationError
from domain.ingestions.entities import FormatType
from domain.ports.engine import OutcomeStatus
from tests.fixtures.engine_bench import EngineBench

MOMENTS = [
    None,
    dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
    dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    dt.datetime(1969, 1, 1, 0, 30, tzinfo=dt.UTC),
    dt.datetime(2024, 2, 29, 23, 30, tzinfo=dt.UTC),
    dt.datetime(2024, 3, 1, tzinfo=dt.UTC),
]
COLUMNS = {
    "at": pa.array(MOMENTS, pa.timestamp("us", "UTC")),
    "local": pa.array([moment and moment.replace(tzinfo=None) for moment in MOMENTS], pa.timestamp("us")),
    "day": pa.array([moment and moment.date() for moment in MOMENTS], pa.date32()),
    "n": pa.array([None, 0, -1, 7, 10, -13], pa.int64()),
    "i": pa.array([None, 0, -1, 7, 10, -13], pa.int32()),
    "s": pa.array([None, "", "a/b=c%", "日本語テキスト", "__HIVE_DEFAULT_PARTITION__", "a/b"], pa.string()),
    "flag": pa.array([None, True, False, True, False, True]),
    "money": pa.array([None, Decimal("0.00"), Decimal("-0.01"), Decimal("12.34"), Decimal("10.00"), Decimal("-9.99")], pa.decimal128(9, 2)),
}
SPECS = [
    ("at",),
    ("identity(day)",),
    ("s",),
    ("n",),
    ("flag",),
    ("money",),
    ("year(at)",),
    ("month(at)",),
    ("day(at)",),
    ("hour(at)",),
    ("year(day)",),
    ("month(day)",),
    ("day(local)",),
    ("hour(local)",),
    ("bucket(4, n)",),
    ("bucket(4, i)",),
    ("bucket(3, s)",),
    ("bucket(5, at)",),
    ("bucket(5, day)",),
    ("bucket(5, money)",),
    ("truncate(5, n)",),
    ("truncate(2, s)",),
    ("truncate(50, money)",),
    ("day(at)", "bucket(2, s)", "flag"),
]


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def check_partitions(table: Table) -> int:
    """Assert that every row is in the file of its partition, by Iceberg's own transforms; returns how many files there are."""
    tasks = list(table.scan().plan_files())
    for task in tasks:
        rows = pq.read_table(task.file.file_path.removeprefix("file://"), partitioning=None).to_pylist()
        assert len(rows) == task.file.record_count
        for position, field in enumerate(table.spec().fields):
            source = table.schema().find_field(field.source_id)
            transform = field.transform.transform(source.field_type)
            for row in rows:
                value = row[source.name]
                if isinstance(value, dt.datetime):
                    value = (value.replace(tzinfo=None) - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)  # noqa: DTZ001
                elif isinstance(value, dt.date):
                    value = (value - dt.date(1970, 1, 1)).days
                assert transform(value) == task.file.partition[position], (field, value)
    return len(tasks)


@pytest.mark.parametrize("spec", SPECS, ids=" and ".join)
async def test_each_row_lies_in_its_partition(bench: EngineBench, catalog: SqlCatalog, spec: tuple[str, ...]) -> None:
    bench.destination = replace(bench.destination, partition_by=spec)
    bench.land("a", parquet(pa.table(COLUMNS)))

    outcome = (await bench.load(format=FormatType.PARQUET))["a"]

    table = catalog.load_table(("lake", "flights"))
    assert outcome.rows == 6
    assert check_partitions(table) >= 2
    assert sorted(bench.rows("n"), key=repr) == sorted(COLUMNS["n"].to_pylist(), key=repr)


DECIMALS = {
    pa.decimal128(9, 8): ["0", "0.00000001", "-0.00000001", "1", "-9.99999949"],
    pa.decimal128(38, 38): ["0", "1e-38", "-0.5"],
    pa.decimal128(38, 0): ["0", "99999999999999999999999999999999999999", "-1"],
    pa.decimal128(3, 2): ["0", "0.01", "-0.01", "9.99", "-9.49"],
}


@pytest.mark.parametrize("spec", ["d", "truncate(50, d)"])
@pytest.mark.parametrize("type_", DECIMALS, ids=str)
async def test_decimals_lie_in_their_partitions_be_they_ever_so_small(
    bench: EngineBench, catalog: SqlCatalog, type_: pa.DataType, spec: str
) -> None:
    bench.destination = replace(bench.destination, partition_by=(spec,))
    with localcontext(prec=60):
        values = [None, *(Decimal(text).quantize(Decimal(1).scaleb(-type_.scale)) for text in DECIMALS[type_])]
    bench.land("a", parquet(pa.table({"d": pa.array(values, type_)})))

    outcome = (await bench.load(format=FormatType.PARQUET))["a"]

    table = catalog.load_table(("lake", "flights"))
    assert outcome.rows == len(values)
    with localcontext(prec=60):
        assert check_partitions(table) >= 3
        for value in values[1:]:
            assert table.scan(EqualTo("d", value)).to_arrow().column("d").to_pylist() == [value]


async def test_the_last_hour_of_all_is_found_again(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.destination = replace(bench.destination, partition_by=("hour(at)",))
    last = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
    bench.land("a", parquet(pa.table({"at": pa.array([last, None], pa.timestamp("us", "UTC"))})))
    await bench.load(format=FormatType.PARQUET)

    table = catalog.load_table(("lake", "flights"))

    assert table.scan("at >= '9999-12-31T23:59:59.999999+00:00'").to_arrow().column("at").to_pylist() == [last]
    assert {task.file.partition[0] for task in table.scan().plan_files()} == {70389527, None}


FAR = 600_000_000_000_000_000
NO_PARTITION = {
    "truncate(10, i)": ("i", pa.array([-(2**31)], pa.int32()), "truncate[10]"),
    "truncate(10, n)": ("n", pa.array([-(2**63)], pa.int64()), "truncate[10]"),
    "truncate(1000, d)": ("d", pa.array([Decimal("-0.01")], pa.decimal128(3, 2)), "truncate[1000]"),
    "day(at)": ("at", pa.array([FAR], pa.timestamp("us")), "day"),
    "hour(at)": ("at", pa.array([FAR], pa.timestamp("us")), "hour"),
    "at": ("at", pa.array([FAR], pa.timestamp("us")), "identity"),
    "year(at)": ("at", pa.array([2**63 - 1], pa.timestamp("us")), "year"),
}


@pytest.mark.parametrize("spec", NO_PARTITION)
async def test_a_value_that_no_partition_can_hold_fails_its_file_and_says_so(bench: EngineBench, catalog: SqlCatalog, spec: str) -> None:
    column, values, transform = NO_PARTITION[spec]
    bench.destination = replace(bench.destination, partition_by=(spec,))
    bench.land("bad", parquet(pa.table({column: values, "id": [1]})))
    bench.land("good", parquet(pa.table({column: pa.array([Decimal(0) if column == "d" else 0, None], values.type), "id": [2, 3]})))

    outcomes = await bench.load(format=FormatType.PARQUET)

    name = catalog.load_table(("lake", "flights")).spec().fields[0].name
    assert outcomes["bad"].message == (
        f'The column "{column}" has a value beyond what the table\'s partition "{name}" can hold ({transform}).'
    )
    assert outcomes["good"].status is OutcomeStatus.LOADED
    assert bench.rows("id") == [2, 3]


@pytest.mark.parametrize("spec", ["year(at)", "month(at)", "bucket(4, at)"])
async def test_moments_that_python_does_not_have_lie_in_partitions_that_it_does(bench: EngineBench, catalog: SqlCatalog, spec: str) -> None:
    bench.destination = replace(bench.destination, partition_by=(spec,))
    bench.land("a", parquet(pa.table({"at": pa.array([FAR, 0], pa.timestamp("us"))})))

    outcome = (await bench.load(format=FormatType.PARQUET))["a"]

    assert outcome.rows == 2
    rows = catalog.load_table(("lake", "flights")).scan("at > '2000-01-01T00:00:00'").to_arrow()
    assert rows.column("at").cast(pa.int64()).to_pylist() == [FAR]


async def test_bytes_are_not_truncated(bench: EngineBench) -> None:
    bench.destination = replace(bench.destination, partition_by=("truncate(2, b)",))
    bench.land("a", parquet(pa.table({"b": pa.array([b"abc"])})))

    with pytest.raises(ValidationError, match="a column of type BLOB cannot be truncated for a partition; use bucket"):
        await bench.load(format=FormatType.PARQUET)


async def test_a_partition_is_found_again_by_its_value(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.destination = replace(bench.destination, partition_by=("day(at)", "bucket(4, n)"))
    rows = pa.table({"at": pa.array([moment for moment in MOMENTS if moment] * 4, pa.timestamp("us", "UTC")), "n": list(range(20))})
    bench.land("a", parquet(rows))
    await bench.load(format=FormatType.PARQUET)

    table = catalog.load_table(("lake", "flights"))

    by_day = table.scan("at >= '2024-03-01T00:00:00+00:00'")
    assert len(by_day.to_arrow()) == 4
    assert all(task.file.partition[0] == 19783 for task in by_day.plan_files())
    for number in range(20):
        assert table.scan(f"n = {number}").to_arrow().column("n").to_pylist() == [number]


async def test_rows_are_sorted_within_files(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.destination = replace(bench.destination, sort_by=("s", "n"), partition_by=("flag",))
    # More than one thread's share.
    values = [(number * 7919) % 1000 for number in range(400_000)]
    table = pa.table({"n": values, "s": [f"k{value % 10}" for value in values], "flag": [value % 2 == 0 for value in values]})
    bench.land("a", parquet(table))

    await bench.load(format=FormatType.PARQUET)

    loaded = catalog.load_table(("lake", "flights"))
    assert [loaded.schema().find_field(field.source_id).name for field in loaded.sort_order().fields] == ["s", "n"]
    files = list(loaded.scan().plan_files())
    assert {task.file.sort_order_id for task in files} == {1}
    for task in files:
        read = pq.read_table(task.file.file_path.removeprefix("file://"), partitioning=None)
        keys = list(zip(read.column("s").to_pylist(), read.column("n").to_pylist(), strict=True))
        assert keys == sorted(keys)


async def test_one_commit_holds_all_partitions_of_a_batch(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.destination = replace(bench.destination, partition_by=("bucket(16, n)",))
    bench.land("a", parquet(pa.table({"n": list(range(500))})))
    await bench.load(format=FormatType.PARQUET)

    table = catalog.load_table(("lake", "flights"))

    assert len(table.snapshots()) == 1
    assert check_partitions(table) == 16
    assert sorted(bench.rows("n")) == list(range(500))


@pytest.mark.parametrize(
    ("destination", "said"),
    [
        ({"partition_by": ("nope",)}, "partitionBy: the files have no column 'nope'"),
        ({"partition_by": ("day(n)",)}, "partitionBy: 'day(n)' does not work on a column of type long"),
        ({"partition_by": ("week(at)",)}, "partitionBy: 'week(at)' is not a partition"),
        ({"partition_by": ("bucket(0, n)",)}, "partitionBy: 'bucket(0, n)' is not a partition"),
        ({"sort_by": ("nope",)}, "sortBy: the files have no column 'nope'"),
    ],
)
async def test_a_destination_that_the_files_do_not_fit_is_refused(
    bench: EngineBench, destination: dict[str, tuple[str, ...]], said: str
) -> None:
    bench.destination = replace(bench.destination, **destination)
    bench.land("a", parquet(pa.table(COLUMNS)))

    with pytest.raises(ValidationError) as error:
        await bench.load(format=FormatType.PARQUET)

    assert said in str(error.value)
    assert await bench.engine.table_state(bench.destination) is None


async def test_too_many_partitions_are_refused_and_nothing_stays(bench: EngineBench, tmp_path_factory: pytest.TempPathFactory) -> None:
    bench.destination = replace(bench.destination, partition_by=("n",))
    bench.land("a", parquet(pa.table({"n": list(range(10_001))})))

    with pytest.raises(ValidationError, match="10001 partitions"):
        await bench.load(format=FormatType.PARQUET)

    assert await bench.engine.table_state(bench.destination) is None
    assert list((bench.folder.parent / "warehouse").rglob("*.parquet")) == []
