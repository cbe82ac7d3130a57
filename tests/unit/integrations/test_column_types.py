"""Types between three notations, and how they merge."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.engines.embedded.column_types import UnsupportedTypeError, canonical, describe, parse_type, sql_type, struct_of
from integrations.engines.embedded.type_merging import storable, unify, widen

LONG, DOUBLE, STRING, NULL = pa.int64(), pa.float64(), pa.string(), pa.null()


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("long", "BIGINT"),
        ("timestamptz", "TIMESTAMPTZ"),
        ("decimal(10, 2)", "DECIMAL(10, 2)"),
        ("list<struct<a: long, b: map<string, uuid>>>", 'STRUCT("a" BIGINT, "b" MAP(VARCHAR, UUID))[]'),
    ],
)
def test_a_type_is_read_and_written_in_icebergs_notation(text: str, sql: str) -> None:
    assert describe(parse_type(text)) == text
    assert sql_type(parse_type(text)) == sql


_names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
_types = st.recursive(
    st.sampled_from([LONG, DOUBLE, STRING, pa.int32(), pa.timestamp("us", "UTC"), pa.decimal128(10, 2), pa.uuid()]),
    lambda inner: (
        st.builds(pa.list_, inner)
        | st.builds(lambda value: pa.map_(STRING, value), inner)
        | st.builds(struct_of, st.dictionaries(_names, inner, min_size=1, max_size=3))
    ),
    max_leaves=6,
)


@given(_types)
def test_whatever_its_fields_are_called_a_type_is_read_as_it_was_written(type_: pa.DataType) -> None:
    assert parse_type(describe(type_)) == type_


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["plain", "with space", "a.b", "ünï"], "struct<plain: long, with space: long, a.b: long, ünï: long>"),
        (["a:b", "c, d", "<e>", " f", 'g"h', ""], 'struct<"a:b": long, "c, d": long, "<e>": long, " f": long, "g""h": long, "": long>'),
    ],
)
def test_names_that_would_be_misread_stand_in_quotes(names: list[str], text: str) -> None:
    assert describe(struct_of(dict.fromkeys(names, LONG))) == text


@pytest.mark.parametrize("text", ["int8", "", "decimal(39, 0)", "decimal(2, 3)", "list<>", "map<string>", "struct<a>", "list<long"])
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedTypeError):
        parse_type(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pa.uint64(), pa.decimal128(20, 0)),
        (pa.large_list(pa.large_string()), pa.list_(STRING)),
        (pa.dictionary(pa.int8(), pa.string()), STRING),
        (pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("us", "UTC")),
        (pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.float16(), pa.float32()),
    ],
)
def test_each_arrow_type_has_one_spelling(given: pa.DataType, expected: pa.DataType) -> None:
    assert canonical(given) == expected


@pytest.mark.parametrize("given", [pa.duration("s"), pa.decimal256(50, 2), pa.month_day_nano_interval(), pa.time64("ns")])
def test_types_that_no_table_has_are_refused(given: pa.DataType) -> None:
    with pytest.raises(UnsupportedTypeError):
        canonical(given)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (LONG, NULL, LONG),
        (LONG, DOUBLE, DOUBLE),
        (pa.int32(), LONG, LONG),
        (LONG, STRING, STRING),
        (LONG, pa.bool_(), STRING),
        (LONG, pa.decimal128(10, 2), pa.decimal128(21, 2)),
        (pa.decimal128(38, 0), DOUBLE, STRING),
        (pa.decimal128(38, 2), pa.decimal128(38, 0), STRING),
        (pa.struct([("a", LONG)]), pa.struct([("b", STRING), ("a", DOUBLE)]), pa.struct([("a", DOUBLE), ("b", STRING)])),
        (pa.list_(NULL), pa.list_(LONG), pa.list_(LONG)),
        (pa.list_(LONG), pa.struct([("a", LONG)]), STRING),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), STRING),
        (pa.timestamp("ns"), pa.timestamp("us"), pa.timestamp("us")),
    ],
)
def test_types_of_one_column_come_together_either_way_round(first: pa.DataType, second: pa.DataType, expected: pa.DataType) -> None:
    assert unify(first, second) == expected
    assert {describe(unify(second, first))} <= {describe(expected), "struct<b: string, a: double>"}


@pytest.mark.parametrize(
    ("column", "offered", "expected"),
    [
        (pa.int32(), LONG, LONG),
        (LONG, pa.int32(), LONG),
        (LONG, DOUBLE, LONG),
        (pa.float32(), DOUBLE, DOUBLE),
        (pa.decimal128(5, 2), pa.decimal128(9, 2), pa.decimal128(9, 2)),
        (pa.decimal128(5, 2), pa.decimal128(9, 3), pa.decimal128(5, 2)),
        (pa.struct([("a", pa.int32())]), pa.struct([("a", LONG), ("n", NULL), ("b", LONG)]), pa.struct([("a", LONG), ("b", LONG)])),
        (pa.list_(pa.int32()), pa.list_(LONG), pa.list_(LONG)),
        (STRING, LONG, STRING),
    ],
)
def test_a_tables_column_is_promoted_only_where_that_is_safe(column: pa.DataType, offered: pa.DataType, expected: pa.DataType) -> None:
    assert widen(column, offered) == expected


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        (NULL, None),
        (pa.struct([]), STRING),
        (pa.struct([("a", NULL)]), None),
        (pa.struct([("a", NULL), ("b", LONG)]), pa.struct([("b", LONG)])),
        (pa.list_(NULL), pa.list_(STRING)),
        (pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC")),
    ],
)
def test_what_a_new_column_is_made_of(observed: pa.DataType, expected: pa.DataType | None) -> None:
    assert storable(observed) == expected
