"""Tables that are tended once they have grown."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from domain.ledger.table_care import TENDED_EVERY_SNAPSHOTS
from tests.fixtures.whole_stack import Whole, lines

_SIDE = 8
_FILES = 4
_PATIENCE_SECONDS = 120


def _z_value(x: int, y: int) -> int:
    """The bits of both, interleaved, those of the first before those of the second."""
    return sum((x >> bit & 1) << 2 * bit + 1 | (y >> bit & 1) << 2 * bit for bit in range(8))


@pytest.mark.scenario(129)
async def test_a_grown_table_is_rewritten_in_z_order_and_keeps_its_rows(whole: Whole) -> None:
    points = [(x, y) for x in range(_SIDE) for y in range(_SIDE)]
    Random(1).shuffle(points)
    id = await whole.create(destination=whole.destination(sortBy=["x", "y"]))
    for part in range(_FILES):
        whole.land(f"{part}.json", lines([{"x": x, "y": y} for x, y in points[part::_FILES]]))
        if part == _FILES - 1:
            await whole.iceberg(_grow)
        assert (await whole.run(id))["rowsWritten"] == _SIDE * _SIDE / _FILES

    async with asyncio.timeout(_PATIENCE_SECONDS):
        while (files := await whole.iceberg(_files_before_and_after)) is None:
            await asyncio.sleep(0.2)
    before, after = files
    assert len(before) == _FILES
    assert len(after) == 1
    assert before.isdisjoint(after)
    rows = [(row["x"], row["y"]) for row in await whole.rows("x", "y")]
    assert sorted(rows) == sorted(points)
    assert rows == sorted(points, key=lambda point: _z_value(*point))


def _grow(table: Table) -> None:
    """By all that is missing but one of the snapshots that make it due: commits of others, that bring no row."""
    nothing = table.schema().as_arrow().empty_table()
    with table.transaction() as transaction:
        for _ in range(TENDED_EVERY_SNAPSHOTS - 1 - len(table.snapshots())):
            transaction.append(nothing)


def _files_before_and_after(table: Table) -> tuple[set[str], set[str]] | None:
    """The table's data files on both sides of the rewrite; None before that."""
    for snapshot in table.snapshots():
        if snapshot.summary is not None and snapshot.summary.operation is Operation.REPLACE:
            before, after = (
                {task.file.file_path for task in table.scan(snapshot_id=id).plan_files()}
                for id in (snapshot.parent_snapshot_id, snapshot.snapshot_id)
            )
            return before, after
    return None
