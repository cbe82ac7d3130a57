"""JSON lines at full speed, for files in which every line is a row that fits.

Arrow's JSON reader is strict: an unknown or doubled name, another kind of value, a number that does not fit or a line cut
short is an error. What it lets pass is caught here, so that every block it read is known to be exact: lines that hold
two rows or none, text that is not UTF-8, and whole numbers that a double cannot hold.
A block that is not clean in this sense is left to the careful reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.casts import EXACT_DOUBLE
from integrations.engines.embedded.column_types import DOUBLE, is_list, is_map, is_struct
from integrations.engines.embedded.json_conversion import read_type
from integrations.engines.embedded.parts import FILE

_OPEN, _CLOSE, _RETURN, _NEWLINE = b"{}\r\n"


class NotCleanError(Exception):
    """Some of the blocks need the careful reader. `bad` are the places of those that do for certain; empty where that was not seen."""

    def __init__(self, bad: Sequence[int] = ()) -> None:
        super().__init__()
        self.bad = bad


Check = Callable[[pa.Schema], bool]


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of one file, the last with its line end."""

    file: LoadFile
    data: bytes


def quick_schema(columns: dict[str, pa.DataType], empty: frozenset[str]) -> pa.Schema | None:
    """What Arrow is to read for the columns, or None when it cannot."""
    if any(_has_map(type_) for type_ in columns.values()):
        return None
    fields = [pa.field(name, read_type(type_)) for name, type_ in columns.items()]
    return pa.schema([*fields, *(pa.field(name, pa.null()) for name in sorted(empty))])


def _has_map(type_: pa.DataType) -> bool:
    if is_struct(type_):
        return any(_has_map(field.type) for field in type_)
    return is_map(type_) or (is_list(type_) and _has_map(type_.value_type))


def parse_clean(blocks: Sequence[Block], schema: pa.Schema, *, check_unknown: Check | None) -> pa.Table:
    """The rows of the blocks, with `FILE`. Raises `NotCleanError` unless each line is exactly one row that fits.

    With `check_unknown`, names that the schema does not have are left out, once it has let them pass with their types.
    """
    data = blocks[0].data if len(blocks) == 1 else b"".join([block.data for block in blocks])
    lines = _one_object_a_line(data, blocks)
    try:
        table = pj.read_json(
            pa.BufferReader(data),
            # One block: a second one that began with a bare null would crash the process.
            read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer" if check_unknown else "error"),
        )
        if table.num_rows != len(lines):
            raise NotCleanError
        table.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise NotCleanError([place for place, block in enumerate(blocks) if not _is_utf8(block.data)]) from None
    if check_unknown:
        if not check_unknown(table.schema):
            raise NotCleanError
        table = table.select(schema.names).cast(schema)
    if any(_is_inexact(column) for column in table.itercolumns()):
        raise NotCleanError
    kept = [field.name for field in schema if field.type != pa.null()]
    return table.select(kept).append_column(FILE, _file_of_each_line(blocks, lines))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _one_object_a_line(data: bytes, blocks: Sequence[Block]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where the lines end, after a look that each begins with a brace and ends with one.

    Then no row spans lines, so as many rows as lines means one row in each.
    """
    view = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(view == _NEWLINE)
    last = view[ends - 1]
    good = last == _CLOSE
    if not bool(np.all(good)):
        good |= (last == _RETURN) & (view[np.maximum(ends - 2, 0)] == _CLOSE)
    good[0] &= view[0] == _OPEN
    good[1:] &= view[ends[:-1] + 1] == _OPEN
    if not bool(np.all(good)):
        stops = np.cumsum([len(block.data) for block in blocks])
        raise NotCleanError(np.unique(np.searchsorted(stops, ends[~good], side="right")).tolist())
    return ends


def _file_of_each_line(blocks: Sequence[Block], ends: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
    stops = np.cumsum([len(block.data) for block in blocks])
    counts = np.diff(np.searchsorted(ends, stops, side="left"), prepend=0)
    return pa.array(np.repeat(np.array([block.file.index for block in blocks], np.int32), counts))


def _is_inexact(column: pa.ChunkedArray) -> bool:
    """Whether a double may stand for a whole number that it cannot hold."""
    type_ = column.type
    if type_ == DOUBLE:
        bounds = pc.min_max(pc.abs(column))["max"].as_py()
        return bounds is not None and bounds >= EXACT_DOUBLE
    if is_struct(type_):
        return any(_is_inexact(pa.chunked_array([child])) for chunk in column.chunks for child in chunk.flatten())
    if is_list(type_):
        return any(_is_inexact(pa.chunked_array([chunk.flatten()])) for chunk in column.chunks)
    return False
