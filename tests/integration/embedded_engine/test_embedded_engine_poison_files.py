"""A file over which the engine stumbles fails by itself, with a reason, and the files beside it load."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.exc import OperationalError

from domain.ingestions.entities import FormatType, SchemaEvolution
from domain.ports.engine import FileOutcome, OutcomeStatus, TableUnavailableError
from integrations.engines.embedded.batch_load import BatchLoad
from integrations.engines.embedded.data_files import DataFileWriter
from integrations.engines.embedded.json_reader import JsonReader
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench

LOADED, FAILED = OutcomeStatus.LOADED, OutcomeStatus.FAILED


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def left_behind(bench: EngineBench) -> list[Path]:
    """Files in the warehouse but for the catalog's own."""
    return [path for path in (bench.folder.parent / "warehouse").rglob("*") if path.is_file() and "metadata" not in path.parts]


def statuses(outcomes: dict[str, FileOutcome]) -> dict[str, OutcomeStatus]:
    return {name: outcome.status for name, outcome in outcomes.items()}


NAMES_TWICE = {
    "a column and a field": ('{"a": {"b": 1}, "a.b": 2}', "a.b"),
    "of two rows": ('{"o": {"x": 1}}\n{"o.x": 2}', "o.x"),
    "a list and its element": ('{"l": [1], "l.element": 2}', "l.element"),
    "a field of an element": ('{"l": [{"x": 1}], "l.element.x": 2}', "l.element.x"),
    "inside an object": ('{"o": {"a": {"b": 1}, "a.b": 2}}', "o.a.b"),
    "inside an element": ('{"p": [{"a": {"b": 1}, "a.b": 2}]}', "p.element.a.b"),
    "points on both sides": ('{"a": {"b.c": 1}, "a.b": {"c": 2}}', "a.b.c"),
}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(("content", "full_name"), NAMES_TWICE.values(), ids=NAMES_TWICE.keys())
async def test_a_full_name_that_two_would_have_fails_its_file_only(
    bench: EngineBench, monkeypatch: pytest.MonkeyPatch, content: str, full_name: str, existing: bool
) -> None:
    if existing:
        bench.land("first.json", lines({"id": 0}))
        await bench.load("first.json")
    bench.land("bad.json", content)
    bench.land("good.json", lines({"id": 1, "o": {"x": 1, "y.z": 2}}))
    monkeypatch.setattr(BatchLoad, "_error_over", None)

    outcomes = await bench.load("bad.json", "good.json")

    assert statuses(outcomes) == {"bad.json": FAILED, "good.json": LOADED}
    assert outcomes["bad.json"].message == (
        f'A column and a field inside another would both have the full name "{full_name}", which a table cannot hold: rename one.'
    )
    assert bench.columns() == {"id": "long", "o": "struct<x: long, y.z: long>"}
    assert bench.rows("o")[-1] == {"x": 1, "y.z": 2}


