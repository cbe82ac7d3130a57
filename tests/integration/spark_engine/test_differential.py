"""The same files through both engines give the same table and the same outcomes."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc
from pyiceberg.catalog.sql import SqlCatalog

from domain.ingestions.entities import BadRowPolicy, Destination, FormatType, SchemaEvolution
from domain.ports.engine import ColumnChange, Decisions, FileOutcome, OutcomeStatus
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings
from integrations.object_store.stores import ConfiguredObjectStores
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench

ASK = SchemaEvolution.REQUIRE_APPROVAL
Comparable = Callable[[Mapping[str, Any]], str]
"""What has to be the same of a row."""


def as_it_is(row: Mapping[str, Any]) -> str:
    return repr(sorted((name, value) for name, value in row.items() if name != "_batch_id"))


@dataclass
class Both:
    """Two benches over one folder, and a table for each."""

    spark: EngineBench
    embedded: EngineBench

    def land(self, name: str, content: bytes | str) -> None:
        self.spark.land(name, content)

    async def load(self, *names: str, **how: Any) -> dict[str, FileOutcome]:
        """Load the files through both; the outcomes, once they have been found to be the same."""
        by_spark, by_embedded = await self.spark.load(*names, **how), await self.embedded.load(*names, **how)
        assert _told(by_spark) == _told(by_embedded)
        return by_spark

    def same_tables(self, comparable: Comparable = as_it_is) -> list[dict[str, Any]]:
        """The rows, once they and the columns have been found to be the same."""
        assert self.spark.outcome is not None
        assert self.embedded.outcome is not None
        # Spark does not know in which order later rows bring their names.
        assert self.spark.columns() == self.embedded.columns()
        rows: list[dict[str, Any]] = self.spark.rows()
        assert sorted(map(comparable, rows)) == sorted(map(comparable, self.embedded.rows()))
        return rows


def _told(outcomes: Mapping[str, FileOutcome]) -> dict[str, Any]:
    return {
        name: (outcome.status, outcome.rows, outcome.rows_skipped, outcome.rows_rescued, outcome.message is not None, outcome.needs)
        for name, outcome in outcomes.items()
    }


@pytest.fixture
async def both(bench: EngineBench, settings: EmbeddedEngineSettings, catalog: SqlCatalog) -> AsyncIterator[Both]:
    lake = EmbeddedEngine(settings, ConfiguredObjectStores({}))
    embedded = EngineBench(lake, bench.stores, bench.folder, bench.read_rows, Destination("autoloader", "lake", "embedded"))
    yield Both(bench, embedded)
    await lake.close()


async def test_json_of_many_kinds(both: Both) -> None:
    both.land(
        "a.json",
        lines(
            {"id": 1, "price": 1.5, "ok": True, "name": "é\u2028'\"\\", "tags": ["a", "b"], "at": {"x": 1, "y": {"z": 2.5}}, "none": None},
            {"id": 2**53, "price": -3.25, "ok": None, "name": "", "tags": [], "at": None, "mixed": 1},
            {"id": -(2**63), "mixed": "one", "name": "x" * 1000, "list": [1, 2.5], "deep": [{"k": 1}, {"l": "m"}]},
        ),
    )
    both.land("b.json", "\ufeff" + json.dumps([{"id": 7, "name": "from an array"}, {"id": 8, "ok": False}]))
    both.land("c.json", '\n{"id": 9, "a b": 1, "c`d": "tick", "e.f": 2, "g\'h": 3}\r\n  \n{"id": 10}')

    await both.load()

    assert len(both.same_tables()) == 7


async def test_json_that_is_not_what_it_seems(both: Both) -> None:
    for name, content in {
        "good.json": lines({"id": 1}),
        "garbage_after.json": '{"id": 1} xyz\n',
        "two_in_a_line.json": '{"id": 1}{"id": 2}\n',
        "two_with_comma.json": '{"id": 1},{"id": 2}\n',
        "twice.json": '{"id": 1, "id": 2}\n',
        "numbers.json": "1\n2\n",
        "some_numbers.json": '{"id": 1}\n2\n{"id": 3}\n',
        "cut.json": '{"id": 1}\n{"id": 2',
        "html.json": "<html>\n</html>\n",
        "empty.json": "",
        "blank.json": " \n\n",
        "cut_array.json": '[{"id": 1}, {"id": 2}',
        "same_but_for_case.json": '{"Id": 1}\n',
        "reserved.json": '{"_batch_id": "x"}\n',
    }.items():
        both.land(name, content)
    both.land("latin.json", b'{"id": 1, "name": "\xe9"}\n')

    await both.load()

    assert [row["id"] for row in both.same_tables()] == [1]


@pytest.mark.parametrize("bad_rows", list(BadRowPolicy))
async def test_an_object_of_nothing_but_nulls_is_no_reason_for_text(both: Both, bad_rows: BadRowPolicy) -> None:
    both.land("a.json", lines({"id": 1, "n": 7, "at": {"x": 1}}))
    both.land("b.json", lines({"id": 2, "n": {"z": None}, "at": {"z": {"y": None}}, "none": {"z": None}}))

    await both.load(bad_rows=bad_rows)

    both.same_tables()
    assert both.spark.columns() == {"id": "long", "n": "long", "at": "struct<x: long>"}


@pytest.mark.parametrize("layout", ["AUTO", "ARRAY"])
async def test_an_array_without_elements_is_no_empty_file(both: Both, layout: str) -> None:
    for name, content in {
        "blank.json": "\ufeff \r\n",
        "bare.json": "[]",
        "spread.json": "\ufeff\n[\n ]\r\n",
        "good.json": '[{"id": 1}]',
    }.items():
        both.land(name, content)

    only = await both.load("bare.json", options={"layout": layout})
    outcomes = await both.load("blank.json", "spread.json", "good.json", options={"layout": layout})

    assert only["bare.json"].status == "LOADED"
    assert [(outcome.status, outcome.rows) for outcome in outcomes.values()] == [("SKIPPED", 0), ("LOADED", 0), ("LOADED", 1)]
    both.same_tables()


@pytest.mark.parametrize("bad_rows", list(BadRowPolicy))
@pytest.mark.parametrize("evolution", [SchemaEvolution.ADD_NEW_COLUMNS, SchemaEvolution.RESCUE, SchemaEvolution.IGNORE])
async def test_json_under_the_policies(both: Both, bad_rows: BadRowPolicy, evolution: SchemaEvolution) -> None:
    both.land("0.json", lines({"id": 1, "at": {"x": 1}, "price": 1.5}))
    await both.load("0.json", bad_rows=bad_rows, evolution=evolution)
    both.land("1.json", '{"id": 2, "at": {"x": 2, "y": 3}, "new": "n"}\n{"id": "three"}\nnot json\n{"id": 4, "price": "5.25"}\n')
    both.land("2.json", lines({"id": 5, "new": None}, {"id": 6, "at": "nowhere"}))
    both.land("3.json", lines({"id": "7", "price": 8}))

    await both.load("1.json", "2.json", "3.json", bad_rows=bad_rows, evolution=evolution)

    both.same_tables()


async def test_json_of_which_every_value_is_of_its_fields_type(both: Both) -> None:
    both.land(
        "a.json",
        '\ufeff{"id": 1, "price": -1.5, "ok": true, "name": "é\\u2028\\\\\\"\\ud83d\\ude00", "a.b`c \\"d": "odd"}\r\n'
        '\n  {"price": 0.30000000000000004, "id": 9223372036854775807, "name": "1e400,", "ok": null}  \n'
        '{"id": -9223372036854775808, "price": 12345678901234.567, "ok": false, "name": "\\u0000"}\n'
        '{"name": "{}}", "price": null}',
    )
    both.land("b.json", '{"id": 5, "price": 2.5, "more": "x"}\n{"name": "b", "none": null}\n')
    # A field that is of another type in another file of the batch, and in the table.
    both.land("c.json", '{"price": 7, "id": 8}\n')
    both.land("d.json", '{"price": 8.5, "id": 9}\n')

    outcomes = await both.load("a.json", "b.json") | await both.load("c.json", "d.json")

    assert [outcome.status for outcome in outcomes.values()] == ["LOADED"] * 4
    rows = {row["id"]: row for row in both.same_tables() if row["id"] is not None}
    assert rows[2**63 - 1]["price"] == 0.30000000000000004
    assert rows[1]["name"] == 'é\u2028\\"\U0001f600'


NO_OBJECTS = (
    "null",
    '{"id": 2} null',
    '{"id": 2},"the end of the line"] x',
    '{"id": 2}]',
    '{"id": 2}}',
    '{"id": 2, "id": 3}',
    "[]",
    "1e400",
)
"""Lines that are no object, or more than one."""


@pytest.mark.parametrize("bad_rows", list(BadRowPolicy))
async def test_lines_that_are_not_one_object(both: Both, bad_rows: BadRowPolicy) -> None:
    both.land("first.json", lines({"id": 0}))
    for number, line in enumerate(NO_OBJECTS):
        both.land(f"{number}.json", '{"id": 1}\n' + line + '\n{"id": 3}\n')

    outcomes = await both.load(bad_rows=bad_rows)

    status = "FAILED" if bad_rows is BadRowPolicy.FAIL_FILE else "LOADED"
    assert [outcomes[f"{number}.json"].status for number in range(len(NO_OBJECTS))] == [status] * len(NO_OBJECTS)
    both.same_tables()


@pytest.mark.parametrize("bad_rows", list(BadRowPolicy))
async def test_what_somebody_has_to_decide_on(both: Both, bad_rows: BadRowPolicy) -> None:
    both.land("0.json", lines({"id": 1, "at": {"x": 1}, "small": 1, "tags": ["a"]}))
    await both.load("0.json", evolution=ASK, bad_rows=bad_rows, hints={"small": "int"})
    both.land("field.json", lines({"id": 2, "at": {"x": 2, "y": {"z": "t"}}}, {"id": 3}))
    both.land("promotion.json", lines({"id": 4, "small": 2**40}))
    both.land("fits.json", lines({"id": 5, "small": 7, "none": None}))
    both.land("both.json", lines({"id": 6, "new": [1.5], "at": {"x": 3, "y": {"z": "u"}}}, {"id": "six", "new": None}))
    both.land("another.json", lines({"id": 7, "new": "text", "tags": [1]}))
    names = ("field.json", "promotion.json", "fits.json", "both.json", "another.json")

    asked = await both.load(*names, evolution=ASK, bad_rows=bad_rows)
    decisions = Decisions(approved=asked["field.json"].needs, rejected=(ColumnChange("new", None, "list<double>"),))
    decided = await both.load(*names, evolution=ASK, bad_rows=bad_rows, decisions=decisions)

    assert asked["field.json"].needs == (ColumnChange("at", "struct<x: long>", "struct<x: long, y: struct<z: string>>"),)
    assert decided["field.json"].needs == ()
    both.same_tables()


@pytest.mark.parametrize("format", [FormatType.CSV, FormatType.PARQUET])
async def test_what_somebody_has_to_decide_on_in_other_formats(both: Both, format: FormatType) -> None:
    def land(name: str, rows: list[dict[str, Any]]) -> str:
        whole = f"{name}.{format.lower()}"
        if format is FormatType.CSV:
            both.land(whole, "\n".join(",".join(map(str, line)) for line in [rows[0], *(row.values() for row in rows)]) + "\n")
        else:
            pq.write_table(pa.Table.from_pylist(rows), both.spark.folder / whole)
        return whole

    first = land("first", [{"id": 1}])
    await both.load(first, format=format, evolution=ASK)
    names = [
        land("new", [{"id": 2, "price": 1.5}, {"id": 3, "price": 2.5}]),
        land("plain", [{"id": 4}]),
        land("other", [{"id": 5, "price": 7}]),
    ]

    asked = await both.load(*names, format=format, evolution=ASK)
    approved = await both.load(*names, format=format, evolution=ASK, decisions=Decisions(approved=asked[names[0]].needs))

    assert [outcome.needs for outcome in asked.values()] == [
        (ColumnChange("price", None, type_),) if type_ else () for type_ in ("double", None, "long")
    ]
    assert [outcome.needs for outcome in approved.values()] == [(), (), ()]
    both.same_tables()


async def test_numbers_beyond_a_doubles_limits(both: Both) -> None:
    both.land("a.json", lines({"id": 1, "price": 1.5}))
    await both.load("a.json")
    both.land("b.json", '{"id": 2, "price": 1e400}\n')
    both.land("c.json", '{"id": 3, "price": 1.5e100}\n{"id": 4, "price": -2}\n')

    outcomes = await both.load("b.json", "c.json")

    assert [outcome.status for outcome in outcomes.values()] == ["FAILED", "LOADED"]
    both.same_tables()


async def test_compressed_files(both: Both) -> None:
    whole = gzip.compress(lines({"id": 1}, {"id": 2}).encode())
    both.land("good.json.gz", whole)
    both.land("nothing.json.gz", gzip.compress(b""))
    both.land("cut.json.gz", whole[:-12])
    both.land("wrong_checksum.json.gz", whole[:-8] + bytes(4) + whole[-4:])
    both.land("not_gzip.json.gz", lines({"id": 3}))

    await both.load()

    assert [row["id"] for row in both.same_tables()] == [1, 2]


CSV_FILES = {
    "a.csv": 'id,name,when\n1,x,2024-01-02\n2,"with, comma",\n3,"two\nlines ""quoted""",2024-02-03\n',
    "b.csv": "name,id,extra\ny,4,1.5\n,5,\n",
    "crlf.csv": "id,name\r\n6,z\r\n",
    "header.csv": "id,name\n",
    "empty.csv": "",
    "short.csv": "id,name\n7,a\n8\n9,b\n",
    "long.csv": "id,name\n10,a,b\n",
    "open.csv": 'id,name\n11,"never closed\n12,x\n',
    "semicolon.csv": "id;name\n13;x\n",
    "html.csv": "<html><body>\n",
    "cut.csv": "id,name\n14,x\n15",
}


