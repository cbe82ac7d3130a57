"""Each format, whole, broken and mixed with others of its kind."""

from __future__ import annotations

import datetime as dt
import io
import json
import struct
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc as po
import pyarrow.parquet as pq
import pytest

from domain.errors import ValidationError
from domain.ingestions.entities import BadRowPolicy, FormatSpec, FormatType, SchemaEvolution
from domain.ports.engine import OutcomeStatus
from tests.fixtures.engine_bench import EngineBench

ROWS = [{"id": number, "name": f"n{number}", "ratio": number / 4} for number in range(1000)]
AVRO_SCHEMA = {
    "type": "record",
    "name": "row",
    "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}, {"name": "ratio", "type": "double"}],
}


def parquet(table: pa.Table | list[dict[str, Any]], **kwargs: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pylist(table), sink, **kwargs)
    return sink.getvalue()


def orc(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    po.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def avro(rows: list[dict[str, Any]], schema: dict[str, Any] | None = None, codec: str = "deflate") -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, fastavro.parse_schema(schema or AVRO_SCHEMA), rows, codec=codec)
    return sink.getvalue()


def local(*parts: int) -> dt.datetime:
    year, month, day, *time = parts
    return dt.datetime(year, month, day, *time, tzinfo=dt.UTC).replace(tzinfo=None)


WRITERS = {FormatType.PARQUET: parquet, FormatType.ORC: orc, FormatType.AVRO: avro}
COLUMNAR = list(WRITERS)


@pytest.mark.parametrize("format_", COLUMNAR)
async def test_a_columnar_file_loads_whole_with_its_own_types(bench: EngineBench, format_: FormatType) -> None:
    bench.land("a", WRITERS[format_](ROWS))
    bench.land("b", WRITERS[format_](ROWS[:10]))

    outcomes = await bench.load(format=format_)

    assert {name: outcome.rows for name, outcome in outcomes.items()} == {"a": 1000, "b": 10}
    assert bench.columns() == {"id": "long", "name": "string", "ratio": "double"}
    expected = [(row["id"], row["name"], row["ratio"]) for row in [*ROWS, *ROWS[:10]]]
    assert bench.rows("id", "name", "ratio") == sorted(expected, key=repr)


