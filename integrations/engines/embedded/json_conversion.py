"""JSON values as values of a column, exactly or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from integrations.engines.embedded.batch_files import excerpt
from integrations.engines.embedded.casts import EXACT_DOUBLE
from integrations.engines.embedded.column_types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    describe,
    is_decimal,
    is_list,
    is_map,
    is_struct,
    struct_fields,
    struct_of,
)
from integrations.engines.embedded.json_values import LEAST_LONG, MOST_LONG, NumberText, RowError, is_nothing, parse_value

_AS_TEXT = {DATE, TIME, TIMESTAMP, TIMESTAMPTZ, UUID, BINARY, STRING}

Converter = Callable[[Any], Any]
"""Takes a value that is not null. Raises `MisfitError`."""


class MisfitError(ValueError):
    """A value does not fit its column; the message says which."""


def read_type(column: pa.DataType) -> pa.DataType:
    """The type with which JSON values of a column enter DuckDB: text for what JSON has no literals for."""
    if column in _AS_TEXT:
        return STRING
    if column in {INT, LONG}:
        return LONG
    if column in {FLOAT, DOUBLE}:
        return DOUBLE
    if is_list(column):
        return pa.list_(read_type(column.value_type))
    if is_map(column):
        return pa.map_(STRING, read_type(column.item_type))
    if is_struct(column):
        return struct_of({name: read_type(inner) for name, inner in struct_fields(column).items()})
    return column


def converter(type_: pa.DataType, surplus: set[str], *, lenient: bool) -> Converter:
    """What turns a column's JSON values into Arrow's. Nested names that the column does not have are added to `surplus`.

    `lenient` is for hinted columns: there a string may hold a number or a boolean.
    """
    if is_struct(type_):
        return _struct({name: converter(inner, surplus, lenient=lenient) for name, inner in struct_fields(type_).items()}, surplus)
    if is_list(type_):
        return _list(converter(type_.value_type, surplus, lenient=lenient))
    if is_map(type_):
        return _map(converter(type_.item_type, surplus, lenient=lenient))
    if type_ == STRING:
        return as_text
    if type_ in _AS_TEXT:
        return _only_text
    return _scalar(type_, lenient=lenient)


def _scalar(type_: pa.DataType, *, lenient: bool) -> Converter:
    convert = _exact(type_)
    described = describe(type_)

    def scalar(value: Any) -> Any:
        converted = convert(value)
        if converted is None and lenient and type(value) is str:
            converted = convert(_held_by(value))
        if converted is None:
            raise MisfitError(f"{excerpt(as_text(value), 40)!r} is not of type {described}")
        return converted

    return scalar


def _exact(type_: pa.DataType) -> Converter:
    """Gives None for a value that does not fit."""
    if type_ == BOOLEAN:
        return lambda value: value if type(value) is bool else None
    if is_decimal(type_):
        precision, scale = type_.precision, type_.scale
        return lambda value: _decimal(value, precision, scale)
    return _long if type_ in {INT, LONG} else _double


def _held_by(text: str) -> object:
    """The number or boolean in a string, or the string."""
    try:
        value = parse_value(text.strip().lower())
    except (RowError, ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float | NumberText) else text


def _struct(fields: dict[str, Converter], surplus: set[str]) -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise MisfitError(f"{excerpt(as_text(value), 40)!r} is not an object")
        if not value.keys() <= fields.keys():
            surplus.update(name for name, item in value.items() if name not in fields and not is_nothing(item))
        return {name: None if (item := value.get(name)) is None else inner(item) for name, inner in fields.items()}

    return convert


def _list(inner: Converter) -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            raise MisfitError(f"{excerpt(as_text(value), 40)!r} is not an array")
        return [None if item is None else inner(item) for item in value]

    return convert


def _map(inner: Converter) -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise MisfitError(f"{excerpt(as_text(value), 40)!r} is not an object")
        return [(as_text(name), None if item is None else inner(item)) for name, item in value.items()]

    return convert


def as_text(value: Any) -> str:
    """A string as it is, anything else as the JSON that it was."""
    if type(value) is str:
        if not value.isascii():
            _refuse_surrogates(value)
        return value
    return _json_text(value)


def _only_text(value: Any) -> str:
    if type(value) is not str:
        raise MisfitError(f"{excerpt(as_text(value), 40)!r} is not a string")
    return as_text(value)


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MisfitError("a string holds half of a surrogate pair") from None


def _json_text(value: Any) -> str:
    match value:
        case NumberText():
            return str(value)
        case list():
            return f"[{','.join(_json_text(item) for item in value)}]"
        case dict():
            return f"{{{','.join(f'{json.dumps(name)}:{_json_text(item)}' for name, item in value.items())}}}"
    return json.dumps(value)


def _long(value: Any) -> int | None:
    if type(value) is int:
        return value if LEAST_LONG <= value <= MOST_LONG else None
    if type(value) is NumberText:
        number = float(value)
        return int(number) if number.is_integer() and abs(number) <= EXACT_DOUBLE else None
    return None


def _double(value: Any) -> float | None:
    if type(value) is NumberText:
        number = float(value)
        return None if math.isinf(number) else number
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if int(number) == value else None
    return None


def _decimal(value: Any, precision: int, scale: int) -> Decimal | None:
    if type(value) not in {int, NumberText}:
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        return None
    kept = len("".join(map(str, digits)).rstrip("0"))
    exponent += len(digits) - kept
    return None if kept and (-exponent > scale or kept + exponent > precision - scale) else number
