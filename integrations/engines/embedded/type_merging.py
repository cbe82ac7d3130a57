"""How the types that different files bring for one column come together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

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


Place = tuple[str, ...]
"""Where inside a column: names of fields, `ELEMENT` for a list's elements, `VALUE` for a map's values; empty for the column itself."""
ELEMENT, VALUE = "[]", "{}"
Take = Callable[[Place, pa.DataType], pa.DataType | None]
"""Which type a place gets, where a new field or a promotion would give it this one; None to leave it as it is."""


def _as_offered(_place: Place, type_: pa.DataType) -> pa.DataType:
    return type_


def widen(column: pa.DataType, offered: pa.DataType, take: Take = _as_offered, place: Place = ()) -> pa.DataType:
    """A table column's type after safe promotions towards `offered`, as far as they are taken; unchanged where there is none.

    The promotions are Iceberg's: int to long, float to double, a decimal's precision, new fields of a struct.
    """
    promoted = _promoted(column, offered)
    if promoted is not None:
        return take(place, promoted) or column
    if is_struct(column) and is_struct(offered):
        fields = struct_fields(column)
        folded = {name.casefold() for name in fields}
        for name, type_ in struct_fields(offered).items():
            at = (*place, name)
            if name in fields:
                fields[name] = widen(fields[name], type_, take, at)
            elif name.casefold() in folded:
                continue
            elif (added := storable(type_)) is not None and (taken := take(at, added)) is not None:
                fields[name] = taken
        return struct_of(fields)
    if is_list(column) and is_list(offered):
        return pa.list_(widen(column.value_type, offered.value_type, take, (*place, ELEMENT)))
    if is_map(column) and is_map(offered):
        return pa.map_(column.key_type, widen(column.item_type, offered.item_type, take, (*place, VALUE)))
    return column


def _promoted(column: pa.DataType, offered: pa.DataType) -> pa.DataType | None:
    """A number's type that holds both, where Iceberg can make it of the column's; None for no change."""
    if (column, offered) in {(INT, LONG), (FLOAT, DOUBLE)}:
        return offered
    if is_decimal(column) and is_decimal(offered) and column.scale == offered.scale and offered.precision > column.precision:
        return offered
    return None


def case_collision(type_: pa.DataType, column: pa.DataType | None = None) -> tuple[str, str] | None:
    """Two names of fields of one object that differ in case alone, which no table can hold: in the type, or in it and a column's."""
    if is_struct(type_):
        present = struct_fields(column) if column is not None and is_struct(column) else {}
        folded = {name.casefold(): name for name in present}
        for name, inner in struct_fields(type_).items():
            other = folded.setdefault(name.casefold(), name)
            if other != name:
                return other, name
            if found := case_collision(inner, present.get(name)):
                return found
    elif is_list(type_):
        return case_collision(type_.value_type, column.value_type if column is not None and is_list(column) else None)
    elif is_map(type_):
        return case_collision(type_.item_type, column.item_type if column is not None and is_map(column) else None)
    return None


def full_name_twice(columns: Mapping[str, pa.DataType]) -> str | None:
    """A full name, with points between, that two columns or fields have, which no table can hold: `a.b` and the field `b` of `a`."""
    seen: set[str] = set()
    # Without a point in a name, names are as different as the places that they are for.
    for full_name in _full_names(columns, "") if any(_has_point(name, type_) for name, type_ in columns.items()) else ():
        if full_name in seen:
            return full_name
        seen.add(full_name)
    return None


def _inner(type_: pa.DataType) -> dict[str, pa.DataType]:
    """What is inside a type, by the names that Iceberg has for it."""
    if is_struct(type_):
        return struct_fields(type_)
    if is_list(type_):
        return {"element": type_.value_type}
    return {"key": type_.key_type, "value": type_.item_type} if is_map(type_) else {}


def _full_names(fields: Mapping[str, pa.DataType], prefix: str) -> Iterator[str]:
    for name, type_ in fields.items():
        yield prefix + name
        yield from _full_names(_inner(type_), f"{prefix}{name}.")


def _has_point(name: str, type_: pa.DataType) -> bool:
    return "." in name or any(_has_point(*field) for field in _inner(type_).items())


def missing_fields(type_: pa.DataType, column: pa.DataType, path: str) -> list[str]:
    """The fields of a file's type that a column's type does not have, as `path.field`."""
    if is_struct(type_) and is_struct(column):
        fields = struct_fields(column)
        return [
            missing
            for name, inner in struct_fields(type_).items()
            for missing in (missing_fields(inner, fields[name], f"{path}.{name}") if name in fields else [f"{path}.{name}"])
        ]
    if is_list(type_) and is_list(column):
        return missing_fields(type_.value_type, column.value_type, path)
    if is_map(type_) and is_map(column):
        return missing_fields(type_.item_type, column.item_type, path)
    return []


def type_at(type_: pa.DataType, place: Place) -> pa.DataType | None:
    """What a type has at a place inside it, None when there is no such place."""
    for step in place:
        if is_list(type_) and step == ELEMENT:
            type_ = type_.value_type
        elif is_map(type_) and step == VALUE:
            type_ = type_.item_type
        elif is_struct(type_) and step in (fields := struct_fields(type_)):
            type_ = fields[step]
        else:
            return None
    return type_


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
