"""Files that wait for people, over any adapter of the persistence ports: one proposal for each change, nothing lost or asked twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import ConflictError, ConflictReason, NotFoundError
from domain.ingestions.entities import ChangedFilePolicy, Ingestion, Policies, SchemaEvolution
from domain.ingestions.inputs import IngestionUpdate
from domain.ingestions.service import IngestionService
from domain.ledger import schema_proposals
from domain.ledger.completeness import Difference, DifferenceKind
from domain.ledger.entities import FileStatus
from domain.ledger.schema_proposals import DecisionRequest, SchemaChangeService, SchemaChangeVerdict
from domain.ports.engine import ColumnChange, Decisions, LoadBatch
from domain.ports.repositories import FileSelection
from domain.runs.entities import RefreshMode, RunStatus
from domain.schema_changes import SchemaChange, SchemaChangeDecision
from tests.contracts.completeness import audited, named
from tests.contracts.processing import frozen, recover, running
from tests.contracts.resets import clear, refreshed
from tests.factories import BUCKET, a_principal, a_schema
from tests.fakes.scripted_engine import ROWS
from tests.workbench import CHECKPOINTS, Workbench

ASKING = Policies(schema_evolution=SchemaEvolution.REQUIRE_APPROVAL)
SUCCESS, FAILED, PENDING, HELD, SKIPPED = (FileStatus(name) for name in ("SUCCESS", "FAILED", "PENDING", "HELD", "SKIPPED"))
EXTRA, OTHER = ColumnChange("extra", None, "string"), ColumnChange("other", None, "long")
APPROVE, REJECT = SchemaChangeVerdict.APPROVE, SchemaChangeVerdict.REJECT


async def loaded(bench: Workbench, **fields: Any) -> Ingestion:
    """An ingestion with a table, and a loaded file `a`."""
    bench.land("a")
    ingestion = await bench.ingestion(**{"policies": ASKING} | fields)
    assert (await bench.execute(ingestion)).status is RunStatus.SUCCESS
    return ingestion


def bring(bench: Workbench, change: ColumnChange, *names: str) -> None:
    """Land files that need the change."""
    for path in bench.land(*names):
        bench.engine.needing[path] = change


async def changes(bench: Workbench, ingestion: Ingestion) -> list[SchemaChange]:
    """The open ones, then the decided ones."""
    async with bench.unit_of_work(bench.tenant.id) as tx:
        return [*await tx.schema_changes.get_open(ingestion.id), *await tx.schema_changes.get_decided(ingestion.id)]


async def decide(bench: Workbench, change: SchemaChange, verdict: SchemaChangeVerdict, **fields: Any) -> SchemaChange:
    service = SchemaChangeService(bench.unit_of_work, bench.clock)
    principal = a_principal(bench.tenant, name="ann")
    return await service.decide(principal, DecisionRequest(id=change.id, decision=verdict, **fields))


class ApprovalContract:
    async def test_only_the_files_that_need_it_wait_and_one_proposal_stands_for_all(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b", "c", "e", "f")
        bring(bench, OTHER, "g")
        bench.land("d")

        run = await bench.execute(ingestion)

        statuses = await bench.statuses(ingestion)
        assert statuses == {"a": SUCCESS, "b": HELD, "c": HELD, "d": SUCCESS, "e": HELD, "f": HELD, "g": HELD}
        assert (run.status, run.files_processed, run.files_held, run.progress) == (RunStatus.PARTIAL, 1, 5, 1.0)
        assert run.error_message == "5 of 6 files wait for schema changes to be approved"
        first, second = await changes(bench, ingestion)
        assert (first.changes, first.example_path, first.run_id, first.decision) == (
            (EXTRA,),
            BUCKET + "b",
            run.id,
            SchemaChangeDecision.PENDING,
        )
        assert second.changes == (OTHER,)
        files = {file.path.removeprefix(BUCKET): file for file in await bench.files(ingestion)}
        assert {name: files[name].schema_change_id for name in "abcefg"} == dict.fromkeys("bcef", first.id) | {"a": None, "g": second.id}
        assert files["b"].error_message == 'It waits for a schema change to be approved: new column "extra" (string).'

    async def test_nothing_happens_while_nobody_decides(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        loads = len(bench.engine.loads)

        assert (await bench.execute(ingestion)).status is RunStatus.NO_NEW_FILES

        assert len(bench.engine.loads) == loads
        bring(bench, EXTRA, "c")
        assert (await bench.execute(ingestion)).files_held == 1
        assert [change.changes for change in await changes(bench, ingestion)] == [(EXTRA,)]

    async def test_an_approved_change_comes_with_the_files_that_waited(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b", "c")
        await bench.execute(ingestion)
        (change,) = await changes(bench, ingestion)

        decided = await decide(bench, change, APPROVE, reason="looks good")

        assert (decided.decision, decided.decided_by, decided.decision_reason) == (SchemaChangeDecision.APPROVED, "ann", "looks good")
        assert decided.decided_at == bench.clock.now()
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": PENDING, "c": PENDING}
        assert (await bench.execute(ingestion)).status is RunStatus.SUCCESS
        assert bench.engine.loads[-1].decisions == Decisions(approved=(EXTRA,))
        assert [bench.table(ingestion).loads_of(BUCKET + name) for name in "abc"] == [1, 1, 1]
        assert {file.schema_change_id for file in await bench.files(ingestion)} == {None}
        async with bench.unit_of_work(bench.tenant.id) as tx:
            latest = await tx.schema_versions.latest(ingestion.id)
        assert [column.name for column in latest.diff.added] == ["extra"]
        assert await changes(bench, ingestion) == [decided]

    @pytest.mark.parametrize("verdict", [APPROVE, REJECT])
    async def test_of_more_than_are_released_at_once_the_next_run_takes_the_rest(
        self, bench: Workbench, monkeypatch: pytest.MonkeyPatch, verdict: SchemaChangeVerdict
    ) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b", "c", "e")
        bring(bench, OTHER, "f")
        await bench.execute(ingestion)
        change, _ = await changes(bench, ingestion)

        monkeypatch.setattr(schema_proposals, "MOST_AT_ONCE", 2)
        await decide(bench, change, verdict)

        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": PENDING, "c": PENDING, "e": HELD, "f": HELD}
        assert (await bench.execute(ingestion)).files_processed == 3
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS, "c": SUCCESS, "e": SUCCESS, "f": HELD}

    async def test_a_rejected_change_is_not_proposed_again(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        (change,) = await changes(bench, ingestion)

        rejected = await decide(bench, change, REJECT)
        bring(bench, EXTRA, "c")
        run = await bench.execute(ingestion)

        assert (run.status, run.files_processed, run.rows_rescued) == (RunStatus.SUCCESS, 2, 2)
        assert await changes(bench, ingestion) == [rejected]
        assert [column.name for column in bench.table(ingestion).schema.columns] == ["id"]

    async def test_the_same_decision_again_changes_nothing_and_the_opposite_is_refused(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        (change,) = await changes(bench, ingestion)
        approved = await decide(bench, change, APPROVE, reason="one")

        assert await decide(bench, change, APPROVE, reason="two") == approved
        with pytest.raises(ConflictError, match="it was APPROVED by ann before") as caught:
            await decide(bench, change, REJECT)

        assert caught.value.reason is ConflictReason.WRONG_STATE
        assert await changes(bench, ingestion) == [approved]

    async def test_a_change_of_nothing_is_not_found(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        (change,) = await changes(bench, ingestion)
        service = SchemaChangeService(bench.unit_of_work, bench.clock)
        with pytest.raises(NotFoundError):
            await service.decide(a_principal(bench.tenant), DecisionRequest(id=uuid4(), decision=APPROVE))
        with pytest.raises(NotFoundError):
            await service.decide(a_principal(), DecisionRequest(id=change.id, decision=APPROVE))

    async def test_a_column_that_differs_from_another_in_case_alone_is_not_approved(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        bring(bench, ColumnChange("Extra", None, "string"), "c")
        bring(bench, ColumnChange("ID", None, "string"), "d")
        await bench.execute(ingestion)
        extra, twin, id_twin = await changes(bench, ingestion)
        await decide(bench, extra, APPROVE)
        for change, other in ((twin, 'the columns "extra" and "Extra"'), (id_twin, 'the columns "id" and "ID"')):
            with pytest.raises(ConflictError, match=other) as caught:
                await decide(bench, change, APPROVE)
            assert caught.value.reason is ConflictReason.WRONG_STATE
        assert (await decide(bench, twin, REJECT)).decision is SchemaChangeDecision.REJECTED

    @pytest.mark.parametrize("verdict", [APPROVE, REJECT])
    async def test_what_is_decided_during_a_load_does_not_begin_to_wait(self, bench: Workbench, verdict: SchemaChangeVerdict) -> None:
        """Two batches: by the time that the second one's file is marked as waiting, its change is decided."""
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b", "c", "d", "e")

        async def meanwhile(batch: LoadBatch) -> None:
            if len(batch.files) == 1 and (opened := await changes(bench, ingestion))[0].decision is SchemaChangeDecision.PENDING:
                await decide(bench, opened[0], verdict)

        bench.engine.at_start = meanwhile
        run = await bench.execute(ingestion)

        assert set((await bench.statuses(ingestion)).values()) == {SUCCESS}
        assert (run.files_processed, run.files_held) == (4, 3)
        assert [change.changes for change in await changes(bench, ingestion)] == [(EXTRA,)]

    async def test_two_types_of_one_column_are_two_changes_and_one_decision_may_settle_both(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        bring(bench, ColumnChange("extra", None, "long"), "c")
        await bench.execute(ingestion)
        as_text, as_number = await changes(bench, ingestion)
        assert as_text.digest != as_number.digest

        await decide(bench, as_text, APPROVE)
        await bench.execute(ingestion)

        assert set((await bench.statuses(ingestion)).values()) == {SUCCESS}
        assert [change.id for change in await changes(bench, ingestion)] == [as_text.id]

    async def test_a_column_that_somebody_adds_by_other_means_needs_no_approval(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        bench.table(ingestion).schema = a_schema("id", "extra: string")
        bench.land("c")
        await bench.execute(ingestion)
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": HELD, "c": SUCCESS}

        assert (await bench.execute(ingestion)).status is RunStatus.SUCCESS

        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS, "c": SUCCESS}
        assert await changes(bench, ingestion) == []

    async def test_too_many_different_changes_are_values_used_as_names(self, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(schema_proposals, "MOST_OPEN", 2)
        ingestion = await loaded(bench)
        for number, name in enumerate("bcdefg"):
            bring(bench, ColumnChange(f"user_{number % 4}", None, "long"), name)
        run = await bench.execute(ingestion)
        assert (run.status, run.files_held, run.files_failed) == (RunStatus.PARTIAL, 4, 2)
        assert len(await changes(bench, ingestion)) == 2
        refused = [file for file in await bench.files(ingestion) if file.status is FAILED]
        assert refused[0].error_message == (
            'It needs a schema change (new column "user_2" (long)), and 2 are waiting for a decision already.'
        )

    async def test_nobody_is_asked_any_more_once_the_policy_is_another(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        service = IngestionService(bench.unit_of_work, bench.stores, bench.clock, CHECKPOINTS)
        update = IngestionUpdate.parse({"policies": {"schema_evolution": "ADD_NEW_COLUMNS"}})
        await service.update_ingestion(a_principal(bench.tenant), ingestion.id, update)

        assert (await bench.execute(ingestion)).status is RunStatus.SUCCESS

        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS}
        assert await changes(bench, ingestion) == []

    @pytest.mark.parametrize("where", ["at_start", "before_commit", "after_commit"])
    async def test_a_lost_worker_loses_no_file_and_no_proposal(self, bench: Workbench, where: str) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        bench.land("c")
        worker, _ = await frozen(bench, await running(bench, ingestion), ingestion, where)
        assert await recover(bench) == 1
        worker.cancel()
        with pytest.raises(BaseException):  # noqa: B017, PT011  # cancelled, or its lease is lost
            await worker
        assert await changes(bench, ingestion) == []
        statuses = await bench.statuses(ingestion)
        assert statuses == {"a": SUCCESS, "b": PENDING, "c": SUCCESS if where == "after_commit" else PENDING}
        setattr(bench.engine, where, type(bench.engine)().at_start)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            run = await tx.runs.get_active(ingestion.id)
        assert run is not None
        await bench.pipeline.fail(run, "lost")

        await bench.execute(ingestion)

        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": HELD, "c": SUCCESS}
        assert [change.changes for change in await changes(bench, ingestion)] == [(EXTRA,)]
        assert bench.table(ingestion).loads_of(BUCKET + "c") == 1

    async def test_what_nobody_waits_for_any_more_is_withdrawn(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        bring(bench, OTHER, "c")
        await bench.execute(ingestion)
        (_, other) = await changes(bench, ingestion)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            (file,) = await tx.files.get_processed_files(ingestion.id, status=[HELD], limit=1)
            assert len(await tx.files.skip(FileSelection(ids=(file.id,)), reason="not ours")) == 1
        await bench.execute(ingestion)
        assert [change.id for change in await changes(bench, ingestion)] == [other.id]
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SKIPPED, "c": HELD}

    async def test_held_files_are_named_by_the_audit(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        found = await audited(bench, ingestion.id)
        assert found.consistent
        assert named(found) == [Difference(DifferenceKind.WAITING_FOR_APPROVAL, BUCKET + "b", HELD, None, 0)]

    async def test_a_full_refresh_forgets_what_waited(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        bring(bench, OTHER, "c")
        await bench.execute(ingestion)
        extra, _ = await changes(bench, ingestion)
        rejected = await decide(bench, extra, REJECT)

        run = await refreshed(bench, ingestion, RefreshMode.FULL)

        # What was decided holds for the new table, too; what was not is asked again.
        assert (run.files_processed, run.files_held) == (2, 1)
        opened, decided = await changes(bench, ingestion)
        assert (opened.changes, decided) == ((OTHER,), rejected)

    async def test_a_refresh_of_what_is_new_looks_at_what_waited(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        bench.engine.needing.clear()

        run = await refreshed(bench, ingestion, RefreshMode.NEW_ONLY)

        assert (run.files_processed, await changes(bench, ingestion)) == (1, [])
        assert await bench.statuses(ingestion) == {"a": SUCCESS, "b": SUCCESS}

    async def test_a_clear_forgets_what_waited(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        (change,) = await changes(bench, ingestion)
        assert await clear(bench, ingestion, path_prefix=BUCKET + "b") == 1
        bench.stores.delete(BUCKET + "b")
        await bench.execute(ingestion)
        assert await bench.statuses(ingestion) == {"a": SUCCESS}
        assert await changes(bench, ingestion) == []
        with pytest.raises(NotFoundError):
            await decide(bench, change, APPROVE)

    async def test_a_deleted_ingestion_takes_its_changes_along(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b")
        await bench.execute(ingestion)
        (change,) = await changes(bench, ingestion)
        async with bench.unit_of_work(bench.tenant.id) as tx:
            await tx.ingestions.delete(ingestion.id)
        assert await changes(bench, ingestion) == []
        with pytest.raises(NotFoundError):
            await decide(bench, change, APPROVE)

    async def test_a_new_version_that_waits_leaves_the_old_rows_until_it_is_loaded(self, bench: Workbench) -> None:
        ingestion = await loaded(bench, policies=replace(ASKING, changed_files=ChangedFilePolicy.REPLACE))
        bring(bench, EXTRA, "a")
        bench.land("a", content=b"other")
        assert (await bench.execute(ingestion)).files_held == 1
        assert await bench.statuses(ingestion) == {"a": HELD}
        assert bench.table(ingestion).rows_of(BUCKET + "a") == ROWS
        found = await audited(bench, ingestion.id)
        assert named(found) == [Difference(DifferenceKind.WAITING_FOR_APPROVAL, BUCKET + "a", HELD, ROWS, ROWS)]
        (change,) = await changes(bench, ingestion)
        await decide(bench, change, APPROVE)

        await bench.execute(ingestion)

        assert await bench.statuses(ingestion) == {"a": SUCCESS}
        assert bench.table(ingestion).rows_of(BUCKET + "a") == ROWS
        assert named(await audited(bench, ingestion.id)) == []

    async def test_rows_add_up(self, bench: Workbench) -> None:
        ingestion = await loaded(bench)
        bring(bench, EXTRA, "b", "c")
        bring(bench, OTHER, "d")
        await bench.execute(ingestion)
        extra, other = await changes(bench, ingestion)
        await decide(bench, extra, APPROVE)
        await decide(bench, other, REJECT)
        await bench.execute(ingestion)
        found = await audited(bench, ingestion.id)
        assert (found.ledger_rows, found.table_rows, named(found)) == (4 * ROWS, 4 * ROWS, [])
