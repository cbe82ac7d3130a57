"""The cases in which readers lose data in silence: here each file is loaded whole, or says why it is not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard

from domain.ingestions.entities import BadRowPolicy, FormatType, SchemaEvolution
from domain.ports.engine import OutcomeStatus
from integrations.engines.embedded import csv_reader
from integrations.engines.embedded.csv_reader import CsvReader
from integrations.engines.embedded.csv_text import CsvFile
from tests.fixtures.engine_bench import EngineBench

GOOD = '{"id": 1, "name": "a"}\n{"id": 2, "name": "b"}\n'
CSV = "id,name\n1,a\n2,b\n"


async def load_beside_good(bench: EngineBench, name: str, content: bytes | str, **kwargs: object) -> str:
    """Load a bad file beside two good ones; the good ones load, and the bad one's message is returned."""
    is_csv = ".csv" in name
    good = CSV if is_csv else GOOD
    bench.land(f"good-1.{'csv' if is_csv else 'json'}", good)
    bench.land(f"good-2.{'csv' if is_csv else 'json'}", good)
    bench.land(name, content)
    outcomes = await bench.load(format=FormatType.CSV if is_csv else FormatType.JSON, **kwargs)
    bad = outcomes.pop(name)
    assert {outcome.status for outcome in outcomes.values()} == {OutcomeStatus.LOADED}
    assert bench.rows("id") == [1, 1, 2, 2]
    assert bad.status is OutcomeStatus.FAILED
    assert (bad.rows, bad.rows_skipped, bad.rows_rescued, bad.transient) == (0, 0, 0, False)
    assert bad.message is not None
    return bad.message


