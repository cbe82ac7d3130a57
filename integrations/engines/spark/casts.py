"""From a value as it was read to the type its column has: as Spark's SQL, by the rules of the embedded engine."""

from __future__ import annotations

import pyarrow as pa

from integrations.engines.embedded.casts import (
    DAY_TEXT,
    DOUBLE_TEXT,
    EXACT_DOUBLE,
    LONG_TEXT,
    MOMENT_TEXT,
    NOT_FINITE_TEXT,
    OFFSET_TEXT,
    Cast,
)
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
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    is_decimal,
    is_integer,
    is_list,
    is_map,
    is_struct,
    struct_fields,
)
from integrations.engines.spark.types import identifier, literal, sql_type

_PATTERNS: dict[pa.DataType, str] = {
    DATE: DAY_TEXT,
    TIMESTAMP: f"{DAY_TEXT}([T ]{MOMENT_TEXT})?",
    TIMESTAMPTZ: f"{DAY_TEXT}([T ]{MOMENT_TEXT}{OFFSET_TEXT}?)?",
    UUID: r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}
_END_OF_DAY = r"([T ])24:(00(:00(\.0+)?)?)(?![:.0-9])"
_PART = 2**62
"""A whole number below its square is two that 64 bits hold."""
_AS_TEXT = {DATE, TIMESTAMP, TIMESTAMPTZ, UUID, BINARY}
_EXACT = {(INT, LONG), (FLOAT, DOUBLE), (INT, DOUBLE), (INT, STRING), (LONG, STRING), (BOOLEAN, STRING), (DATE, STRING)}


def from_text(text: str, target: pa.DataType) -> Cast:
    """A SQL expression of text as a column of type `target`."""
    if target == STRING:
        return Cast(text)
    if target == BINARY:
        return Cast(f"encode({text}, 'UTF-8')")
    trimmed = f"trim({text})"
    sql = sql_type(target)
    value = f"try_cast({trimmed} AS {sql})"
    if is_integer(target):
        value = f"try_cast(regexp_replace({trimmed}, {literal(chr(92) + '.0*$')}, '') AS {sql})"
        fits = f"{_matches(trimmed, LONG_TEXT)} AND {value} IS NOT NULL"
    elif target in {DOUBLE, FLOAT}:
        finite = f"{_matches(trimmed, DOUBLE_TEXT)} AND abs({value}) < double('Infinity')"
        exact = (
            f"(length({trimmed}) < 16 OR NOT {_matches(trimmed, '[+-]?[0-9]{16,}')}"
            f" OR {_is_exactly(f'try_cast({trimmed} AS DOUBLE)', trimmed)})"
        )
        fits = f"({finite} AND {exact}) OR {_matches(trimmed, NOT_FINITE_TEXT)}"
    elif target == BOOLEAN:
        fits = f"lower({trimmed}) IN ('true', 'false')"
    elif is_decimal(target):
        pattern = rf"[+-]?(\d+(\.\d{{0,{target.scale}}}0*)?|\.\d{{1,{max(target.scale, 1)}}}0*)"
        fits = f"{_matches(trimmed, pattern)} AND {value} IS NOT NULL"
    elif target in _PATTERNS:
        if target in {TIMESTAMP, TIMESTAMPTZ}:
            midnight = f"regexp_replace({trimmed}, {literal(_END_OF_DAY)}, '$100:$2')"
            value = f"coalesce({value}, try_cast({midnight} AS {sql}) + INTERVAL '1' DAY)"
        fits = f"{_matches(trimmed, _PATTERNS[target])} AND {value} IS NOT NULL"
    else:
        return Cast(f"CAST(NULL AS {sql})", f"({text} IS NULL)")
    return Cast(f"CASE WHEN {fits} THEN {value} END", f"({text} IS NULL OR coalesce({fits}, false))", sure=value)


