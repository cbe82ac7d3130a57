"""Data files without some of their rows, ready to take the place of those that have them. Everything here blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table

from integrations.engines.embedded.data_file_rows import STAGED_ROWS, Mask, has_any, pieces, stage
from integrations.engines.embedded.data_files import DataFileWriter, remove_data_files
from integrations.engines.embedded.workspaces import Workspace


@dataclass(frozen=True, slots=True)
class Rewrite:
    """`old` data files of the table have rows to go, `rows` in all; `new` ones, not in the table yet, hold what stays of them."""

    table: Table
    old: list[DataFile]
    new: list[DataFile]
    rows: int

    def discard(self) -> None:
        """Remove the new files, which are surely not in the table."""
        remove_data_files(self.table.io, self.new)


def rewritten(work: Workspace, table: Table, tasks: Iterable[FileScanTask], keys: Sequence[str], going: Mask) -> Rewrite | None:
    """The data files without the rows that go, which their `keys` tell; None when there is no such row."""
    old: list[DataFile] = []
    new: list[DataFile] = []
    removed = 0
    try:
        writer = DataFileWriter(work.connection, table, table.schema(), work.folder)
        for task in tasks:
            work.check()
            # A file's bounds say between which keys its rows lie, not whether there is one to go.
            if not has_any(table, task, keys, going):
                continue
            staying, gone = _stage_staying(work, table, task, going)
            old.append(task.file)
            removed += gone
            if staying:
                new += writer.write(f"FROM {STAGED_ROWS}", staying).data_files
    except BaseException:
        remove_data_files(table.io, new)
        raise
    return Rewrite(table, old, new, removed) if old else None


def _stage_staying(work: Workspace, table: Table, task: FileScanTask, going: Mask) -> tuple[Mapping[str, int], int]:
    """Of the rows of a data file, how many of each source file stay, which are staged then, and how many go."""
    gone = 0

    def staying() -> Iterator[pa.Table]:
        nonlocal gone
        for rows in pieces(table, table.schema(), task):
            left = rows.filter(pc.invert(going(rows)))
            gone += len(rows) - len(left)
            yield left

    return stage(work, staying()), gone
