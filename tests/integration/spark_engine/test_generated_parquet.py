"""Generated Parquet: both engines make the same of it."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domain.ingestions.entities import BadRowPolicy, FormatType
from tests.integration.spark_engine import test_differential
from tests.integration.spark_engine.generated import compare_batches, rescued_or_not
from tests.integration.spark_engine.test_differential import Both

both = test_differential.both

WHOLE = (0, 1, 7, 100)
FRACTIONS = (0.0, 0.5, -2.25, 0.1, float("inf"), float("-inf"), float("nan"), 1e30)
TEXTS = ("", "a", "é\u2028", "7", "true", "null", "\U0001f600", "2024-01-02", " lead", 'x"y\\z')
BYTES = (b"", b"\x00\x01", b"text", b"\xff")
DAYS = (date(2024, 1, 2), date(1969, 12, 31), date(1, 1, 1), date(1582, 10, 10), date(9999, 12, 31))
SECONDS = (0, -1, 1704164645, -(2**31), -12219292800, -62135596800, 253402300799)
MILLISECONDS = tuple(1000 * moment for moment in SECONDS)
MICROSECONDS = (1704164645678901, -1, *(1000 * moment for moment in MILLISECONDS))
"""Since 1970; from the first year to 9999."""
Kind = tuple[pa.DataType, tuple[Any, ...]]
SCALARS: tuple[Kind, ...] = (
    (pa.int8(), (*WHOLE, -128, 127)),
    (pa.int16(), (*WHOLE, -(2**15))),
    (pa.int32(), (*WHOLE, 2**31 - 1, -(2**31))),
    (pa.int64(), (*WHOLE, 2**53 + 1, 2**63 - 1, -(2**63))),
    (pa.int64(), WHOLE),
    (pa.uint8(), (*WHOLE, 255)),
    (pa.uint16(), (*WHOLE, 2**16 - 1)),
    (pa.uint32(), (*WHOLE, 2**32 - 1)),
    (pa.uint64(), (*WHOLE, 2**64 - 1)),
    (pa.float32(), FRACTIONS),
    (pa.float64(), FRACTIONS),
    (pa.decimal128(5, 2), (Decimal("1.50"), Decimal("-999.99"), Decimal(0))),
    (pa.decimal128(10, 2), (Decimal("1.50"), Decimal("-99999999.99"))),
    (pa.decimal128(20, 0), (Decimal(7), Decimal(10**19))),
    (pa.decimal128(38, 10), (Decimal("0.0000000001"), Decimal(10**27))),
    (pa.bool_(), (True, False)),
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.binary(), BYTES),
    (pa.binary(3), (b"abc", b"\x00\xff\x00")),
    (pa.date32(), DAYS),
    (pa.date64(), DAYS),
    (pa.timestamp("s"), SECONDS),
    (pa.timestamp("ms"), MILLISECONDS),
    (pa.timestamp("us"), MICROSECONDS),
    (pa.timestamp("ms", "UTC"), MILLISECONDS),
    (pa.timestamp("us", "UTC"), MICROSECONDS),
    (pa.timestamp("us", "Europe/Berlin"), MICROSECONDS),
    (pa.null(), (None,)),
)
FIELD_NAMES = ("x", "y", "z w")


def a_kind(chance: random.Random, depth: int = 0) -> Kind:
    """A type, and values of it."""
    made = chance.choice(("scalar",) * (6 + depth) + ("list", "struct", "map")) if depth < 3 else "scalar"
    if made == "scalar":
        return chance.choice(SCALARS)
    if made == "struct":
        fields = {name: a_kind(chance, depth + 1) for name in FIELD_NAMES if chance.random() < 0.7} or {"x": a_kind(chance, depth + 1)}
        values = tuple({name: a_value(chance, kind) for name, kind in fields.items()} for _ in range(3))
        return pa.struct([(name, type_) for name, (type_, _) in fields.items()]), values
    inner = a_kind(chance, depth + 1)
    several = tuple([a_value(chance, inner) for _ in range(chance.randrange(3))] for _ in range(3))
    if made == "list":
        return chance.choice((pa.list_, pa.list_, pa.large_list))(inner[0]), several
    return pa.map_(pa.string(), inner[0]), tuple(list(zip(("k", "l m"), values, strict=False)) for values in several)


def a_value(chance: random.Random, kind: Kind) -> Any:
    return None if chance.random() < 0.15 else chance.choice(kind[1])


def a_file(chance: random.Random, kinds: Mapping[str, list[Kind]]) -> bytes:
    """Columns of kinds that files have in common, or of one's own."""
    rows = chance.choice((0, 1, 2, 5))
    ids = [chance.randrange(10**9) for _ in range(rows)]
    columns = {"id": pa.array(ids, chance.choice((pa.int64(), pa.int64(), pa.int32())))}
    for name, common in kinds.items():
        if chance.random() < 0.6:
            kind = chance.choice(common)
            columns[name] = pa.array([a_value(chance, kind) for _ in range(rows)], kind[0])
    names = list(columns)
    if chance.random() < 0.3:
        chance.shuffle(names)
    table = pa.table({name: columns[name] for name in names})
    written = io.BytesIO()
    pq.write_table(
        table,
        written,
        compression=chance.choice(("snappy", "zstd", "gzip", "none")),
        use_dictionary=chance.random() < 0.5,
        row_group_size=chance.choice((1, 2, 100)),
        data_page_version=chance.choice(("1.0", "2.0")),
        store_schema=chance.random() < 0.7,
    )
    return written.getvalue()


@pytest.mark.parametrize("seed", range(2))
async def test_generated_files(both: Both, seed: int) -> None:
    chance = random.Random(seed)
    bad_rows = chance.choice(list(BadRowPolicy))
    # A file that fails may leave its mark on the type of a column with one of the engines.
    several = (1,) if bad_rows is BadRowPolicy.FAIL_FILE else (1, 1, 2, 3)
    kinds = {name: [a_kind(chance) for _ in range(chance.choice(several))] for name in ("a", "b", "c", "d `e", "f.g")}
    first = io.BytesIO()
    pq.write_table(pa.table({"id": [1]}), first)

    await compare_batches(
        both,
        chance,
        FormatType.PARQUET,
        first.getvalue(),
        lambda chance: a_file(chance, kinds),
        bad_rows=bad_rows,
        comparable=rescued_or_not,
    )