def from_variant(value: str, observed: pa.DataType, target: pa.DataType, *, lenient: bool = False, depth: int = 0) -> Cast:
    """A SQL expression of a variant as a column of type `target`; `observed` is the type of all values that will come.

    `lenient` is for hinted columns: there a string may hold a number or a boolean.
    """
    text = f"try_variant_get({value}, '$', 'string')"
    if target == STRING or observed == NULL:
        return Cast(f"CAST({text} AS {sql_type(target)})")
    if is_struct(target):
        return _struct(value, observed, target, lenient, depth)
    if is_list(target):
        return _list(value, observed, target, lenient, depth)
    if is_map(target):
        return _map(value, observed, target, lenient, depth)
    if (observed == LONG and target in {LONG, DOUBLE}) or (observed, target) in {(BOOLEAN, BOOLEAN), (DOUBLE, DOUBLE)}:
        typed = f"try_variant_get({value}, '$', '{sql_type(target)}')"
        if target != DOUBLE:
            return Cast(typed)
        # Whole numbers that no double is near enough to, and numbers beyond its limits.
        near = f"(abs({typed}) < {EXACT_DOUBLE} OR NOT {_matches(text, '-?[0-9]+')} OR {_is_exactly(typed, text)})"
        lossless = near if observed == LONG else f"({near} AND abs({typed}) < double('Infinity'))"
        return Cast(f"CASE WHEN {lossless} THEN {typed} END", f"({_is_nothing(value)} OR {lossless})", sure=typed)
    held = from_text(text, target)
    if target not in _AS_TEXT and lenient:
        return held
    # JSON has literals for numbers and booleans, and none for the rest.
    kind = f"schema_of_variant({value}) {'=' if target in _AS_TEXT else '<>'} 'STRING'"
    fits = f"({_is_nothing(value)} OR ({kind} AND {held.fits or 'true'}))"
    return Cast(f"CASE WHEN {kind} THEN {held.value} END", fits)


def from_typed(value: str, source: pa.DataType, target: pa.DataType, *, depth: int = 0) -> Cast:
    """A SQL expression of a column's own type as one of type `target`; nothing is narrowed."""
    sql = sql_type(target)
    if source == target:
        return Cast(value)
    if source == NULL:
        return Cast(f"CAST(NULL AS {sql})")
    if (source, target) in _EXACT or (is_decimal(source) and target == STRING):
        return Cast(f"CAST({value} AS {sql})")
    if is_struct(source) and is_struct(target):
        return _typed_struct(value, source, target, depth)
    if is_list(source) and is_list(target):
        element = f"e{depth}"
        inner = from_typed(element, source.value_type, target.value_type, depth=depth + 1)
        return _transformed(value, element, inner)
    if is_map(source) and is_map(target) and source.key_type == target.key_type:
        key, item = f"k{depth}", f"e{depth}"
        inner = from_typed(item, source.item_type, target.item_type, depth=depth + 1)
        values = _transformed(f"map_values({value})", item, inner)
        # Files may have a key twice; the embedded engine's SQL makes no map of that.
        distinct = f"size(array_distinct(map_keys({value}))) = size(map_keys({value}))"
        fits = " AND ".join([distinct, *([values.fits] if values.fits else [])])
        return Cast(f"transform_values({value}, ({key}, {item}) -> {inner.value})", f"({value} IS NULL OR ({fits}))", values.surplus)
    tried = f"try_cast({value} AS {sql})"
    if (is_integer(source) and (is_integer(target) or is_decimal(target))) or (
        is_decimal(source) and (target.scale >= source.scale if is_decimal(target) else source.scale == 0 and is_integer(target))
    ):
        return Cast(tried, f"({value} IS NULL OR {tried} IS NOT NULL)")
    if source == LONG and target == DOUBLE:
        exact = f"{value} BETWEEN -{EXACT_DOUBLE} AND {EXACT_DOUBLE}"
        return Cast(f"CASE WHEN {exact} THEN CAST({value} AS DOUBLE) END", f"({value} IS NULL OR {exact})")
    return Cast(f"CAST(NULL AS {sql})", f"({value} IS NULL)")


def _matches(text: str, pattern: str) -> str:
    return f"{text} RLIKE {literal(f'^({pattern}){chr(92)}z')}"


def _is_exactly(double: str, whole: str) -> str:
    """Whether a double is exactly the whole number that text or an integer says, of up to 37 digits.

    By the parts of it that integers of 64 bits hold. A cast to a decimal would not tell: Spark makes that of the double's shortest text,
    which may be another number.
    """
    high = f"floor(abs({double}) / double('{_PART}'))"
    low = f"CAST(abs({double}) - {high} * double('{_PART}') AS BIGINT)"
    value = f"CAST({high} AS DECIMAL(38, 0)) * {_PART} + {low}"
    return f"coalesce(CASE WHEN abs({double}) < double('{_PART**2}') THEN {value} = abs(try_cast({whole} AS DECIMAL(38, 0))) END, false)"