@pytest.mark.parametrize("format_", COLUMNAR)
@pytest.mark.parametrize("damage", ["cut short", "another format", "empty", "cut to pieces"])
async def test_a_broken_columnar_file_fails_alone(bench: EngineBench, format_: FormatType, damage: str) -> None:
    whole = WRITERS[format_](ROWS)
    content = {
        "cut short": whole[:-20],
        "another format": json.dumps(ROWS).encode(),
        "empty": b"",
        "cut to pieces": whole[: len(whole) // 2],
    }
    bench.land("bad", content[damage])
    bench.land("good", whole)

    outcomes = await bench.load(format=format_)

    assert outcomes["good"].rows == 1000
    assert outcomes["bad"].status is (OutcomeStatus.SKIPPED if damage == "empty" else OutcomeStatus.FAILED)
    assert outcomes["bad"].message
    assert len(bench.rows()) == 1000


@pytest.mark.parametrize("format_", COLUMNAR)
async def test_a_columnar_file_without_rows_is_loaded_with_none(bench: EngineBench, format_: FormatType) -> None:
    table = pa.Table.from_pylist(ROWS).slice(0, 0)
    sink = io.BytesIO()
    po.write_table(table, sink)
    bench.land("none", {FormatType.PARQUET: parquet(table), FormatType.ORC: sink.getvalue(), FormatType.AVRO: avro([])}[format_])

    outcome = (await bench.load(format=format_))["none"]

    assert (outcome.status, outcome.rows) == (OutcomeStatus.LOADED, 0)
    assert await bench.engine.table_state(bench.destination) is None


async def test_damage_inside_a_parquet_page_fails_the_file_alone(bench: EngineBench) -> None:
    whole = parquet(ROWS, compression="zstd", use_dictionary=False)
    start = pq.read_metadata(io.BytesIO(whole)).row_group(0).column(1).data_page_offset
    bench.land("bad", whole[: start + 40] + bytes(200) + whole[start + 240 :])
    for number in range(5):
        bench.land(f"good-{number}", whole)

    outcomes = await bench.load(format=FormatType.PARQUET)

    assert "damaged" in (outcomes.pop("bad").message or "")
    assert [outcome.rows for outcome in outcomes.values()] == [1000] * 5
    assert len(bench.rows()) == 5000


async def test_a_flipped_byte_is_noticed_where_the_pages_have_checksums(bench: EngineBench) -> None:
    whole = parquet(ROWS, compression="none", use_dictionary=False, write_page_checksum=True)
    column = pq.read_metadata(io.BytesIO(whole)).row_group(0).column(0)
    spot = column.data_page_offset + column.total_compressed_size - 100
    bench.land("bad", whole[:spot] + bytes([whole[spot] ^ 0xFF]) + whole[spot + 1 :])
    bench.land("good", whole)

    outcomes = await bench.load(format=FormatType.PARQUET)

    assert "damaged" in (outcomes["bad"].message or "")
    assert outcomes["good"].rows == 1000


async def test_parquet_is_never_narrowed(bench: EngineBench) -> None:
    bench.land("first", parquet([{"id": 1, "n": 1}]))
    await bench.load("first", format=FormatType.PARQUET)
    bench.land("fraction", parquet([{"id": 2, "n": 2.5}]))
    bench.land("whole", parquet([{"id": 3, "n": 3.0}]))
    bench.land("text", parquet([{"id": 4, "n": "4"}]))
    bench.land("nothing", parquet(pa.table({"id": [5], "n": pa.array([None], pa.string())})))

    outcomes = await bench.load("fraction", "whole", "text", "nothing", format=FormatType.PARQUET)

    failed = {name for name, outcome in outcomes.items() if outcome.status is OutcomeStatus.FAILED}
    assert failed == {"fraction", "whole", "text"}
    assert outcomes["fraction"].message == 'Row 1: column "n": 2.5 is not of type long.'
    assert bench.rows("id", "n") == [(1, 1), (5, None)]


@pytest.mark.parametrize("type_", [pa.uint64(), pa.decimal128(38, 0)])
async def test_long_whole_numbers_fit_a_column_of_shorter_ones_where_they_are_short(bench: EngineBench, type_: pa.DataType) -> None:
    bench.land("first", parquet(pa.table({"i": pa.array([0], pa.int32()), "l": pa.array([0], pa.int64())})))
    await bench.load("first", format=FormatType.PARQUET)
    for name, short, long in (("fits", 2**31 - 1, 2**63 - 1), ("long", 1, 2**63), ("int", 2**31, 1)):
        values = [pa.array([Decimal(value), None]).cast(type_) for value in (short, long)]
        bench.land(name, parquet(pa.table(values, names=["i", "l"])))

    outcomes = await bench.load("fits", "long", "int", format=FormatType.PARQUET)

    assert {name: outcome.message for name, outcome in outcomes.items()} == {
        "fits": None,
        "long": 'Row 1: column "l": 9223372036854775808 is not of type long.',
        "int": 'Row 1: column "i": 2147483648 is not of type int.',
    }
    assert bench.rows("i", "l") == [(0, 0), (2**31 - 1, 2**63 - 1), (None, None)]


async def test_columnar_rows_that_do_not_fit_are_skipped_or_rescued(bench: EngineBench) -> None:
    bench.land("first", parquet([{"id": 1, "n": 1}]))
    await bench.load("first", format=FormatType.PARQUET)
    bench.land("next", parquet(pa.table({"id": [2, 3], "n": pa.array([2.5, None])})))

    skipped = (await bench.load("next", format=FormatType.PARQUET, bad_rows=BadRowPolicy.SKIP_ROW))["next"]
    rescued = (await bench.load("next", format=FormatType.PARQUET, bad_rows=BadRowPolicy.RESCUE))["next"]

    assert (skipped.rows, skipped.rows_skipped) == (1, 1)
    assert (rescued.rows, rescued.rows_rescued) == (2, 1)
    assert bench.rows("id", "n", "_rescued_data") == sorted(
        [(1, 1, None), (3, None, None), (2, None, '{"id":2,"n":2.5}'), (3, None, None)], key=repr
    )


@pytest.mark.parametrize("format_", [FormatType.PARQUET, FormatType.ORC])
async def test_a_rescued_row_is_json_also_with_numbers_that_json_has_not(bench: EngineBench, format_: FormatType) -> None:
    nan, inf = float("nan"), float("inf")
    write = WRITERS[format_]
    bench.land("first", write([{"n": 1}]))
    await bench.load("first", format=format_)
    rows = [
        {"n": nan, "d": {"l": [inf, 0.5, None], "s": "NaN"}},
        {"n": 0.1, "d": None},
        {"n": -inf, "d": {"l": None, "s": None}},
        {"n": None, "d": None},
    ]
    bench.land("next", write(rows))

    await bench.load("next", format=format_, bad_rows=BadRowPolicy.RESCUE, evolution=SchemaEvolution.RESCUE)

    rescued = [json.loads(text, parse_constant=pytest.fail) for text in bench.rows("_rescued_data") if text is not None]
    assert sorted(rescued, key=repr) == sorted(
        [
            {"n": "nan", "d": {"l": ["inf", 0.5, None], "s": "NaN"}},
            {"n": 0.1, "d": None},
            {"n": "-inf", "d": {"l": None, "s": None}},
        ],
        key=repr,
    )


async def test_a_rescued_map_is_an_object_if_its_keys_are_names_of_one(bench: EngineBench) -> None:
    bench.land("first", parquet([{"id": 1}]))
    await bench.load("first", format=FormatType.PARQUET)
    maps = pa.array([[("k", float("nan")), ("k", 1.0)], [("k", 1.0), ("l", float("inf"))], [], None], pa.map_(pa.string(), pa.float64()))
    bench.land("next", parquet(pa.table({"id": [2, 3, 4, 5], "m": maps})))

    await bench.load("next", format=FormatType.PARQUET, evolution=SchemaEvolution.RESCUE)

    assert bench.rows("id", "_rescued_data") == [
        (1, None),
        (2, '{"id":2,"m":[{"key":"k","value":"nan"},{"key":"k","value":1.0}]}'),
        (3, '{"id":3,"m":{"k":1.0,"l":"inf"}}'),
        (4, '{"id":4,"m":{}}'),
        (5, None),
    ]


async def test_every_parquet_type_arrives_with_its_value(bench: EngineBench) -> None:
    in_utc = dt.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=dt.UTC)
    moment = in_utc.replace(tzinfo=None)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    pair = pa.struct([("a", pa.int16()), ("b", pa.string())])
    values: dict[str, tuple[pa.DataType, Any, str, Any]] = {
        "tiny": (pa.int8(), -5, "int", -5),
        "unsigned": (pa.uint32(), 2**32 - 1, "long", 2**32 - 1),
        "huge": (pa.uint64(), 2**64 - 1, "decimal(20, 0)", Decimal(2**64 - 1)),
        "single": (pa.float32(), 0.5, "float", 0.5),
        "flag": (pa.bool_(), True, "boolean", True),
        "blob": (pa.binary(), b"\x00\xff", "binary", b"\x00\xff"),
        "fixed": (pa.binary(2), b"ab", "binary", b"ab"),
        "day": (pa.date32(), dt.date(1969, 12, 31), "date", dt.date(1969, 12, 31)),
        "clock": (pa.time64("us"), dt.time(23, 59, 1, 5), "time", dt.time(23, 59, 1, 5)),
        "local": (pa.timestamp("us"), moment, "timestamp", moment),
        "millis": (pa.timestamp("ms"), midnight, "timestamp", midnight),
        "nanos": (pa.timestamp("ns"), moment, "timestamp", moment),
        "moment": (pa.timestamp("us", "Europe/Berlin"), in_utc, "timestamptz", in_utc),
        "nano_moment": (pa.timestamp("ns", "UTC"), in_utc, "timestamptz", in_utc),
        "money": (pa.decimal128(20, 4), Decimal("-123456789012.3456"), "decimal(20, 4)", Decimal("-123456789012.3456")),
        "word": (pa.dictionary(pa.int32(), pa.string()), "x", "string", "x"),
        "list": (pa.list_(pa.int64()), [1, None], "list<long>", [1, None]),
        "lists": (pa.list_(pa.list_(pa.int8())), [[1], []], "list<list<int>>", [[1], []]),
        "struct": (
            pair,
            {"a": 1, "b": None},
            "struct<a: int, b: string>",
            {"a": 1, "b": None},
        ),
        "map": (pa.map_(pa.string(), pa.float64()), [("k", 0.5)], "map<string, double>", [("k", 0.5)]),
    }
    table = pa.table({name: pa.array([value, None], type_) for name, (type_, value, _, _) in values.items()})
    bench.land("all", parquet(table))

    await bench.load(format=FormatType.PARQUET)

    assert bench.columns() == {name: notation for name, (_, _, notation, _) in values.items()}
    first, second = sorted(bench.rows(), key=lambda row: row["tiny"] is None)
    assert {name: first[name] for name in values} == {name: expected for name, (_, _, _, expected) in values.items()}
    assert {second[name] for name in values} == {None}


