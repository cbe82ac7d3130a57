"""What changed from one version of a schema to the next."""

from __future__ import annotations

import pytest

from domain.ports.engine import Column
from domain.schema_versions import SchemaDiff, TypeChange
from tests.factories import a_schema


@pytest.mark.parametrize(
    ("before", "after", "diff"),
    [
        (None, a_schema("a", "b: string"), SchemaDiff(added=(Column("a", "long"), Column("b", "string")))),
        (a_schema("a"), a_schema("a"), SchemaDiff()),
        (a_schema("a", "b"), a_schema("b", "a"), SchemaDiff()),
        (a_schema("a"), a_schema("a", "b: date"), SchemaDiff(added=(Column("b", "date"),))),
        (a_schema("a", "b: date"), a_schema("a"), SchemaDiff(removed=(Column("b", "date"),))),
        (a_schema("a: int"), a_schema("a: long"), SchemaDiff(changed=(TypeChange("a", "int", "long"),))),
        (a_schema("a"), a_schema("A"), SchemaDiff(added=(Column("A", "long"),), removed=(Column("a", "long"),))),
    ],
)
def test_between(before: object, after: object, diff: SchemaDiff) -> None:
    assert SchemaDiff.between(before, after) == diff  # type: ignore[arg-type]  # schemas
    assert bool(diff) == (diff != SchemaDiff())
