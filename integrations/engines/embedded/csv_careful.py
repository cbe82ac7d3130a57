"""CSV rows one at a time, by Python's strict reader: slow, and able to say what is wrong and where."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from domain.ingestions.formats import Compression, CsvOptions
from integrations.engines.embedded.batch_files import excerpt
from integrations.engines.embedded.column_types import STRING
from integrations.engines.embedded.content import FileContentError, read_blocks
from integrations.engines.embedded.csv_text import LONGEST_FIELD, CsvFile, csv_reader
from integrations.engines.embedded.parts import FILE, LINE, PROBLEM, RAW, SURPLUS

ROWS_A_TABLE = 20_000


def careful_schema(names: Sequence[str]) -> pa.Schema:
    return pa.schema(
        [(FILE, pa.int32()), (LINE, pa.int64()), (RAW, STRING), (PROBLEM, STRING), (SURPLUS, STRING), *((name, STRING) for name in names)]
    )


class _Lines:
    """Decoded lines for the reader; keeps those of the row in hand."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.number = 0
        self.ended = True
        self.row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            start = 0
            while start < len(block):
                end = block.find(b"\n", start) + 1 or len(block)
                line = block[start:end].decode()
                self.number += 1
                self.ended = line.endswith("\n")
                self.row.append(line)
                yield line
                start = end


def careful_tables(csv_file: CsvFile, options: CsvOptions, *, keep_raw: bool) -> Iterator[pa.Table]:
    """The file's rows as text, with their problems. Raises `FileContentError` for what no row can be told from any more."""
    csv.field_size_limit(LONGEST_FIELD)
    schema = careful_schema(csv_file.names)
    rows: list[tuple[Any, ...]] = []
    good = bad = 0
    last_problem: str | None = None
    lines = _Lines(read_blocks(csv_file.path, Compression.NONE))
    nulls = set(options.null_values)
    width = len(csv_file.names)
    skip_header = options.header
    try:
        for fields in csv_reader(iter(lines), options):
            raw, lines.row = lines.row, []
            if not fields:
                continue
            if skip_header:
                skip_header = False
                continue
            number = lines.number - len(raw) + 1
            kept = "".join(raw).rstrip("\r\n") if keep_raw else None
            if len(fields) == width:
                good += 1
                last_problem = None
                rows.append((csv_file.file.index, number, kept, None, None, *(None if field in nulls else field for field in fields)))
            else:
                bad += 1
                last_problem = f"it has {len(fields)} fields instead of {width}: {excerpt(''.join(raw).rstrip())}"
                rows.append((csv_file.file.index, number, kept, last_problem, None, *([None] * width)))
            if len(rows) == ROWS_A_TABLE:
                yield _table(rows, schema)
                rows = []
    except csv.Error as error:
        first = lines.number - len(lines.row) + 1
        where = excerpt("".join(lines.row))
        if "unexpected end of data" in str(error):
            raise FileContentError(f"Line {first}: a quote is opened and never closed: {where}") from None
        raise FileContentError(f"Line {lines.number} is not CSV: {error}: {where}") from None
    if bad and not good:
        raise FileContentError(f"No row fits the header. Line {lines.number}: {last_problem}")
    if last_problem is not None and not lines.ended:
        raise FileContentError(f"The file is truncated: it ends in the middle of a row. Line {lines.number}: {last_problem}")
    if rows:
        yield _table(rows, schema)


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