@pytest.mark.parametrize("bad_rows", list(BadRowPolicy))
async def test_csv(both: Both, bad_rows: BadRowPolicy) -> None:
    for name, content in CSV_FILES.items():
        both.land(name, content)

    await both.load(format=FormatType.CSV, bad_rows=bad_rows)

    both.same_tables()


async def test_csv_values_follow_hints_and_options(both: Both) -> None:
    both.land(
        "a.csv",
        "id|on|at|price|flag|n\n007|2024-01-02|2024-01-02T03:04:05Z|1.50|TRUE|NA\n8|2024-1-3|2024-01-02 03:04:05+02:00|2|false|\n",
    )
    hints = {"id": "string", "on": "date", "at": "timestamptz", "price": "decimal(10, 2)", "flag": "boolean", "n": "long"}

    await both.load(format=FormatType.CSV, options={"delimiter": "|", "null_values": ["NA", ""]}, hints=hints)

    assert both.same_tables()[0]["id"] == "007"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
async def test_csv_in_other_encodings(both: Both, encoding: str) -> None:
    for name, text in {
        "plain.csv": "id,näme\n1,é\n2,ü\n",
        "quotes.csv": 'id,näme\r\n3,"é, ""ü"""\r\n4,"two\r\nlines"\r\n',
        "cut.csv": "id,näme\n5,x\n6",
    }.items():
        both.land(name, text.encode(encoding))
    both.land("packed.csv.gz", gzip.compress("id,näme\n7,ß\n".encode(encoding)))

    outcomes = await both.load(format=FormatType.CSV, options={"encoding": encoding})

    assert outcomes["cut.csv"].status == "FAILED"
    assert {row["id"]: row["näme"] for row in both.same_tables()} == {1: "é", 2: "ü", 3: 'é, "ü"', 4: "two\r\nlines", 7: "ß"}


