"""Processes that meet between a look at the catalog and what follows: tables that two would make, and tables that are dropped late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from domain.ingestions.entities import Destination
from domain.ports.engine import TableReplacedError
from integrations.engines.embedded import EmbeddedEngineSettings
from integrations.engines.embedded.tables import Tables

COLUMNS = {"id": pa.int64()}
ROW = pa.table({"id": [1]})
FLIGHTS = Destination("autoloader", "lake", "flights")


@pytest.fixture
def settings(tmp_path: Path, empty_database_url: str) -> EmbeddedEngineSettings:
    return EmbeddedEngineSettings(empty_database_url.replace("+asyncpg", "+psycopg2"), f"file://{tmp_path}/warehouse", tmp_path)


def at_the_same_time(*calls: Callable[[], object]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def meeting_after(method: Callable[..., Any], parties: int, *, meetings: int) -> Callable[..., Any]:
    """The method, whose first calls all look before any of them goes on."""
    barrier, local = threading.Barrier(parties, timeout=30), threading.local()

    def called(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        local.calls = getattr(local, "calls", 0) + 1
        if local.calls <= meetings:
            barrier.wait()
        return result

    return called


def loaded_tables(settings: EmbeddedEngineSettings, destinations: Sequence[Destination]) -> list[str]:
    """Each destination's table, made by a process of its own."""
    processes = [Tables(settings) for _ in destinations]
    for process in processes:
        process.ping()
    try:
        found = at_the_same_time(
            *(
                partial(process.find_or_create, destination, COLUMNS, rescue_column=False)
                for process, destination in zip(processes, destinations, strict=True)
            )
        )
        return [str(table.metadata.table_uuid) for table in found]
    finally:
        for process in processes:
            process.close()


def test_two_tables_that_are_the_first_of_their_database(settings: EmbeddedEngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqlCatalog, "namespace_exists", meeting_after(SqlCatalog.namespace_exists, 2, meetings=1))

    made = loaded_tables(settings, [Destination("autoloader", "lake", "flights"), Destination("autoloader", "lake", "trains")])

    assert len(set(made)) == 2


def test_one_table_that_two_would_make(settings: EmbeddedEngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqlCatalog, "namespace_exists", meeting_after(SqlCatalog.namespace_exists, 2, meetings=2))

    made = loaded_tables(settings, [Destination("autoloader", "lake", "flights")] * 2)

    assert len(set(made)) == 1


def test_two_processes_that_are_the_first_of_their_catalog(settings: EmbeddedEngineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    create_tables = SqlCatalog.create_tables
    looked = threading.Barrier(2, timeout=30)

    def create_when_both_have_looked(catalog: SqlCatalog) -> None:
        looked.wait()
        create_tables(catalog)

    monkeypatch.setattr(SqlCatalog, "create_tables", create_when_both_have_looked)
    processes = [Tables(settings), Tables(settings)]

    at_the_same_time(*(process.ping for process in processes))

    for process in processes:
        process.close()


def dropping_late(settings: EmbeddedEngineSettings, meanwhile: Callable[[Table], object], monkeypatch: pytest.MonkeyPatch) -> Tables:
    """A process whose first look at a table is followed by what others do before it goes on."""
    late = Tables(settings)
    find = late.find_the_one

    def found(destination: Destination, table_uuid: UUID | None) -> Table | None:
        table = find(destination, table_uuid)
        monkeypatch.setattr(late, "find_the_one", find)
        assert table is not None
        meanwhile(table)
        return table

    monkeypatch.setattr(late, "find_the_one", found)
    return late


def test_a_table_made_between_the_look_at_the_old_one_and_its_drop_stays(
    settings: EmbeddedEngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = Tables(settings)
    old = others.find_or_create(FLIGHTS, COLUMNS, rescue_column=False).metadata.table_uuid
    made: list[Table] = []

    def refresh(_: Table) -> None:
        assert others.drop(FLIGHTS, old) is True
        made.append(others.find_or_create(FLIGHTS, COLUMNS, rescue_column=False))
        made[0].append(ROW)

    late = dropping_late(settings, refresh, monkeypatch)

    with pytest.raises(TableReplacedError):
        late.drop(FLIGHTS, old)

    present = others.find(FLIGHTS)
    assert present is not None
    assert present.metadata.table_uuid == made[0].metadata.table_uuid
    assert present.scan().to_arrow().column("id").to_pylist() == [1]
    for process in (late, others):
        process.close()


def test_a_table_that_is_committed_to_before_its_drop_goes_with_all_its_files(
    settings: EmbeddedEngineSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    others = Tables(settings)
    uuid = others.find_or_create(FLIGHTS, COLUMNS, rescue_column=False).metadata.table_uuid
    late = dropping_late(settings, lambda table: others.catalog.load_table(table.name()).append(ROW), monkeypatch)

    assert late.drop(FLIGHTS, uuid) is True

    assert others.find(FLIGHTS) is None
    assert [path for path in (tmp_path / "warehouse").rglob("*") if path.is_file()] == []
    for process in (late, others):
        process.close()


def test_a_drop_that_died_in_its_middle_is_finished_by_the_next(settings: EmbeddedEngineSettings, tmp_path: Path) -> None:
    tables = Tables(settings)
    uuid = tables.find_or_create(FLIGHTS, COLUMNS, rescue_column=False).metadata.table_uuid

    aside = tables.set_aside(FLIGHTS, uuid)

    assert aside is not None
    assert tables.find(FLIGHTS) is None
    new = tables.find_or_create(FLIGHTS, COLUMNS, rescue_column=False)
    assert tables.set_aside(FLIGHTS, uuid) == aside
    assert tables.drop(FLIGHTS, uuid) is True
    assert not tables.catalog.table_exists(aside)
    assert [f"file://{path}" for path in (tmp_path / "warehouse").rglob("*") if path.is_file()] == [new.metadata_location]
    with pytest.raises(TableReplacedError):
        tables.drop(FLIGHTS, uuid)
    tables.close()