async def test_a_full_name_that_the_table_has_is_no_other_column(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.land("first.json", lines({"a": {"b": 1}}))
    bench.land("bad.json", lines({"a.b": 2}))
    bench.land("good.json", lines({"a": {"c.d": 3}, "a.c": 4, "c.d": 5}))
    await bench.load("first.json")
    monkeypatch.setattr(BatchLoad, "_error_over", None)

    assert statuses(await bench.load("bad.json", "good.json")) == {"bad.json": FAILED, "good.json": LOADED}
    assert bench.columns() == {"a": "struct<b: long, c.d: long>", "a.c": "long", "c.d": "long"}

    rescued = await bench.load("bad.json", evolution=SchemaEvolution.RESCUE)

    assert statuses(rescued) == {"bad.json": LOADED}
    assert bench.rows("_rescued_data")[0] == '{"a.b": 2}'


async def test_a_full_name_of_a_parquet_file_that_two_have(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    maps_by_name = {"m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), "m.value": pa.array([1])}
    bench.land("fields", parquet(**{"a": pa.array([{"b": 1}]), "a.b": pa.array([2])}))
    bench.land("maps", parquet(**maps_by_name))
    bench.land("good", parquet(id=pa.array([1])))
    monkeypatch.setattr(BatchLoad, "_error_over", None)

    outcomes = await bench.load(format=FormatType.PARQUET)

    assert statuses(outcomes) == {"fields": FAILED, "good": LOADED, "maps": FAILED}
    assert '"a.b"' in str(outcomes["fields"].message)
    assert '"m.value"' in str(outcomes["maps"].message)
    assert bench.columns() == {"id": "long"}


DAYS = {"in the year 20000": 6_585_000, "in the year -5000": -2_545_000, "the last of all": 2**31 - 1}
MICROSECONDS_A_DAY = 86_400_000_000


@pytest.mark.parametrize("days", DAYS.values(), ids=DAYS.keys())
async def test_dates_and_timestamps_that_python_does_not_have_load(bench: EngineBench, catalog: SqlCatalog, days: int) -> None:
    microseconds = min(days * MICROSECONDS_A_DAY, 9_000_000_000_000_000_000)
    bench.land(
        "far",
        parquet(
            id=pa.array([1, 2]),
            day=pa.array([days, 0], pa.date32()),
            at=pa.array([microseconds, 0], pa.timestamp("us", "UTC")),
            nested=pa.array([{"local": microseconds}, {"local": 0}], pa.struct([("local", pa.timestamp("us"))])),
        ),
    )
    bench.land("near", parquet(id=pa.array([3]), day=pa.array([1], pa.date32())))

    outcomes = await bench.load(format=FormatType.PARQUET)

    assert statuses(outcomes) == {"far": LOADED, "near": LOADED}
    table = catalog.load_table(("lake", "flights"))
    rows = table.scan().to_arrow().sort_by("id")
    assert rows.column("day").cast(pa.int32()).to_pylist() == [days, 0, 1]
    assert rows.column("at").cast(pa.int64()).to_pylist() == [microseconds, 0, None]
    assert pc.struct_field(rows.column("nested"), "local").cast(pa.int64()).to_pylist() == [microseconds, 0, None]
    assert len(table.scan("day > '1999-01-01'").to_arrow()) == (1 if days > 0 else 0)
    assert len(table.scan("id > 1").to_arrow()) == 2
    (file,) = [task.file for task in table.scan().plan_files()]
    assert sorted(file.lower_bounds) == sorted(table.schema().find_field(name).field_id for name in ("id", "_source_file", "_batch_id"))
    assert file.null_value_counts[table.schema().find_field("at").field_id] == 1


def poisoned(original: Callable[..., Any], *, tries: list[int]) -> Callable[..., Any]:
    """A reader's method that raises when the poison is among its files."""

    def read(self: JsonReader, files: Sequence[Any]) -> Any:
        tries.append(len(files))
        if any("poison" in Path(file.path).name for file in files):
            raise KeyError("secret")
        return original(self, files)

    return read


async def test_many_poison_files_cost_a_bounded_number_of_tries(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(32):
        name = "poison" if number in {3, 20} else "good"
        bench.land(f"{number:02}-{name}.json", lines({"id": number, name: 1}))
    tries: list[int] = []
    monkeypatch.setattr(JsonReader, "read", poisoned(JsonReader.read, tries=tries))

    outcomes = await bench.load()

    failed = {name: outcome.message for name, outcome in outcomes.items() if outcome.status is FAILED}
    told = "The file could not be loaded (KeyError); the server's log tells more."
    assert failed == {"03-poison.json": told, "20-poison.json": told}
    assert bench.rows("id") == sorted(set(range(32)) - {3, 20}, key=repr)
    assert bench.columns() == {"id": "long", "good": "long"}
    assert (tries[0], tries[-1]) == (32, 30)
    assert sorted(tries[1:-1], reverse=True) == [16] * 2 + [8] * 4 + [4] * 4 + [2] * 4 + [1] * 4
    assert len(left_behind(bench)) == 1


@pytest.mark.parametrize("existing", [False, True])
async def test_what_is_written_of_halves_is_in_no_warehouse(bench: EngineBench, monkeypatch: pytest.MonkeyPatch, existing: bool) -> None:
    bench.land("first.json", lines({"id": 0}))
    if existing:
        await bench.load("first.json")
    names = [f"{number}.json" for number in range(8)]
    for number, name in enumerate(names):
        bench.land(name, lines({"id": number}))
    write_into, seen = DataFileWriter._write_into, []

    def stumble_over_three(self: DataFileWriter, folder: Path, url: str, query: str, rows_by_path: dict[str, int]) -> Any:
        written = write_into(self, folder, url, query, rows_by_path)
        seen.append((len(left_behind(bench)), bench.folder.parent / "staging" in folder.parents))
        if any(path.endswith("/3.json") for path in rows_by_path):
            raise RecursionError
        return written

    monkeypatch.setattr(DataFileWriter, "_write_into", stumble_over_three)

    outcomes = await bench.load(*names)

    before = 1 if existing else 0
    assert statuses(outcomes) == {name: FAILED if name == "3.json" else LOADED for name in names}
    assert [in_scratch for _, in_scratch in seen] == [False, *[True] * 6, False]
    assert [files for files, _ in seen] == [before + 1, *[before] * 6, before + 1]
    assert len(left_behind(bench)) == before + 1


async def test_files_that_do_not_go_together_are_told_apart(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        bench.land(f"{name}.json", lines({"id": 1}))
    read = JsonReader.read

    def stumble_over_b_with_d(self: JsonReader, files: Sequence[Any]) -> Any:
        if {"b.json", "d.json"} <= {Path(file.path).name for file in files}:
            raise ValueError("both")
        return read(self, files)

    monkeypatch.setattr(JsonReader, "read", stumble_over_b_with_d)

    outcomes = await bench.load()

    assert statuses(outcomes) == {"a.json": LOADED, "b.json": LOADED, "c.json": LOADED, "d.json": FAILED}


async def test_the_only_file_of_a_batch_fails_and_makes_no_table(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.land("poison.json", lines({"id": 1}))
    tries: list[int] = []
    monkeypatch.setattr(JsonReader, "read", poisoned(JsonReader.read, tries=tries))

    outcomes = await bench.load()

    assert statuses(outcomes) == {"poison.json": FAILED}
    assert tries == [1, 1, 0]
    assert await bench.engine.table_state(bench.destination) is None


SURROUNDINGS: dict[str, Callable[[], Exception]] = {
    "MemoryError": MemoryError,
    "OSError": lambda: OSError("no space left on device"),
    "OutOfMemoryException": lambda: duckdb.OutOfMemoryException("could not allocate"),
    "IOException": lambda: duckdb.IOException("no space left on device"),
    "OperationalError": lambda: OperationalError("SELECT 1", {}, Exception("the server is gone")),
}


@pytest.mark.parametrize("kind", SURROUNDINGS)
@pytest.mark.parametrize("while_halving", [False, True])
async def test_no_file_is_charged_with_what_is_around_it(
    bench: EngineBench, monkeypatch: pytest.MonkeyPatch, kind: str, while_halving: bool
) -> None:
    bench.land("a.json", lines({"id": 1}))
    bench.land("b.json", lines({"id": 2}))
    read, tries = JsonReader.read, 0

    def fail(self: JsonReader, files: Sequence[Any]) -> Any:
        nonlocal tries
        tries += 1
        if while_halving and len(files) == 2:
            raise KeyError
        if not while_halving or any("b.json" in file.path for file in files):
            raise SURROUNDINGS[kind]()
        return read(self, files)

    monkeypatch.setattr(JsonReader, "read", fail)

    with pytest.raises(TableUnavailableError, match=rf"\({kind}\)"):
        await bench.load()

    assert tries == (3 if while_halving else 1)
    assert await bench.engine.table_state(bench.destination) is None


async def test_a_cancelled_load_does_not_go_on_halving(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        bench.land(f"{name}.json", lines({"id": 1}))
    loop, began, tries = asyncio.get_running_loop(), asyncio.Event(), []

    def wait_to_be_stopped(self: JsonReader, files: Sequence[Any]) -> Any:
        tries.append(len(files))
        loop.call_soon_threadsafe(began.set)
        self._work._stopped.wait()
        raise KeyError

    monkeypatch.setattr(JsonReader, "read", wait_to_be_stopped)
    task = asyncio.create_task(bench.load())
    await began.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert tries == [4]


async def test_a_table_that_somebody_else_makes_meanwhile_is_loaded_into(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its columns are others, and in another order."""
    bench.land("a.json", lines({"id": 1, "name": "x"}))
    bench.land("other.json", lines({"name": "y", "more": 1.5, "id": 2}))
    write, other = DataFileWriter.write, await bench.batch("other.json")
    loop = asyncio.get_running_loop()

    def write_after_another(self: DataFileWriter, query: str, rows_by_path: dict[str, int]) -> Any:
        monkeypatch.setattr(DataFileWriter, "write", write)
        written = write(self, query, rows_by_path)
        asyncio.run_coroutine_threadsafe(bench.engine.load(other, _open), loop).result()
        return written

    async def _open() -> None:
        return

    monkeypatch.setattr(DataFileWriter, "write", write_after_another)

    outcomes = await bench.load("a.json")

    assert statuses(outcomes) == {"a.json": LOADED}
    assert bench.rows("id", "name", "more") == [(1, "x", None), (2, "y", 1.5)]
    assert len(left_behind(bench)) == 2
