"""Partition fields as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ingestions.partitions import PartitionField, check_partition_field, parse_partition_field


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("country", PartitionField("identity", "country")),
        ("day", PartitionField("identity", "day")),
        ("_x1", PartitionField("identity", "_x1")),
        ("identity(a)", PartitionField("identity", "a")),
        ("year(ts)", PartitionField("year", "ts")),
        ("month( ts )", PartitionField("month", "ts")),
        (" day(ts) ", PartitionField("day", "ts")),
        ("hour(ts)", PartitionField("hour", "ts")),
        ("bucket(16, id)", PartitionField("bucket", "id", 16)),
        ("truncate(4,code)", PartitionField("truncate", "code", 4)),
    ],
)
def test_what_is_a_partition_field(text: str, field: PartitionField) -> None:
    assert parse_partition_field(text) == field
    assert check_partition_field(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1a", "a b", "a.b", "é", "day()", "day(ts", "day ts)", "Day(ts)", "day(ts))", "day(a, b)", "week(ts)", "bucket(id)",
        "bucket(0, id)", "bucket(-1, id)", "bucket(016, id)", "bucket(1000000, id)", "bucket(16)", "bucket(id, 16)", "truncate(x, y)",
        "day(day(ts))", "a\0", "a\n)", "day(t;s)", "١(a)", "bucket(١٦, id)",
    ],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a partition field"):
        parse_partition_field(text)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        field = parse_partition_field(text)
    except ValueError:
        return
    assert field.column.isascii()
    assert field.column in text
