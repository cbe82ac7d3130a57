"""Commits, fences and what is left behind when something goes wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from domain.errors import LeaseLostError
from domain.ingestions.entities import FormatType, Source
from domain.ports.engine import OutcomeStatus, TableUnavailableError
from domain.ports.object_store import ObjectStore, ObjectStores, StagedObject, StoredObject
from domain.tenants import Grants
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings, content, csv_text, json_reader, maintenance, table_load
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.data_files import DataFileWriter
from integrations.engines.embedded.errors import RowsLostError, StoppedError
from integrations.engines.embedded.loading import Loading
from integrations.engines.embedded.workspaces import Workspace
from tests.fixtures.engine_bench import EngineBench, open_guard

TABLE = ("lake", "flights")


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def data_files(bench: EngineBench) -> list[Path]:
    return sorted((bench.folder.parent / "warehouse").rglob("*.parquet"))


async def test_a_snapshot_carries_its_batch_and_epoch_and_nothing_retries_by_itself(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.land("a.json", lines({"id": 1}))
    batch = await bench.batch(epoch=7)

    await bench.engine.load(batch, open_guard)

    table = catalog.load_table(TABLE)
    (snapshot,) = table.snapshots()
    assert snapshot.summary is not None
    assert snapshot.summary["autoloader.batch-id"] == str(batch.batch_id)
    assert snapshot.summary["autoloader.epoch"] == "7"
    assert table.properties["commit.retry.num-retries"] == "0"


async def test_a_table_made_by_others_is_loaded_into_without_retries(bench: EngineBench, catalog: SqlCatalog) -> None:
    catalog.create_namespace("lake")
    catalog.create_table(TABLE, pa.schema([("id", pa.int64()), ("note", pa.string())]))
    bench.land("a.json", lines({"id": 1}))

    await bench.load()

    assert catalog.load_table(TABLE).properties["commit.retry.num-retries"] == "0"
    assert bench.rows("id", "note") == [(1, None)]
    assert bench.outcome is not None
    assert bench.outcome.schema_before is not None


async def test_statistics_find_the_rows_again(bench: EngineBench, catalog: SqlCatalog) -> None:
    for number in range(3):
        bench.land(f"{number}.json", lines(*({"id": number * 100 + item, "deep": {"x": item}, "name": f"n{item}"} for item in range(100))))
        await bench.load(f"{number}.json")

    table = catalog.load_table(TABLE)

    scan = table.scan("id = 150")
    assert len(list(scan.plan_files())) == 1
    assert scan.to_arrow().select(["id", "name"]).to_pylist() == [{"id": 150, "name": "n50"}]
    assert len(table.scan("deep.x = 50").to_arrow()) == 3
    (task, *_) = table.scan("id >= 200").plan_files()
    field = table.schema().find_field("id").field_id
    assert (task.file.record_count, task.file.null_value_counts[field], task.file.value_counts[field]) == (100, 0, 100)


async def test_a_lost_lease_leaves_no_data_files(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1}))

    async def guard() -> None:
        assert len(data_files(bench)) == 1
        raise LeaseLostError

    with pytest.raises(LeaseLostError):
        await bench.load(guard=guard)

    assert data_files(bench) == []


async def test_a_load_that_is_cancelled_while_it_reads_ends_soon_and_leaves_nothing(
    bench: EngineBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = threading.Event()

    def read_for_ever(self: Loading, files: object) -> None:
        reading.set()
        while True:
            self._work.check()

    monkeypatch.setattr(Loading, "read", read_for_ever)
    bench.land("a.json", lines({"id": 1}))
    task = asyncio.create_task(bench.load())
    await asyncio.to_thread(reading.wait)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert data_files(bench) == []


async def test_look_ups_answer_while_every_load_that_may_be_under_way_is(
    bench: EngineBench, settings: EmbeddedEngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.land("a.json", lines({"id": 1}))
    await bench.load()
    assert bench.outcome is not None
    reading, released, read = threading.Semaphore(0), threading.Event(), Loading.read

    def read_when_released(self: Loading, files: Sequence[LoadFile]) -> None:
        reading.release()
        assert released.wait(60)
        read(self, files)

    monkeypatch.setattr(Loading, "read", read_when_released)
    loads = [asyncio.create_task(bench.engine.load(await bench.batch(), open_guard)) for _ in range(settings.concurrent_operations)]
    for _ in loads:
        await asyncio.to_thread(reading.acquire)

    async with asyncio.timeout(30):
        assert (await cast(EmbeddedEngine, bench.engine).version()).startswith("DuckDB ")
        state = await bench.engine.table_state(bench.destination)
        evidence = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=uuid4(), epoch=1)

    assert not any(load.done() for load in loads)
    released.set()
    await asyncio.gather(*loads)
    assert state is not None
    assert (state.uuid, state.rows, evidence) == (bench.outcome.table_uuid, 1, None)
    assert bench.rows("id") == [1] * (1 + settings.concurrent_operations)


async def test_a_load_that_is_cancelled_in_the_middle_of_an_array_reads_no_further(
    bench: EngineBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, stopped = threading.Event(), threading.Event()
    read = []
    stop = Workspace.stop

    def stop_and_tell(work: Workspace) -> None:
        stop(work)
        stopped.set()

    def blocks(*_: object) -> Iterator[bytes]:
        yield b'[{"id": 1}, '
        reading.set()
        assert stopped.wait(30)
        for number in range(10):
            read.append(number)
            yield b" " * 100

    monkeypatch.setattr(Workspace, "stop", stop_and_tell)
    monkeypatch.setattr(json_reader, "read_blocks", blocks)
    bench.land("a.json", '[{"id": 1}]')
    task = asyncio.create_task(bench.load())
    await asyncio.to_thread(reading.wait)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert read == [0]


@pytest.mark.parametrize(("name", "encoding", "times"), [("a.csv", "utf-8", 1), ("a.csv.gz", "utf-8", 2), ("a.csv", "latin-1", 2)])
async def test_a_first_look_at_a_csv_file_can_be_cancelled_before_each_block(
    bench: EngineBench, monkeypatch: pytest.MonkeyPatch, name: str, encoding: str, times: int
) -> None:
    """`times`: how often the file is gone through."""
    rows = b"id\n" + b"1\n" * 100
    bench.land(name, gzip.compress(rows) if name.endswith("gz") else rows)
    for module in (content, csv_text):
        monkeypatch.setattr(module, "BLOCK_BYTES", 10)
    asked = 0

    def stop_at_the_last_block(self: Workspace) -> None:
        nonlocal asked
        asked += 1
        if asked == 1 + 21 * times:
            raise StoppedError

    monkeypatch.setattr(Workspace, "check", stop_at_the_last_block)

    with pytest.raises(StoppedError):
        await bench.load(format=FormatType.CSV, options={"encoding": encoding})


async def test_a_load_that_is_cancelled_at_the_guard_leaves_no_data_files(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1}))
    asked = asyncio.Event()

    async def guard() -> None:
        asked.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(bench.load(guard=guard))
    await asked.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert data_files(bench) == []
    assert bench.rows() == []


async def test_endless_conflicts_end_with_an_error_and_leave_nothing(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_load, "COMMIT_TRIES", 3)
    bench.land("a.json", lines({"id": 1}))
    bench.land("b.json", lines({"id": 2}))
    asked = 0

    async def guard() -> None:
        nonlocal asked
        asked += 1
        await bench.engine.load(await bench.batch("b.json"), open_guard)

    with pytest.raises(TableUnavailableError, match="changed by others 3 times"):
        await bench.load("a.json", guard=guard)

    assert asked == 3
    assert bench.rows("id") == [2, 2, 2]
    assert len(data_files(bench)) == 3


async def test_a_commit_whose_answer_is_lost_is_found_by_the_fence(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.land("a.json", lines({"id": 1}))
    batch = await bench.batch()
    commit_table = SqlCatalog.commit_table

    def commit_and_lose_the_answer(self: SqlCatalog, *args: Any) -> Any:
        commit_table(self, *args)
        raise ConnectionError("the server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "commit_table", commit_and_lose_the_answer)
        with pytest.raises(TableUnavailableError, match=r"failed \(ConnectionError\)"):
            await bench.engine.load(batch, open_guard)

    evidence = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batch.batch_id, epoch=2)
    assert evidence is not None
    assert dict(evidence.rows_by_path) == {path: 1}
    assert bench.rows("id") == [1]


async def test_a_batch_that_takes_more_memory_than_there_is_says_so(
    bench: EngineBench, settings: EmbeddedEngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.land("a.json", lines({"id": 1}))

    def fail(self: DataFileWriter, query: str, rows_by_path: object) -> None:
        raise duckdb.OutOfMemoryException("failed to allocate")

    monkeypatch.setattr(DataFileWriter, "write", fail)

    with pytest.raises(TableUnavailableError, match=r"could not be read or written \(OutOfMemoryException\)"):
        await bench.load()

    assert await bench.engine.table_state(bench.destination) is None


async def test_rows_that_are_lost_on_the_way_are_noticed_before_the_commit(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.land("a.json", lines({"id": 1}, {"id": 2}))
    statement = Loading.statement
    monkeypatch.setattr(Loading, "statement", lambda self, **asked: f"SELECT * FROM ({statement(self, **asked)}) LIMIT 1")

    with pytest.raises(RowsLostError, match="2 rows were read, but 1 were written"):
        await bench.load()

    assert await bench.engine.table_state(bench.destination) is None
    assert data_files(bench) == []


async def test_a_table_replaced_during_a_load_is_not_loaded_into(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1}))
    bench.land("b.json", lines({"id": 2}))

    async def guard() -> None:
        await bench.engine.drop_table(bench.destination)
        await bench.engine.load(await bench.batch("b.json"), open_guard)

    with pytest.raises(TableUnavailableError, match="dropped or replaced"):
        await bench.load("a.json", guard=guard)

    assert bench.rows("id") == [2]


async def test_a_catalog_that_is_down_is_said_to_be(bench: EngineBench, settings: EmbeddedEngineSettings, tmp_path: Path) -> None:
    down = EmbeddedEngineSettings(f"sqlite:///{tmp_path}/no/such/folder/catalog.db", settings.warehouse, settings.staging_dir)
    engine = EmbeddedEngine(down, bench.stores)
    bench.land("a.json", lines({"id": 1}))
    batch = await bench.batch()

    for call in (
        engine.table_state(bench.destination),
        engine.drop_table(bench.destination),
        engine.optimize(bench.destination),
        engine.load(batch, open_guard),
        engine.fence(bench.destination, table_uuid=None, batch_id=uuid4(), epoch=1),
    ):
        with pytest.raises(TableUnavailableError, match="the table catalog or the warehouse failed"):
            await call

    await engine.close()


@dataclass
class StoresThatChangeFiles(ObjectStores):
    """Opens the real stores, but files named here are overwritten right after they were staged."""

    stores: ObjectStores
    paths: Sequence[str]

    def open(self, source: Source, grants: Grants) -> ObjectStore:
        store = self.stores.open(source, grants)
        stage = store.stage

        async def stage_and_change(objects: Sequence[StoredObject], into: Path) -> Sequence[StagedObject]:
            staged = await stage(objects, into)
            for path in self.paths:
                Path(path).write_text(lines({"id": 99, "other": True}))
            return staged

        store.stage = stage_and_change  # type: ignore[method-assign] # the double is the method
        return store


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_a_file_overwritten_while_it_loads_stays_out(bench: EngineBench, settings: EmbeddedEngineSettings, all_of_them: bool) -> None:
    changed = [bench.land("a.json", lines({"id": 1}))]
    kept = bench.land("b.json", lines({"id": 2}))
    engine = EmbeddedEngine(settings, StoresThatChangeFiles(bench.stores, [*changed, kept] if all_of_them else changed))
    bench.engine, real = engine, bench.engine

    outcomes = await bench.load()

    assert (outcomes["a.json"].status, outcomes["a.json"].transient) == (OutcomeStatus.FAILED, True)
    assert "changed while it was being loaded" in (outcomes["a.json"].message or "")
    assert bench.rows("id") == ([] if all_of_them else [2])
    assert len(data_files(bench)) == (0 if all_of_them else 1)
    bench.engine = real
    await engine.close()


async def test_a_fence_believes_the_rows_when_snapshots_have_expired(bench: EngineBench, catalog: SqlCatalog) -> None:
    path = bench.land("a.json", lines({"id": 1}, {"id": 2}))
    batch = await bench.batch()
    await bench.engine.load(batch, open_guard)
    bench.land("b.json", lines({"id": 3}))
    await bench.load("b.json")
    table = catalog.load_table(TABLE)
    table.maintenance.expire_snapshots().by_id(table.snapshots()[0].snapshot_id).commit()

    found = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batch.batch_id, epoch=2)
    other = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=uuid4(), epoch=2)

    assert found is not None
    assert (found.snapshot_id, dict(found.rows_by_path)) == (None, {path: 2})
    assert other is None


async def test_a_fence_looks_at_main_only(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.land("a.json", lines({"id": 1}))
    await bench.load()
    astray = uuid4()
    table = catalog.load_table(TABLE)
    (snapshot,) = table.snapshots()
    table.manage_snapshots().create_branch(snapshot.snapshot_id, "draft").commit()
    rows = pa.table({"id": [2], "_source_file": ["x"], "_batch_id": [str(astray)]})
    table.append(rows, snapshot_properties={"autoloader.batch-id": str(astray)}, branch="draft")

    assert await bench.engine.fence(bench.destination, table_uuid=None, batch_id=astray, epoch=2) is None


async def test_dropping_a_table_removes_its_files(bench: EngineBench) -> None:
    for number in range(3):
        bench.land(f"{number}.json", lines({"id": number}))
        await bench.load(f"{number}.json")

    await bench.engine.drop_table(bench.destination)

    assert [path for path in (bench.folder.parent / "warehouse").rglob("*") if path.is_file()] == []


async def test_optimizing_merges_small_files_and_removes_what_has_expired(
    bench: EngineBench, catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "KEPT_SNAPSHOTS", 2)
    monkeypatch.setattr(maintenance, "KEPT_AGE", timedelta(0))
    for number in range(6):
        bench.land(f"{number}.json", lines({"id": number, **({"extra": number} if number > 3 else {})}))
        await bench.load(f"{number}.json")
    before = await bench.engine.table_state(bench.destination)

    await bench.engine.optimize(bench.destination)
    await bench.engine.optimize(bench.destination)

    table = catalog.load_table(TABLE)
    assert bench.rows("id", "extra") == [(0, None), (1, None), (2, None), (3, None), (4, 4), (5, 5)]
    assert len(list(table.scan().plan_files())) == 1
    assert len(table.snapshots()) == 2
    after = await bench.engine.table_state(bench.destination)
    assert before is not None
    assert after is not None
    assert (after.rows, after.schema, after.uuid) == (6, before.schema, before.uuid)
    parent = table.snapshots()[0]
    assert len(table.scan(snapshot_id=parent.snapshot_id).to_arrow()) == 6, "a snapshot that is kept can still be read"
    await bench.engine.load(await bench.batch("0.json"), open_guard)
    await bench.engine.load(await bench.batch("0.json"), open_guard)
    await bench.engine.optimize(bench.destination)
    assert len(data_files(bench)) == 3, "of the files that were merged nothing is left"


async def test_optimizing_a_missing_table_does_nothing(bench: EngineBench) -> None:
    await bench.engine.optimize(bench.destination)

    assert await bench.engine.table_state(bench.destination) is None
