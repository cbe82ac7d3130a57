"""Data files written anew without some of their rows: a piece at a time, whole, and to be stopped."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan

from domain.ingestions.entities import FormatType
from integrations.engines.embedded import data_file_rows, data_files, row_rewrite
from integrations.engines.embedded.workspaces import Workspace
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench, open_guard

A_ROW_GROUP = 122_880
"""DuckDB's."""


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


async def remove(bench: EngineBench, name: str) -> int:
    return await bench.engine.remove_rows(bench.destination, table_uuid=None, path_prefix=str(bench.folder / name), guard=open_guard)


async def test_a_data_file_is_in_memory_a_row_group_at_a_time(
    bench: EngineBench, catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.land("big", parquet(id=pa.array(range(300_000)), text=pa.array([f"t{number}" for number in range(300_000)])))
    bench.land("small", parquet(id=pa.array([-1, -2]), text=pa.array(["gone", "gone"])))
    await bench.load(format=FormatType.PARQUET)
    sizes: list[int] = []

    def noted(*args: Any) -> Iterator[pa.Table]:
        for piece in data_file_rows.pieces(*args):
            sizes.append(len(piece))
            yield piece

    monkeypatch.setattr(row_rewrite, "pieces", noted)

    assert await remove(bench, "small") == 2

    assert sum(sizes) == 300_002
    assert max(sizes) <= A_ROW_GROUP
    rows = catalog.load_table(("lake", "flights")).scan().to_arrow().sort_by("id")
    assert rows.column("id").to_pylist() == list(range(300_000))
    assert rows.column("text").to_pylist() == [f"t{number}" for number in range(300_000)]


EVERY_TYPE = {
    "b": pa.array([True, None]),
    "bytes": pa.array([b"\x00\xff", None]),
    "day": pa.array([1, 6_585_000], pa.date32()),
    "clock": pa.array([1, None], pa.time64("us")),
    "local": pa.array([1, None], pa.timestamp("us")),
    "at": pa.array([1, None], pa.timestamp("us", "UTC")),
    "money": pa.array([1, None], pa.decimal128(38, 10)),
    "float": pa.array([0.5, None], pa.float32()),
    "list": pa.array([[1, None], []]),
    "map": pa.array([[("k", [1])], None], pa.map_(pa.string(), pa.list_(pa.int64()))),
    "object": pa.array([{"x": 1, "deep": [{"y.z": "a"}]}, None]),
    "a.b": pa.array([1, None], pa.int32()),
}


async def test_pieces_are_what_the_scan_reads_whatever_the_schema_was(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.land("old", parquet(**EVERY_TYPE))
    await bench.load("old", format=FormatType.PARQUET)
    grown = pa.array([{"x": 2, "deep": [{"y.z": "b", "new": 1}], "more": "m"}])
    bench.land("new", parquet(object=grown, added=pa.array([1.5]), **{"a.b": pa.array([2**40])}))
    await bench.load("new", format=FormatType.PARQUET)
    table = catalog.load_table(("lake", "flights"))

    for schema in (table.schema(), table.schema().select("_source_file"), table.schema().select("a.b", "object")):
        for task in table.scan().plan_files():
            scanned = ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_table([task])
            assert pa.concat_tables(data_file_rows.pieces(table, schema, task)).equals(scanned)


async def test_a_rewritten_file_has_every_value_of_every_type(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.land("a", parquet(**EVERY_TYPE))
    bench.land("b", parquet(**{"a.b": pa.array([7], pa.int32())}))
    await bench.load(format=FormatType.PARQUET)
    before = catalog.load_table(("lake", "flights")).scan(f"_source_file = '{bench.folder / 'a'}'").to_arrow().sort_by("a.b")

    assert await remove(bench, "b") == 1

    assert catalog.load_table(("lake", "flights")).scan().to_arrow().sort_by("a.b").equals(before)


@pytest.mark.parametrize("partition_by", [(), ("part",)])
async def test_no_file_grows_without_bound(
    bench: EngineBench, catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch, partition_by: tuple[str, ...]
) -> None:
    monkeypatch.setattr(data_files, "MOST_FILE_BYTES", 200_000)
    bench.destination = replace(bench.destination, partition_by=partition_by)
    count = 6 * A_ROW_GROUP
    bench.land("a", parquet(id=pa.array([number * 7919 % 1_000_003 for number in range(count)]), part=pa.array([1, 2] * (count // 2))))

    outcome = (await bench.load(format=FormatType.PARQUET))["a"]

    files = [task.file for task in catalog.load_table(("lake", "flights")).scan().plan_files()]
    assert outcome.rows == sum(file.record_count for file in files) == count
    assert len(files) > 2
    assert max(file.record_count for file in files) < count // 2


async def test_rows_in_order_stay_in_one_file(bench: EngineBench, catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "MOST_FILE_BYTES", 200_000)
    bench.destination = replace(bench.destination, sort_by=("id",))
    count = 6 * A_ROW_GROUP
    bench.land("a", parquet(id=pa.array([number * 7919 % 1_000_003 for number in range(count)])))

    await bench.load(format=FormatType.PARQUET)

    (task,) = catalog.load_table(("lake", "flights")).scan().plan_files()
    ids = pq.read_table(task.file.file_path.removeprefix("file://"), partitioning=None).column("id").to_pylist()
    assert ids == sorted(ids)


async def test_a_cancelled_removal_ends_with_the_piece_in_hand(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [uuid4(), uuid4()]
    for number, batch_id in enumerate(batches):
        bench.land(f"{number}/go.json", lines({"id": number}))
        bench.land(f"{number}/stay.json", lines({"id": number}))
        await bench.load(f"{number}/go.json", f"{number}/stay.json", batch_id=batch_id)
    warehouse = bench.folder.parent / "warehouse"
    before = sorted(warehouse.rglob("*.parquet"))
    loop, began, stopped, seen = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), []
    stop = Workspace.stop

    def stop_and_tell(self: Workspace) -> None:
        stop(self)
        stopped.set()

    def wait_to_be_stopped(*args: Any) -> Iterator[pa.Table]:
        for piece in data_file_rows.pieces(*args):
            seen.append(len(piece))
            loop.call_soon_threadsafe(began.set)
            stopped.wait(30)
            yield piece

    monkeypatch.setattr(Workspace, "stop", stop_and_tell)
    monkeypatch.setattr(row_rewrite, "pieces", wait_to_be_stopped)
    task = asyncio.create_task(remove(bench, ""))
    await began.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()
    assert seen == [2]
    assert sorted(warehouse.rglob("*.parquet")) == before
    assert bench.rows("id") == [0, 0, 1, 1]
