"""Rows that other versions of their files take the place of: found without reading more of a table than there is reason to.

A data file says, in the table's metadata, between which paths and which batch ids its rows lie. Only where both leave room for a row
to go are these two columns read, and only where there is one is the data file read whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.types import StringType

from domain.ports.engine import BATCH_ID_COLUMN, SOURCE_FILE_COLUMN, Replaced
from integrations.engines.embedded.data_file_rows import pieces, rows_by_path
from integrations.engines.embedded.row_rewrite import Rewrite, rewritten
from integrations.engines.embedded.workspaces import Workspace

_KEYS = (SOURCE_FILE_COLUMN, BATCH_ID_COLUMN)
_BETWEEN = "\0"
"""In no path that the ledger can hold."""


class ReplacedRows:
    """The rows to go, by path and batch, in one table as it is."""

    def __init__(self, table: Table, replaces: Replaced) -> None:
        self._table = table
        self._paths = sorted(replaces)
        self._batches = sorted({str(batch) for batches in replaces.values() for batch in batches})
        keys = [f"{path}{_BETWEEN}{batch}" for path, batches in replaces.items() for batch in batches]
        self._keys = pa.array(keys, pa.large_string())

    def taken_out(self, work: Workspace) -> Rewrite | None:
        """The table's data files without them; None when there is none."""
        return rewritten(work, self._table, self._candidates(), _KEYS, self._going)

    def by_path(self) -> dict[str, int]:
        """How many there are; a path without any is absent."""
        counted: Counter[str] = Counter()
        for task in self._candidates():
            for rows in pieces(self._table, self._table.schema().select(*_KEYS), task):
                counted += rows_by_path(rows.filter(self._going(rows)))
        return dict(counted)

    def _candidates(self) -> Iterator[FileScanTask]:
        """The data files that may have some, by their bounds."""
        schema = self._table.schema()
        if not (self._paths and set(schema.column_names).issuperset(_KEYS)):
            return
        path_id, batch_id = (schema.find_field(name).field_id for name in _KEYS)
        for task in self._table.scan(selected_fields=_KEYS).plan_files():
            if _may_hold(task.file, path_id, self._paths) and _may_hold(task.file, batch_id, self._batches):
                yield task

    def _going(self, rows: pa.Table) -> pa.ChunkedArray:
        path, batch = (rows.column(name).cast(pa.large_string()) for name in _KEYS)
        key = pc.binary_join_element_wise(path, batch, pa.scalar(_BETWEEN, pa.large_string()))
        return pc.fill_null(pc.is_in(key, value_set=self._keys), False)


def _may_hold(file: DataFile, field_id: int, values: Sequence[str]) -> bool:
    """Whether one of the ordered values lies between the data file's least and greatest of the column, as far as these are known."""
    least, greatest = (bounds.get(field_id) if bounds else None for bounds in (file.lower_bounds, file.upper_bounds))
    place = 0 if least is None else bisect_left(values, from_bytes(StringType(), least))
    return place < len(values) and (greatest is None or values[place] <= from_bytes(StringType(), greatest))