@pytest.mark.parametrize("bad_rows", list(BadRowPolicy))
async def test_csv_of_which_lines_end_otherwise(both: Both, bad_rows: BadRowPolicy) -> None:
    both.land("quotes.csv", 'id,name\n1,x\r\n2,"y"\r\n\r\n3,"two\nlines"\n\n4,"two\r\nlines"\n5,\r\n')
    both.land("short.csv", 'id,name\r\n6,"x"\n7\r\n8,y,z\r\n9,z\r\n')
    both.land("one.csv", 'id\r\n"10"\n\r\n11\r\n')

    await both.load(format=FormatType.CSV, bad_rows=bad_rows)

    names = {row["id"]: row["name"] for row in both.same_tables()}
    assert [names[number] for number in (1, 2, 3, 4, 5, 10, 11)] == ["x", "y", "two\nlines", "two\r\nlines", None, None, None]


@pytest.mark.parametrize("null_values", [[], ["NA"], ["", "NA"]])
async def test_csv_of_which_empty_text_may_be_text(both: Both, null_values: list[str]) -> None:
    both.land("a.csv", 'id,name\n1,\n2,NA\n3,""\n4,x\n')
    both.land("short.csv", 'id,name\n5,\n6,NA\n7,""\n8\n')

    await both.load(format=FormatType.CSV, options={"null_values": null_values}, bad_rows=BadRowPolicy.SKIP_ROW)

    names = {row["id"]: row["name"] for row in both.same_tables()}
    empty, na = None if "" in null_values else "", None if null_values else "NA"
    assert names == {1: empty, 2: na, 3: empty, 4: "x", 5: empty, 6: na, 7: empty}


