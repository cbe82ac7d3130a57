"""From the type a value was read with to the type its column has: as SQL, and never with a silent loss."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from integrations.engines.embedded.column_types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    NULL,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_NS,
    TIMESTAMPTZ,
    TIMESTAMPTZ_NS,
    UUID,
    identifier,
    is_decimal,
    is_integer,
    is_list,
    is_map,
    is_struct,
    literal,
    sql_type,
    struct_fields,
)

EXACT_DOUBLE = 2**53
"""Whole numbers up to here are doubles without loss."""

DAY_TEXT = r"\d{4}-\d{1,2}-\d{1,2}"
CLOCK_TEXT = r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6}0*)?)?"
"""Of a time. 24:00 would be one that no other reader knows."""
MOMENT_TEXT = rf"({CLOCK_TEXT}|24:00(:00(\.0+)?)?)"
"""Of a day's moment: the end of one day is the beginning of the next."""
OFFSET_TEXT = r"(Z|[+-]((0\d|1[0-7])(:?[0-5]\d)?|18(:?00)?))"
"""At most 18 hours from UTC, as in ISO 8601 and Java."""
LONG_TEXT = r"[+-]?\d+(\.0*)?"
DOUBLE_TEXT = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
NOT_FINITE_TEXT = r"(?i)nan|[+-]?inf(inity)?"
_TEXT_PATTERNS: dict[pa.DataType, str] = {
    INT: LONG_TEXT,
    LONG: LONG_TEXT,
    DATE: DAY_TEXT,
    TIME: CLOCK_TEXT,
    TIMESTAMP: f"{DAY_TEXT}([T ]{MOMENT_TEXT})?",
    TIMESTAMPTZ: f"{DAY_TEXT}([T ]{MOMENT_TEXT}{OFFSET_TEXT}?)?",
    UUID: r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    BOOLEAN: r"(?i)true|false",
}
_EXACT_CASTS = {
    (INT, LONG),
    (FLOAT, DOUBLE),
    (INT, DOUBLE),
    (INT, STRING),
    (LONG, STRING),
    (BOOLEAN, STRING),
    (DATE, STRING),
    (UUID, STRING),
}


@dataclass(frozen=True, slots=True)
class Cast:
    """`value` is the SQL of the column's value, null where it does not fit; `fits` says where it does, None for always.
    `surplus` is true where the value holds nested fields that the column does not have, None for never. `sure` is a cheaper
    `value` for rows that are known to fit."""

    value: str
    fits: str | None = None
    surplus: str | None = None
    sure: str | None = None


def cast(column: str, source: pa.DataType, target: pa.DataType, *, text: bool = True, depth: int = 0) -> Cast:
    """The cast of a SQL expression of type `source` to a column of type `target`.

    With `text`, a string may stand for a value of another type, as it does in formats without types.
    """
    if source == target:
        return Cast(column)
    sql = sql_type(target)
    if source == NULL:
        return Cast(f"CAST(NULL AS {sql})")
    if (source, target) in _EXACT_CASTS:
        return Cast(f"CAST({column} AS {sql})")
    if source == STRING and text:
        return _from_text(column, target)
    if is_struct(source) and is_struct(target):
        return _struct(column, source, target, text, depth)
    if is_list(source) and is_list(target):
        return _list(column, source, target, text, depth)
    if is_map(source) and is_map(target):
        return _map(column, source, target, text, depth)
    if (source, target) == (DOUBLE, FLOAT) and text:
        # Whoever pins a float accepts a float's precision, not its limits.
        tried = f"TRY_CAST({column} AS FLOAT)"
        return Cast(tried, _null_or(column, f"{tried} IS NOT NULL"))
    return _number_or_time(column, source, target, sql)


def _number_or_time(column: str, source: pa.DataType, target: pa.DataType, sql: str) -> Cast:
    tried = f"TRY_CAST({column} AS {sql})"
    if source == LONG and target == INT:
        return Cast(tried, _null_or(column, f"{tried} IS NOT NULL"))
    if source == LONG and target == DOUBLE:
        exact = f"{column} BETWEEN -{EXACT_DOUBLE} AND {EXACT_DOUBLE}"
        return Cast(f"CASE WHEN {exact} THEN CAST({column} AS DOUBLE) END", _null_or(column, exact))
    if (is_integer(source) and is_decimal(target)) or (is_decimal(source) and source.scale == 0 and is_integer(target)):
        return Cast(tried, _null_or(column, f"{tried} IS NOT NULL"))
    if is_decimal(source) and is_decimal(target) and target.scale >= source.scale:
        return Cast(tried, _null_or(column, f"{tried} IS NOT NULL"))
    if is_decimal(source) and target == STRING:
        return Cast(f"CAST({column} AS VARCHAR)")
    if (source, target) in {(TIMESTAMP_NS, TIMESTAMP), (TIMESTAMPTZ_NS, TIMESTAMPTZ)}:
        exact = f"epoch_ns({column}) % 1000 = 0"
        return Cast(f"CASE WHEN {exact} THEN {tried} END", _null_or(column, exact))
    return Cast(f"CAST(NULL AS {sql})", f"{column} IS NULL")


