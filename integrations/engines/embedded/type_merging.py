"""How the types that different files bring for one column come together."""

from __future__ import annotations

import pyarrow as pa

from integrations.engines.embedded.column_types import (
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    NULL,
    STRING,
    TIMESTAMP,
    TIMESTAMP_NS,
    TIMESTAMPTZ,
    TIMESTAMPTZ_NS,
    decimal_of,
    is_decimal,
    is_floating,
    is_integer,
    is_list,
    is_map,
    is_struct,
    struct_fields,
    struct_of,
)

LONGEST_DECIMAL = 38
_DIGITS = {INT: 10, LONG: 19}


def unify(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """The type for a column that nobody has pinned yet: one that holds both, and text when nothing else does."""
    if second in (first, NULL):
        return first
    if first == NULL:
        return second
    if is_struct(first) and is_struct(second):
        merged = struct_fields(first)
        for name, type_ in struct_fields(second).items():
            merged[name] = unify(merged[name], type_) if name in merged else type_
        return struct_of(merged)
    if is_list(first) and is_list(second):
        return pa.list_(unify(first.value_type, second.value_type))
    if is_map(first) and is_map(second) and first.key_type == second.key_type:
        return pa.map_(first.key_type, unify(first.item_type, second.item_type))
    return _unify_numbers(first, second) or STRING


def _unify_numbers(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    if is_integer(first) and is_integer(second):
        return LONG
    if {first, second} <= {INT, LONG, FLOAT, DOUBLE}:
        return DOUBLE
    if any(is_decimal(type_) for type_ in (first, second)) and not any(is_floating(type_) for type_ in (first, second)):
        shapes = [_decimal_shape(type_) for type_ in (first, second)]
        if None not in shapes:
            whole = max(shape[0] for shape in shapes if shape)
            scale = max(shape[1] for shape in shapes if shape)
            return decimal_of(whole + scale, scale) if whole + scale <= LONGEST_DECIMAL else None
    pair = {first, second}
    if pair in ({TIMESTAMP, TIMESTAMP_NS}, {TIMESTAMPTZ, TIMESTAMPTZ_NS}):
        return stored(first)
    return None


def _decimal_shape(type_: pa.DataType) -> tuple[int, int] | None:
    """Digits before and after the point."""
    if is_decimal(type_):
        return type_.precision - type_.scale, type_.scale
    return (_DIGITS[type_], 0) if type_ in _DIGITS else None


def widen(column: pa.DataType, offered: pa.DataType) -> pa.DataType:
    """A table column's type after a safe promotion towards `offered`; unchanged where there is none.

    The promotions are Iceberg's: int to long, float to double, a decimal's precision, new fields of a struct.
    """
    if column == INT and offered == LONG:
        return LONG
    if column == FLOAT and offered == DOUBLE:
        return DOUBLE
    if is_decimal(column) and is_decimal(offered) and column.scale == offered.scale:
        return decimal_of(max(column.precision, offered.precision), column.scale)
    if is_struct(column) and is_struct(offered):
        fields = struct_fields(column)
        for name, type_ in struct_fields(offered).items():
            added = storable(type_)
            if name in fields:
                fields[name] = widen(fields[name], type_)
            elif added is not None:
                fields[name] = added
        return struct_of(fields)
    if is_list(column) and is_list(offered):
        return pa.list_(widen(column.value_type, offered.value_type))
    if is_map(column) and is_map(offered):
        return pa.map_(column.key_type, widen(column.item_type, offered.item_type))
    return column


def stored(type_: pa.DataType) -> pa.DataType:
    """The type a table has for a file's type: microseconds for nanoseconds."""
    return {TIMESTAMP_NS: TIMESTAMP, TIMESTAMPTZ_NS: TIMESTAMPTZ}.get(type_, type_)


def storable(type_: pa.DataType) -> pa.DataType | None:
    """The column type for values of an observed type, or None while nothing but nulls has been seen.

    Lists of nothing become lists of text, and objects without fields become text, so that an empty one is not lost.
    """
    if type_ == NULL:
        return None
    if is_list(type_):
        return pa.list_(storable(type_.value_type) or STRING)
    if is_map(type_):
        return pa.map_(storable(type_.key_type) or STRING, storable(type_.item_type) or STRING)
    if is_struct(type_):
        if type_.num_fields == 0:
            return STRING
        kept = {name: kept for name, inner in struct_fields(type_).items() if (kept := storable(inner)) is not None}
        return struct_of(kept) if kept else None
    return stored(type_)
