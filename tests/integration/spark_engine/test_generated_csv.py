"""Generated CSV: both engines make the same of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from domain.ingestions.entities import BadRowPolicy, FormatType
from tests.integration.spark_engine import test_differential
from tests.integration.spark_engine.generated import compare_batches, rescued_or_not
from tests.integration.spark_engine.test_differential import Both

both = test_differential.both

VALUES: Mapping[str, tuple[str, ...]] = {
    "whole": ("0", "-1", "7", "2147483648", "9223372036854775807", "-9223372036854775808"),
    "longer": ("7", "9223372036854775808", "9007199254740993", "123456789012345680000"),
    "fraction": ("0.5", "-2.25", "1.0", "0.1", "123456789.123", "0.30000000000000004"),
    "number": ("3", "-7", "0.5", "1e22", "1.5E-9", "-0", "0.0", "123456789012345", "1234567890123456", "1e400", "1e-400"),
    "odd": ("007", "+1", " 1", "1 ", "1.", ".5", "1e5", "NaN", "inf", "-Infinity", "1_000", "0x10", "1,5", "1d", "5f", "1L", "٣", "\t2"),
    "boolean": ("true", "false", "TRUE", "False"),
    "truth": ("true", "t", "yes", "1", "0", "false "),
    "date": ("2024-01-02", "1969-12-31", "2024-1-3", "0001-01-01"),
    "day": ("2024-02-30", "2024-01-02", "20240102", "2024-01-02T", "12024-01-02", "1582-10-10", "2024-01-02 ", "epoch", "today"),
    "moment": ("2024-01-02T03:04:05Z", "2024-01-02 03:04:05.123456", "1950-01-01 00:00:00", "2024-01-02T03:04"),
    "clock": (
        "2024-01-02 24:00:00",
        "2024-01-02 3:04:05+02:00",
        "2024-01-02 03:04:05.1234567",
        "2024-01-02T03:04:60Z",
        "1500-01-01 00:00:00",
    ),
    "money": ("1.50", "-2.5", "100", "1.505", "99999999.99", "100000000.00", "1e2", "1.5000"),
    "text": ("a", "é\u2028", "", "NA", "null", "\\N", " lead", "trail ", "\U0001f600", "{}", "#x", "\x01", "\xa0"),
    "special": ("a,b", "a;b", "a\tb", "a|b", "it's", 'say "x"', "two\nlines", "two\r\nlines", "back\\slash", "\\", '"', "''", "\n", "\r"),
    "nothing": ("",),
}
HINTS = {
    "day": "date",
    "at": "timestamp",
    "moment": "timestamptz",
    "price": "decimal(10, 2)",
    "flag": "boolean",
    "n": "int",
    "x": "double",
    "l": "long",
}
FOR_HINTS = {
    "day": "date",
    "at": "clock",
    "moment": "moment",
    "price": "money",
    "flag": "boolean",
    "n": "whole",
    "x": "number",
    "l": "whole",
}
NAMES = ("id", "a", "b", "c", "d `e", 'f"g', "h,i", *HINTS)


@dataclass(frozen=True)
class Dialect:
    delimiter: str
    quote: str
    escape: str
    header: bool
    encoding: str
    null_values: tuple[str, ...]


def a_dialect(chance: random.Random) -> Dialect:
    quote = chance.choice(('"', '"', '"', "'"))
    return Dialect(
        delimiter=chance.choice((",", ",", ";", "\t", "|")),
        quote=quote,
        escape=chance.choice((quote, quote, quote, "\\")),
        header=chance.random() < 0.8,
        encoding=chance.choice(("utf-8", "utf-8", "utf-8", "utf-8", "latin-1", "utf-16")),
        null_values=chance.choice((("",), ("",), ("", "NA"), ("NA",), ())),
    )


def a_field(chance: random.Random, text: str, dialect: Dialect) -> str:
    """The text as a field of a row: in quotes where it has to be, and now and then where not."""
    special = (dialect.delimiter, dialect.quote, "\n", "\r", *((dialect.escape,) if dialect.escape != dialect.quote else ()))
    if any(character in text for character in special) or chance.random() < 0.1:
        if dialect.escape != dialect.quote:
            text = text.replace(dialect.escape, 2 * dialect.escape)
        return dialect.quote + text.replace(dialect.quote, dialect.escape + dialect.quote) + dialect.quote
    return text


def a_file(chance: random.Random, dialect: Dialect) -> bytes:
    names = [name for name in NAMES if name == "id" or chance.random() < 0.4]
    if chance.random() < 0.3:
        chance.shuffle(names)
    ordinary = [kind for kind in VALUES if kind != "special" or chance.random() < 0.5]
    kinds = {name: FOR_HINTS.get(name) or chance.choice(ordinary) for name in names}
    kinds["id"] = "whole"
    noise = chance.choice((0.0, 0.0, 0.0, 0.2))
    end = chance.choice(("\n", "\n", "\n", "\r\n"))
    lines = [dialect.delimiter.join(a_field(chance, name, dialect) for name in names)] if dialect.header else []
    for _ in range(chance.choice((0, 1, 2, 3, 5))):
        fields = []
        for name in names:
            kind = chance.choice(ordinary) if chance.random() < noise else kinds[name]
            fields.append(a_field(chance, chance.choice(VALUES[kind]) if chance.random() < 0.85 else "", dialect))
        if chance.random() < noise / 2:
            chance.choice((fields.pop, lambda fields=fields: fields.append("more"), lambda: None))()
        line = dialect.delimiter.join(fields)
        if chance.random() < noise / 3:
            line = chance.choice(('x"y', '"x" y', '"open', line + dialect.quote, line + "\r", " ", "", line + dialect.delimiter))
        lines.append(line)
    blank = noise and chance.random() < 0.3
    text = "".join(line + end + (end if blank and chance.random() < 0.3 else "") for line in lines)
    if chance.random() < 0.2:
        text = text.removesuffix(end)
    mark = "\ufeff" if dialect.encoding == "utf-8" and chance.random() < 0.2 else ""
    return (mark + text).encode(dialect.encoding, errors="replace")


@pytest.mark.parametrize("seed", range(2))
async def test_generated_files(both: Both, seed: int) -> None:
    chance = random.Random(seed)
    dialect = a_dialect(chance)
    options = {
        "delimiter": dialect.delimiter,
        "quote": dialect.quote,
        "escape": dialect.escape,
        "header": dialect.header,
        "encoding": dialect.encoding,
        "null_values": list(dialect.null_values),
    }
    bad_rows = chance.choice(list(BadRowPolicy))
    # A file that fails may leave its mark on the type of a new column with one of the engines: here nothing is new then.
    names = NAMES if bad_rows is BadRowPolicy.FAIL_FILE else NAMES[:1]
    rows = [[a_field(chance, name, dialect) for name in names]] if dialect.header else []
    first = "".join(dialect.delimiter.join(row) + "\n" for row in [*rows, [VALUES[FOR_HINTS.get(name, "whole")][0] for name in names]])

    await compare_batches(
        both,
        chance,
        FormatType.CSV,
        first.encode(dialect.encoding),
        lambda chance: a_file(chance, dialect),
        bad_rows=bad_rows,
        comparable=rescued_or_not,
        options=options,
        hints=HINTS,
    )
