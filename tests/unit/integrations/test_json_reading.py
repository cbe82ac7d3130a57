"""The quick JSON reader and the careful one never tell different stories."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ingestions.entities import BadRowPolicy, SchemaEvolution
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.json_careful import CarefulRows, lines_of, survey
from integrations.engines.embedded.json_quick import Block, NotCleanError, parse_clean, quick_schema
from integrations.engines.embedded.parts import PROBLEM, SURPLUS
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import TargetColumns

RULES = RowRules(BadRowPolicy.FAIL_FILE, SchemaEvolution.ADD_NEW_COLUMNS)
COLUMNS = {
    "i": pa.int64(),
    "d": pa.float64(),
    "b": pa.bool_(),
    "s": pa.string(),
    "o": pa.struct([("x", pa.int64()), ("y", pa.string())]),
    "l": pa.list_(pa.float64()),
    "m": pa.decimal128(12, 2),
}

numbers = st.one_of(
    st.integers(-10, 10),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.5, 1.0, 1e300, 12.75, 0.1]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5), st.sampled_from(["1", "true", "null", "\u0000", "\u2028", "ä"]))
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyz"), inner, max_size=3))
)
fitting = {
    "i": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "d": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-1000, 1000)),
    "b": st.one_of(st.none(), st.booleans()),
    "s": st.one_of(st.none(), st.text(max_size=5)),
    "o": st.one_of(st.none(), st.fixed_dictionaries({}, optional={"x": st.integers(-5, 5), "y": st.text(max_size=3)})),
    "l": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-5, 5), st.floats(-1e6, 1e6)), max_size=3)),
    "m": st.one_of(st.none(), st.integers(-1000, 1000), st.sampled_from([0.25, 12.5, -0.01])),
}
good_rows = st.fixed_dictionaries({}, optional=fitting)
any_rows = st.dictionaries(st.sampled_from([*COLUMNS, "unknown"]), values, max_size=5)
separators = st.sampled_from(["\n", "\r\n", "\n\n", " \n", ""])
odd_lines = st.sampled_from(
    ['{"i":1}{"i":2}', '{"i":1} null', "null", "3", "[]", '{"i":1,"i":2}', '{"i":1,}', '{"i"', "{}", " {}", '{"i":01}']
)


def a_target(columns: dict[str, pa.DataType] | None = None) -> TargetColumns:
    return TargetColumns(COLUMNS if columns is None else columns, (), SchemaEvolution.ADD_NEW_COLUMNS)


def quickly(data: bytes) -> pa.Table:
    schema = quick_schema(COLUMNS, frozenset())
    assert schema is not None
    return parse_clean([Block(LoadFile(0, "", len(data), Path()), data)], schema, check_unknown=None)


def carefully(data: bytes) -> pa.Table:
    rows = CarefulRows(a_target(), RULES)
    tables = list(rows.tables(LoadFile(0, "", len(data), Path()), lines_of([data])))
    return pa.concat_tables(tables) if tables else rows.schema.empty_table()


def same(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return first == second and math.copysign(1, first) == math.copysign(1, second)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(same(one, other) for one, other in zip(first, second, strict=True))
    return bool(first == second)


@given(st.lists(st.tuples(st.one_of(any_rows.map(json.dumps), good_rows.map(json.dumps), odd_lines), separators), min_size=1, max_size=5))
def test_what_the_quick_reader_takes_the_careful_one_reads_alike(parts: list[tuple[str, str]]) -> None:
    data = "".join(line + end for line, end in parts).encode()
    data = data if data.endswith(b"\n") else data + b"\n"

    try:
        quick = quickly(data)
    except NotCleanError:
        return

    careful = carefully(data)
    assert set(careful.column(PROBLEM).to_pylist()) <= {None}
    assert set(careful.column(SURPLUS).to_pylist()) <= {None}
    for name in COLUMNS:
        assert same(quick.column(name).to_pylist(), careful.column(name).to_pylist()), name


@given(st.lists(good_rows, min_size=1, max_size=8))
def test_the_careful_reader_reads_what_was_written(rows: list[dict[str, Any]]) -> None:
    careful = carefully("".join(json.dumps(row) + "\n" for row in rows).encode())

    assert careful.column(PROBLEM).to_pylist() == [None] * len(rows)
    for name in ("i", "b", "s"):
        assert careful.column(name).to_pylist() == [row.get(name) for row in rows]


@pytest.mark.parametrize("row", ["null", "3", '"x"', "[{}]", "true"])
@pytest.mark.parametrize("before", ["", '{"i": 1}\n', '{"i": 1} '])
def test_a_bare_value_never_reaches_the_library_that_it_would_crash(row: str, before: str) -> None:
    with pytest.raises(NotCleanError):
        quickly(f'{before}{row}\n{{"i": 2}}\n'.encode())


def test_rows_go_to_the_file_whose_line_they_are() -> None:
    schema = quick_schema({"i": pa.int64()}, frozenset())
    assert schema is not None
    blocks = [
        Block(LoadFile(7, "", 0, Path()), b'{"i": 1}\n{"i": 2}\n'),
        Block(LoadFile(3, "", 0, Path()), b'{"i": 3}\n'),
        Block(LoadFile(5, "", 0, Path()), b'{"i": 4}\r\n{"i": 5}\r\n{"i": 6}\r\n'),
    ]

    table = parse_clean(blocks, schema, check_unknown=None)

    assert table.column("i").to_pylist() == [1, 2, 3, 4, 5, 6]
    assert table.column("__autoloader_file").to_pylist() == [7, 7, 3, 5, 5, 5]


def test_a_survey_says_what_a_file_brings() -> None:
    data = b'{"a": 1, "n": null}\n\n{"a": 2.5, "o": {"x": null}}\nbad\n{"l": [1, null]}\n'

    found = survey(lines_of([data]), a_target({}))

    assert found.types == {"a": pa.float64(), "n": pa.null(), "o": pa.null(), "l": pa.list_(pa.int64())}
    assert (found.rows, found.bad_lines, found.cut_short) == (3, 1, False)
    assert found.first_problem == found.last_problem
    assert (found.first_problem or "").startswith("Line 4: ")


@pytest.mark.parametrize("bad", [b"<html>\n", b'["i", 1]\n', b'{"i": 1\n', b'{"i": 1}\n\n', b'{"s": "\xff"}\n'])
def test_who_is_plainly_not_clean_is_named(bad: bytes) -> None:
    """So that the others can be read together at once."""
    schema = quick_schema({"i": pa.int64(), "s": pa.string()}, frozenset())
    assert schema is not None
    contents = [b'{"i": 1}\n{"i": 2}\n', bad, b'{"i": 3}\n', bad, b'{"i": 4}\r\n']
    files = [LoadFile(index, f"{index}.json", len(content), Path()) for index, content in enumerate(contents)]
    with pytest.raises(NotCleanError) as raised:
        parse_clean([Block(file, content) for file, content in zip(files, contents, strict=True)], schema, check_unknown=None)
    assert raised.value.bad == [1, 3]
