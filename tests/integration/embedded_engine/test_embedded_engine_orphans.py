"""Files that killed workers have left go when they are old; what a table refers to, and what may still be on its way, stays."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO

from integrations.engines.embedded.orphans import ORPHAN_AGE, old_files, remove_orphans
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench

TABLE = ("lake", "flights")
SPARED = timedelta(minutes=1)


def folder_of(bench: EngineBench) -> Path:
    return bench.folder.parent / "warehouse/lake/flights"


def lay(path: Path, *, age: timedelta) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left behind")
    grow_old(path, age)
    return path


def grow_old(path: Path, age: timedelta) -> None:
    then = time.time() - age.total_seconds()
    os.utime(path, (then, then))


async def loaded(bench: EngineBench, *numbers: int) -> None:
    for number in numbers:
        bench.land(f"{number}.json", lines({"id": number}))
        await bench.load(f"{number}.json")


def files(bench: EngineBench) -> set[Path]:
    return {path for path in folder_of(bench).rglob("*") if path.is_file()}


async def test_what_was_left_behind_goes_once_it_is_old(bench: EngineBench) -> None:
    await loaded(bench, 1, 2)
    known = files(bench)
    for path in known:
        grow_old(path, 10 * ORPHAN_AGE)
    data, metadata = folder_of(bench) / "data", folder_of(bench) / "metadata"
    orphans = [
        lay(place, age=ORPHAN_AGE + SPARED)
        for place in (data / "abc/data_0.parquet", metadata / "x-m0.avro", metadata / "9-x.metadata.json")
    ]
    young = lay(data / "def/data_0.parquet", age=ORPHAN_AGE - SPARED)
    foreign = lay(data / "notes.txt", age=10 * ORPHAN_AGE)
    beside = lay(folder_of(bench) / "other/data_0.parquet", age=10 * ORPHAN_AGE)

    await bench.engine.optimize(bench.destination)

    assert files(bench) == known | {young, foreign, beside}
    assert not any(path.exists() for path in orphans)
    assert bench.rows("id") == [1, 2]
    await loaded(bench, 3)
    assert bench.rows("id") == [1, 2, 3]


async def test_every_snapshot_that_is_kept_can_still_be_read(bench: EngineBench, catalog: SqlCatalog) -> None:
    await loaded(bench, *range(6))
    await bench.engine.optimize(bench.destination)
    await bench.engine.remove_rows(bench.destination, table_uuid=None, path_prefix=str(bench.folder / "3"), guard=_open)
    table = catalog.load_table(TABLE)
    table.manage_snapshots().create_branch(branch_name="kept", snapshot_id=table.snapshots()[2].snapshot_id).commit()
    table = catalog.load_table(TABLE)

    assert remove_orphans(table, now=datetime.now(UTC) + 10 * ORPHAN_AGE) == 0

    seen = [len(table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()) for snapshot in catalog.load_table(TABLE).snapshots()]
    assert seen == [1, 2, 3, 4, 5, 6, 6, 5]


async def _open() -> None:
    return None


async def test_a_table_that_refers_elsewhere_is_left_alone(
    bench: EngineBench, catalog: SqlCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    """What the table calls by another name could be one of the files that look like orphans."""
    await loaded(bench, 1)
    table = catalog.load_table(TABLE)
    moved = bench.folder.parent / "elsewhere"
    moved.symlink_to(folder_of(bench))
    [file] = (task.file.file_path for task in table.scan().plan_files())
    table.delete()
    table.add_files([str(moved / Path(file.removeprefix("file://")).relative_to(folder_of(bench)))], check_duplicate_files=False)
    orphan = lay(folder_of(bench) / "data/abc/data_0.parquet", age=ORPHAN_AGE + SPARED)

    assert remove_orphans(catalog.load_table(TABLE), now=datetime.now(UTC) + 10 * ORPHAN_AGE) == 0

    assert orphan.exists()
    assert "is referred to elsewhere" in caplog.text
    assert bench.rows("id") == [1]


def test_a_folder_that_is_hard_to_name_is_not_looked_into(tmp_path: Path) -> None:
    """Read as a URL, its name ends at the question mark, and is another folder's."""
    lay(tmp_path / "odd/data_0.parquet", age=ORPHAN_AGE + SPARED)
    assert list(old_files(PyArrowFileIO(), f"file://{tmp_path}/odd?name/", before=datetime.now(UTC))) == []
    assert len(list(old_files(PyArrowFileIO(), f"file://{tmp_path}/odd/", before=datetime.now(UTC)))) == 1