ODD_QUOTES = {
    "after.csv": 'id,name\n1,"x"y\n',
    "space_after.csv": 'id,name\n2,"x" \n3,"y"\n',
    "space_between.csv": 'id,name\n16,"x" "y"\n',
    "doubled_first.csv": 'id,name\n4,""x\n',
    "inside.csv": 'id,name\n5,5" pipe\n6,x"y"\n7,"a,""b""",\n',
    "one_inside.csv": 'id,name\n8,5" pipe\n9,"x,y"\n',
    "good.csv": 'id,name\n10,"a,""b""\n ""c"""\n11,""\n12,""""\n',
    "open.csv": 'id,name\n13,5" pipe\n14,"never closed\n',
    "in_the_header.csv": '\ufeff"id","na""me"\n15,x"y\n',
}


async def test_quotes_where_csv_has_none(both: Both) -> None:
    for name, content in ODD_QUOTES.items():
        both.land(name, content)

    outcomes = await both.load(format=FormatType.CSV, bad_rows=BadRowPolicy.SKIP_ROW)

    failed = {name for name, outcome in outcomes.items() if outcome.status == "FAILED"}
    assert failed == {"after.csv", "space_after.csv", "space_between.csv", "doubled_first.csv", "open.csv"}
    names = {row["id"]: row["name"] for row in both.same_tables()}
    assert names == {5: '5" pipe', 6: 'x"y"', 8: '5" pipe', 9: "x,y", 10: 'a,"b"\n "c"', 11: None, 12: '"', 15: None}