@pytest.mark.parametrize("name", ["file_row_number", "File_Row_Number", "filename", "file_index"])
async def test_parquet_columns_may_have_the_names_of_duckdbs_own(bench: EngineBench, name: str) -> None:
    bench.land("first", parquet([{name: 7, "n": 1}]))
    await bench.load("first", format=FormatType.PARQUET)
    bench.land("next", parquet([{name: 8, "n": 2.0}, {name: 9, "n": 2.5}]))

    outcome = (await bench.load("next", format=FormatType.PARQUET))["next"]

    assert bench.rows(name, "n") == [(7, 1)]
    assert outcome.message == 'Row 1: column "n": 2.0 is not of type long. (1 more bad row.)'


async def test_a_map_with_a_key_twice_fits_no_map_that_takes_a_cast(bench: EngineBench) -> None:
    def maps(*maps: list[tuple[str | None, int]] | None, key: pa.DataType, item: pa.DataType) -> bytes:
        return parquet(pa.table({"id": range(len(maps)), "m": pa.array(maps, pa.map_(key, item))}))

    bench.land("first", maps([("a", 1)], key=pa.string(), item=pa.int64()))
    await bench.load("first", format=FormatType.PARQUET)
    next_ = ([("a", 2), ("a", 3)], [("b", 4), ("c", 4)], [], None)
    bench.land("next", maps(*next_, key=pa.string(), item=pa.int32()))

    failed = (await bench.load("next", format=FormatType.PARQUET))["next"]
    skipped = (await bench.load("next", format=FormatType.PARQUET, bad_rows=BadRowPolicy.SKIP_ROW))["next"]

    assert failed.message == 'Row 1: column "m": {a=2, a=3} is not of type map<string, long>.'
    assert (skipped.rows, skipped.rows_skipped) == (3, 1)
    assert bench.rows("m") == sorted([[("a", 1)], *next_[1:]], key=repr)