BAD_JSON = {
    "truncated in the last record": (GOOD + '{"id": 3, "na', "truncated: it ends in the middle of a row. Line 3"),
    "truncated in a string that looks whole": (GOOD + '{"id": 3, "name": "c"', "Line 3"),
    "HTML": ("<html>\n<body>Not found</body>\n</html>\n", "no JSON object. Line 1: it is not valid JSON"),
    "not UTF-8": (b'{"id": 1, "name": "caf\xe9"}\n{"id": 2, "name": "b"}\n', "Line 1: it is not UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "UTF-16 text"),
    "two rows on a line": ('{"id": 1, "name": "a"}{"id": 2, "name": "b"}\n{"id": 2, "name": "b"}\n', "Line 1: it is not valid JSON"),
    "a row and a null on a line": ('{"id": 1, "name": "a"} null\n{"id": 3, "name": "c"}\n', "Line 1"),
    "a null for a row": ('null\n{"id": 2, "name": "b"}\n', "Line 1: it is not a JSON object"),
    "a null later": ('{"id": 2, "name": "b"}\nnull\n', "Line 2: it is not a JSON object"),
    "numbers for rows": ("1\n2\n", "Line 1: it is not a JSON object"),
    "an array for a row": ('{"id": 2, "name": "b"}\n[1, 2]\n', "Line 2: it is not a JSON object"),
    "a name twice": ('{"id": 1, "id": 2, "name": "a"}\n', 'Line 1: the name "id" is in one object twice'),
    "half a surrogate pair": ('{"id": 1, "name": "\\ud800"}\n', "surrogate"),
    "pretty-printed": ('{\n  "id": 1,\n  "name": "a"\n}\n', "no JSON object. Line 1"),
    "binary": (b"\x00\x01\x02\n" * 3, "Line 1"),
    "a reserved name": ('{"id": 1, "_batch_id": "x"}\n', '"_batch_id" is reserved'),
    "names that differ in case": ('{"id": 1, "Name": "a"}\n', '"name" and "Name" differ only in case'),
    "an empty name": ('{"id": 1, "": "a"}\n', "empty name"),
    "a parquet file": (b"PAR1\x00\x00", "a Parquet file"),
    "nested too deeply": ('{"id": 1, "name": "a", "deep": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "nested too deeply"),
    "a number too long": ('{"id": ' + "9" * 5000 + ', "name": "a"}\n', "Line 1"),
}


@pytest.mark.parametrize("case", BAD_JSON)
async def test_a_bad_json_file_fails_alone(bench: EngineBench, case: str) -> None:
    content, said = BAD_JSON[case]

    assert said in await load_beside_good(bench, "worse.json", content)


BAD_JSON_VALUES = {
    "a fraction in a long": ('{"id": 1.5}', "'1.5' is not of type long"),
    "a string in a long": ('{"id": "1"}', "'1' is not of type long"),
    "a boolean in a long": ('{"id": true}', "'true' is not of type long"),
    "an object in a long": ('{"id": {"x": 1}}', "is not of type long"),
    "a whole number beyond a long": ('{"id": 9223372036854775808}', "'9223372036854775808' is not of type long"),
    "a string in a double": ('{"ratio": "0.5"}', "'0.5' is not of type double"),
    "a whole number beyond a double": ('{"ratio": 9007199254740993}', "'9007199254740993' is not of type double"),
    "more than a double holds": ('{"ratio": 1e400}', "'1e400' is not of type double"),
    "a number in a boolean": ('{"flag": 1}', "'1' is not of type boolean"),
    "a number in an object": ('{"inner": 3}', "'3' is not an object"),
    "a string in a nested long": ('{"inner": {"x": "1"}}', "'1' is not of type long"),
    "a name twice inside": ('{"inner": {"x": 1, "x": 2}}', 'the name "x" is in one object twice'),
    "an object in an array": ('{"list": [1, {"x": 1}]}', "is not of type long"),
}


@pytest.mark.parametrize("case", BAD_JSON_VALUES)
async def test_a_json_value_that_does_not_fit_its_column_fails_its_file(bench: EngineBench, case: str) -> None:
    bench.land("first.json", '{"id": 1, "ratio": 0.5, "flag": true, "inner": {"x": 1}, "list": [1]}\n')
    await bench.load()
    content, said = BAD_JSON_VALUES[case]
    bench.land("worse.json", '{"id": 7}\n' + content + "\n")
    bench.land("good.json", '{"id": 8}\n')

    outcomes = await bench.load("worse.json", "good.json")

    assert outcomes["good.json"].status is OutcomeStatus.LOADED
    assert outcomes["worse.json"].status is OutcomeStatus.FAILED
    assert said in (outcomes["worse.json"].message or "")
    assert (outcomes["worse.json"].message or "").startswith("Line 2: ")
    assert bench.rows("id") == [1, 8]


async def test_numbers_keep_every_digit(bench: EngineBench) -> None:
    bench.land(
        "a.json", '{"long": 9223372036854775807, "big": 123456789012345678901234567890, "mixed": 12.70, "price": 1234567890123456.78}\n'
    )
    bench.land("b.json", '{"long": -9223372036854775808, "big": 1, "mixed": "x", "price": 0.1}\n')

    await bench.load(hints={"price": "decimal(20, 2)"})

    assert bench.columns() == {"long": "long", "big": "decimal(38, 0)", "mixed": "string", "price": "decimal(20, 2)"}
    assert sorted(bench.rows("long")) == [-9223372036854775808, 9223372036854775807]
    assert [str(value) for value in sorted(bench.rows("big"))] == ["1", "123456789012345678901234567890"]
    assert bench.rows("mixed") == ["12.70", "x"]
    assert [str(value) for value in sorted(bench.rows("price"))] == ["0.10", "1234567890123456.78"]


async def test_whole_numbers_written_with_a_fraction_fit_a_long(bench: EngineBench) -> None:
    bench.land("a.json", '{"id": 1}\n')
    await bench.load("a.json")
    bench.land("b.json", '{"id": 2.0}\n{"id": 3e0}\n')

    outcomes = await bench.load("b.json")

    assert outcomes["b.json"].rows == 2
    assert bench.rows("id") == [1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"\n", b" \t\r\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["nothing.json", "nothing.csv"])
async def test_an_empty_file_is_skipped_and_says_so(bench: EngineBench, name: str, content: bytes) -> None:
    format_ = FormatType.CSV if name.endswith("csv") else FormatType.JSON
    bench.land(name, content)
    bench.land("rows.csv" if name.endswith("csv") else "rows.json", CSV if name.endswith("csv") else GOOD)

    outcomes = await bench.load(format=format_)

    assert (outcomes[name].status, outcomes[name].message, outcomes[name].rows) == (OutcomeStatus.SKIPPED, "The file is empty.", 0)
    assert len(bench.rows()) == 2


@pytest.mark.parametrize(
    ("name", "content"), [("rows.json", "[]"), ("rows.json", " [ ]\n"), ("rows.csv", "id,name\n"), ("rows.csv", "id,name")]
)
async def test_a_file_without_rows_is_loaded_with_none_and_makes_no_table(bench: EngineBench, name: str, content: str) -> None:
    bench.land(name, content)

    outcomes = await bench.load(format=FormatType.CSV if name.endswith("csv") else FormatType.JSON)

    assert (outcomes[name].status, outcomes[name].rows) == (OutcomeStatus.LOADED, 0)
    assert bench.outcome is not None
    assert (bench.outcome.snapshot_id, bench.outcome.table_uuid, bench.outcome.schema_after) == (None, None, None)
    assert await bench.engine.table_state(bench.destination) is None


async def test_a_quote_in_a_field_hides_no_open_one(bench: EngineBench) -> None:
    """Two quotes look like a pair; and of many files DuckDB does not tell of each that it rejects a row of."""
    for name, content in {
        "1-garbage.csv": '1,"x"y',
        "2-good.csv": '2,"a"',
        "3-inches.csv": '3,5" pipe\n4,x"y"',
        "4-open.csv": '5,5" pipe\n6,"never closed',
        "5-inches-at-the-end.csv": '7,5"\n8,"never closed',
        "6-space.csv": '9,"x" \n10,"y"',
    }.items():
        bench.land(name, f"id,name\n{content}\n")

    outcomes = await bench.load(format=FormatType.CSV)

    failed = [name for name, outcome in outcomes.items() if outcome.status is OutcomeStatus.FAILED]
    assert failed == ["1-garbage.csv", "4-open.csv", "5-inches-at-the-end.csv", "6-space.csv"]
    assert bench.rows("id", "name") == [(2, "a"), (3, '5" pipe'), (4, 'x"y"')]


async def test_a_missing_and_a_changed_file_fail_alone(bench: EngineBench) -> None:
    bench.land("good.json", GOOD)
    gone, changed = Path(bench.land("gone.json", GOOD)), Path(bench.land("changed.json", GOOD))
    objects = await bench.objects("gone.json", "changed.json", "good.json")
    gone.unlink()
    changed.write_text(GOOD + GOOD)

    outcomes = await bench.load(objects=objects)

    assert outcomes["good.json"].rows == 2
    assert "gone" in (outcomes["gone.json"].message or "")
    assert "changed" in (outcomes["changed.json"].message or "")
    assert {outcomes[name].status for name in ("gone.json", "changed.json")} == {OutcomeStatus.FAILED}
    assert len(bench.rows()) == 2


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def with_flipped_bit(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


NOISE = "".join(json.dumps({"id": number, "name": f"{number * 2654435761 % 2**32:x}"}) + "\n" for number in range(2000)).encode()
BAD_COMPRESSION = {
    "gzip cut short": ("worse.json.gz", gzip.compress(NOISE)[:-200], "truncated"),
    "gzip without its trailer": ("worse.json.gz", gzip.compress(NOISE)[:-8], "truncated"),
    "gzip with a wrong checksum": ("worse.json.gz", with_flipped_bit(gzip.compress(NOISE), -8), "damaged"),
    "gzip with a flipped bit": ("worse.json.gz", with_flipped_bit(gzip.compress(NOISE), 5000), "damaged"),
    "not gzip at all": ("worse.json.gz", NOISE, "damaged"),
    "gzip that does not say so": ("worse.json", gzip.compress(NOISE), "gzip data"),
    "zstd cut short": ("worse.json.zst", zstd(NOISE)[:-200], "truncated"),
    "zstd with a flipped bit": ("worse.json.zst", with_flipped_bit(zstd(NOISE), 5000), "damaged"),
    "zstd that does not say so": ("worse.json", zstd(NOISE), "zstd data"),
    "gzip CSV cut short": ("worse.csv.gz", gzip.compress(b"id,name\n" + NOISE.replace(b'"', b""))[:-200], "truncated"),
    "gzip CSV with a wrong checksum": ("worse.csv.gz", with_flipped_bit(gzip.compress(CSV.encode()), -8), "damaged"),
}


@pytest.mark.parametrize("case", BAD_COMPRESSION)
async def test_damaged_compression_is_noticed_to_the_last_byte(bench: EngineBench, case: str) -> None:
    name, content, said = BAD_COMPRESSION[case]

    assert said in await load_beside_good(bench, name, content)


async def test_compressed_files_load_whole_in_several_members_and_frames(bench: EngineBench) -> None:
    half = len(NOISE.splitlines()) // 2
    lines = NOISE.splitlines(keepends=True)
    first, second = b"".join(lines[:half]), b"".join(lines[half:])
    bench.land("a.json.gz", gzip.compress(first) + gzip.compress(second))
    bench.land("b.json.zst", zstd(first) + zstd(second))
    bench.land("c.data", gzip.compress(NOISE))

    outcomes = await bench.load("a.json.gz", "b.json.zst")
    forced = await bench.load("c.data", options={"compression": "GZIP"})

    assert [outcome.rows for outcome in (*outcomes.values(), *forced.values())] == [2000, 2000, 2000]
    assert bench.rows("id") == sorted([*range(2000)] * 3, key=repr)


async def test_a_truncated_last_record_never_slips_through_among_many_files(bench: EngineBench) -> None:
    """DuckDB 2.0's own typed read drops it now and then when it has several threads."""
    for number in range(60):
        bench.land(f"{number:03}.json", GOOD + ('{"id": 3, "name": "c' if number % 20 == 7 else '{"id": 3, "name": "c"}'))

    outcomes = await bench.load()

    failed = sorted(name for name, outcome in outcomes.items() if outcome.status is OutcomeStatus.FAILED)
    assert failed == ["007.json", "027.json", "047.json"]
    assert len(bench.rows()) == 57 * 3


BAD_CSV = {
    "a quote never closed": ('id,name\n1,"a\n2,b\n3,c\n', "Line 2: a quote is opened and never closed"),
    "text after a quote": ('id,name\n1,"a"b\n2,b\n', "Line 2 is not CSV"),
    "a field too few": ("id,name\n1,a\n2\n3,c\n", "Line 3: it has 1 fields instead of 2"),
    "a field too many": ("id,name\n1,a,b\n2,b\n", "Line 2: it has 3 fields instead of 2"),
    "cut short": ("id,name\n1,a\n2", "truncated: it ends in the middle of a row. Line 3"),
    "another delimiter": ("id;name\n1;a\n2;b\n", "the delimiter seems to be a semicolon, but a comma is configured"),
    "a column twice": ("id,name,id\n1,a,2\n", '"id" twice'),
    "names that differ in case": ("id,Name\n1,a\n", '"name" and "Name" differ only in case'),
    "a reserved name": ("id,_source_file\n1,a\n", '"_source_file" is reserved'),
    "not UTF-8": (b"id,name\n1,a\n2,caf\xe9\n", "Line 3 is not UTF-8"),
    "HTML": ("<!DOCTYPE html>\n<html>\n<p>1, 2</p>\n</html>\n", "HTML or XML, not CSV"),
    "JSON": ('{"id": 1, "name": "a"}\n', "JSON, not CSV"),
    "no row that fits": ("id,name\n1\n2\n3\n", "No row fits the header"),
}


@pytest.mark.parametrize("case", BAD_CSV)
async def test_a_bad_csv_file_fails_alone(bench: EngineBench, case: str) -> None:
    content, said = BAD_CSV[case]
    assert said in await load_beside_good(bench, "worse.csv", content)


async def test_csv_columns_are_found_by_name_whatever_their_order(bench: EngineBench) -> None:
    bench.land("a.csv", "id,first,last\n1,ada,lovelace\n")
    bench.land("b.csv", "last,id,first\nhopper,2,grace\n")
    bench.land("c.csv", "id,last\n3,turing\n")

    await bench.load(format=FormatType.CSV)

    assert bench.rows("id", "first", "last") == [(1, "ada", "lovelace"), (2, "grace", "hopper"), (3, None, "turing")]


BAD_CSV_VALUES = {
    "a fraction in a long": ("1.5,0.5,true", "'1.5'"),
    "a word in a long": ("x,0.5,true", "x is not of type long"),
    "underscores in a long": ("1_000,0.5,true", "1_000 is not of type long"),
    "hexadecimal in a long": ("0x10,0.5,true", "0x10 is not of type long"),
    "beyond a long": ("9223372036854775808,0.5,true", "9223372036854775808 is not of type long"),
    "a comma in a double": ('1,"0,5",true', "0,5 is not of type double"),
    "a whole number beyond a double": ("1,9007199254740993,true", "9007199254740993 is not of type double"),
    "yes in a boolean": ("1,0.5,yes", "yes is not of type boolean"),
    "one in a boolean": ("1,0.5,1", "1 is not of type boolean"),
}


@pytest.mark.parametrize("case", BAD_CSV_VALUES)
async def test_a_csv_value_that_does_not_fit_its_column_fails_its_file(bench: EngineBench, case: str) -> None:
    bench.land("first.csv", "id,ratio,flag\n1,0.5,true\n2,,FALSE\n")
    await bench.load("first.csv", format=FormatType.CSV)
    content, said = BAD_CSV_VALUES[case]
    bench.land("worse.csv", f"id,ratio,flag\n7,0.25,false\n{content}\n")
    bench.land("good.csv", "id,ratio,flag\n8,1,true\n")

    outcomes = await bench.load("worse.csv", "good.csv", format=FormatType.CSV)

    assert outcomes["good.csv"].status is OutcomeStatus.LOADED
    assert outcomes["worse.csv"].status is OutcomeStatus.FAILED
    assert said.strip("'") in (outcomes["worse.csv"].message or "")
    assert (outcomes["worse.csv"].message or "").startswith("Line 3: ")
    assert bench.rows("id") == [1, 2, 8]


async def test_csv_text_stays_text_when_a_number_would_lose_something(bench: EngineBench) -> None:
    bench.land(
        "a.csv", "zip,long,double,flag,day,big,void\n01234,1,1,true,2024-01-02,12345678901234567890,\n20095,-2,2.50,false,2024-01-03,1,\n"
    )

    await bench.load(format=FormatType.CSV)

    assert bench.columns() == {
        "zip": "string",
        "long": "long",
        "double": "double",
        "flag": "boolean",
        "day": "string",
        "big": "string",
        "void": "string",
    }
    assert bench.rows("zip", "day") == [("01234", "2024-01-02"), ("20095", "2024-01-03")]


async def test_quotes_line_ends_and_blank_lines_in_csv_are_read_as_they_are(bench: EngineBench) -> None:
    bench.land("a.csv", 'id,text\r\n1,"two\r\nlines"\r\n2,"a ""quote"", a comma"\r\n\r\n3,5" pipe\r\n4,\r\n')
    bench.land("b.csv", 'id,text\n5,"x\n\ny"\n\n\n6,  spaced \n7,""')
    bench.land("c.csv", 'id,text\n8,5" pipe\n9,6" pipe\n')

    outcomes = await bench.load(format=FormatType.CSV)

    assert {name: outcome.rows for name, outcome in outcomes.items()} == {"a.csv": 4, "b.csv": 3, "c.csv": 2}, outcomes
    assert dict(bench.rows("id", "text")) == {
        1: "two\r\nlines",
        2: 'a "quote", a comma',
        3: '5" pipe',
        4: None,
        5: "x\n\ny",
        6: "  spaced ",
        7: None,
        8: '5" pipe',
        9: '6" pipe',
    }


CSV_ROWS_THAT_READERS_DIFFER_OVER = {
    "a blank before a field's quote": ('1, "x"', ' "x"'),
    "a blank after a field's quote": ('1,"x" ', None),
    "a blank between quotes": ('1,"" "b,c"', None),
    "text between quotes": ('1,"a"b"c"', None),
    "a quote within a field without quotes": ('1,5"', '5"'),
    "a blank before a quote within quotes": ('1,"a "" "', 'a " '),
    "an empty field too many": ("1,x,", None),
    "empty fields too many": ("1,x,,,", None),
    "an empty field too many, in quotes": ('1,x,""', None),
}


@pytest.mark.parametrize("beside", ["2,y\n", '2,y\n\n3,5" pipe\n', "2,y\r\n"])
@pytest.mark.parametrize("case", CSV_ROWS_THAT_READERS_DIFFER_OVER)
async def test_a_csv_row_is_read_alike_whatever_rows_are_beside_it(bench: EngineBench, case: str, beside: str) -> None:
    row, text = CSV_ROWS_THAT_READERS_DIFFER_OVER[case]
    bench.land("a.csv", f"id,text\n{beside}{row}\n")

    outcome = (await bench.load(format=FormatType.CSV))["a.csv"]

    if text is None:
        assert outcome.status is OutcomeStatus.FAILED
    else:
        assert dict(bench.rows("id", "text"))[1] == text


@pytest.mark.parametrize("null_values", [[], ["NA"], ["", "NA"]])
@pytest.mark.parametrize("beside", ["2,y\n", '2,y\n3,5" pipe\n'])
async def test_csv_nulls_are_the_null_values_and_no_others(bench: EngineBench, beside: str, null_values: list[str]) -> None:
    bench.land("a.csv", f'id,text\n{beside}4,\n5,""\n6,NA\n7,"NA"\n8,NA \n')

    await bench.load(format=FormatType.CSV, options={"null_values": null_values})

    read = dict(bench.rows("id", "text"))
    nothing = None if "" in null_values else ""
    not_known = None if "NA" in null_values else "NA"
    assert [read[number] for number in (2, 4, 5, 6, 7, 8)] == ["y", nothing, nothing, not_known, not_known, "NA "]


async def test_a_rejected_csv_row_is_noticed_also_when_the_counts_agree_by_chance(bench: EngineBench) -> None:
    bench.land("a.csv", 'id,name\n1,5" pipe\n2,6" pipe\n3\n')

    outcome = (await bench.load(format=FormatType.CSV))["a.csv"]

    assert outcome.status is OutcomeStatus.FAILED
    assert (outcome.message or "").startswith("Line 4: it has 1 fields instead of 2")


async def test_a_csv_row_that_the_quick_reader_drops_is_missed_and_read_again(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.land("a.csv", CSV)
    bench.land("b.csv", "id,name\n3,c\n")
    read_csv = CsvReader._read_csv

    def read_and_drop(self: CsvReader, relation: str, files: Sequence[CsvFile]) -> set[str]:
        rejected = read_csv(self, relation, files)
        self._connection.execute(f"DELETE FROM {relation} WHERE id = '2'")
        return rejected

    monkeypatch.setattr(CsvReader, "_read_csv", read_and_drop)

    outcomes = await bench.load(format=FormatType.CSV)

    assert [outcome.rows for outcome in outcomes.values()] == [2, 1]
    assert bench.rows("id") == [1, 2, 3]


async def test_csv_columns_may_be_called_anything_and_are_read_quickly(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.land("a.csv", "path,rows,csv_paths,filename,file,text\n1,2,3,4,5,6\n")
    monkeypatch.setattr(csv_reader, "careful_tables", None)

    await bench.load(format=FormatType.CSV)

    assert bench.rows("path", "rows", "csv_paths", "filename", "file", "text") == [(1, 2, 3, 4, 5, 6)]


async def test_mixed_line_ends_lose_no_row(bench: EngineBench) -> None:
    bench.land("a.csv", "id,name\r\n1,a\n2,b\r\n3,c\n")
    bench.land("a.json", '{"id": 4, "name": "d"}\r\n\r\n{"id": 5, "name": "e"}\n\n{"id": 6, "name": "f"}')

    csv_outcome = await bench.load("a.csv", format=FormatType.CSV)
    json_outcome = await bench.load("a.json")

    assert (csv_outcome["a.csv"].rows, json_outcome["a.json"].rows) == (3, 3)
    assert bench.rows("id") == [1, 2, 3, 4, 5, 6]


async def test_a_bad_row_may_be_skipped_and_counted(bench: EngineBench) -> None:
    bench.land("a.json", '{"id": 1}\nnot json\n{"id": 2}\n{"id": "x"}\n{"id": 3}\n')
    await bench.load(bad_rows=BadRowPolicy.SKIP_ROW, hints={"id": "long"})
    bench.land("b.csv", "id\n4\nx\n5,6\n7\n")

    assert bench.outcome is not None
    first = bench.outcome.files[0]
    second = (await bench.load("b.csv", format=FormatType.CSV, bad_rows=BadRowPolicy.SKIP_ROW))["b.csv"]

    assert (first.status, first.rows, first.rows_skipped, first.rows_rescued) == (OutcomeStatus.LOADED, 3, 2, 0)
    assert (second.status, second.rows, second.rows_skipped, second.rows_rescued) == (OutcomeStatus.LOADED, 2, 2, 0)
    assert bench.rows("id") == [1, 2, 3, 4, 7]


async def test_a_bad_row_may_be_rescued_with_its_raw_text(bench: EngineBench) -> None:
    bench.land("a.json", '{"id": 1, "n": 1}\n{"id": 2, "n": "x" }\nnot json\n{"id": 3, "n": 3}\n')
    first = (await bench.load(bad_rows=BadRowPolicy.RESCUE, hints={"n": "long"}))["a.json"]
    bench.land("b.csv", 'id,n\n4,4\n5,"x, y"\n6\n7,7\n')
    second = (await bench.load("b.csv", format=FormatType.CSV, bad_rows=BadRowPolicy.RESCUE))["b.csv"]

    assert (first.rows, first.rows_skipped, first.rows_rescued) == (4, 0, 2)
    assert (second.rows, second.rows_skipped, second.rows_rescued) == (4, 0, 2)
    assert bench.rows("id", "n", "_rescued_data") == sorted(
        [
            (1, 1, None),
            (2, None, '{"id": 2, "n": "x" }'),
            (None, None, "not json"),
            (3, 3, None),
            (4, 4, None),
            (5, None, '5,"x, y"'),
            (None, None, "6"),
            (7, 7, None),
        ],
        key=repr,
    )


@pytest.mark.parametrize("policy", [BadRowPolicy.SKIP_ROW, BadRowPolicy.RESCUE])
@pytest.mark.parametrize("content", [GOOD + '{"id": 3, "na', "<html>\n</html>\n"])
async def test_no_policy_for_rows_lets_a_broken_file_pass(bench: EngineBench, policy: BadRowPolicy, content: str) -> None:
    bench.land("a.json", content)

    outcome = (await bench.load(bad_rows=policy))["a.json"]

    assert (outcome.status, outcome.rows) == (OutcomeStatus.FAILED, 0)


async def test_a_row_has_its_file_and_its_batch(bench: EngineBench) -> None:
    names = ["a b.json", "100%.json", "c'd.json", "[e]*?.json", "ü/ñ.json"]
    for number, name in enumerate(names):
        bench.land(name, json.dumps({"id": number}) + "\n")

    batch = await bench.batch(evolution=SchemaEvolution.ADD_NEW_COLUMNS)
    await bench.engine.load(batch, _open)

    assert {row["_source_file"] for row in bench.rows()} == {str(bench.folder / name) for name in names}
    assert {row["_batch_id"] for row in bench.rows()} == {str(batch.batch_id)}


async def _open() -> None:
    pass