async def test_the_last_moment_of_a_day(both: Both) -> None:
    moments = [
        "2024-12-31 24:00",
        "2024-02-28T24:00:00",
        "2024-01-02 24:00:00.000",
        "2024-01-02 24:00:01",
        "2024-01-02 24:01",
        "2024-01-02 25:00",
    ]
    both.land("a.csv", "at,on\n" + "".join(f"{moment},{moment}{'+02:00' if number else ''}\n" for number, moment in enumerate(moments)))

    await both.load(format=FormatType.CSV, hints={"at": "timestamp", "on": "timestamptz"}, bad_rows=BadRowPolicy.SKIP_ROW)

    assert sorted(row["at"].isoformat() for row in both.same_tables()) == [
        f"{day}T00:00:00" for day in ("2024-01-03", "2024-02-29", "2025-01-01")
    ]


@pytest.mark.parametrize("bad_rows", list(BadRowPolicy))
async def test_bad_rows_of_csv_that_is_nothing_but_text(both: Both, bad_rows: BadRowPolicy) -> None:
    for name, row in {"good": "b,x", "few": "b", "many": "b,x,y", "empty": "b,x,", "empties": "b,x,,,", "quoted": '"b",x,""'}.items():
        both.land(f"{name}.csv", f"id,name\na,x\n{row}\nc,y\n")

    outcomes = await both.load(format=FormatType.CSV, bad_rows=bad_rows)

    failed = {name for name, outcome in outcomes.items() if outcome.status is OutcomeStatus.FAILED}
    assert failed == (set(outcomes) - {"good.csv"} if bad_rows is BadRowPolicy.FAIL_FILE else set())
    both.same_tables()