def _null_or(column: str, condition: str) -> str:
    return f"({column} IS NULL OR {condition})"


def _from_text(column: str, target: pa.DataType) -> Cast:
    sql = sql_type(target)
    if target == BINARY:
        return Cast(f"encode({column})")
    text = f"trim({column})"
    tried = f"TRY_CAST({text} AS {sql})"
    if target in {DOUBLE, FLOAT}:
        whole = f"TRY_CAST({text} AS HUGEINT)"
        finite = (
            f"regexp_full_match({text}, {literal(DOUBLE_TEXT)}) AND isfinite({tried}) AND CASE WHEN length({text}) < 16 THEN true"
            f" ELSE NOT regexp_full_match({text}, '[+-]?\\d{{16,}}') OR {whole}::DOUBLE::HUGEINT = {whole} END"
        )
        fits = f"COALESCE({finite}, false) OR regexp_full_match({text}, {literal(NOT_FINITE_TEXT)})"
    elif is_decimal(target):
        pattern = rf"[+-]?(\d+(\.\d{{0,{target.scale}}}0*)?|\.\d{{1,{max(target.scale, 1)}}}0*)"
        fits = f"regexp_full_match({text}, {literal(pattern)}) AND {tried} IS NOT NULL"
    elif target in _TEXT_PATTERNS:
        fits = f"regexp_full_match({text}, {literal(_TEXT_PATTERNS[target])}) AND {tried} IS NOT NULL"
        if target == LONG:
            fits = f"CASE WHEN {tried}::VARCHAR = {column} THEN true ELSE {fits} END"
    else:
        return Cast(f"CAST(NULL AS {sql})", f"{column} IS NULL")
    return Cast(f"CASE WHEN {fits} THEN {tried} END", _null_or(column, f"({fits})"), sure=tried)


def _struct(column: str, source: pa.DataType, target: pa.DataType, text: bool, depth: int) -> Cast:
    given, wanted = struct_fields(source), struct_fields(target)
    packed, fits, surplus = [], [], []
    for name, type_ in wanted.items():
        if name in given:
            inner = cast(f"{column}[{literal(name)}]", given[name], type_, text=text, depth=depth + 1)
            packed.append(f"{identifier(name)} := {inner.value}")
            fits += [inner.fits] if inner.fits else []
            surplus += [inner.surplus] if inner.surplus else []
        else:
            packed.append(f"{identifier(name)} := CAST(NULL AS {sql_type(type_)})")
    surplus += [f"{column}[{literal(name)}] IS NOT NULL" for name in given if name not in wanted]
    value = f"CASE WHEN {column} IS NOT NULL THEN struct_pack({', '.join(packed)}) END"
    return Cast(value, _null_or(column, f"({' AND '.join(fits)})") if fits else None, f"({' OR '.join(surplus)})" if surplus else None)


def _list(column: str, source: pa.DataType, target: pa.DataType, text: bool, depth: int) -> Cast:
    element = f"e{depth}"
    inner = cast(element, source.value_type, target.value_type, text=text, depth=depth + 1)
    return Cast(
        f"list_transform({column}, lambda {element}: {inner.value})",
        _none_of(column, element, f"NOT {inner.fits}") if inner.fits else None,
        f"NOT {_none_of(column, element, inner.surplus)}" if inner.surplus else None,
    )


def _map(column: str, source: pa.DataType, target: pa.DataType, text: bool, depth: int) -> Cast:
    keys = _list(f"map_keys({column})", pa.list_(source.key_type), pa.list_(target.key_type), text, depth)
    values = _list(f"map_values({column})", pa.list_(source.item_type), pa.list_(target.item_type), text, depth)
    # Files may have a key twice, or two that the cast makes one, and none where a key does not fit; DuckDB makes no map of those.
    distinct = f"len(list_distinct({keys.value})) = len({keys.value})"
    fits = " AND ".join([distinct, *(inner for inner in (keys.fits, values.fits) if inner)])
    return Cast(f"CASE WHEN {distinct} THEN map({keys.value}, {values.value}) END", _null_or(column, f"({fits})"), values.surplus)


def _none_of(column: str, element: str, condition: str) -> str:
    return f"(COALESCE(len(list_filter({column}, lambda {element}: {condition})), 0) = 0)"