async def test_keys_of_a_map_that_do_not_fit_make_their_row_bad(bench: EngineBench) -> None:
    def maps(*maps: list[tuple[int, int]], key: pa.DataType) -> bytes:
        return parquet(pa.table({"m": pa.array(maps, pa.map_(key, pa.int64()))}))

    bench.land("first", maps([(1, 1)], key=pa.int32()))
    await bench.load("first", format=FormatType.PARQUET)
    bench.land("next", maps([(2, 2)], [(2**31, 2)], key=pa.int64()))

    outcome = (await bench.load("next", format=FormatType.PARQUET, bad_rows=BadRowPolicy.RESCUE))["next"]

    assert (outcome.rows, outcome.rows_rescued) == (2, 1)
    assert bench.rows("m", "_rescued_data") == sorted([([(1, 1)], None), ([(2, 2)], None), (None, '{"m":{"2147483648":2}}')], key=repr)


async def test_nanoseconds_that_a_table_cannot_hold_are_not_dropped(bench: EngineBench) -> None:
    table = pa.table({"at": pa.array([1_000, 1_001], pa.timestamp("ns"))})
    bench.land("nanos", parquet(table))
    bench.land("int96", parquet(table, use_deprecated_int96_timestamps=True))

    outcomes = await bench.load(format=FormatType.PARQUET)

    assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.FAILED}
    assert all((outcome.message or "").startswith('Row 2: column "at"') for outcome in outcomes.values()), outcomes


async def test_int96_timestamps_are_the_moments_that_were_written(bench: EngineBench) -> None:
    moments = [
        local(1, 1, 1),
        local(1677, 1, 1),
        local(1969, 12, 31, 23, 59, 59, 999999),
        local(9999, 12, 31),
        None,
    ]
    at = pa.timestamp("us")
    table = pa.table(
        {
            "at": pa.array(moments, at),
            "a.b": pa.array(moments, at),
            "list": pa.array([[None, moment] for moment in moments], pa.list_(at)),
            "deep": pa.array([{"m": [("k", moment)]} for moment in moments], pa.struct([("m", pa.map_(pa.string(), at))])),
        }
    )
    bench.land("a", parquet(table, use_deprecated_int96_timestamps=True))

    await bench.load(format=FormatType.PARQUET)

    assert bench.columns() == {
        "at": "timestamp",
        "a.b": "timestamp",
        "list": "list<timestamp>",
        "deep": "struct<m: map<string, timestamp>>",
    }
    expected = [(moment, moment, [None, moment], {"m": [("k", moment)]}) for moment in moments]
    assert bench.rows("at", "a.b", "list", "deep") == sorted(expected, key=repr)


