"""Files in S3 become rows of Iceberg tables, by all that an installation has."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from tests.fixtures.whole_stack import Whole, lines

# The first of them starts everything.
pytestmark = pytest.mark.timeout(600)

VERSIONS = """
query ($id: ID!) {
  ingestion(id: $id) { schemaVersions { nodes {
    version columns { name type } diff { added { name type } changed { column before after } removed { name } } run { id }
  } } }
}
"""


@pytest.mark.scenario(122)
async def test_files_in_s3_become_rows_of_an_iceberg_table(whole: Whole) -> None:
    written = {f"day={day}/{part}.json": [{"id": 10 * day + part, "note": f"{day}/{part} é"}] for day in (1, 2) for part in (1, 2)}
    for key, rows in written.items():
        whole.land(key, lines(rows))
    id = await whole.create()

    run = await whole.run(id)

    assert (run["status"], run["filesDiscovered"], run["filesProcessed"], run["rowsWritten"]) == ("SUCCESS", 4, 4, 4)
    expected = [{**row, "_source_file": whole.path(key)} for key, rows in written.items() for row in rows]
    assert sorted(await whole.rows("id", "note", "_source_file"), key=lambda row: row["id"]) == expected
    # What is there is not loaded twice.
    again = await whole.run(id)
    assert (again["status"], again["filesDiscovered"], again["rowsWritten"]) == ("NO_NEW_FILES", 0, 0)
    assert len(await whole.rows("id")) == 4


@pytest.mark.scenario(123)
async def test_new_columns_are_found_and_tracked_across_runs(whole: Whole) -> None:
    whole.land("a.json", lines([{"id": 1, "price": 2.5}]))
    id = await whole.create()
    first = await whole.run(id)
    whole.land("b.json", lines([{"id": 2, "note": "new", "at": {"x": 1}}]))
    second = await whole.run(id)

    assert (first["status"], second["status"]) == ("SUCCESS", "SUCCESS")
    assert sorted(await whole.rows("id", "price", "note", "at"), key=lambda row: row["id"]) == [
        {"id": 1, "price": 2.5, "note": None, "at": None},
        {"id": 2, "price": None, "note": "new", "at": {"x": 1}},
    ]
    old = [{"name": "id", "type": "long"}, {"name": "price", "type": "double"}]
    new = [{"name": "note", "type": "string"}, {"name": "at", "type": "struct<x: long>"}]
    nothing: dict[str, list[Any]] = {"changed": [], "removed": []}
    # Each is of the run that brought it; the newest first.
    assert (await whole.data(VERSIONS, {"id": id}))["ingestion"]["schemaVersions"]["nodes"] == [
        {"version": 2, "columns": old + new, "diff": {"added": new} | nothing, "run": {"id": second["id"]}},
        {"version": 1, "columns": old, "diff": {"added": old} | nothing, "run": {"id": first["id"]}},
    ]


@pytest.mark.scenario(127)
async def test_three_formats_become_three_tables(whole: Whole) -> None:
    rows = [{"id": number, "name": f"n°{number}", "price": number / 4} for number in range(5)]
    parquet = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    files = {
        "json": lines(rows).encode(),
        "csv": ("id,name,price\n" + "".join(f"{row['id']},{row['name']},{row['price']}\n" for row in rows)).encode(),
        "parquet": parquet.getvalue(),
    }
    for format, content in files.items():
        whole.land(f"a.{format}", content)
    ids = [
        await whole.create(
            name=f"{whole.name}_{format}",
            source=whole.source(glob=f"*.{format}"),
            format={"type": format.upper()},
            destination=whole.destination(format),
        )
        for format in files
    ]

    runs = await asyncio.gather(*(whole.run(id) for id in ids))

    assert [(run["status"], run["filesDiscovered"], run["rowsWritten"]) for run in runs] == [("SUCCESS", 1, 5)] * 3
    for format in files:
        found = await whole.rows("id", "name", "price", "_source_file", table=format)
        assert found == [{**row, "_source_file": whole.path(f"a.{format}")} for row in rows], format


@pytest.mark.scenario(128)
async def test_rows_of_a_partitioned_table_lie_in_their_partitions(whole: Whole) -> None:
    rows = [
        {"id": number, "country": country, "at": f"2026-03-0{day}T1{number % 10}:00:00Z"}
        for number, (country, day) in enumerate([("de", 1), ("de", 2), ("fr", 1), ("fr", 2), ("fr", 2), ("fr", 2)])
    ]
    # Every file has rows of several partitions.
    for part in range(2):
        whole.land(f"{part}.json", lines(rows[part::2]))
    id = await whole.create(
        format={"type": "JSON", "hints": [{"column": "at", "type": "timestamptz"}]},
        destination=whole.destination(partitionBy=["country", "day(at)"]),
    )

    run = await whole.run(id)

    assert (run["status"], run["rowsWritten"]) == ("SUCCESS", 6)

    def look(table: Table) -> tuple[list[str], dict[tuple[str, int], int], dict[str, list[int]]]:
        """The fields, the rows of the files in each partition, and what a reader of one country reads of all those files."""
        in_partition: Counter[tuple[str, int]] = Counter()
        for task in table.scan().plan_files():
            in_partition[task.file.partition[0], task.file.partition[1]] += task.file.record_count
        read: dict[str, list[int]] = {}
        for country in ("de", "fr"):
            scan = table.scan(row_filter=f"country == '{country}'")
            assert {task.file.partition[0] for task in scan.plan_files()} == {country}
            read[country] = sorted(scan.to_arrow()["id"].to_pylist())
        return [field.name for field in table.spec().fields], dict(in_partition), read

    fields, in_partition, read = await whole.iceberg(look)
    first = (date(2026, 3, 1) - date(1970, 1, 1)).days
    assert fields == ["country", "at_day"]
    assert in_partition == {("de", first): 1, ("de", first + 1): 1, ("fr", first): 1, ("fr", first + 1): 3}
    assert read == {"de": [0, 1], "fr": [2, 3, 4, 5]}
