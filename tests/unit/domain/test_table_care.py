"""Which tables are tended, and which are left alone."""

from __future__ import annotations

import itertools
from uuid import uuid4

import pytest

from domain.ingestions.entities import IngestionStatus, Reset
from domain.ledger.table_care import TENDED_EVERY_SNAPSHOTS, TableCareService, is_due
from domain.ports.engine import TableUnavailableError
from domain.ports.unit_of_work import Subject
from tests.workbench import Workbench


@pytest.mark.parametrize("adding", [1, 2, 3, 7])
def test_a_table_is_due_now_and_then_however_many_snapshots_come_at_once(adding: int) -> None:
    seen = [None, *range(1, 4 * TENDED_EVERY_SNAPSHOTS, adding)]
    due = [now for before, now in itertools.pairwise(seen) if now is not None and is_due(before, now)]
    assert [snapshots // TENDED_EVERY_SNAPSHOTS for snapshots in due] == [1, 2, 3]
    assert all(snapshots % TENDED_EVERY_SNAPSHOTS < adding for snapshots in due)


@pytest.mark.parametrize(
    ("before", "now", "due"),
    [
        (49, 51, True),
        (49, 50, True),
        (50, 51, False),
        (None, 50, True),
        (None, 51, False),
        (120, 3, False),
        (120, 60, False),
        (30, 260, True),
    ],
)
def test_a_table_is_due_that_has_come_past_a_multiple(before: int | None, now: int, due: bool) -> None:
    assert is_due(before, now) is due


async def test_a_table_is_tended(bench: Workbench) -> None:
    ingestion = await bench.ingestion()
    service = TableCareService(bench.unit_of_work, bench.engines)
    await service.tend(Subject(ingestion.tenant_id, ingestion.id))
    assert bench.engine.optimized == [ingestion.destination]
    bench.engine.unavailable = TableUnavailableError("the catalog does not answer")
    with pytest.raises(TableUnavailableError):
        await service.tend(Subject(ingestion.tenant_id, ingestion.id))


async def test_a_table_that_is_about_to_go_is_left_alone(bench: Workbench) -> None:
    going = await bench.ingestion(status=IngestionStatus.DELETING), await bench.ingestion(reset=Reset(uuid4()))
    service = TableCareService(bench.unit_of_work, bench.engines)
    for subject in (*(Subject(each.tenant_id, each.id) for each in going), Subject(bench.tenant.id, uuid4())):
        await service.tend(subject)
    assert bench.engine.optimized == []
