"""What readers hand over: rows inside DuckDB, with the types they were read with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from integrations.engines.embedded.batch_files import LoadFile

INTERNAL_PREFIX = "__autoloader_"
"""Names of our own inside DuckDB begin so; no column of a file may."""

FILE = "__autoloader_file"
"""The column of a part that holds `LoadFile.index`."""
PATH = "__autoloader_path"
"""While DuckDB reads files: the file that a row is from, by which its index is found."""
LINE = "__autoloader_line"
RAW = "__autoloader_raw"
PROBLEM = "__autoloader_problem"
SURPLUS = "__autoloader_surplus"


@dataclass(frozen=True, slots=True)
class Part:
    """A DuckDB relation of rows from one or more files. Its columns are `FILE` and the `types`' names.

    A `careful` one also has `LINE` (the row's place in its file), `RAW` (the row as text, for rescue), `PROBLEM` (why
    the row is bad, or null) and `SURPLUS` (what the row has and the columns have not, or null). In one that is not, a
    row that does not fit sends its whole file back to be read carefully.

    In a `typed` one the files say which type each value has; else strings stand for values of other types, too. `unit` is
    what `LINE` counts. `brought` says which columns a file has, where files declare them.
    """

    relation: str
    types: Mapping[str, pa.DataType]
    files: Sequence[LoadFile]
    careful: bool = False
    typed: bool = False
    unit: str = "Line"
    brought: Mapping[int, frozenset[str]] = field(default_factory=dict)
