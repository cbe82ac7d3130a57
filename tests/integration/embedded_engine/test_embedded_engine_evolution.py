"""Columns that come, change and clash."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domain.ingestions.entities import BadRowPolicy, FormatType, SchemaEvolution
from domain.ports.engine import OutcomeStatus
from tests.fixtures.engine_bench import EngineBench


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


async def test_new_columns_from_many_files_come_together(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1}))
    await bench.load("a.json")
    bench.land("b.json", lines({"id": 2, "x": 1}))
    bench.land("c.json", lines({"id": 3, "x": 2.5, "y": {"z": True}}))
    bench.land("d.json", lines({"y": {"w": "t"}, "id": 4}))

    await bench.load("b.json", "c.json", "d.json")

    assert bench.columns() == {"id": "long", "x": "double", "y": "struct<z: boolean, w: string>"}
    assert bench.rows("id", "x", "y") == [
        (1, None, None),
        (2, 1.0, None),
        (3, 2.5, {"z": True, "w": None}),
        (4, None, {"z": None, "w": "t"}),
    ]


async def test_columns_that_files_disagree_about_become_text_in_a_new_table(bench: EngineBench) -> None:
    bench.land("a.json", lines({"v": 1, "w": 1, "l": [1]}))
    bench.land("b.json", lines({"v": "x", "w": {"a": 1.50}, "l": ["x"]}))
    bench.land("c.json", '{"v": 1.50, "w": [true], "l": [{"a": 1}]}\n')

    await bench.load()

    assert bench.columns() == {"v": "string", "w": "string", "l": "list<string>"}
    assert bench.rows("v") == ["1", "1.50", "x"]
    assert bench.rows("w") == ["1", "[true]", '{"a":1.5}']
    assert bench.rows("l") == [["1"], ["x"], ['{"a":1}']]


async def test_nothing_but_nulls_makes_no_column_and_empty_values_are_kept(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1, "none": None, "list": [], "object": {}, "deep": {"none": None}}))

    await bench.load()

    assert bench.columns() == {"id": "long", "list": "list<string>", "object": "string"}
    assert bench.rows("id", "list", "object") == [(1, [], "{}")]


async def test_a_column_of_nulls_gets_its_type_when_a_value_comes(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1, "late": None}))
    await bench.load("a.json")
    bench.land("b.json", lines({"id": 2, "late": None}, {"id": 3, "late": 7}))
    await bench.load("b.json")

    assert bench.columns() == {"id": "long", "late": "long"}
    assert bench.rows("id", "late") == [(1, None), (2, None), (3, 7)]


async def test_nested_fields_are_added(bench: EngineBench) -> None:
    bench.land("a.json", lines({"o": {"a": 1}, "l": [{"a": 1}]}))
    await bench.load("a.json")
    bench.land("b.json", lines({"o": {"a": 2, "b": {"c": "x"}}, "l": [{"a": 2, "b": 0.5}, {"b": 1}]}))
    await bench.load("b.json")

    assert bench.columns() == {"o": "struct<a: long, b: struct<c: string>>", "l": "list<struct<a: long, b: double>>"}
    assert bench.rows("o", "l") == [
        ({"a": 1, "b": None}, [{"a": 1, "b": None}]),
        ({"a": 2, "b": {"c": "x"}}, [{"a": 2, "b": 0.5}, {"a": None, "b": 1.0}]),
    ]


@pytest.mark.parametrize(
    ("evolution", "status"), [(SchemaEvolution.RESCUE, OutcomeStatus.LOADED), (SchemaEvolution.FAIL_ON_NEW_COLUMNS, OutcomeStatus.FAILED)]
)
async def test_nested_fields_follow_the_policy_too(bench: EngineBench, evolution: SchemaEvolution, status: OutcomeStatus) -> None:
    bench.land("a.json", lines({"o": {"a": 1}}))
    await bench.load("a.json")
    bench.land("b.json", lines({"o": {"a": 2, "b": 3}}))

    outcome = (await bench.load("b.json", evolution=evolution))["b.json"]

    assert outcome.status is status
    if status is OutcomeStatus.LOADED:
        assert bench.rows("o", "_rescued_data") == [({"a": 1}, None), ({"a": 2}, '{"o": {"a": 2, "b": 3}}')]
    else:
        assert '"o.b"' in (outcome.message or "")


@pytest.mark.parametrize("evolution", list(SchemaEvolution)[:4])
async def test_csv_columns_follow_the_policy(bench: EngineBench, evolution: SchemaEvolution) -> None:
    bench.land("a.csv", "id\n1\n")
    await bench.load("a.csv", format=FormatType.CSV)
    bench.land("b.csv", "id,new\n2,x\n3,\n")

    outcome = (await bench.load("b.csv", format=FormatType.CSV, evolution=evolution))["b.csv"]

    match evolution:
        case SchemaEvolution.ADD_NEW_COLUMNS:
            assert bench.rows("id", "new") == [(1, None), (2, "x"), (3, None)]
        case SchemaEvolution.RESCUE:
            assert outcome.rows_rescued == 1
            assert bench.rows("id", "_rescued_data") == [(1, None), (2, "2,x"), (3, None)]
        case SchemaEvolution.IGNORE:
            assert bench.rows("id") == [1, 2, 3]
            assert bench.columns() == {"id": "long"}
        case _:
            assert outcome.message == 'The file has columns that the table does not have: "new".'
            assert bench.rows("id") == [1]


async def test_a_failed_file_adds_no_column(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1}))
    await bench.load("a.json")
    bench.land("bad.json", lines({"id": 2, "junk": 1}, {"id": "x"}))
    bench.land("good.json", lines({"id": 3, "kept": 1}))

    outcomes = await bench.load("bad.json", "good.json")

    assert outcomes["bad.json"].status is OutcomeStatus.FAILED
    assert bench.columns() == {"id": "long", "kept": "long"}
    assert bench.rows("id") == [1, 3]


async def test_safe_promotions_are_made(bench: EngineBench) -> None:
    bench.land("a", parquet(i=pa.array([1], pa.int32()), f=pa.array([0.5], pa.float32()), d=pa.array([1], pa.decimal128(5, 2))))
    await bench.load("a", format=FormatType.PARQUET)
    bench.land("b", parquet(i=pa.array([2**40], pa.int64()), f=pa.array([0.1], pa.float64()), d=pa.array([10**6], pa.decimal128(12, 2))))
    await bench.load("b", format=FormatType.PARQUET)
    bench.land("c", parquet(i=pa.array([3], pa.int8()), f=pa.array([0.25], pa.float32()), d=pa.array([2], pa.decimal128(4, 1))))
    await bench.load("c", format=FormatType.PARQUET)

    assert bench.columns() == {"i": "long", "f": "double", "d": "decimal(12, 2)"}
    assert bench.rows("i", "f") == [(1, 0.5), (1099511627776, 0.1), (3, 0.25)]
    assert [str(value) for value in sorted(bench.rows("d"))] == ["1.00", "2.00", "1000000.00"]


async def test_promotions_are_not_made_without_leave(bench: EngineBench) -> None:
    bench.land("a", parquet(i=pa.array([1], pa.int32())))
    await bench.load("a", format=FormatType.PARQUET)
    bench.land("fits", parquet(i=pa.array([2], pa.int64())))
    bench.land("over", parquet(i=pa.array([2**40], pa.int64())))

    outcomes = await bench.load("fits", "over", format=FormatType.PARQUET, evolution=SchemaEvolution.FAIL_ON_NEW_COLUMNS)

    assert outcomes["fits"].status is OutcomeStatus.LOADED
    assert outcomes["over"].message == 'Row 1: column "i": 1099511627776 is not of type int.'
    assert bench.columns() == {"i": "int"}


async def test_a_hint_pins_a_type(bench: EngineBench) -> None:
    hints = {
        "at": "timestamptz",
        "local": "timestamp",
        "day": "date",
        "clock": "time",
        "price": "decimal(10, 2)",
        "code": "string",
        "small": "int",
        "ratio": "float",
        "flag": "boolean",
        "count": "long",
        "id": "uuid",
        "tags": "map<string, long>",
    }
    row = {
        "at": "2024-01-01T02:00:00+02:00",
        "local": "2024-01-01 00:00:00.5",
        "day": "2024-01-01",
        "clock": "12:30:00",
        "price": 1.25,
        "code": 7,
        "small": 3,
        "ratio": 0.5,
        "flag": "true",
        "count": "12",
        "id": "298668b6-b11c-4fd0-aa8d-37ebdf4aecfc",
        "tags": {"a": 1},
        "free": "2024-01-01",
    }
    bench.land("a.json", lines(row, {**row, "count": 13, "flag": False, "price": "2.50"}))

    await bench.load(hints=hints)

    assert bench.columns() == {**hints, "free": "string"}
    first = bench.rows()[0]
    assert first["at"].isoformat() == "2024-01-01T00:00:00+00:00"
    assert first["local"].isoformat() == "2024-01-01T00:00:00.500000"
    assert (str(first["day"]), str(first["clock"]), str(first["price"])) == ("2024-01-01", "12:30:00", "1.25")
    assert (first["code"], first["flag"], first["count"], first["tags"]) == ("7", True, 12, [("a", 1)])
    assert str(first["id"]) == row["id"]


TEXT_THAT_DOES_NOT_FIT = {
    "an offset in a timestamp": ("timestamp", "2024-01-01T00:00:00+02:00"),
    "a clock in a date": ("date", "2024-01-01T05:00:00"),
    "a day that is none": ("date", "2024-02-30"),
    "nanoseconds": ("timestamptz", "2024-01-01T00:00:00.123456789Z"),
    "an offset of days": ("timestamptz", "2024-01-01T00:00:00+99"),
    "an offset beyond 18 hours": ("timestamptz", "2024-01-01T00:00:00-18:01"),
    "an offset with 60 minutes": ("timestamptz", "2024-01-01T00:00:00+01:60"),
    "the end of a day": ("time", "24:00:00"),
    "a moment after the end of a day": ("timestamp", "2024-01-01 24:00:01"),
    "an hour after the end of a day": ("timestamptz", "2024-01-01T25:00:00Z"),
    "a minute with 60 seconds": ("time", "23:59:60"),
    "more decimals": ("decimal(10, 2)", "1.239"),
    "more digits": ("decimal(4, 2)", "123.00"),
    "a word": ("uuid", "x"),
}


@pytest.mark.parametrize("case", TEXT_THAT_DOES_NOT_FIT)
@pytest.mark.parametrize("format_", [FormatType.JSON, FormatType.CSV])
async def test_text_that_a_hint_cannot_hold_is_a_bad_row(bench: EngineBench, format_: FormatType, case: str) -> None:
    hint, text = TEXT_THAT_DOES_NOT_FIT[case]
    content = lines({"id": 1}, {"id": 2, "v": text}) if format_ is FormatType.JSON else f"id,v\n1,\n2,{text}\n"
    bench.land("a", content)

    failed = (await bench.load(format=format_, hints={"v": hint}))["a"]
    rescued = (await bench.load(format=format_, hints={"v": hint}, bad_rows=BadRowPolicy.RESCUE))["a"]

    assert (failed.status, rescued.rows_rescued) == (OutcomeStatus.FAILED, 1)
    assert text in (failed.message or "")
    assert bench.rows("id", "v")[1] == (2, None)
    assert text in bench.rows("_rescued_data")[0]


async def test_offsets_and_times_may_go_to_their_limits(bench: EngineBench) -> None:
    offsets = {"Z": 0, "+00": 0, "+05:30": 5.5, "-0930": -9.5, "+17:59": 17 + 59 / 60, "+18:00": 18, "-1800": -18, "-18": -18}
    bench.land("a.csv", "at,clock\n" + "".join(f"2024-01-02T23:59:59{offset},23:59:59\n" for offset in offsets))

    await bench.load(format=FormatType.CSV, hints={"at": "timestamptz", "clock": "time"})

    at = datetime(2024, 1, 2, 23, 59, 59, tzinfo=UTC)
    assert bench.rows("at") == sorted((at - timedelta(hours=hours) for hours in offsets.values()), key=repr)
    assert set(bench.rows("clock")) == {time(23, 59, 59)}


async def test_names_that_are_values_are_refused_before_they_make_the_table_unusable(bench: EngineBench) -> None:
    bench.land("wide.json", lines({f"user-{number}": 1 for number in range(6000)}))
    bench.land("good.json", lines({"id": 1}))

    outcomes = await bench.load()

    assert "6000 columns" in (outcomes["wide.json"].message or "") or "6001 columns" in (outcomes["wide.json"].message or "")
    assert bench.columns() == {"id": "long"}


async def test_the_rescue_column_is_added_when_it_is_first_wanted(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1}))
    await bench.load("a.json")
    assert "_rescued_data" not in bench.rows()[0]
    bench.land("b.json", lines({"id": 2}))

    await bench.load("b.json", bad_rows=BadRowPolicy.RESCUE)

    assert bench.rows("id", "_rescued_data") == [(1, None), (2, None)]
    assert bench.columns() == {"id": "long"}


async def test_the_rescue_column_stays_when_it_is_not_wanted_any_more(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1, "x": 1}))
    await bench.load("a.json", evolution=SchemaEvolution.RESCUE)
    bench.land("b.json", lines({"id": 2, "y": 2}))

    outcome = (await bench.load("b.json"))["b.json"]

    assert outcome.status is OutcomeStatus.LOADED
    assert bench.rows("id", "y", "_rescued_data") == [(1, None, None), (2, 2, None)]


async def test_column_names_of_any_kind_are_kept(bench: EngineBench) -> None:
    names = ["with space", 'quote"d', "it's", "ünï", "a.b", "select", "1st", "{x}", "back\\slash", "-"]
    bench.land("a.json", lines({name: number for number, name in enumerate(names)}))
    bench.land("b.json", lines({name: {"in " + name: number} for number, name in enumerate(["o'", 'p"', "q.r"])}))

    await bench.load("a.json")
    bench.destination = type(bench.destination)("autoloader", "lake", "nested")
    await bench.load("b.json")

    assert bench.rows()[0]["o'"] == {"in o'": 0}
    assert bench.rows()[0]["q.r"] == {"in q.r": 2}
    bench.destination = type(bench.destination)("autoloader", "lake", "flights")
    assert {name: bench.rows()[0][name] for name in names} == {name: number for number, name in enumerate(names)}
