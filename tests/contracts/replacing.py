"""What every engine does with files that take the place of earlier versions of themselves.

A subclass module gives the `bench` fixture, as for `EngineContract`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.errors import LeaseLostError
from domain.ports.engine import Column, OutcomeStatus, TableSchema
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench, open_guard


async def loaded(bench: EngineBench, *names: str, **kwargs: Any) -> UUID:
    """The batch that has brought them."""
    batch = await bench.batch(*names, **kwargs)
    bench.outcome = await bench.engine.load(batch, open_guard)
    return batch.batch_id


def path(bench: EngineBench, name: str) -> str:
    return str(bench.folder / name)


class ReplacingContract:
    async def test_old_rows_leave_in_the_commit_that_brings_the_new(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}, {"id": 2}))
        bench.land("b.json", lines({"id": 3}))
        first = await loaded(bench)
        before = bench.outcome
        bench.land("a.json", lines({"id": 4, "extra": "x"}))
        seen = []

        async def guard() -> None:
            seen.append(bench.rows("id"))

        outcomes = await bench.load("a.json", replaces={"a.json": [first]}, guard=guard)

        assert seen == [[1, 2, 3]]
        assert (outcomes["a.json"].status, outcomes["a.json"].rows) == (OutcomeStatus.LOADED, 1)
        assert bench.rows("id", "extra", "_source_file") == [(3, None, path(bench, "b.json")), (4, "x", path(bench, "a.json"))]
        state = await bench.engine.table_state(bench.destination)
        assert before is not None
        assert bench.outcome is not None
        assert state is not None
        assert (bench.outcome.snapshots, state.snapshot_id, state.rows) == ((before.snapshots or 0) + 1, bench.outcome.snapshot_id, 2)
        assert bench.outcome.schema_after == TableSchema((Column("id", "long"), Column("extra", "string")))

    async def test_rows_of_versions_that_are_not_named_stay(self, bench: EngineBench) -> None:
        batches = []
        for id in (1, 2, 3):
            bench.land("a.json", lines({"id": id}))
            batches.append(await loaded(bench))
        bench.land("a.json", lines({"id": 4}))

        await bench.load(replaces={"a.json": batches[1:]})

        assert bench.rows("id") == [1, 4]

    async def test_many_files_are_replaced_at_once_wherever_their_rows_lie(self, bench: EngineBench) -> None:
        names = [f"{number:02}.json" for number in range(12)]
        brought: dict[str, list[UUID]] = {}
        for start in range(0, 12, 3):
            for name in names[start : start + 3]:
                bench.land(name, lines({"id": int(name[:2]), "v": 1}))
            batch = await loaded(bench, *names[start : start + 3])
            brought |= {name: [batch] for name in names[start : start + 3]}
        await bench.engine.optimize(bench.destination)
        changed = names[1:11:2]
        for name in changed:
            bench.land(name, lines({"id": int(name[:2]), "v": 2}))

        await bench.load(*changed, replaces={name: brought[name] for name in changed})

        assert bench.rows("id", "v") == [(number, 2 if f"{number:02}.json" in changed else 1) for number in sorted(range(12), key=str)]

    async def test_an_empty_file_leaves_no_row_of_its_path(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        bench.land("b.json", lines({"id": 2}))
        first = await loaded(bench)
        bench.land("a.json", "")

        outcomes = await bench.load("a.json", replaces={"a.json": [first]})

        assert outcomes["a.json"].status is OutcomeStatus.SKIPPED
        assert bench.outcome is not None
        assert bench.outcome.snapshot_id is not None
        assert bench.rows("id") == [2]

    async def test_a_bad_file_replaces_nothing(self, bench: EngineBench) -> None:
        for name in ("a.json", "b.json"):
            bench.land(name, lines({"id": name}))
        first = await loaded(bench)
        bench.land("a.json", "<html>\n")
        bench.land("b.json", lines({"id": "new"}))

        outcomes = await bench.load(replaces={"a.json": [first], "b.json": [first]})

        assert {name: outcome.status for name, outcome in outcomes.items()} == {
            "a.json": OutcomeStatus.FAILED,
            "b.json": OutcomeStatus.LOADED,
        }
        assert bench.rows("id") == ["a.json", "new"]

    async def test_when_there_is_nothing_to_replace_nothing_is_committed_for_it(self, bench: EngineBench) -> None:
        bench.land("b.json", lines({"id": 1}))
        await loaded(bench)
        before = await bench.engine.table_state(bench.destination)
        bench.land("a.json", "")

        await bench.load("a.json", replaces={"a.json": [uuid4()]}, guard=_lost)

        assert await bench.engine.table_state(bench.destination) == before

    async def test_a_lost_lease_leaves_the_old_rows(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        bench.land("b.json", lines({"id": 2}))
        first = await loaded(bench)
        bench.land("a.json", lines({"id": 3}))
        batch = await bench.batch("a.json", replaces={"a.json": [first]})

        with pytest.raises(LeaseLostError):
            await bench.engine.load(batch, _lost)

        assert bench.rows("id") == [1, 2]
        evidence = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batch.batch_id, epoch=2, replaces=batch.replaces)
        assert evidence is None

    @pytest.mark.parametrize("content", [lines({"id": 4}), ""])
    async def test_a_concurrent_commit_leads_back_to_the_guard_and_loses_neither(self, bench: EngineBench, content: str) -> None:
        bench.land("a.json", lines({"id": 1}))
        bench.land("b.json", lines({"id": 2}))
        first = await loaded(bench)
        bench.land("a.json", content)
        bench.land("b.json", lines({"id": 3}))
        asked = 0

        async def guard() -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                await loaded(bench, "b.json", replaces={"b.json": [first]})

        await bench.load("a.json", replaces={"a.json": [first]}, guard=guard)

        assert asked == 2
        assert bench.rows("id") == ([3, 4] if content else [3])

    async def test_a_fence_keeps_the_commit_out_and_the_old_rows_in(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1}))
        first = await loaded(bench)
        bench.land("a.json", lines({"id": 2}))
        batch = await bench.batch(replaces={"a.json": [first]})
        answers = []

        async def guard() -> None:
            if answers:
                raise LeaseLostError
            answers.append(
                await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batch.batch_id, epoch=2, replaces=batch.replaces)
            )

        with pytest.raises(LeaseLostError):
            await bench.engine.load(batch, guard)

        assert answers == [None]
        assert bench.rows("id") == [1]

    async def test_a_fence_tells_the_files_that_were_replaced_from_those_that_were_not(self, bench: EngineBench) -> None:
        contents = {"a.json": lines({"id": 9}), "bad.json": "<html>\n", "empty.json": ""}
        for number, name in enumerate(contents):
            bench.land(name, lines({"id": number}))
        first = await loaded(bench)
        for name, content in contents.items():
            bench.land(name, content)
        batch = await bench.batch(replaces={name: [first] for name in contents})
        outcome = await bench.engine.load(batch, open_guard)

        evidence = await bench.engine.fence(bench.destination, table_uuid=None, batch_id=batch.batch_id, epoch=2, replaces=batch.replaces)

        assert evidence is not None
        assert (evidence.snapshot_id, dict(evidence.rows_by_path)) == (outcome.snapshot_id, {path(bench, "a.json"): 1})
        assert evidence.replaced == {path(bench, "a.json"), path(bench, "empty.json")}
        assert bench.rows("id") == [1, 9]


async def _lost() -> None:
    raise LeaseLostError
