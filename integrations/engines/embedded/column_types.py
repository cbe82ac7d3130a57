"""Column types. Arrow's are the language inside the engine; Iceberg's notation is what people read and write."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

INT = pa.int32()
LONG = pa.int64()
FLOAT = pa.float32()
DOUBLE = pa.float64()
BOOLEAN = pa.bool_()
STRING = pa.string()
BINARY = pa.binary()
DATE = pa.date32()
TIME = pa.time64("us")
TIMESTAMP = pa.timestamp("us")
TIMESTAMPTZ = pa.timestamp("us", "UTC")
TIMESTAMP_NS = pa.timestamp("ns")
TIMESTAMPTZ_NS = pa.timestamp("ns", "UTC")
UUID = pa.uuid()
NULL = pa.null()

_NAMES: dict[pa.DataType, tuple[str, str]] = {
    INT: ("int", "INTEGER"),
    LONG: ("long", "BIGINT"),
    FLOAT: ("float", "FLOAT"),
    DOUBLE: ("double", "DOUBLE"),
    BOOLEAN: ("boolean", "BOOLEAN"),
    STRING: ("string", "VARCHAR"),
    BINARY: ("binary", "BLOB"),
    DATE: ("date", "DATE"),
    TIME: ("time", "TIME"),
    TIMESTAMP: ("timestamp", "TIMESTAMP"),
    TIMESTAMPTZ: ("timestamptz", "TIMESTAMPTZ"),
    TIMESTAMP_NS: ("timestamp_ns", "TIMESTAMP_NS"),
    TIMESTAMPTZ_NS: ("timestamptz_ns", "TIMESTAMPTZ_NS"),
    UUID: ("uuid", "UUID"),
    NULL: ("unknown", "INTEGER"),
}
_FROM_ICEBERG: dict[type[IcebergType], pa.DataType] = {
    IntegerType: INT,
    LongType: LONG,
    FloatType: FLOAT,
    DoubleType: DOUBLE,
    BooleanType: BOOLEAN,
    StringType: STRING,
    BinaryType: BINARY,
    FixedType: BINARY,
    DateType: DATE,
    TimeType: TIME,
    TimestampType: TIMESTAMP,
    TimestamptzType: TIMESTAMPTZ,
    UUIDType: UUID,
}
_BY_NAME = {names[0]: type_ for type_, names in _NAMES.items() if type_ not in {NULL, TIMESTAMP_NS, TIMESTAMPTZ_NS}}
_SMALL_INTEGERS = {pa.int8(): INT, pa.int16(): INT, pa.uint8(): INT, pa.uint16(): INT, pa.uint32(): LONG, pa.uint64(): pa.decimal128(20, 0)}
_PLAIN_NAME = re.compile(r'[^\s,:<>()"]([^,:<>()"]*[^\s,:<>()"])?')
_QUOTED_NAME = re.compile(r'"((?:[^"]|"")*)"\s*:')
_DECIMAL = re.compile(r"decimal\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)")


class UnsupportedTypeError(ValueError):
    """A type that a table cannot hold; the message names it."""


def is_struct(type_: pa.DataType) -> TypeGuard[pa.StructType]:
    return bool(pa.types.is_struct(type_))


def is_list(type_: pa.DataType) -> TypeGuard[pa.ListType[Any]]:
    return bool(pa.types.is_list(type_))


def is_map(type_: pa.DataType) -> TypeGuard[pa.MapType[Any, Any]]:
    return bool(pa.types.is_map(type_))


def is_decimal(type_: pa.DataType) -> TypeGuard[pa.Decimal128Type[Any, Any]]:
    return bool(pa.types.is_decimal128(type_))


def is_integer(type_: pa.DataType) -> bool:
    return type_ in {INT, LONG}


def is_floating(type_: pa.DataType) -> bool:
    return type_ in {FLOAT, DOUBLE}


def struct_of(fields: dict[str, pa.DataType]) -> pa.DataType:
    return pa.struct([pa.field(name, type_) for name, type_ in fields.items()])


def struct_fields(type_: pa.DataType) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in type_}


def decimal_of(precision: int, scale: int) -> pa.DataType:
    return pa.decimal128(precision, scale)


@dataclass(frozen=True, slots=True)
class Notation:
    """How types are written: patterns for what has parts, a function for what has none, and one for the names of fields."""

    struct: str
    field: str
    list: str
    map: str
    decimal: str
    scalar: Callable[[pa.DataType], str]
    name: Callable[[str], str]

    def __call__(self, type_: pa.DataType) -> str:
        if is_struct(type_):
            return self.struct.format(
                ", ".join(self.field.format(self.name(name), self(inner)) for name, inner in struct_fields(type_).items())
            )
        if is_list(type_):
            return self.list.format(self(type_.value_type))
        if is_map(type_):
            return self.map.format(self(type_.key_type), self(type_.item_type))
        if is_decimal(type_):
            return self.decimal.format(type_.precision, type_.scale)
        return self.scalar(type_)


def describe(type_: pa.DataType) -> str:
    """A type in Iceberg's notation: `struct<a: string, b: list<long>>`. Names that would be misread stand in quotes."""
    return _ICEBERG(type_)


