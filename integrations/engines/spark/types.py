"""Types as Spark writes them. Inside the engine they are Arrow's, as in the embedded one."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import types as spark

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
    Notation,
    UnsupportedTypeError,
    decimal_of,
    describe,
    struct_of,
)

_SQL: dict[pa.DataType, str] = {
    INT: "INT",
    LONG: "BIGINT",
    FLOAT: "FLOAT",
    DOUBLE: "DOUBLE",
    BOOLEAN: "BOOLEAN",
    STRING: "STRING",
    BINARY: "BINARY",
    DATE: "DATE",
    TIMESTAMP: "TIMESTAMP_NTZ",
    TIMESTAMPTZ: "TIMESTAMP",
    # Iceberg's connector reads and writes a UUID as its text.
    UUID: "STRING",
    NULL: "VOID",
}
_FROM_SPARK: dict[type[spark.DataType], pa.DataType] = {
    spark.ByteType: INT,
    spark.ShortType: INT,
    spark.IntegerType: INT,
    spark.LongType: LONG,
    spark.FloatType: FLOAT,
    spark.DoubleType: DOUBLE,
    spark.BooleanType: BOOLEAN,
    spark.StringType: STRING,
    spark.BinaryType: BINARY,
    spark.DateType: DATE,
    spark.TimestampNTZType: TIMESTAMP,
    spark.TimestampType: TIMESTAMPTZ,
    spark.NullType: NULL,
}
_OF_VARIANTS = {
    "BIGINT": LONG,
    "DOUBLE": DOUBLE,
    "FLOAT": FLOAT,
    "BOOLEAN": BOOLEAN,
    "STRING": STRING,
    "VOID": NULL,
    # Values of several kinds: text holds them all.
    "VARIANT": STRING,
}
_LONGEST_DECIMAL = 38
_DIGITS_OF_LONG = 19
_DIGITS_OF_DOUBLE = 15


def identifier(name: str) -> str:
    """A name as SQL: quoted, with its quotes doubled."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A string as SQL, its escapes taken as they are."""
    if "'" not in text:
        return f"r'{text}'"
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def sql_type(type_: pa.DataType) -> str:
    """A type in Spark's notation. Raises `UnsupportedTypeError`."""
    return _SPARK(type_)


def _scalar(type_: pa.DataType) -> str:
    if type_ not in _SQL:
        raise UnsupportedTypeError(f"Spark has no columns of type {describe(type_)}")
    return _SQL[type_]


_SPARK = Notation(
    struct="STRUCT<{}>",
    field="{}: {}",
    list="ARRAY<{}>",
    map="MAP<{}, {}>",
    decimal="DECIMAL({}, {})",
    scalar=_scalar,
    name=identifier,
)


def from_spark(type_: spark.DataType) -> pa.DataType:
    """The type of a column that Spark reads. Raises `UnsupportedTypeError`."""
    if isinstance(type_, spark.StructType):
        return struct_of({field.name: from_spark(field.dataType) for field in type_.fields})
    if isinstance(type_, spark.ArrayType):
        return pa.list_(from_spark(type_.elementType))
    if isinstance(type_, spark.MapType):
        return pa.map_(from_spark(type_.keyType), from_spark(type_.valueType))
    if isinstance(type_, spark.DecimalType):
        return decimal_of(type_.precision, type_.scale)
    for kind, found in _FROM_SPARK.items():
        if isinstance(type_, kind):
            return found
    raise UnsupportedTypeError(f"columns of type {type_.simpleString()} are not supported")


def from_variants(text: str) -> pa.DataType:
    """What `schema_of_variant_agg` has seen, as the type that it would give a new column."""
    type_, rest = _variant_type(text)
    if rest:
        raise UnsupportedTypeError(f"{text!r} is no type of a variant")
    return type_


@dataclass(frozen=True, slots=True)
class DoubleFields:
    """Fields of which a double holds every value as well as it holds any: surely, or unless long whole numbers are among the values.

    A decimal of up to 15 digits before the point is sure. With more, it may be a whole number that no double is; where a field has whole
    numbers and others, the variants' common type allows for 19 digits, however few there are. What is no decimal has an exponent or more
    digits than decimals have, and may be infinite.
    """

    sure: frozenset[str] = frozenset()
    unless_long: frozenset[str] = frozenset()


def double_fields(text: str) -> DoubleFields:
    """Those of what `schema_of_variant_agg` has seen."""
    sure, unless_long = set(), set()
    text = text.removeprefix("OBJECT<")
    while not text.startswith(">"):
        name, text = _name(text.removeprefix(", "))
        type_, rest = _variant_type(text.removeprefix(": "))
        digits = _digits_before_the_point(text.removeprefix(": "))
        if type_ == NULL or (digits is not None and digits <= _DIGITS_OF_DOUBLE):
            sure.add(name)
        elif digits is not None:
            unless_long.add(name)
        text = rest
    return DoubleFields(frozenset(sure), frozenset(unless_long))


def _digits_before_the_point(text: str) -> int | None:
    """At most, of the decimals whose type the text begins with."""
    if not text.startswith("DECIMAL("):
        return None
    precision, _, scale = text.removeprefix("DECIMAL(").partition(")")[0].partition(",")
    return int(precision) - int(scale)


def _variant_type(text: str) -> tuple[pa.DataType, str]:
    """The type that the text begins with, and what comes after it."""
    if text.startswith("OBJECT<"):
        return _object(text.removeprefix("OBJECT<"))
    if text.startswith("ARRAY<"):
        element, rest = _variant_type(text.removeprefix("ARRAY<"))
        return pa.list_(element), rest.removeprefix(">")
    if text.startswith("DECIMAL("):
        shape, _, rest = text.removeprefix("DECIMAL(").partition(")")
        precision, _, scale = shape.partition(",")
        # A number with a fraction; or one without that is too long for 64 bits.
        whole = int(scale) == 0 and int(precision) >= _DIGITS_OF_LONG
        return (decimal_of(_LONGEST_DECIMAL, 0) if whole else DOUBLE), rest
    name = next((name for name in _OF_VARIANTS if text.startswith(name)), None)
    if name is None:
        raise UnsupportedTypeError(f"{text!r} is no type of a variant")
    return _OF_VARIANTS[name], text.removeprefix(name)


def _object(text: str) -> tuple[pa.DataType, str]:
    fields: dict[str, pa.DataType] = {}
    while not text.startswith(">"):
        name, text = _name(text.removeprefix(", "))
        fields[name], text = _variant_type(text.removeprefix(": "))
    return struct_of(fields), text[1:]


def _name(text: str) -> tuple[str, str]:
    if not text.startswith("`"):
        name, _, rest = text.partition(":")
        return name, f":{rest}"
    end = 1
    while True:
        end = text.index("`", end)
        if text[end + 1 : end + 2] != "`":
            return text[1:end].replace("``", "`"), text[end + 1 :]
        end += 2
