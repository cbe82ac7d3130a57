"""What a worker that dies, or a server that goes on without it, leaves of a batch."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from domain.errors import LeaseLostError
from domain.ingestions.entities import BadRowPolicy
from domain.ports.engine import TableReplacedError
from integrations.engines.embedded import EmbeddedEngineSettings
from integrations.engines.embedded.tables import Tables
from integrations.engines.spark import maintenance
from integrations.engines.spark.batch_load import SparkBatchLoad
from integrations.engines.spark.branches import branch_name
from integrations.engines.spark.catalog import catalog_settings
from integrations.engines.spark.client import SparkConnectClient
from integrations.engines.spark.settings import SparkServer
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench, open_guard


class WorkerDiedError(Exception):
    pass


def _table(catalog: SqlCatalog) -> Table:
    return catalog.load_table(("lake", "flights"))


async def test_a_loaded_batch_leaves_no_branch_and_one_snapshot(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.land("a.json", lines({"id": 1}))
    batch = await bench.batch()

    await bench.engine.load(batch, open_guard)

    metadata = _table(catalog).metadata
    assert list(metadata.refs) == ["main"]
    assert len(metadata.snapshots) == 1
    summary = metadata.snapshots[0].summary
    assert summary is not None
    assert summary["autoloader.batch-id"] == str(batch.batch_id)
    assert summary["autoloader.epoch"] == "1"


async def test_main_shows_nothing_before_the_guard_and_nothing_stays_after_a_lost_lease(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.land("a.json", lines({"id": 1}))
    batch = await bench.batch()
    seen: list[object] = []

    async def lost() -> None:
        table = _table(catalog)
        seen.append((sorted(table.metadata.refs), table.scan().to_arrow().num_rows))
        raise LeaseLostError

    with pytest.raises(LeaseLostError):
        await bench.engine.load(batch, lost)

    assert seen == [([branch_name(batch.batch_id, 1)], 0)]
    table = _table(catalog)
    assert (table.metadata.refs, table.metadata.snapshots) == ({}, [])
    warehouse = table.location().removeprefix("file://")
    assert [path for path in bench.folder.parent.rglob("*.parquet") if str(path).startswith(warehouse)] == []


async def test_what_spark_writes_after_its_worker_has_died_never_reaches_main(
    bench: EngineBench, catalog: SqlCatalog, settings: EmbeddedEngineSettings, spark: SparkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.land("a.json", lines({"id": 1}))
    batch = await bench.batch(epoch=1)
    with monkeypatch.context() as dying:
        # The process is gone: nobody publishes, and nobody cleans up.
        dying.setattr(SparkBatchLoad, "_discard", lambda load: None)

        async def die() -> None:
            raise WorkerDiedError

        with pytest.raises(WorkerDiedError):
            await bench.engine.load(batch, die)
    branch = branch_name(batch.batch_id, 1)
    assert branch in _table(catalog).metadata.refs

    evidence = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batch.batch_id, epoch=2)

    assert evidence is None
    # The server goes on: it commits the dead worker's rows, refreshing and retrying as it pleases.
    client = SparkConnectClient(replace(spark, session={**spark.session, **catalog_settings(settings)}))
    name = "`autoloader`.`lake`.`flights`"
    client.connect().sql(f"INSERT INTO {name}.`branch_{branch}` VALUES (1, 'late', '{batch.batch_id}')").collect()
    client.close()
    assert bench.rows() == []
    again = replace(batch, epoch=2)
    await bench.engine.load(again, open_guard)
    assert bench.rows("id", "_batch_id") == [(1, str(batch.batch_id))]

    monkeypatch.setattr(maintenance, "BRANCH_AGE", timedelta())
    await bench.engine.optimize(bench.destination)

    assert list(_table(catalog).metadata.refs) == ["main"]
    assert bench.rows("id") == [1]


async def test_a_table_that_once_rescued_takes_rows_under_another_policy(bench: EngineBench) -> None:
    bench.land("a.json", lines({"id": 1}))
    await bench.load("a.json", bad_rows=BadRowPolicy.RESCUE)
    bench.land("b.json", lines({"id": 2}))

    await bench.load("b.json")

    assert bench.rows("id", "_rescued_data") == [(1, None), (2, None)]


async def test_a_crash_between_new_columns_and_the_append_leaves_a_column_and_no_row(
    bench: EngineBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.land("a.json", lines({"id": 1}))
    await bench.load("a.json")
    bench.land("b.json", lines({"id": 2, "extra": "x"}))
    batch = await bench.batch("b.json")

    def die(*_: object, **__: object) -> None:
        raise WorkerDiedError

    with monkeypatch.context() as dying:
        dying.setattr("integrations.engines.spark.loading.SparkLoading.append", die)
        with pytest.raises(WorkerDiedError):
            await bench.engine.load(batch, open_guard)
    assert bench.rows("id", "extra") == [(1, None)]

    await bench.engine.load(replace(batch, epoch=2), open_guard)

    assert bench.rows("id", "extra") == [(1, None), (2, "x")]


async def test_a_file_that_changes_while_spark_reads_is_left_out(bench: EngineBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.land("a.json", lines({"id": 1}))
    bench.land("b.json", lines({"id": 2}))
    written = SparkBatchLoad._write

    def overwritten(load: SparkBatchLoad) -> None:
        written(load)
        bench.land("b.json", lines({"id": 3}, {"id": 4}))

    objects = await bench.objects()
    monkeypatch.setattr(SparkBatchLoad, "_write", overwritten)

    outcomes = await bench.load(objects=objects)

    assert {name: (outcome.status, outcome.transient) for name, outcome in outcomes.items()} == {
        "a.json": ("LOADED", False),
        "b.json": ("FAILED", True),
    }
    assert bench.rows("id") == [1]


async def test_a_table_with_several_sort_columns_is_z_ordered_and_keeps_its_rows(bench: EngineBench, catalog: SqlCatalog) -> None:
    bench.destination = replace(bench.destination, sort_by=("x", "y"))
    for number in range(4):
        bench.land(f"{number}.json", lines(*({"x": (number * 7 + row) % 10, "y": row} for row in range(10))))
        await bench.load(f"{number}.json")
    before = bench.rows("x", "y")

    await bench.engine.optimize(bench.destination)

    assert bench.rows("x", "y") == before
    assert len(list(_table(catalog).scan().plan_files())) == 1


@pytest.mark.parametrize("frozen_after", ["find_the_one", "set_aside"])
async def test_a_late_drop_leaves_the_table_that_was_made_since(
    bench: EngineBench, settings: EmbeddedEngineSettings, monkeypatch: pytest.MonkeyPatch, frozen_after: str
) -> None:
    bench.land("a.json", lines({"id": 1}))
    await bench.load()
    assert bench.outcome is not None
    old, made, others = bench.outcome.table_uuid, [], Tables(settings)
    step = getattr(Tables, frozen_after)

    def refreshed_meanwhile(tables: Tables, *args: Any) -> Any:
        result = step(tables, *args)
        monkeypatch.undo()
        others.drop(bench.destination, old)
        made.append(others.find_or_create(bench.destination, {"id": pa.int64()}, rescue_column=False))
        made[0].append(pa.table({"id": [2]}))
        return result

    monkeypatch.setattr(Tables, frozen_after, refreshed_meanwhile)
    expected = pytest.raises(TableReplacedError) if frozen_after == "find_the_one" else nullcontext()
    with expected:
        await bench.engine.drop_table(bench.destination, table_uuid=old)

    state = await bench.engine.table_state(bench.destination)
    assert state is not None
    assert state.uuid == made[0].metadata.table_uuid
    assert bench.rows("id") == [2]
    others.close()