@pytest.mark.parametrize("null_values", [[], ["NA"]])
async def test_csv_blanks_quotes_and_nulls(both: Both, null_values: list[str]) -> None:
    rows = ('1, "x"', ' "2",x', '3,5" 6"', '4,a "b" c', '5,"a "" "', "6,", '7,""', "8,NA", '9,"NA"', '10," x "')
    both.land("a.csv", "id,text\n" + "".join(f"{row}\n" for row in rows))
    both.land("b.csv", "text,id\nx,11\n,12\n")

    await both.load(format=FormatType.CSV, options={"null_values": null_values})

    assert len(both.same_tables()) == 12


async def test_csv_escapes(both: Both) -> None:
    texts = (
        *(r"C:\new\t", "C:\\", r"a\"b", r"a\\b", r"\"a\"", r'"a\"b"', r'"a\\b"', r'"a\\"', r'"x\\\"y"', r'"C:\new"', r'"a\,b"'),
        *('"a\\\nb"', '"a\n\\"\nb\\\\"', '"a\n,b"'),
    )
    both.land("a.csv", "id,text,after\n" + "".join(f"{number},{text},z\n" for number, text in enumerate(texts)))

    await both.load(format=FormatType.CSV, options={"escape": "\\"})

    rows = both.same_tables()
    assert [row["text"] for row in rows[:2]] == [r"C:\new\t", "C:\\"]
    assert len(rows) == len(texts)


@pytest.mark.parametrize("bad_rows", list(BadRowPolicy))
async def test_offsets_and_times_at_their_limits(both: Both, bad_rows: BadRowPolicy) -> None:
    clocks = ("00:00:00", "23:59:59", "24:00:00", "23:60:00", "23:59:60")
    offsets = ("", "Z", "+00", "+05:30", "-0930", "+17:59", "+18:00", "-18:00", "+18:01", "-19:00", "+99", "+01:60", " +01:00")
    for place, at in enumerate([*clocks, *(f"12:00:00{offset}" for offset in offsets)]):
        both.land(f"{place:02}.json", lines({"id": place, "at": f"2024-01-02T{at}"}))

    await both.load(hints={"at": "timestamptz"}, bad_rows=bad_rows)

    both.same_tables()


