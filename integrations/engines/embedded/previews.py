"""The first rows, as values that JSON can carry."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

import duckdb

from integrations.engines.embedded.parts import FILE


def json_ready_rows(connection: duckdb.DuckDBPyConnection, statement: str, limit: int) -> Sequence[Mapping[str, object]]:
    """At most `limit` rows of a statement, in the order of the files."""
    if not statement or limit <= 0:
        return []
    table = connection.sql(f"SELECT * EXCLUDE ({FILE}) FROM ({statement}) ORDER BY {FILE} LIMIT {limit}").to_arrow_table()
    return [{name: json_ready(value) for name, value in row.items()} for row in table.to_pylist()]


def json_ready(value: object) -> object:
    """Dates and times in ISO 8601, decimals and not-finite numbers as text, bytes in base 64, a map as a list of pairs."""
    match value:
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {str(name): json_ready(item) for name, item in value.items()}
        case list() | tuple():
            return [json_ready(item) for item in value]
    return value
