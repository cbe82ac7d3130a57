"""What replacing rows costs a table, and what is left to tell of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table

from domain.ingestions.entities import Destination
from integrations.engines.embedded import data_file_rows, maintenance, replaced_rows, row_rewrite
from tests.contracts.replacing import loaded, path
from tests.fixtures.engine_bench import EngineBench, open_guard

TABLE = ("lake", "flights")


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def data_files(catalog: SqlCatalog) -> set[str]:
    return {task.file.file_path for task in catalog.load_table(TABLE).scan().plan_files()}


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The data files that were opened to look for rows."""
    opened: list[str] = []

    def noted(table: Table, schema: Schema, task: FileScanTask) -> Iterator[pa.Table]:
        opened.append(task.file.file_path)
        return data_file_rows.pieces(table, schema, task)

    for module in (replaced_rows, row_rewrite):
        monkeypatch.setattr(module, "pieces", noted)
    return opened


async def test_one_file_in_a_table_of_many_touches_one_data_file(bench: EngineBench, catalog: SqlCatalog, read_files: list[str]) -> None:
    """Names that say nothing of the order in which they came: each data file's paths reach over all others'."""
    batches = []
    for number in range(6):
        for half in ("a", "z"):
            bench.land(f"{half}{number}.json", lines({"id": f"{half}{number}"}))
        batches.append(await loaded(bench, f"a{number}.json", f"z{number}.json"))
    before = data_files(catalog)
    bench.land("a3.json", lines({"id": "new"}))

    await bench.load("a3.json", replaces={"a3.json": [batches[3]]})

    after = data_files(catalog)
    assert (len(before - after), len(after - before)) == (1, 2)
    assert set(read_files) == before - after
    assert bench.rows("id") == sorted(["new", *(f"{half}{number}" for half in "az" for number in range(6) if (half, number) != ("a", 3))])


async def test_once_files_are_merged_their_paths_tell_where_to_look(
    bench: EngineBench, catalog: SqlCatalog, read_files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    for number in range(8):
        bench.land(f"2026/{number}.json", lines({"id": number}))
        batches.append(await loaded(bench, f"2026/{number}.json"))
    size = max(task.file.file_size_in_bytes for task in catalog.load_table(TABLE).scan().plan_files())
    monkeypatch.setattr(maintenance, "MERGED_FILE_BYTES", 4 * size + size // 2)
    await bench.engine.optimize(bench.destination)
    before = data_files(catalog)
    assert len(before) == 2
    bench.land("2026/5.json", lines({"id": 50}))
    read_files.clear()

    await bench.load("2026/5.json", replaces={"2026/5.json": [batches[5]]})

    after = data_files(catalog)
    assert len(before & after) == 1
    assert before - after <= set(read_files) <= before
    assert bench.rows("id") == [0, 1, 2, 3, 4, 50, 6, 7]


async def test_rows_of_a_partitioned_table_are_replaced_where_they_lie(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.destination = Destination("autoloader", "lake", "flights", partition_by=("day",))
    bench.land("a.json", lines({"id": 1, "day": "mon"}, {"id": 2, "day": "tue"}))
    bench.land("b.json", lines({"id": 3, "day": "mon"}, {"id": 4, "day": "wed"}))
    first = await loaded(bench)
    before = data_files(catalog)
    bench.land("a.json", lines({"id": 5, "day": "tue"}, {"id": 6, "day": "thu"}))

    await bench.load("a.json", replaces={"a.json": [first]})

    assert bench.rows("id", "day") == [(3, "mon"), (4, "wed"), (5, "tue"), (6, "thu")]
    assert len(before & data_files(catalog)) == 1
    assert [row["id"] for row in catalog.load_table(TABLE).scan("day = 'tue'").to_arrow().to_pylist()] == [5]


@pytest.mark.parametrize("content", [lines({"id": 2}), ""])
async def test_when_snapshots_have_expired_the_rows_tell_what_was_replaced(bench: EngineBench, catalog: SqlCatalog, content: str) -> None:
    bench.land("a.json", lines({"id": 1}))
    bench.land("keep.json", lines({"id": 9}))
    first = await loaded(bench)
    bench.land("a.json", content)
    batch = await bench.batch("a.json", replaces={"a.json": [first]})
    never = await bench.batch("keep.json", replaces={"keep.json": [first]})
    await bench.engine.load(batch, open_guard)
    bench.land("b.json", lines({"id": 3}))
    await loaded(bench, "b.json")
    table = catalog.load_table(TABLE)
    table.maintenance.expire_snapshots().by_ids([snapshot.snapshot_id for snapshot in table.snapshots()[:-1]]).commit()

    found = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batch.batch_id, epoch=2, replaces=batch.replaces)
    other = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=never.batch_id, epoch=2, replaces=never.replaces)

    assert found is not None
    assert (found.snapshot_id, found.replaced) == (None, {path(bench, "a.json")})
    assert dict(found.rows_by_path) == ({path(bench, "a.json"): 1} if content else {})
    assert other is None


async def test_what_is_not_committed_is_not_left_behind(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.land("a.json", lines({"id": 1}))
    bench.land("b.json", lines({"id": 2}))
    first = await loaded(bench)
    bench.land("a.json", lines({"id": 3}))
    on_disk = _parquet_files(bench)

    async def fail() -> None:
        assert len(_parquet_files(bench)) == len(on_disk) + 2, "the new rows, and what stays of the old"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await bench.load("a.json", replaces={"a.json": [first]}, guard=fail)

    assert _parquet_files(bench) == on_disk
    assert bench.rows("id") == [1, 2]


async def test_replaced_data_files_go_when_their_snapshots_expire(
    bench: EngineBench, catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "KEPT_SNAPSHOTS", 1)
    monkeypatch.setattr(maintenance, "KEPT_AGE", timedelta(0))
    bench.land("a.json", lines({"id": 1}))
    first = await loaded(bench)
    bench.land("a.json", lines({"id": 2}))
    await loaded(bench, replaces={"a.json": [first]})

    await bench.engine.optimize(bench.destination)

    assert [file.as_uri() for file in _parquet_files(bench)] == sorted(data_files(catalog))
    assert bench.rows("id") == [2]


def _parquet_files(bench: EngineBench) -> list[Path]:
    return sorted((bench.folder.parent / "warehouse").rglob("*.parquet"))