async def test_csv_without_a_header(both: Both) -> None:
    both.land("a.csv", "1,x\n2,y\n")

    await both.load(format=FormatType.CSV, options={"header": False})

    assert [row["column_2"] for row in both.same_tables()] == ["x", "y"]


TABLE = pa.table(
    {
        "i": pa.array([1, None, 3], pa.int32()),
        "l": pa.array([2**40, None, -1], pa.int64()),
        "d": pa.array([1.5, None, float("inf")], pa.float64()),
        "f": pa.array([0.5, None, -0.25], pa.float32()),
        "s": pa.array(["x", None, "é"], pa.string()),
        "b": pa.array([True, None, False], pa.bool_()),
        "day": pa.array([date(2024, 1, 2), None, date(1969, 12, 31)], pa.date32()),
        "at": pa.array([datetime(2024, 1, 2, 3, 4, 5, 678, UTC), None, datetime(1950, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
        "dec": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(10, 2)),
        "list": pa.array([[1, 2], None, []], pa.list_(pa.int64())),
        "struct": pa.array([{"x": 1, "y": "z"}, None, {"x": None, "y": None}], pa.struct([("x", pa.int64()), ("y", pa.string())])),
        "raw": pa.array([b"\x00\x01", None, b""], pa.binary()),
    }
)


def _avro(table: pa.Table, path: Path) -> None:
    fields = [{"name": "i", "type": ["null", "int"]}, {"name": "s", "type": ["null", "string"]}, {"name": "d", "type": ["null", "double"]}]
    with path.open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "row", "fields": fields}, table.select(["i", "s", "d"]).to_pylist())


WRITERS: dict[FormatType, Callable[[pa.Table, Path], None]] = {
    FormatType.PARQUET: pq.write_table,
    FormatType.ORC: orc.write_table,
    FormatType.AVRO: _avro,
}