async def test_int96_timestamps_that_no_unit_holds_fail_their_file(bench: EngineBench) -> None:
    table = pa.table({"at": pa.array([local(1970, 1, 1, 0, 0, 0, 1), local(9999, 12, 31)], pa.timestamp("us"))})
    whole = parquet(table, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none")
    # Nanoseconds of the day, and the Julian day.
    first, changed = (struct.pack("<qi", nanoseconds, 2_440_588) for nanoseconds in (1_000, 1_001))
    assert whole.count(first) == 1
    bench.land("both", whole.replace(first, changed))

    outcome = (await bench.load(format=FormatType.PARQUET))["both"]

    assert outcome.message == "The file has timestamps with nanoseconds beside others that are before 1678 or after 2261."


async def test_a_column_of_a_type_that_no_table_has_fails_the_file_with_its_name(bench: EngineBench) -> None:
    bench.land("span", parquet(pa.table({"span": pa.array([1], pa.duration("s"))})))

    outcome = (await bench.load(format=FormatType.PARQUET))["span"]

    assert 'The column "span" cannot be stored' in (outcome.message or "")


AVRO_THAT_IS_NOT_SUPPORTED: dict[str, tuple[Any, Any, str]] = {
    "a map": ({"type": "map", "values": "long"}, {"k": 1}, 'a map in "c"'),
    "a union": (["long", "string"], 1, 'a union that is not of null and one type in "c"'),
    "a union of one": (["long"], 1, 'a union that is not of null and one type in "c"'),
    "a null": ("null", None, 'the type null in "c"'),
    "a null as an object": ({"type": "null"}, None, 'the type null in "c"'),
    "nulls in an array": ({"type": "array", "items": "null"}, [None], 'the type null in "c"'),
    "a reference": ("kind", "A", 'a reference to the type "kind" in "c"'),
    "a reference in a union": (["null", "kind"], "A", 'a reference to the type "kind" in "c"'),
}


@pytest.mark.parametrize("case", AVRO_THAT_IS_NOT_SUPPORTED)
async def test_avro_that_cannot_be_read_says_why(bench: EngineBench, case: str) -> None:
    schema, value, said = AVRO_THAT_IS_NOT_SUPPORTED[case]
    kind = {"type": "enum", "name": "kind", "symbols": ["A", "B"]}
    record = {"type": "record", "name": "row", "fields": [{"name": "k", "type": kind}, {"name": "c", "type": schema}]}
    bench.land("a", avro([{"k": "B", "c": value}], record))

    outcome = (await bench.load(format=FormatType.AVRO))["a"]

    assert outcome.message == f"The Avro schema holds {said}, which is not supported."


async def test_avro_logical_types_arrive_with_their_values(bench: EngineBench) -> None:
    fields = {
        "day": ({"type": "int", "logicalType": "date"}, dt.date(2024, 1, 2), "date"),
        "at": ({"type": "long", "logicalType": "timestamp-micros"}, dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), "timestamptz"),
        "local": ({"type": "long", "logicalType": "local-timestamp-micros"}, local(2024, 1, 2, 3, 4, 5, 6), "timestamp"),
        "millis": ({"type": "int", "logicalType": "time-millis"}, dt.time(23, 59, 59, 999000), "time"),
        "micros": (["null", {"type": "long", "logicalType": "time-micros"}], dt.time(0, 0, 0, 1), "time"),
        "times": ({"type": "array", "items": {"type": "int", "logicalType": "time-millis"}}, [dt.time(1)], "list<time>"),
        "code": ({"type": "fixed", "name": "code", "size": 2}, b"ab", "binary"),
        "money": ({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}, Decimal("1.25"), "decimal(10, 2)"),
        "color": ({"type": "enum", "name": "color", "symbols": ["RED", "BLUE"]}, "BLUE", "string"),
        "inner": (
            {"type": "record", "name": "inner", "fields": [{"name": "x", "type": {"type": "int", "logicalType": "time-millis"}}]},
            {"x": dt.time(2)},
            "struct<x: time>",
        ),
        "list": ({"type": "array", "items": "string"}, ["a"], "list<string>"),
    }
    schema = {"type": "record", "name": "row", "fields": [{"name": name, "type": type_} for name, (type_, _, _) in fields.items()]}
    bench.land("a", avro([{name: value for name, (_, value, _) in fields.items()}], schema))

    await bench.load(format=FormatType.AVRO)

    assert bench.columns() == {name: notation for name, (_, _, notation) in fields.items()}
    (row,) = bench.rows()
    assert {name: row[name] for name in fields} == {name: value for name, (_, value, _) in fields.items()}


