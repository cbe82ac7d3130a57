"""The promise under faults: real workers, killed and stopped, over a real PostgreSQL and a real S3 server that fail.

Each cell of the matrix ends with a comparison of the table's rows with those that landed, by their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from domain.steps import Step
from tests.chaos import matrix
from tests.chaos.bench import Bench, Cell, Row, fill
from tests.chaos.disk_faults import may_mount

pytestmark = pytest.mark.timeout(3_600)


@pytest.fixture(params=("CRASHES", "DATABASE", "STORE", "DISK"))
def cells(request: pytest.FixtureRequest, whole_matrix: bool, tmp_path: Path) -> Sequence[Cell]:
    chosen = [cell for cell in getattr(matrix, request.param) if whole_matrix or matrix.is_short(cell)]
    if request.param == "DISK" and not may_mount(tmp_path / "may-mount"):
        # A full file system takes the right to mount one; the limit on the size of files does not.
        chosen = [cell for cell in chosen if cell.fault != "disk full"]
    return chosen


async def test_no_row_is_lost_or_doubled(chaos: Bench, cells: Sequence[Cell], whole_matrix: bool, matrix_rows: list[Row]) -> None:
    rows = await fill(chaos, cells)
    matrix_rows += rows
    assert len(rows) >= len(cells)
    for row in rows:
        assert (row.outcome.lost, row.outcome.doubled, row.outcome.problems) == (0, 0, []), row
        # On a machine that does much else, a process may take longer to start than a short lease lasts.
        assert row.outcome.good or not whole_matrix, row


def test_every_step_has_its_cells_and_every_short_cell_is_there() -> None:
    for fault in ("SIGKILL", "SIGSTOP past the lease"):
        assert {cell.step for cell in matrix.CRASHES if cell.fault == fault} == set(Step)
    short = {(cell.fault, cell.step) for cell in (*matrix.CRASHES, *matrix.DATABASE, *matrix.STORE, *matrix.DISK) if matrix.is_short(cell)}
    assert short == {(fault, step) for fault, steps in matrix.SHORT_STEPS.items() for step in steps}
