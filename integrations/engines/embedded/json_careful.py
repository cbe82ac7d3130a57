"""JSON rows one at a time, for files in which something is wrong or new: slow, exact, and able to say what and where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from integrations.engines.embedded.batch_files import LoadFile, excerpt
from integrations.engines.embedded.column_types import NULL, STRING
from integrations.engines.embedded.json_conversion import MisfitError, converter, read_type
from integrations.engines.embedded.json_values import RowError, is_nothing, is_plain, observed_type, parse_row
from integrations.engines.embedded.parts import FILE, LINE, PROBLEM, RAW, SURPLUS
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import ColumnNamesError, TargetColumns
from integrations.engines.embedded.type_merging import unify

ROWS_A_TABLE = 20_000


class Line(NamedTuple):
    """A line that is not blank: its number, its bytes without the line end, and whether it had one."""

    number: int
    data: bytes
    ended: bool


def lines_of(blocks: Iterable[bytes]) -> Iterator[Line]:
    number = 0
    for block in blocks:
        for data in block.splitlines(keepends=True) if b"\r" not in block else _split(block):
            number += 1
            stripped = data.strip(b" \t\r\n")
            if stripped:
                yield Line(number, stripped, data.endswith(b"\n"))


def _split(block: bytes) -> Iterator[bytes]:
    """Lines end with a line feed and nothing else."""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start) + 1 or len(block)
        yield block[start:end]
        start = end


@dataclass(slots=True)
class Survey:
    """What the rows of a file bring, and the first thing that is wrong with it.

    `rows` are the JSON objects, `bad_lines` the lines that are none.
    """

    types: dict[str, pa.DataType] = field(default_factory=dict)
    rows: int = 0
    bad_lines: int = 0
    first_problem: str | None = None
    last_problem: str | None = None
    cut_short: bool = False
    names_problem: str | None = None


def survey(lines: Iterable[Line], target: TargetColumns, *, unit: str = "Line") -> Survey:
    """Look at every row, without converting any."""
    found = Survey()
    known: dict[str, pa.DataType] = found.types
    seen: set[tuple[str, type]] = set()
    for line in lines:
        try:
            row = parse_row(line.data)
        except RowError as error:
            found.bad_lines += 1
            found.cut_short = not line.ended
            found.last_problem = f"{unit} {line.number}: {error}: {excerpt(line.data.decode(errors='replace'))}"
            found.first_problem = found.first_problem or found.last_problem
            continue
        found.rows += 1
        for name, value in row.items():
            plain = is_plain(value)
            if plain and (name, type(value)) in seen:
                continue
            if name not in known:
                known[name] = NULL
            if not is_nothing(value):
                known[name] = unify(known[name], observed_type(value))
            if plain:
                seen.add((name, type(value)))
    try:
        target.check_types(known)
    except ColumnNamesError as error:
        found.names_problem = str(error)
    return found


class CarefulRows:
    """Converts the rows of files to the columns' types, as tables for a careful part."""

    def __init__(self, target: TargetColumns, rules: RowRules) -> None:
        self._columns = target.columns
        self._rules = rules
        self._surplus: dict[str, set[str]] = {name: set() for name in self._columns}
        self._convert = {name: converter(type_, self._surplus[name], lenient=name in target.hints) for name, type_ in self._columns.items()}
        self.types = {name: read_type(type_) for name, type_ in self._columns.items()}
        self.schema = pa.schema(
            [
                (FILE, pa.int32()),
                (LINE, pa.int64()),
                (RAW, STRING),
                (PROBLEM, STRING),
                (SURPLUS, STRING),
                *self.types.items(),
            ]
        )

    def tables(self, file: LoadFile, lines: Iterable[Line]) -> Iterator[pa.Table]:
        rows: list[tuple[Any, ...]] = []
        for line in lines:
            rows.append(self._row(file.index, line))
            if len(rows) == ROWS_A_TABLE:
                yield self._table(rows)
                rows = []
        if rows:
            yield self._table(rows)

    def _table(self, rows: list[tuple[Any, ...]]) -> pa.Table:
        arrays = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), self.schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _row(self, file: int, line: Line) -> tuple[Any, ...]:
        raw = line.data.decode(errors="replace") if self._rules.rescues else None
        try:
            row = parse_row(line.data)
        except RowError as error:
            problem = f"{error}: {excerpt(line.data.decode(errors='replace'))}"
            return (file, line.number, raw, problem, None, *([None] * len(self._convert)))
        problems, values = [], []
        for name, convert in self._convert.items():
            value = row.get(name)
            try:
                values.append(None if value is None else convert(value))
            except MisfitError as error:
                values.append(None)
                problems.append(f'column "{name}": {error}')
        surplus = [f"{name}.{inner}" for name, names in self._surplus.items() if names for inner in sorted(names)]
        if surplus:
            for names in self._surplus.values():
                names.clear()
        if not row.keys() <= self._convert.keys():
            surplus += [name for name, value in row.items() if name not in self._convert and not is_nothing(value)]
        return (file, line.number, raw, "; ".join(problems) or None, json.dumps(surplus) if surplus else None, *values)
