"""Partition fields as people write them: `day(ts)`, `bucket(16, id)`, `truncate(4, code)`, `country`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(
    r"(?P<plain>[A-Za-z_]\w*)"
    r"|(?P<transform>identity|year|month|day|hour)\(\s*(?P<column>[A-Za-z_]\w*)\s*\)"
    r"|(?P<sized>bucket|truncate)\(\s*(?P<width>[1-9]\d{0,5})\s*,\s*(?P<sized_column>[A-Za-z_]\w*)\s*\)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class PartitionField:
    """`width` is the number of buckets or the truncation width, None for the other transforms."""

    transform: str
    column: str
    width: int | None = None


def parse_partition_field(text: str) -> PartitionField:
    """Raises ValueError when `text` is no partition field."""
    match = _FIELD.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a partition field; write a column, year/month/day/hour(column), bucket(n, column) or truncate(n, column)"
        )
    if match["plain"]:
        return PartitionField("identity", match["plain"])
    if match["transform"]:
        return PartitionField(match["transform"], match["column"])
    return PartitionField(match["sized"], match["sized_column"], int(match["width"]))


def check_partition_field(text: str) -> str:
    parse_partition_field(text)
    return text