def _is_nothing(value: str) -> str:
    return f"({value} IS NULL OR is_variant_null({value}))"


def _struct(value: str, observed: pa.DataType, target: pa.DataType, lenient: bool, depth: int) -> Cast:
    wanted = struct_fields(target)
    given = struct_fields(observed) if is_struct(observed) else {}
    names = list(dict.fromkeys([*wanted, *given]))
    inside = f"try_variant_get({value}, '$', {literal('struct<' + ', '.join(f'{identifier(name)}: variant' for name in names) + '>')})"
    packed, fits, surplus = [], [], []
    for name in names:
        field = f"{inside}.{identifier(name)}"
        if name not in wanted:
            surplus.append(f"NOT {_is_nothing(field)}")
            continue
        # Without a struct everywhere nobody knows what the fields are: each is looked at as text.
        inner = from_variant(field, given.get(name, NULL if given else STRING), wanted[name], lenient=lenient, depth=depth + 1)
        packed.append(f"{literal(name)}, {inner.value}")
        fits += [inner.fits] if inner.fits else []
        surplus += [inner.surplus] if inner.surplus else []
    whole = f"{inside} IS NOT NULL"
    return Cast(
        f"CASE WHEN {whole} THEN named_struct({', '.join(packed)}) END",
        f"({_is_nothing(value)} OR ({' AND '.join([whole, *fits])}))" if fits or not given else None,
        f"({' OR '.join(surplus)})" if surplus else None,
    )


def _list(value: str, observed: pa.DataType, target: pa.DataType, lenient: bool, depth: int) -> Cast:
    element = f"e{depth}"
    inside = f"try_variant_get({value}, '$', 'array<variant>')"
    inner = from_variant(element, observed.value_type if is_list(observed) else STRING, target.value_type, lenient=lenient, depth=depth + 1)
    cast = _transformed(inside, element, inner)
    if is_list(observed):
        return cast
    fits = [f"{inside} IS NOT NULL", *([cast.fits] if cast.fits else [])]
    return Cast(cast.value, f"({_is_nothing(value)} OR ({' AND '.join(fits)}))", cast.surplus)


def _map(value: str, observed: pa.DataType, target: pa.DataType, lenient: bool, depth: int) -> Cast:
    inside = f"try_variant_get({value}, '$', 'map<string, variant>')"
    key, item = f"k{depth}", f"e{depth}"
    inner = from_variant(item, STRING, target.item_type, lenient=lenient, depth=depth + 1)
    keys = from_text(key, target.key_type)
    every = _transformed(f"map_values({inside})", item, inner)
    fits = [f"{inside} IS NOT NULL", *([every.fits] if every.fits else [])]
    if keys.fits:
        fits.append(f"forall(map_keys({inside}), {key} -> {keys.fits})")
    value_sql = f"transform_values({inside}, ({key}, {item}) -> {inner.value})"
    if target.key_type != STRING:
        value_sql = f"transform_keys({value_sql}, ({key}, {item}) -> {keys.value})"
    return Cast(value_sql, f"({_is_nothing(value)} OR ({' AND '.join(fits)}))", every.surplus)


def _typed_struct(value: str, source: pa.DataType, target: pa.DataType, depth: int) -> Cast:
    given, wanted = struct_fields(source), struct_fields(target)
    packed, fits, surplus = [], [], []
    for name, type_ in wanted.items():
        if name not in given:
            packed.append(f"{literal(name)}, CAST(NULL AS {sql_type(type_)})")
            continue
        inner = from_typed(f"{value}.{identifier(name)}", given[name], type_, depth=depth + 1)
        packed.append(f"{literal(name)}, {inner.value}")
        fits += [inner.fits] if inner.fits else []
        surplus += [inner.surplus] if inner.surplus else []
    surplus += [f"{value}.{identifier(name)} IS NOT NULL" for name in given if name not in wanted]
    return Cast(
        f"CASE WHEN {value} IS NOT NULL THEN named_struct({', '.join(packed)}) END",
        f"({' AND '.join(fits)})" if fits else None,
        f"({' OR '.join(surplus)})" if surplus else None,
    )


def _transformed(array: str, element: str, inner: Cast) -> Cast:
    return Cast(
        f"transform({array}, {element} -> {inner.value})",
        f"({array} IS NULL OR forall({array}, {element} -> {inner.fits}))" if inner.fits else None,
        f"coalesce(exists({array}, {element} -> {inner.surplus}), false)" if inner.surplus else None,
    )
