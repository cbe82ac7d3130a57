"""What the audit promises, over any adapter of the persistence ports: each difference is found, and named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.errors import NotFoundError
from domain.ledger.completeness import NAMED_OF_A_KIND, WRONG, Completeness, CompletenessService, Difference, DifferenceKind
from domain.ledger.entities import FileStatus
from domain.ports.engine import TableReplacedError
from domain.runs.entities import RefreshMode
from tests.contracts.resets import clear, loaded, refreshed, subject_of
from tests.factories import BUCKET, a_principal, an_ingestion
from tests.fakes.scripted_engine import ROWS, Snapshot
from tests.workbench import Workbench

BAD = Difference(DifferenceKind.NOT_LOADED, BUCKET + "bad", FileStatus.FAILED, None, 0)


async def audited(bench: Workbench, ingestion_id: object) -> Completeness:
    service = CompletenessService(bench.unit_of_work, bench.discovery, bench.engines)
    return await service.audit(a_principal(bench.tenant), ingestion_id)  # type: ignore[arg-type]


def named(found: Completeness) -> list[Difference]:
    assert sum(found.counts.values()) == len(found.differences)
    return sorted(found.differences, key=lambda difference: (difference.path, difference.kind))


class CompletenessContract:
    async def test_when_all_is_well_only_what_was_not_loaded_is_named(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        found = await audited(bench, ingestion.id)
        assert (found.listed_files, found.ledger_files, found.ledger_rows, found.table_files, found.table_rows) == (
            3,
            3,
            2 * ROWS,
            2,
            2 * ROWS,
        )
        assert (found.consistent, found.run_active, named(found)) == (True, False, [BAD])

    async def test_what_came_went_and_changed_since(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bench.land("a", content=b"other")
        bench.land("new")
        bench.stores.delete(BUCKET + "b")
        found = await audited(bench, ingestion.id)
        assert found.consistent
        assert named(found) == [
            Difference(DifferenceKind.CHANGED_AT_SOURCE, BUCKET + "a", FileStatus.SUCCESS, ROWS, ROWS),
            Difference(DifferenceKind.GONE_FROM_SOURCE, BUCKET + "b", FileStatus.SUCCESS, ROWS, ROWS),
            BAD,
            Difference(DifferenceKind.NOT_IN_LEDGER, BUCKET + "new"),
        ]

    @pytest.mark.parametrize(
        ("path", "rows", "kind", "status", "ledger_rows"),
        [
            ("a", -1, DifferenceKind.ROWS_MISSING, FileStatus.SUCCESS, ROWS),
            ("b", ROWS, DifferenceKind.ROWS_TOO_MANY, FileStatus.SUCCESS, ROWS),
            ("bad", 1, DifferenceKind.ROWS_OF_UNLOADED_FILE, FileStatus.FAILED, None),
            ("0", 7, DifferenceKind.ROWS_OF_UNKNOWN_FILE, None, None),
            ("aa", 7, DifferenceKind.ROWS_OF_UNKNOWN_FILE, None, None),
            ("z", 7, DifferenceKind.ROWS_OF_UNKNOWN_FILE, None, None),
        ],
    )
    async def test_rows_that_should_not_be_or_should(
        self, bench: Workbench, path: str, rows: int, kind: DifferenceKind, status: FileStatus | None, ledger_rows: int | None
    ) -> None:
        ingestion = await loaded(bench)
        table = bench.table(ingestion)
        table.snapshots.append(Snapshot(99, None, {BUCKET + path: rows}))
        found = await audited(bench, ingestion.id)
        assert not found.consistent
        wrong = Difference(kind, BUCKET + path, status, ledger_rows, table.rows_of(BUCKET + path))
        assert [difference for difference in named(found) if difference.kind in WRONG] == [wrong]
        assert found.table_rows == 2 * ROWS + rows

    async def test_after_a_refresh_and_a_clear(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        await refreshed(bench, ingestion, RefreshMode.NEW_ONLY)
        found = await audited(bench, ingestion.id)
        assert found.consistent
        assert [(d.kind, d.path) for d in named(found)] == [
            (DifferenceKind.ABSENT_BY_REFRESH, BUCKET + "a"),
            (DifferenceKind.ABSENT_BY_REFRESH, BUCKET + "b"),
            (DifferenceKind.NOT_LOADED, BUCKET + "bad"),
        ]
        await clear(bench, ingestion)
        await bench.resets.finish(subject_of(ingestion))
        found = await audited(bench, ingestion.id)
        assert (found.consistent, dict(found.counts)) == (True, {DifferenceKind.NOT_IN_LEDGER: 3})

    async def test_a_table_that_is_gone_has_lost_all_rows(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        table = bench.engine.tables.pop(ingestion.destination.key)
        found = await audited(bench, ingestion.id)
        assert (found.consistent, found.counts[DifferenceKind.ROWS_MISSING], found.table_rows) == (False, 2, 0)
        bench.engine.tables[ingestion.destination.key] = replace(table, uuid=ingestion.id)
        with pytest.raises(TableReplacedError):
            await audited(bench, ingestion.id)

    async def test_all_are_counted_and_the_first_are_named(self, bench: Workbench) -> None:
        bench.land(*(f"{number:04}" for number in range(NAMED_OF_A_KIND + 5)))
        ingestion = await bench.ingestion()
        found = await audited(bench, ingestion.id)
        assert found.counts == {DifferenceKind.NOT_IN_LEDGER: NAMED_OF_A_KIND + 5}
        assert [d.path for d in found.differences] == [f"{BUCKET}{number:04}" for number in range(NAMED_OF_A_KIND)]

    async def test_an_active_run_is_told(self, bench: Workbench) -> None:
        ingestion = await bench.ingestion()
        await bench.queue(ingestion)
        assert (await audited(bench, ingestion.id)).run_active

    async def test_what_is_not_there_cannot_be_audited(self, bench: Workbench) -> None:
        with pytest.raises(NotFoundError):
            await audited(bench, an_ingestion().id)
