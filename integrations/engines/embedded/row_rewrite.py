"""Data files without some of their rows, ready to take the place of those that have them. Everything here blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table

from integrations.engines.embedded.data_files import DataFileWriter, remove_data_files, rows_by_path
from integrations.engines.embedded.workspaces import Workspace

Mask = Callable[[pa.Table], pa.ChunkedArray]
"""Which rows go: a boolean for each, never null."""


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


def rewritten(work: Workspace, table: Table, tasks: Iterable[FileScanTask], going: Mask) -> Rewrite | None:
    """The data files without the rows that go; None when there is no such row."""
    old: list[DataFile] = []
    new: list[DataFile] = []
    removed = 0
    try:
        writer = DataFileWriter(work.connection, table, table.schema(), work.folder)
        for task in tasks:
            work.check()
            rows = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue()).to_table([task])
            staying = rows.filter(pc.invert(going(rows)))
            if len(staying) == len(rows):
                continue
            old.append(task.file)
            removed += len(rows) - len(staying)
            if len(staying):
                work.connection.register("staying", staying)
                new += writer.write("FROM staying", rows_by_path(staying)).data_files
                work.connection.unregister("staying")
    except BaseException:
        remove_data_files(table.io, new)
        raise
    return Rewrite(table, old, new, removed) if old else None
