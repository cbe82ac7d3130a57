"""First loads that meet: what PyIceberg looks for and then makes, two may find missing at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from domain.ingestions.entities import Destination
from integrations.engines.embedded import EmbeddedEngineSettings
from integrations.engines.embedded.tables import Tables

COLUMNS = {"id": pa.int64()}


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
