"""Which types the texts of CSV columns have: the narrowest that every value of the batch is written in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from integrations.engines.embedded.column_types import BOOLEAN, DOUBLE, LONG, NULL, STRING, identifier, literal
from integrations.engines.embedded.parts import FILE

_NUMBER = r"-?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d{1,3})?"
"""A leading zero means text (`007`), and so do whole numbers longer than a double holds."""


def infer_types(connection: duckdb.DuckDBPyConnection, relations_by_name: Mapping[str, Sequence[str]]) -> dict[str, pa.DataType]:
    """The type of each named column over the relations that have it: long, double, boolean or string."""
    return {name: _infer(connection, name, relations) for name, relations in relations_by_name.items()}


def infer_types_by_file(connection: duckdb.DuckDBPyConnection, relation: str, names: Sequence[str]) -> dict[int, dict[str, pa.DataType]]:
    """By file, the type of each named column in it; `NULL` where the file has no value."""
    found: dict[int, dict[str, pa.DataType]] = defaultdict(dict)
    for name in names:
        tests = _tests(name)
        aggregates = ", ".join(f"COALESCE(bool_and({test}) FILTER ({identifier(name)} IS NOT NULL), true)" for test in tests.values())
        query = f"SELECT {FILE}, count({identifier(name)}), {aggregates} FROM {relation} GROUP BY 1"
        for file, values, *holds in connection.execute(query).fetchall():
            possible = (type_ for type_, all_of_it in zip(tests, holds, strict=True) if all_of_it)
            found[file][name] = next(possible, STRING) if values else NULL
    return found


def _tests(name: str) -> dict[pa.DataType, str]:
    """Conditions on a value that is not null, the narrowest type first."""
    column = identifier(name)
    return {
        LONG: f"COALESCE(TRY_CAST({column} AS BIGINT)::VARCHAR = {column}, false)",
        DOUBLE: f"regexp_full_match({column}, {literal(_NUMBER)}) AND isfinite(TRY_CAST({column} AS DOUBLE))",
        BOOLEAN: f"lower({column}) IN ('true', 'false')",
    }


def _infer(connection: duckdb.DuckDBPyConnection, name: str, relations: Sequence[str]) -> pa.DataType:
    column = identifier(name)
    possible = _tests(name)
    seen = 0
    for relation in relations:
        if not possible:
            break
        aggregates = ", ".join(f"COALESCE(bool_and({test}), true)" for test in possible.values())
        row = connection.execute(f"SELECT count(*), {aggregates} FROM {relation} WHERE {column} IS NOT NULL").fetchall()[0]
        seen += row[0]
        possible = {type_: test for (type_, test), holds in zip(possible.items(), row[1:], strict=True) if holds}
    return next(iter(possible)) if possible and seen else STRING