@pytest.mark.parametrize("format_", list(WRITERS))
async def test_files_that_describe_themselves(both: Both, format_: FormatType) -> None:
    name = format_.value.lower()
    write = WRITERS[format_]
    table = TABLE if format_ is not FormatType.ORC else TABLE.set_column(7, "at", TABLE["at"].cast(pa.timestamp("us")))
    write(table, both.spark.folder / f"a.{name}")
    write(table.slice(0, 1), both.spark.folder / f"b.{name}")
    whole = (both.spark.folder / f"a.{name}").read_bytes()
    both.land(f"cut.{name}", whole[: len(whole) // 2])
    both.land(f"other.{name}", "no such format\n")
    both.land(f"empty.{name}", "")

    await both.load(format=format_)

    assert len(both.same_tables()) == 4


async def test_a_damaged_page_fails_its_file_alone(both: Both) -> None:
    rows = pa.table({"id": pa.array(range(1000)), "name": [f"name {number}" for number in range(1000)]})
    for name in ("good.parquet", "damaged.parquet"):
        pq.write_table(rows, both.spark.folder / name, write_page_checksum=True, compression="none", use_dictionary=False)
    content = bytearray((both.spark.folder / "damaged.parquet").read_bytes())
    place = content.index(b"name 500")
    content[place : place + 4] = b"EMAN"
    both.land("damaged.parquet", bytes(content))

    outcomes = await both.load(format=FormatType.PARQUET)

    assert {name: outcome.rows for name, outcome in outcomes.items()} == {"good.parquet": 1000, "damaged.parquet": 0}
    both.same_tables()


async def test_parquet_files_that_differ(both: Both) -> None:
    folder = both.spark.folder
    pq.write_table(pa.table({"id": pa.array([1], pa.int32()), "name": ["x"]}), folder / "a.parquet")
    await both.load("a.parquet", format=FormatType.PARQUET)
    pq.write_table(pa.table({"name": ["y"], "id": pa.array([2], pa.int64()), "extra": [1.5]}), folder / "wider.parquet")
    pq.write_table(pa.table({"id": ["three"]}), folder / "text.parquet")
    pq.write_table(pa.table({"id": pa.array([4], pa.int16())}), folder / "narrower.parquet")

    await both.load("wider.parquet", "text.parquet", "narrower.parquet", format=FormatType.PARQUET)

    assert [row["id"] for row in both.same_tables()] == [1, 2, 4]


async def test_parquet_columns_of_no_type_yet(both: Both) -> None:
    nothing = {"none": pa.nulls(2), "list": pa.array([[None], None]), "at": pa.array([{"x": None, "y": 1}, None]), "some": pa.nulls(2)}
    pq.write_table(pa.table({"id": [1, 2], **nothing}), both.spark.folder / "a.parquet")
    await both.load("a.parquet", format=FormatType.PARQUET)
    pq.write_table(pa.table({"id": [3], "some": ["text"], "at": [{"x": "t", "y": 2}]}), both.spark.folder / "b.parquet")

    outcomes = await both.load("b.parquet", format=FormatType.PARQUET)

    assert outcomes["b.parquet"].rows == 1
    both.same_tables()
    assert both.spark.columns() == {"id": "long", "list": "list<string>", "at": "struct<y: long, x: string>", "some": "string"}


@pytest.mark.parametrize("format_", [FormatType.PARQUET, FormatType.ORC])
async def test_a_file_without_rows_is_judged_by_its_names(both: Both, format_: FormatType) -> None:
    name = format_.value.lower()
    WRITERS[format_](TABLE.select(["i"]), both.spark.folder / f"first.{name}")
    WRITERS[format_](TABLE.select(["i", "s"]).slice(0, 0), both.spark.folder / f"new.{name}")
    await both.load(f"first.{name}", format=format_)

    outcomes = await both.load(f"new.{name}", format=format_, evolution=SchemaEvolution.FAIL_ON_NEW_COLUMNS)

    assert outcomes[f"new.{name}"].status == "FAILED"


async def test_long_whole_numbers_and_keys_twice_in_parquet(both: Both) -> None:
    folder = both.spark.folder
    maps = pa.map_(pa.string(), pa.int64())
    first = {"id": pa.array([0]), "small": pa.array([0], pa.int32()), "m": pa.array([[("k", 1)]], maps)}
    pq.write_table(pa.table(first), folder / "first.parquet")
    await both.load("first.parquet", format=FormatType.PARQUET)
    for number, (id_, small) in enumerate([(2**63 - 1, 2**31 - 1), (1, 2**31), (2**63, 1)]):
        pq.write_table(
            pa.table({"id": pa.array([id_], pa.uint64()), "small": pa.array([small], pa.uint64())}), folder / f"{number}.parquet"
        )
    shorter = pa.map_(pa.string(), pa.int32())
    for name, entries in {"once": [("k", 1), ("l", 1)], "twice": [("k", 1), ("k", 2)], "none": [], "null": None}.items():
        pq.write_table(pa.table({"id": pa.array([5]), "m": pa.array([entries], shorter)}), folder / f"{name}.parquet")

    names = ("0", "1", "2", "once", "twice", "none", "null")
    outcomes = await both.load(*(f"{name}.parquet" for name in names), format=FormatType.PARQUET)

    failed = {name for name, outcome in outcomes.items() if outcome.status is OutcomeStatus.FAILED}
    assert failed == {"1.parquet", "2.parquet", "twice.parquet"}
    both.same_tables()


async def test_partitions(both: Both) -> None:
    for bench in (both.spark, both.embedded):
        bench.destination = replace(bench.destination, partition_by=("bucket(4, id)", "day(at)", "truncate(2, name)"), sort_by=("id",))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [{"id": n, "at": (start + timedelta(hours=n)).strftime("%Y-%m-%dT%H:%M:%S"), "name": f"n{n % 3}00"} for n in range(40)]
    both.land("a.json", lines(*rows))

    await both.load(hints={"at": "timestamp"})

    both.same_tables()
