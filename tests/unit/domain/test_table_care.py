"""Which tables are tended, and which are left alone."""

from __future__ import annotations

from uuid import uuid4

import pytest

from domain.ingestions.entities import IngestionStatus, Reset
from domain.ledger.table_care import TENDED_EVERY_SNAPSHOTS, TableCareService, is_due
from domain.ports.engine import TableUnavailableError
from domain.ports.unit_of_work import Subject
from tests.workbench import Workbench


def test_a_table_is_due_now_and_then() -> None:
    due = [snapshots for snapshots in range(2 * TENDED_EVERY_SNAPSHOTS + 1) if is_due(snapshots)]
    assert due == [TENDED_EVERY_SNAPSHOTS, 2 * TENDED_EVERY_SNAPSHOTS]
    assert not is_due(None)


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
