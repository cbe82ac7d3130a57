"""What every engine does where people decide on changes of the table's columns (REQUIRE_APPROVAL). As in `engine_contract.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from domain.errors import LeaseLostError
from domain.ingestions.entities import BadRowPolicy, SchemaEvolution
from domain.ports.engine import ColumnChange, Decisions, FileOutcome, OutcomeStatus
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench, open_guard

ASK = SchemaEvolution.REQUIRE_APPROVAL
LOADED, FAILED, NEEDS_APPROVAL = OutcomeStatus.LOADED, OutcomeStatus.FAILED, OutcomeStatus.NEEDS_APPROVAL
EXTRA = ColumnChange("extra", None, "string")


async def begin(bench: EngineBench) -> None:
    """A table with the column `id`, a long, and one row."""
    bench.land("first.json", lines({"id": 1}))
    await bench.load("first.json", evolution=ASK)


async def ask(bench: EngineBench, *names: str, **kwargs: Any) -> dict[str, FileOutcome]:
    return await bench.load(*names, evolution=ASK, **kwargs)


class EngineApprovalContract:
    async def test_a_table_is_created_without_asking(self, bench: EngineBench) -> None:
        bench.land("a.json", lines({"id": 1, "extra": "x"}))

        assert (await ask(bench))["a.json"].status is LOADED
        assert bench.columns() == {"id": "long", "extra": "string"}

    async def test_only_the_file_that_needs_it_waits(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("new.json", lines({"id": 2}, {"id": 3, "extra": "x"}))
        bench.land("old.json", lines({"id": 4}))
        bench.land("null.json", lines({"id": 5, "extra": None}))

        outcomes = await ask(bench, "new.json", "old.json", "null.json")

        new = outcomes["new.json"]
        assert (new.status, new.rows, new.needs, new.message) == (NEEDS_APPROVAL, 0, (EXTRA,), None)
        assert [outcomes[name].status for name in ("old.json", "null.json")] == [LOADED, LOADED]
        assert outcomes["old.json"].needs == ()
        assert bench.columns() == {"id": "long"}
        assert bench.rows("id") == [1, 4, 5]

    async def test_a_batch_of_files_that_wait_commits_nothing(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("new.json", lines({"id": 2, "extra": "x"}))

        async def lost() -> None:
            raise LeaseLostError

        outcomes = await ask(bench, "new.json", guard=lost)

        assert outcomes["new.json"].needs == (EXTRA,)
        assert bench.outcome is not None
        assert bench.outcome.snapshot_id is None
        assert bench.columns() == {"id": "long"}

    async def test_files_that_need_the_same_say_it_in_the_same_words(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("a.json", lines({"id": 2, "b": True, "a": 1}))
        bench.land("b.json", lines({"a": 2}, {"b": False, "id": 3}))
        bench.land("c.json", lines({"id": 4, "a": "text"}))

        outcomes = await ask(bench, "a.json", "b.json", "c.json")

        both = (ColumnChange("a", None, "long"), ColumnChange("b", None, "boolean"))
        assert outcomes["a.json"].needs == outcomes["b.json"].needs == both
        assert outcomes["c.json"].needs == (ColumnChange("a", None, "string"),)

    async def test_what_is_approved_comes_with_the_rows_that_bring_it(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("new.json", lines({"id": 2, "extra": "x"}))
        bench.land("more.json", lines({"id": 3, "extra": "y", "other": 1}))
        other = ColumnChange("other", None, "long")
        decisions = Decisions(approved=(EXTRA, ColumnChange("nobody_brings_it", None, "long")))

        outcomes = await ask(bench, "new.json", "more.json", decisions=decisions)

        assert (outcomes["new.json"].status, outcomes["more.json"].needs) == (LOADED, (other,))
        assert bench.outcome is not None
        assert bench.outcome.schema_before is not None
        assert [column.name for column in bench.outcome.schema_before.columns] == ["id"]
        assert bench.columns() == {"id": "long", "extra": "string"}
        assert bench.rows("id", "extra") == [(1, None), (2, "x")]

    async def test_an_approved_column_is_not_added_for_a_file_that_waits_for_another(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("more.json", lines({"id": 3, "extra": "y", "other": 1}))
        bench.land("plain.json", lines({"id": 4}))

        await ask(bench, "more.json", "plain.json", decisions=Decisions(approved=(EXTRA,)))

        assert bench.columns() == {"id": "long"}

    async def test_what_is_rejected_is_rescued_and_not_asked_again(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("new.json", lines({"id": 2, "extra": "x"}, {"id": 3}))
        bench.land("more.json", lines({"id": 4, "extra": "y", "other": 1}))

        outcomes = await ask(bench, "new.json", "more.json", decisions=Decisions(rejected=(EXTRA,)))

        new = outcomes["new.json"]
        assert (new.status, new.rows, new.rows_skipped, new.rows_rescued) == (LOADED, 2, 0, 1)
        assert outcomes["more.json"].needs == (ColumnChange("other", None, "long"),)
        assert bench.columns() == {"id": "long"}
        assert bench.rows("id", "_rescued_data") == [(1, None), (2, '{"id": 2, "extra": "x"}'), (3, None)]

    async def test_another_type_of_a_rejected_column_is_another_question(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("new.json", lines({"id": 2, "extra": 5}))

        outcome = (await ask(bench, "new.json", decisions=Decisions(rejected=(EXTRA,))))["new.json"]

        assert outcome.needs == (ColumnChange("extra", None, "long"),)

    async def test_what_is_approved_in_one_change_and_rejected_in_another_is_approved(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("new.json", lines({"id": 2, "extra": "x"}))

        await ask(bench, "new.json", decisions=Decisions(approved=(EXTRA,), rejected=(EXTRA,)))

        assert bench.rows("id", "extra") == [(1, None), (2, "x")]

    async def test_a_rejected_column_does_not_come_with_a_table_that_is_created_anew(self, bench: EngineBench) -> None:
        bench.land("new.json", lines({"id": 2, "extra": "x"}))

        outcome = (await ask(bench, "new.json", decisions=Decisions(rejected=(EXTRA,))))["new.json"]

        assert (outcome.status, outcome.rows_rescued) == (LOADED, 1)
        assert bench.columns() == {"id": "long"}

    @pytest.mark.parametrize(
        ("bad_rows", "status"),
        [(BadRowPolicy.FAIL_FILE, FAILED), (BadRowPolicy.SKIP_ROW, NEEDS_APPROVAL), (BadRowPolicy.RESCUE, NEEDS_APPROVAL)],
    )
    async def test_nobody_is_asked_for_a_file_that_fails_anyway(self, bench: EngineBench, bad_rows: BadRowPolicy, status: Any) -> None:
        await begin(bench)
        bench.land("bad.json", lines({"id": 2, "extra": "x"}, {"id": "two"}))

        assert (await ask(bench, "bad.json", bad_rows=bad_rows))["bad.json"].status is status

    async def test_a_type_that_no_change_can_mend_follows_the_bad_row_policy(self, bench: EngineBench) -> None:
        await begin(bench)
        bench.land("bad.json", lines({"id": "two"}))

        assert (await ask(bench, "bad.json"))["bad.json"].status is FAILED
        assert (await ask(bench, "bad.json", bad_rows=BadRowPolicy.RESCUE))["bad.json"].rows_rescued == 1

    async def test_what_others_add_meanwhile_needs_nobodys_approval(self, bench: EngineBench) -> None:
        """The first try finds the column missing; the table has it by the second."""
        await begin(bench)
        bench.land("new.json", lines({"id": 2, "extra": "x"}))
        bench.land("plain.json", lines({"id": 3}))
        bench.land("theirs.json", lines({"id": 4, "extra": "y"}))
        asked = 0

        async def guard() -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                await bench.engine.load(await bench.batch("theirs.json"), open_guard)

        outcomes = await ask(bench, "new.json", "plain.json", guard=guard)

        assert (asked, outcomes["new.json"].status) == (2, LOADED)
        assert bench.rows("id", "extra") == [(1, None), (2, "x"), (3, None), (4, "y")]

    async def test_a_file_that_waits_takes_nothings_place(self, bench: EngineBench) -> None:
        await begin(bench)
        assert bench.outcome is not None
        earlier = await bench.batch("first.json")
        await bench.engine.load(earlier, open_guard)
        rows = bench.rows("id")
        path = bench.land("first.json", lines({"id": 2, "extra": "x"}))
        batch = await bench.batch("first.json", evolution=ASK)
        replacing = replace(batch, files=[replace(batch.files[0], replaces=frozenset({earlier.batch_id}))])
        assert set(replacing.replaces) == {path}

        outcome = await bench.engine.load(replacing, open_guard)

        assert (outcome.files[0].status, outcome.snapshot_id) == (NEEDS_APPROVAL, None)
        assert bench.rows("id") == rows
