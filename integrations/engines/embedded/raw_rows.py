"""A columnar file's row as JSON text, for whoever rescues it. What JSON has no literal for is text, as in previews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from integrations.engines.embedded.column_types import (
    identifier,
    is_floating,
    is_list,
    is_map,
    is_struct,
    literal,
    struct_fields,
)


def row_as_json(row: str, types: Mapping[str, pa.DataType]) -> str:
    """The SQL of the text; `row` is the relation that has the columns."""
    fields = ", ".join(f"{identifier(name)} := {_value(f'{row}.{identifier(name)}', type_, 0)}" for name, type_ in types.items())
    return f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"


def _value(column: str, type_: pa.DataType, depth: int) -> str:
    """A SQL expression whose JSON is the column's, but for numbers that are not finite, which DuckDB writes bare."""
    if not _has_floating(type_):
        return column
    if is_struct(type_):
        fields = (
            f"{identifier(name)} := {_value(f'{column}[{literal(name)}]', inner, depth)}" for name, inner in struct_fields(type_).items()
        )
        return f"CASE WHEN {column} IS NOT NULL THEN struct_pack({', '.join(fields)}) END"
    element = f"e{depth}"
    if is_list(type_):
        return f"list_transform({column}, lambda {element}: {_value(element, type_.value_type, depth + 1)})"
    if is_map(type_):
        return _map(column, type_, element, depth)
    return f"CASE WHEN isfinite({column}) THEN to_json({column}) WHEN {column} IS NOT NULL THEN to_json(CAST({column} AS VARCHAR)) END"


def _map(column: str, type_: pa.MapType[Any, Any], element: str, depth: int) -> str:
    """An object; or a list of the entries, where a file has a key twice, of which DuckDB makes no map."""
    keys = f"map_keys({column})"
    values = f"list_transform(map_values({column}), lambda {element}: {_value(element, type_.item_type, depth + 1)})"
    entry = f"struct_pack(key := {element}.key, value := {_value(f'{element}.value', type_.item_type, depth + 1)})"
    entries = f"list_transform(map_entries({column}), lambda {element}: {entry})"
    return f"CASE WHEN len(list_distinct({keys})) = len({keys}) THEN to_json(map({keys}, {values})) ELSE to_json({entries}) END"


def _has_floating(type_: pa.DataType) -> bool:
    if is_struct(type_):
        return any(map(_has_floating, struct_fields(type_).values()))
    if is_list(type_):
        return _has_floating(type_.value_type)
    return _has_floating(type_.item_type) if is_map(type_) else is_floating(type_)