async def test_an_avro_block_out_of_step_is_noticed(bench: EngineBench) -> None:
    whole = avro(ROWS)
    bench.land("bad", whole[:-1] + bytes([whole[-1] ^ 1]))

    outcome = (await bench.load(format=FormatType.AVRO))["bad"]

    assert "damaged" in (outcome.message or "")


async def test_json_arrays_and_lines_load_alike(bench: EngineBench) -> None:
    rows = [{"id": 1, "text": "a\nb", "deep": {"list": [1, 2.5, None], "none": None}}, {"id": 2, "text": "[],{}", "deep": None}]
    bench.land("lines.json", "".join(json.dumps(row) + "\n" for row in rows))
    bench.land("array.json", json.dumps(rows))
    bench.land("pretty.json", "\n " + json.dumps(rows, indent=4) + "\n\n")
    bench.land("marked.json", b"\xef\xbb\xbf" + json.dumps(rows).encode())

    outcomes = await bench.load()

    assert {name: outcome.rows for name, outcome in outcomes.items()} == dict.fromkeys(outcomes, 2)
    assert bench.columns() == {"id": "long", "text": "string", "deep": "struct<list: list<double>>"}
    expected = [(1, "a\nb", {"list": [1.0, 2.5, None]}), (2, "[],{}", None)] * 4
    assert bench.rows("id", "text", "deep") == sorted(expected, key=repr)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"id": 1}, {"id": 2}', "truncated: the array is not closed after row 2"),
        ('[{"id": 1}, {"id": ', "Row 2 is not valid JSON, or the file is truncated"),
        ('[{"id": 1} {"id": 2}]', "The array is broken after row 1"),
        ('[{"id": 1}] {"id": 2}', "text after the end of the array"),
        ('[{"id": 1}, 2]', "Row 2: it is not a JSON object"),
        ('[{"id": 1}, {"id": 2, "id": 3}]', 'Row 2: the name "id" is in one object twice'),
        ("[" * 100_000, "nested too deeply"),
    ],
)
async def test_a_broken_json_array_fails_alone(bench: EngineBench, content: str, said: str) -> None:
    bench.land("bad.json", content)
    bench.land("good.json", '[{"id": 1}]')

    outcomes = await bench.load()

    assert said in (outcomes["bad.json"].message or "")
    assert outcomes["good.json"].rows == 1
    assert bench.rows("id") == [1]


async def test_the_layout_may_be_told(bench: EngineBench) -> None:
    bench.land("a.json", '{"id": 1}\n')

    outcome = (await bench.load(options={"layout": "ARRAY"}))["a.json"]

    assert "not a JSON array" in (outcome.message or "")


@pytest.mark.parametrize(("encoding", "option"), [("latin-1", "latin-1"), ("utf-16", "utf-16"), ("utf-8-sig", "utf-8")])
async def test_csv_encodings(bench: EngineBench, encoding: str, option: str) -> None:
    bench.land("a.csv", "id,name\n1,café\n".encode(encoding))

    await bench.load(format=FormatType.CSV, options={"encoding": option})

    assert bench.rows("id", "name") == [(1, "café")]


async def test_csv_that_is_not_the_encoding_it_should_be_fails(bench: EngineBench) -> None:
    bench.land("a.csv", b"id,name\n1,a")

    outcome = (await bench.load(format=FormatType.CSV, options={"encoding": "utf-16"}))["a.csv"]

    assert "The file is not utf-16" in (outcome.message or "")


async def test_csv_options_are_followed(bench: EngineBench) -> None:
    bench.land("a.csv", "1;'a;b';NA\n2;'it\\'s';\n")

    await bench.load(
        format=FormatType.CSV,
        options={"delimiter": ";", "quote": "'", "escape": "\\", "header": False, "null_values": ["NA"]},
    )

    assert bench.columns() == {"column_1": "long", "column_2": "string", "column_3": "string"}
    assert bench.rows("column_1", "column_2", "column_3") == [(1, "a;b", None), (2, "it's", "")]