def sql_type(type_: pa.DataType) -> str:
    """A type in DuckDB's notation."""
    return _DUCKDB(type_)


def _field_name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else identifier(name)


def identifier(name: str) -> str:
    """A name as SQL: quoted, with its quotes doubled."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL."""
    return "'" + text.replace("'", "''") + "'"


_ICEBERG = Notation(
    struct="struct<{}>",
    field="{}: {}",
    list="list<{}>",
    map="map<{}, {}>",
    decimal="decimal({}, {})",
    scalar=lambda type_: _NAMES[type_][0],
    name=_field_name,
)
_DUCKDB = Notation(
    struct="STRUCT({})",
    field="{} {}",
    list="{}[]",
    map="MAP({}, {})",
    decimal="DECIMAL({}, {})",
    scalar=lambda type_: _NAMES[type_][1],
    name=identifier,
)


def from_iceberg(type_: IcebergType) -> pa.DataType:
    """A table column's type inside the engine. Raises `UnsupportedTypeError`."""
    if isinstance(type_, StructType):
        return struct_of({field.name: from_iceberg(field.field_type) for field in type_.fields})
    if isinstance(type_, ListType):
        return pa.list_(from_iceberg(type_.element_type))
    if isinstance(type_, MapType):
        return pa.map_(from_iceberg(type_.key_type), from_iceberg(type_.value_type))
    if isinstance(type_, DecimalType):
        return decimal_of(type_.precision, type_.scale)
    try:
        return _FROM_ICEBERG[type(type_)]
    except KeyError:
        raise UnsupportedTypeError(f"columns of type {type_} are not supported") from None


def canonical(type_: pa.DataType) -> pa.DataType:
    """What a file's own column type is inside the engine: one spelling of each type, the narrowest that loses nothing.

    Nanosecond timestamps stay, for a table has microseconds and each value must be looked at. Raises `UnsupportedTypeError`.
    """
    types = pa.types
    if type_ in _NAMES or (types.is_decimal128(type_) and 0 <= type_.scale <= type_.precision):
        return type_
    if type_ in _SMALL_INTEGERS:
        return _SMALL_INTEGERS[type_]
    if types.is_struct(type_):
        return struct_of({field.name: canonical(field.type) for field in type_})
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_) or types.is_list_view(type_):
        return pa.list_(canonical(type_.value_type))
    if types.is_map(type_):
        return pa.map_(canonical(type_.key_type), canonical(type_.item_type))
    if types.is_dictionary(type_):
        return canonical(type_.value_type)
    if types.is_timestamp(type_):
        if type_.unit == "ns":
            return TIMESTAMPTZ_NS if type_.tz else TIMESTAMP_NS
        return TIMESTAMPTZ if type_.tz else TIMESTAMP
    if types.is_time32(type_) or type_ == pa.time64("us"):
        return TIME
    if types.is_float16(type_):
        return FLOAT
    if types.is_large_string(type_) or types.is_string_view(type_):
        return STRING
    if types.is_binary(type_) or types.is_large_binary(type_) or types.is_binary_view(type_) or types.is_fixed_size_binary(type_):
        return BINARY
    raise UnsupportedTypeError(f"columns of type {type_} are not supported")


def parse_type(text: str) -> pa.DataType:
    """A type written in Iceberg's notation. Raises `UnsupportedTypeError`."""
    text = text.strip()
    if text in _BY_NAME:
        return _BY_NAME[text]
    if match := _DECIMAL.fullmatch(text):
        precision, scale = int(match[1]), int(match[2])
        if not 0 < precision <= 38 or scale > precision:
            raise UnsupportedTypeError(f"{text!r} is not a decimal: the precision is at most 38, the scale at most the precision")
        return decimal_of(precision, scale)
    if text.endswith(">"):
        kind, _, inside = text[:-1].partition("<")
        parts = _split(inside)
        match kind.strip():
            case "list" if len(parts) == 1:
                return pa.list_(parse_type(parts[0]))
            case "map" if len(parts) == 2:
                return pa.map_(parse_type(parts[0]), parse_type(parts[1]))
            case "struct" if all(":" in part for part in parts):
                return struct_of(dict(_field(part.strip()) for part in parts))
    raise UnsupportedTypeError(f"{text!r} is not a type; examples are long, timestamptz, decimal(10, 2), list<string>, struct<a: long>")


def _field(text: str) -> tuple[str, pa.DataType]:
    quoted = _QUOTED_NAME.match(text)
    if quoted:
        return quoted[1].replace('""', '"'), parse_type(text[quoted.end() :])
    name, _, inner = text.partition(":")
    return name.strip(), parse_type(inner)


def _split(text: str) -> list[str]:
    """The parts between commas that are not inside brackets or quotes."""
    parts, depth, start, quoted = [], 0, 0, False
    for position, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif character in "<(":
            depth += 1
        elif character in ">)":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]
