"""Tables that are tended once they have grown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from random import Random

import pyarrow as pa
import pytest
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from domain.ledger.table_care import TENDED_EVERY_SNAPSHOTS
from tests.fixtures.whole_stack import Whole, lines

# The first of them starts everything.
pytestmark = pytest.mark.timeout(600)

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
    quarters = [points[part::_FILES] for part in range(_FILES)]
    whole.land("first.json", _as_lines(quarters[0]))
    assert (await whole.run(id))["status"] == "SUCCESS"
    await whole.iceberg(partial(_grow, others=quarters[1:-1]))
    whole.land("last.json", _as_lines(quarters[-1]))
    assert (await whole.run(id))["status"] == "SUCCESS"

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


def _as_lines(points: Sequence[tuple[int, int]]) -> str:
    return lines([{"x": x, "y": y} for x, y in points])


def _grow(table: Table, others: Sequence[Sequence[tuple[int, int]]]) -> None:
    """By all but one of the snapshots that make it due: others write into it too, some of them rows."""
    schema = table.schema().as_arrow()
    with table.transaction() as transaction:
        for points in others:
            transaction.append(pa.Table.from_pylist([{"x": x, "y": y} for x, y in points], schema))
        for _ in range(TENDED_EVERY_SNAPSHOTS - 1 - len(others) - len(table.snapshots())):
            transaction.append(schema.empty_table())


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
