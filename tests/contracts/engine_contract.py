"""What every engine does: one suite over files of JSON lines, run for the fake and for each real engine.

A subclass module gives the `bench` fixture, an `EngineBench` whose table does not exist yet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.errors import LeaseLostError, ValidationError
from domain.ingestions.entities import BadRowPolicy, FormatSpec, FormatType, SchemaEvolution
from domain.ports.engine import Column, CommitGuard, OutcomeStatus, TableMissingError, TableReplacedError, TableSchema
from tests.fixtures.engine_bench import EngineBench, open_guard

JSON = FormatSpec(FormatType.JSON)


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class EngineContract:
    async def test_the_first_load_makes_the_table_and_one_snapshot(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1, "name": "x"}, {"id": 2, "name": None}))
        bench.land("b.json", lines({"id": 3, "name": "y"}))

        outcomes = await bench.load()

        assert {name: (outcome.status, outcome.rows) for name, outcome in outcomes.items()} == {
            "a.json": (OutcomeStatus.LOADED, 2),
            "b.json": (OutcomeStatus.LOADED, 1),
        }
        state = await bench.engine.table_state(bench.destination)
        assert state is not None
        assert bench.outcome is not None
        assert (bench.outcome.snapshot_id, bench.outcome.table_uuid) == (state.snapshot_id, state.uuid)
        assert bench.outcome.schema_before is None
        assert bench.outcome.schema_after == state.schema == TableSchema((Column("id", "long"), Column("name", "string")))
        assert state.rows == 3
        assert bench.outcome.snapshots == 1
        assert bench.rows("id", "name") == [(1, "x"), (2, None), (3, "y")]

    async def test_every_row_says_which_file_and_which_batch_brought_it(self, bench: EngineBench) -> None:
        path = bench.land("with space%.json", lines({"id": 1}))
        batch = await bench.batch()

        await bench.engine.load(batch, open_guard)

        assert bench.rows("id", "_source_file", "_batch_id") == [(1, path, str(batch.batch_id))]

    async def test_a_later_load_appends_and_keeps_the_table(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load("a.json")
        first = bench.outcome
        bench.land("b.json", lines({"id": 2}))
        await bench.load("b.json")
        second = bench.outcome

        assert first is not None
        assert second is not None
        assert (second.table_uuid, second.schema_before) == (first.table_uuid, first.schema_after)
        assert second.snapshot_id != first.snapshot_id
        assert bench.rows("id") == [1, 2]

    async def test_a_bad_file_fails_and_the_rest_is_loaded(self, bench: EngineBench) -> None:
        for name, content in {
            "cut.json": lines({"id": 1}) + '{"id": ',
            "gone.json": lines({"id": 2}),
            "empty.json": "",
            "good.json": lines({"id": 4}),
        }.items():
            bench.land(name, content)
        objects = await bench.objects()
        Path(bench.folder / "gone.json").unlink()

        outcomes = await bench.load(objects=objects)

        assert {name: outcome.status for name, outcome in outcomes.items()} == {
            "cut.json": OutcomeStatus.FAILED,
            "gone.json": OutcomeStatus.FAILED,
            "empty.json": OutcomeStatus.SKIPPED,
            "good.json": OutcomeStatus.LOADED,
        }
        assert all(outcomes[name].message for name in ("cut.json", "gone.json", "empty.json"))
        assert outcomes["good.json"].message is None
        assert sum(outcome.rows for outcome in outcomes.values()) == 1
        assert bench.rows("id") == [4]

    async def test_a_batch_of_bad_files_commits_nothing(self, bench: EngineBench) -> None:
        bench.land("bad.json", "<html>\n")

        outcomes = await bench.load(guard=_lost)

        assert outcomes["bad.json"].status is OutcomeStatus.FAILED
        assert bench.outcome is not None
        assert (bench.outcome.snapshot_id, bench.outcome.table_uuid, bench.outcome.schema_after) == (None, None, None)
        assert bench.outcome.snapshots is None
        assert await bench.engine.table_state(bench.destination) is None

    async def test_a_new_column_is_added_with_the_rows_that_bring_it(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load("a.json")
        bench.land("b.json", lines({"id": 2}, {"id": 3, "extra": "x"}))
        await bench.load("b.json")

        assert bench.outcome is not None
        assert bench.outcome.schema_before == TableSchema((Column("id", "long"),))
        assert bench.outcome.schema_after == TableSchema((Column("id", "long"), Column("extra", "string")))
        assert bench.rows("id", "extra") == [(1, None), (2, None), (3, "x")]

    @pytest.mark.parametrize(
        ("evolution", "status", "rescued"),
        [
            (SchemaEvolution.FAIL_ON_NEW_COLUMNS, OutcomeStatus.FAILED, 0),
            (SchemaEvolution.IGNORE, OutcomeStatus.LOADED, 0),
            (SchemaEvolution.RESCUE, OutcomeStatus.LOADED, 1),
        ],
    )
    async def test_a_new_column_follows_the_policy(
        self, bench: EngineBench, evolution: SchemaEvolution, status: OutcomeStatus, rescued: int
    ) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load("a.json")
        bench.land("b.json", lines({"id": 2, "extra": "x"}))

        outcome = (await bench.load("b.json", evolution=evolution))["b.json"]

        assert (outcome.status, outcome.rows_rescued) == (status, rescued)
        assert bench.columns() == {"id": "long"}
        if evolution is SchemaEvolution.FAIL_ON_NEW_COLUMNS:
            assert '"extra"' in (outcome.message or "")
        if rescued:
            assert bench.rows("id", "_rescued_data") == [(1, None), (2, '{"id": 2, "extra": "x"}')]

    @pytest.mark.parametrize(
        ("policy", "status", "rows", "skipped", "rescued"),
        [
            (BadRowPolicy.FAIL_FILE, OutcomeStatus.FAILED, 0, 0, 0),
            (BadRowPolicy.SKIP_ROW, OutcomeStatus.LOADED, 2, 1, 0),
            (BadRowPolicy.RESCUE, OutcomeStatus.LOADED, 3, 0, 1),
        ],
    )
    async def test_a_bad_row_follows_the_policy_and_the_counts_add_up(
        self, bench: EngineBench, policy: BadRowPolicy, status: OutcomeStatus, rows: int, skipped: int, rescued: int
    ) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load("a.json")
        bench.land("b.json", lines({"id": 2}, {"id": "two"}, {"id": 3}))

        outcome = (await bench.load("b.json", bad_rows=policy))["b.json"]

        assert (outcome.status, outcome.rows, outcome.rows_skipped, outcome.rows_rescued) == (status, rows, skipped, rescued)
        assert len(bench.rows()) == 1 + rows
        if policy is BadRowPolicy.FAIL_FILE:
            assert "Line 2" in (outcome.message or "")
        if rescued:
            assert [row for row in bench.rows("id", "_rescued_data") if row[1]] == [(None, '{"id": "two"}')]

    async def test_the_guard_is_asked_once_the_table_is_there_and_before_the_commit(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        seen: list[int | None] = []

        async def guard() -> None:
            state = await bench.engine.table_state(bench.destination)
            seen.append(None if state is None else state.rows)

        await bench.load(guard=guard)

        assert seen == [0]

    async def test_a_lost_lease_commits_nothing(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        batch = await bench.batch()

        with pytest.raises(LeaseLostError):
            await bench.engine.load(batch, _lost)

        state = await bench.engine.table_state(bench.destination)
        assert state is not None
        assert (state.rows, state.snapshot_id) == (0, None)
        evidence = await bench.engine.fence(bench.destination, table_uuid=state.uuid, batch_id=batch.batch_id, epoch=2)
        assert evidence is None

    async def test_a_concurrent_commit_leads_back_to_the_guard_and_loses_neither(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        bench.land("b.json", lines({"id": 2, "extra": True}))
        asked = 0

        async def guard() -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                await bench.engine.load(await bench.batch("b.json"), open_guard)

        outcomes = await bench.load("a.json", guard=guard)

        assert asked == 2
        assert outcomes["a.json"].rows == 1
        assert bench.rows("id", "extra") == [(1, None), (2, True)]

    async def test_a_fence_between_guard_and_commit_keeps_the_commit_out(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        batch = await bench.batch(epoch=1)
        answers = []

        async def guard() -> None:
            if answers:
                raise LeaseLostError
            answers.append(await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batch.batch_id, epoch=2))

        with pytest.raises(LeaseLostError):
            await bench.engine.load(batch, guard)

        assert answers == [None]
        assert bench.rows() == []

    async def test_a_fence_finds_what_was_committed(self, bench: EngineBench) -> None:
        paths = [bench.land("a.json", lines({"id": 1}, {"id": 2})), bench.land("b.json", lines({"id": 3}))]
        batch = await bench.batch()
        outcome = await bench.engine.load(batch, open_guard)
        bench.land("c.json", lines({"id": 4}))
        await bench.load("c.json")

        evidence = await bench.engine.fence(bench.destination, table_uuid=outcome.table_uuid, batch_id=batch.batch_id, epoch=2)

        assert evidence is not None
        assert evidence.snapshot_id == outcome.snapshot_id
        assert dict(evidence.rows_by_path) == {paths[0]: 2, paths[1]: 1}
        assert bench.rows("id") == [1, 2, 3, 4]

    async def test_a_fence_of_a_batch_that_never_came_finds_nothing_and_changes_no_row(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load()
        before = await bench.engine.table_state(bench.destination)

        evidence = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=uuid4(), epoch=2)

        after = await bench.engine.table_state(bench.destination)
        assert evidence is None
        assert before is not None
        assert after is not None
        assert after.rows == before.rows == 1
        assert after.snapshot_id != before.snapshot_id

    async def test_a_fence_never_guesses_about_a_table_that_is_not_there_or_not_the_one(self, bench: EngineBench) -> None:
        with pytest.raises(TableMissingError):
            await bench.engine.fence(bench.destination, table_uuid=None, batch_id=uuid4(), epoch=2)
        bench.land("a.json", lines({"id": 1}))
        await bench.load()

        with pytest.raises(TableReplacedError):
            await bench.engine.fence(bench.destination, table_uuid=uuid4(), batch_id=uuid4(), epoch=2)

    async def test_a_dropped_table_is_gone_and_the_next_is_another(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load()
        first = bench.outcome

        assert await bench.engine.drop_table(bench.destination) is True
        assert await bench.engine.drop_table(bench.destination) is False
        assert await bench.engine.table_state(bench.destination) is None
        await bench.load()

        assert first is not None
        assert bench.outcome is not None
        assert bench.outcome.table_uuid != first.table_uuid
        assert bench.rows("id") == [1]

    async def test_the_rest_is_not_loaded_into_another_table_than_the_first_of_it(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        bench.land("b.json", lines({"id": 2}))
        await bench.load("a.json")
        assert bench.outcome is not None
        first = bench.outcome.table_uuid
        await bench.engine.drop_table(bench.destination)

        with pytest.raises(TableMissingError):
            await bench.load("b.json", table_uuid=first)
        assert await bench.engine.table_state(bench.destination) is None
        await bench.load("b.json")
        with pytest.raises(TableReplacedError):
            await bench.load("a.json", table_uuid=first)
        assert bench.rows("id") == [2]
        await bench.load("a.json", table_uuid=bench.outcome.table_uuid)
        assert bench.rows("id") == [1, 2]

    async def test_a_table_that_is_not_the_one_is_not_dropped(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load()
        assert bench.outcome is not None

        with pytest.raises(TableReplacedError):
            await bench.engine.drop_table(bench.destination, table_uuid=uuid4())
        assert bench.rows("id") == [1]
        assert await bench.engine.drop_table(bench.destination, table_uuid=bench.outcome.table_uuid) is True
        assert await bench.engine.drop_table(bench.destination, table_uuid=bench.outcome.table_uuid) is False

    async def test_rows_are_counted_by_file_in_the_order_of_paths(self, bench: EngineBench) -> None:
        assert await _counted(bench, None) == []
        for name, rows in {"b.json": 2, "é.json": 1, "Z.json": 3, "a.json": 1}.items():
            bench.land(name, lines(*({"id": id} for id in range(rows))))
        await bench.load()
        bench.land("c.json", lines({"id": 1}))
        await bench.load("c.json")
        assert bench.outcome is not None

        counted = await _counted(bench, bench.outcome.table_uuid)

        names = [("Z.json", 3), ("a.json", 1), ("b.json", 2), ("c.json", 1), ("é.json", 1)]
        assert counted == [(f"{bench.folder}/{name}", rows) for name, rows in names]
        with pytest.raises(TableReplacedError):
            await _counted(bench, uuid4())

    async def test_rows_are_removed_by_their_files_path(self, bench: EngineBench) -> None:
        for name, rows in {"a_/1.json": [1, 2], "a_/2.json": [3], "ab/1.json": [4], "a%/1.json": [5]}.items():
            bench.land(name, lines(*({"id": id, "at": {"x": id}} for id in rows)))
        await bench.load()
        bench.land("a_/3.json", lines({"id": 6, "at": {"x": 6}}))
        await bench.load("a_/3.json")
        asked = 0

        async def guard() -> None:
            nonlocal asked
            asked += 1
            assert len(bench.rows()) == 6

        removed = await _remove(bench, "a_/", guard)

        assert (removed, asked) == (4, 1)
        assert bench.rows("id", "at") == [(4, {"x": 4}), (5, {"x": 5})]
        state = await bench.engine.table_state(bench.destination)
        assert state is not None
        assert state.rows == 2

    async def test_removing_nothing_commits_nothing(self, bench: EngineBench) -> None:
        assert await _remove(bench, "a", _lost) == 0
        bench.land("b.json", lines({"id": 1}))
        await bench.load()
        before = await bench.engine.table_state(bench.destination)

        assert await _remove(bench, "a", _lost) == 0

        assert await bench.engine.table_state(bench.destination) == before

    async def test_rows_stay_when_they_are_not_to_go_any_more(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        bench.land("b.json", lines({"id": 2}))
        await bench.load()

        with pytest.raises(LeaseLostError):
            await _remove(bench, "a", _lost)

        assert bench.rows("id") == [1, 2]

    async def test_rows_that_come_while_others_go_lead_back_to_the_guard(self, bench: EngineBench) -> None:
        bench.land("a1.json", lines({"id": 1}))
        bench.land("b1.json", lines({"id": 2}))
        await bench.load()
        bench.land("b2.json", lines({"id": 3}))
        asked = 0

        async def guard() -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                await bench.load("b2.json")

        assert await _remove(bench, "a", guard) == 1
        assert asked == 2
        assert bench.rows("id") == [2, 3]

    async def test_rows_of_another_table_are_not_removed(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        await bench.load()

        with pytest.raises(TableReplacedError):
            await bench.engine.remove_rows(bench.destination, table_uuid=uuid4(), path_prefix=str(bench.folder), guard=open_guard)

        assert bench.rows("id") == [1]

    async def test_files_whose_rows_were_removed_are_loaded_again(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        bench.land("b.json", lines({"id": 2}))
        await bench.load()
        await _remove(bench, "a", open_guard)

        await bench.load("a.json")

        assert bench.rows("id") == [1, 2]

    async def test_optimizing_keeps_rows_and_evidence(self, bench: EngineBench) -> None:
        batches = []
        for number in range(5):
            bench.land(f"{number}.json", lines({"id": number}))
            batches.append(await bench.batch(f"{number}.json"))
            await bench.engine.load(batches[-1], open_guard)

        await bench.engine.optimize(bench.destination)

        assert bench.rows("id") == [0, 1, 2, 3, 4]
        evidence = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batches[1].batch_id, epoch=2)
        assert evidence is not None
        assert list(evidence.rows_by_path.values()) == [1]

    async def test_preview_and_infer_look_and_leave_nothing(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1, "name": "x"}, {"id": 2, "name": "y"}, {"id": 3, "name": "z"}))
        objects = await bench.objects()

        preview = await bench.engine.preview(bench.source, bench.grants, JSON, objects, limit=2)

        assert preview.schema == TableSchema((Column("id", "long"), Column("name", "string")))
        assert preview.rows == [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]
        assert await bench.engine.infer(bench.source, bench.grants, JSON, objects) == preview.schema
        assert await bench.engine.table_state(bench.destination) is None

    async def test_a_preview_of_nothing_readable_says_so(self, bench: EngineBench) -> None:
        bench.land("a.json", "<html>\n")

        with pytest.raises(ValidationError):
            await bench.engine.preview(bench.source, bench.grants, JSON, await bench.objects(), limit=2)


async def _remove(bench: EngineBench, below: str, guard: CommitGuard) -> int:
    """The rows of the bench's files whose names begin so; how many."""
    return await bench.engine.remove_rows(bench.destination, table_uuid=None, path_prefix=f"{bench.folder}/{below}", guard=guard)


async def _counted(bench: EngineBench, table_uuid: UUID | None) -> list[tuple[str, int]]:
    chunks = bench.engine.rows_by_file(bench.destination, table_uuid=table_uuid)
    return [pair async for chunk in chunks for pair in chunk]


async def _lost() -> None:
    raise LeaseLostError
