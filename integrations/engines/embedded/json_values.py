"""JSON values one by one, with nothing lost, and the type that each has."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa

from integrations.engines.embedded.column_types import BOOLEAN, DOUBLE, LONG, NULL, STRING, decimal_of, struct_of
from integrations.engines.embedded.type_merging import LONGEST_DECIMAL, unify

LEAST_LONG, MOST_LONG = -(2**63), 2**63 - 1


class RowError(ValueError):
    """A line is not a row; the message says why."""


class NumberText(str):
    """A JSON number with a fraction or an exponent, as it was written."""

    __slots__ = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RowError(f'the name "{twice}" is in one object twice')
    return result


parse_value = json.JSONDecoder(object_pairs_hook=_object, parse_float=NumberText).decode


def parse_row(line: bytes) -> dict[str, Any]:
    """One JSON object with the texts of its numbers. Raises `RowError`."""
    try:
        value = parse_value(line.decode())
    except RowError:
        raise
    except UnicodeDecodeError:
        raise RowError("it is not UTF-8") from None
    except RecursionError:
        raise RowError("it is nested too deeply") from None
    except ValueError as error:
        raise RowError(f"it is not valid JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(value, dict):
        raise RowError("it is not a JSON object")
    return value


_TYPE_OF: dict[type, pa.DataType] = {type(None): NULL, bool: BOOLEAN, str: STRING, float: DOUBLE}


def observed_type(value: Any) -> pa.DataType:
    """The type that a value would give a new column; `NULL` and lists or structs of it where there is no value."""
    kind = type(value)
    if kind in _TYPE_OF:
        return _TYPE_OF[kind]
    match value:
        case int():
            if LEAST_LONG <= value <= MOST_LONG:
                return LONG
            return decimal_of(LONGEST_DECIMAL, 0) if abs(value) < 10**LONGEST_DECIMAL else STRING
        case NumberText():
            return STRING if math.isinf(float(value)) else DOUBLE
        case list():
            element = NULL
            for item in value:
                element = unify(element, observed_type(item))
            return pa.list_(element)
        case dict():
            return struct_of({name: observed_type(item) for name, item in value.items()})
    raise TypeError(kind)


def is_plain(value: Any) -> bool:
    """Whether a value has the type that plain values of its Python class have; a short look, for most values."""
    kind = type(value)
    if kind is int:
        return bool(LEAST_LONG <= value <= MOST_LONG)
    if kind is NumberText:
        return len(value) < 300 and "e" not in value and "E" not in value
    return kind in _TYPE_OF


def is_nothing(value: object) -> bool:
    """Whether a value holds nothing but nulls."""
    return value is None or (isinstance(value, dict) and len(value) > 0 and all(is_nothing(item) for item in value.values()))
