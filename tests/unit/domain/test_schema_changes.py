"""Which changes are the same, and how they are told."""

from __future__ import annotations

from domain.ports.engine import Column, ColumnChange, Decisions
from domain.schema_changes import SchemaChangeDecision, decisions_of, described, digest_of
from domain.schema_versions import SchemaDiff, TypeChange
from tests.factories import a_schema_change, new_columns

WIDER = ColumnChange("n", "int", "long")


def test_the_same_changes_in_another_order_are_one() -> None:
    assert digest_of((*new_columns("a", "b"), WIDER)) == digest_of((WIDER, *new_columns("b", "a")))


def test_another_name_or_type_or_beginning_is_another_change() -> None:
    different = [
        new_columns("a"),
        new_columns("b"),
        new_columns("a: string"),
        new_columns("a", "b"),
        (ColumnChange("a", "int", "long"),),
        (ColumnChange("a", "float", "long"),),
    ]
    assert len({digest_of(changes) for changes in different}) == len(different)


def test_a_change_is_told_like_a_schema_version() -> None:
    change = a_schema_change(changes=(*new_columns("a: string"), WIDER))
    assert change.diff == SchemaDiff(added=(Column("a", "string"),), changed=(TypeChange("n", "int", "long"),))


def test_a_long_change_is_told_shortly() -> None:
    assert described((*new_columns("a: string"), WIDER)) == 'new column "a" (string), column "n" from int to long'
    said = described(new_columns(*(f"c{number}: struct<{'x' * 1_000}: long>" for number in range(5_000))))
    assert said.endswith(", and 4995 more")
    assert len(said) < 1_000


def test_decisions_are_told_in_their_order_part_by_part() -> None:
    approved, rejected = SchemaChangeDecision.APPROVED, SchemaChangeDecision.REJECTED
    changes = [
        a_schema_change(changes=new_columns("a", "b"), decision=approved),
        a_schema_change(changes=new_columns("c"), decision=rejected),
        a_schema_change(changes=(WIDER,), decision=approved),
    ]
    assert decisions_of(changes) == Decisions(approved=(*new_columns("a", "b"), WIDER), rejected=new_columns("c"))