CSV_WITH_ESCAPES = {
    "outside of quotes": (r"C:\new\t", r"C:\new\t"),
    "at the end of a field": ("C:\\", "C:\\"),
    "before a quote outside of quotes": (r"a\"b", r"a\"b"),
    "twice outside of quotes": (r"a\\b", r"a\\b"),
    "before a field's quote": (r"\"a\"", r"\"a\""),
    "before a quote": (r'"a\"b"', 'a"b'),
    "before another": (r'"a\\b"', r"a\b"),
    "before another and the last quote": (r'"a\\"', "a\\"),
    "before another and a quote": (r'"x\\\"y"', r"x\"y"),
    "before a letter": (r'"C:\new"', r"C:\new"),
    "before a delimiter": (r'"a\,b"', r"a\,b"),
    "before a line end": ('"a\\\nb"', "a\\\nb"),
    "over lines": ('"a\n\\"\nb\\\\"', 'a\n"\nb\\'),
    "nowhere": ('"a\n,b"', "a\n,b"),
}


@pytest.mark.parametrize("case", CSV_WITH_ESCAPES)
async def test_csv_escapes_are_some_inside_of_quotes_alone(bench: EngineBench, case: str) -> None:
    written, text = CSV_WITH_ESCAPES[case]
    bench.land("a.csv", f'id,a,b,c\n1,{written},"x, y",{written}\n2,{written},,z\n')

    await bench.load(format=FormatType.CSV, options={"escape": "\\"})

    assert bench.rows("id", "a", "b", "c") == [(1, text, "x, y", text), (2, text, None, "z")]


@pytest.mark.parametrize("row", ['1,"a""b"', '1,"a\\"', '1,"a"b', '1,"a" ', r"1,a\,b"])
async def test_csv_that_is_broken_where_quotes_are_escaped(bench: EngineBench, row: str) -> None:
    bench.land("a.csv", f"id,a\n{row}\n2,b\n")

    outcome = (await bench.load(format=FormatType.CSV, options={"escape": "\\"}))["a.csv"]

    assert outcome.status is OutcomeStatus.FAILED


async def test_infer_and_preview_write_nothing(bench: EngineBench) -> None:
    bench.land("a.json", '{"id": 1, "at": "2024-01-01", "price": 0.1, "tags": ["x"]}\n{"id": 2}\n{"id": 3, "extra": true}\n')
    objects = await bench.objects()
    json_ = FormatSpec(FormatType.JSON)

    schema = await bench.engine.infer(bench.source, bench.grants, json_, objects)
    preview = await bench.engine.preview(bench.source, bench.grants, json_, objects, limit=2)

    described = {column.name: column.type for column in schema.columns}
    assert described == {"id": "long", "at": "string", "price": "double", "tags": "list<string>", "extra": "boolean"}
    assert preview.schema == schema
    assert preview.rows == [
        {"id": 1, "at": "2024-01-01", "price": 0.1, "tags": ["x"], "extra": None},
        {"id": 2, "at": None, "price": None, "tags": None, "extra": None},
    ]
    assert await bench.engine.table_state(bench.destination) is None


async def test_a_preview_of_files_that_cannot_be_read_says_why(bench: EngineBench) -> None:
    bench.land("a.json", "<html>\n")

    with pytest.raises(ValidationError, match="no JSON object"):
        await bench.engine.preview(bench.source, bench.grants, FormatSpec(FormatType.JSON), await bench.objects(), limit=5)


async def test_a_preview_shows_every_type_as_json(bench: EngineBench) -> None:
    row = pa.table(
        {
            "at": pa.array([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], pa.timestamp("us", "UTC")),
            "money": pa.array([Decimal("1.50")]),
            "blob": pa.array([b"\x00"]),
            "odd": pa.array([float("nan")]),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        }
    )
    bench.land("a", parquet(row))

    preview = await bench.engine.preview(bench.source, bench.grants, FormatSpec(FormatType.PARQUET), await bench.objects(), limit=1)

    assert json.loads(json.dumps(list(preview.rows))) == [
        {"at": "2024-01-01T00:00:00+00:00", "money": "1.50", "blob": "AA==", "odd": "nan", "map": [["k", 1]]}
    ]
